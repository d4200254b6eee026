"""The daemon stops without clean-up at nasty moments of a payment, and another one begins on its journal (T10, rule 2).

Counted at the platform: what citizens are out of pocket is what they were told as paid and what was filed.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from devices.cardreader.protocol import Position
from tests.runtime.house import Caller
from tests.runtime.payment_rig import FEE, METHODS, Counter, crashing, tell
from tests.runtime.test_payment_faults import check

CARD, CODES = METHODS[0], METHODS[1:]


async def order_of(counter: Counter, ui: Caller, method: str) -> tuple[str, str]:
    """A session with an open order."""
    session, receipt = await counter.applied(ui)
    answer = await counter.begun(ui, session, receipt, method)
    assert answer["outcome"] == "done", answer
    return session, answer["order"]


async def at_rest(counter: Counter, ui: Caller, *, paid: bool = False) -> None:
    """Settle, check, and serve the next citizen."""
    if counter.at_gate():
        await counter.take()
    await counter.settled()
    check(counter, paid=paid)
    session, receipt = await counter.applied(ui)
    answer = await counter.pay(ui, session, receipt, CARD)
    assert answer["outcome"] == "done", answer


async def opened(counter: Counter, ui: Caller) -> None:
    """The order is journaled and not sent yet."""
    session, receipt = await counter.applied(ui)
    params = {"method": CARD, "amount_fen": FEE, "purpose": receipt, "session": session}
    ui.ask("payment.begin", **params)
    await counter.house.until(lambda: counter.intents() == [("charge", "open")])


async def answered_late(counter: Counter, ui: Caller) -> None:
    """The platform has the order, the terminal does not know."""
    session, receipt = await counter.applied(ui)
    counter.faults.slow(2.0)
    params = {"method": CARD, "amount_fen": FEE, "purpose": receipt, "session": session}
    ui.ask("payment.begin", **params)
    await counter.house.until(lambda: counter.orders() == [("open", "open")])
    counter.faults.mend()


async def card_inside(counter: Counter, ui: Caller) -> None:
    session, order = await order_of(counter, ui, CARD)
    ui.ask("payment.card", session=session, order=order)
    await counter.insert()
    await counter.house.until(lambda: counter.reader.position is Position.CONTACT)


async def half_a_pin(counter: Counter, ui: Caller) -> None:
    session, order = await order_of(counter, ui, CARD)
    ui.ask("payment.card", session=session, order=order)
    await counter.insert()
    await counter.house.until(lambda: counter.pad.keypad_on, seconds=60)
    counter.pad.press("123")
    counter.house.pinpad_port.nudge()
    await asyncio.sleep(0.2)


async def charged_unheard(counter: Counter, ui: Caller) -> None:
    """The card is charged, its answer did not come."""
    session, order = await order_of(counter, ui, CARD)
    counter.faults.cut_after_charge()
    ui.ask("payment.card", session=session, order=order)
    await counter.insert()
    await counter.enter()
    await counter.house.until(lambda: counter.charged() == FEE)
    counter.faults.mend()


async def reversal_begun(counter: Counter, ui: Caller) -> None:
    """The reversal is journaled, its answer did not come."""
    session, order = await order_of(counter, ui, CARD)
    assert (await counter.pay_by_card(ui, session, order))["outcome"] == "done"
    counter.faults.silent()
    ui.ask("payment.cancel", session=session, order=order)
    await counter.house.until(lambda: ("reverse", "open") in counter.intents())
    counter.faults.mend()


async def reversed_unheard(counter: Counter, ui: Caller) -> None:
    """The platform has given the money back, the terminal does not know."""
    session, order = await order_of(counter, ui, CARD)
    assert (await counter.pay_by_card(ui, session, order))["outcome"] == "done"
    counter.faults.silent()
    ui.ask("payment.cancel", session=session, order=order)
    await counter.house.until(lambda: counter.charged() == 0)
    counter.faults.mend()


async def session_gone(counter: Counter, ui: Caller) -> None:
    """Paid, not filed, and the citizen has just left."""
    session, order = await order_of(counter, ui, CARD)
    assert (await counter.pay_by_card(ui, session, order))["outcome"] == "done"
    ui.ask("session.close", session=session)
    await asyncio.sleep(0)


MOMENTS = (
    opened,
    answered_late,
    card_inside,
    half_a_pin,
    charged_unheard,
    reversal_begun,
    reversed_unheard,
    session_gone,
)


@pytest.mark.parametrize("moment", MOMENTS)
def test_whoever_was_not_served_is_not_charged_and_has_the_card_back(
    tmp_path, moment: Callable[[Counter, Caller], Awaitable[None]]
):
    """T5, T10."""

    async def after(counter: Counter, ui: Caller, _told: None) -> None:
        await at_rest(counter, ui)
        assert not counter.pad.keypad_on
        assert counter.reader.bin == []

    crashing(tmp_path, moment, after)


@pytest.mark.parametrize("method", METHODS)
def test_what_was_told_as_paid_and_not_filed_goes_back(tmp_path, method):
    """T10: the application died with its session; the payment is no good to anybody."""

    async def before(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        assert (await counter.pay(ui, session, receipt, method))["outcome"] == "done"
        assert counter.charged() == FEE

    async def after(counter: Counter, ui: Caller, _told: None) -> None:
        await at_rest(counter, ui)
        assert ("charge", "done", None) in counter.events()
        assert ("reverse", "done", None) in counter.events()

    crashing(tmp_path, before, after)


@pytest.mark.parametrize("method", CODES)
@pytest.mark.parametrize("is_paid", [False, True])
def test_a_code_that_was_shown_is_closed_or_given_back(tmp_path, method, is_paid):
    async def before(counter: Counter, ui: Caller) -> str:
        session, order = await order_of(counter, ui, method)
        ui.ask("payment.await", session=session, order=order, seconds=60)
        await asyncio.sleep(3.1)
        if is_paid:
            counter.scan(order)
        return order

    async def after(counter: Counter, ui: Caller, order: str) -> None:
        await at_rest(counter, ui)
        with pytest.raises(ValueError, match="no open order"):
            counter.scan(order)
        assert counter.orders()[0] == (("reversed",) * 2 if is_paid else ("refused",) * 2)

    crashing(tmp_path, before, after)


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_late_success_that_the_stopped_daemon_heard_of_goes_back(tmp_path, is_taken):
    """T10: the platform says once that the bank charged after all; whoever took that word does not lose it."""

    async def before(counter: Counter, ui: Caller) -> None:
        session, order = await order_of(counter, ui, CODES[0])
        counter.faults.hold_charges("late")
        counter.scan(order)
        cancelled = await ui.call("payment.cancel", session=session, order=order)
        assert cancelled["code"] == "payment.cancelled"
        await ui.call("session.close", session=session)
        counter.faults.silent()
        if not is_taken:
            counter.house.uplink.stop()
        assert counter.bank.bank_says() == 1
        taken = "SELECT 1 FROM records WHERE instr(body, 'command.payment.result')"
        if is_taken:
            await counter.house.until(lambda: counter.house.rows(taken))
        assert counter.orders() == [("refused", "paid")]
        counter.faults.mend()

    async def after(counter: Counter, ui: Caller, _told: None) -> None:
        await counter.house.until(lambda: counter.orders() == [("reversed", "reversed")], seconds=120)
        await at_rest(counter, ui)
        assert ("reverse", "done", None) in counter.events()

    crashing(tmp_path, before, after)


@pytest.mark.parametrize("is_heard", [False, True])
def test_what_was_filed_stays_paid(tmp_path, is_heard):
    """T8, T10: a filing under way is settled before its payment is looked at, and a filed fee does not go back."""

    async def before(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        assert (await counter.pay(ui, session, receipt, CARD))["outcome"] == "done"
        if is_heard:
            assert (await ui.call("application.file", session=session))["outcome"] == "done"
            return
        counter.faults.silent()
        ui.ask("application.file", session=session)
        filed = counter.house.store.database
        await counter.house.until(lambda: filed.execute("SELECT 1 FROM filings").fetchone())
        counter.faults.mend()

    async def after(counter: Counter, ui: Caller, _told: None) -> None:
        await counter.settled()
        check(counter, paid=True)
        assert counter.orders() == [("used", "paid")]

    crashing(tmp_path, before, after)


def test_a_filing_that_never_arrived_gives_its_fee_back(tmp_path):
    async def before(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        assert (await counter.pay(ui, session, receipt, CARD))["outcome"] == "done"
        counter.faults.outage()
        ui.ask("application.file", session=session)
        open_filing = "SELECT 1 FROM intents WHERE kind = 'file' AND state = 'open'"
        await counter.house.until(lambda: counter.house.rows(open_filing))
        counter.faults.mend()

    async def after(counter: Counter, ui: Caller, _told: None) -> None:
        await at_rest(counter, ui)

    crashing(tmp_path, before, after)


def test_a_session_that_ends_amid_everything_leaves_nothing(tmp_path):
    """T5, T10: the client is lost while the PIN is entered: the card comes out, the order is closed."""

    async def story(counter: Counter, ui: Caller) -> None:
        await half_a_pin(counter, ui)
        ui.hang_up()
        await counter.house.until(counter.at_gate)
        assert not counter.pad.keypad_on
        counter.reader.take_card()
        other = counter.house.caller()
        await other.call("events.subscribe")
        await counter.settled()
        check(counter, paid=False)

    tell(tmp_path, story)
