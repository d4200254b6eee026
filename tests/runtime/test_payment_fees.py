"""A fee in an application: used by its filing, or back at once when nothing is filed; in the whole house (T8, T10)."""

import asyncio
from collections.abc import Callable

import pytest

from runtime.messages import Refusal, to_payload
from runtime.messages.applications import ReceiptStanding
from sim.platform.services.matters import Matters
from tests.runtime.house import Caller
from tests.runtime.matters_rig import PAID
from tests.runtime.payment_rig import FEE, METHODS, Counter, tell
from tests.runtime.test_payment_faults import check
from transport.payload import Payload

CARD, QR, ECNY = METHODS
FILING, REVERSAL = "application.filing", "payment.reversal"


async def paid(counter: Counter, ui: Caller, method: str = QR) -> tuple[str, str, str]:
    """Session, receipt and order of an application that lacks nothing."""
    session, receipt = await counter.applied(ui)
    answer = await counter.pay(ui, session, receipt, method)
    assert answer["outcome"] == "done", answer
    return session, receipt, answer["order"]


def change_fee(counter: Counter) -> None:
    """Let the next quarter begin at the platform, with another fee."""
    next(one for one in counter.house.platform.services.all if isinstance(one, Matters)).publish()


def once(counter: Counter, schema: str, answer: Callable[[], Payload | None]) -> None:
    """Answer the next request of this kind so; do what it asks where that gives no answer."""
    services, serve = counter.house.platform.services, counter.house.platform.services.serve
    answers = [answer]

    def instead(terminal: str, request: Payload) -> Payload:
        said = answers.pop()() if answers and request.schema == schema else None
        return serve(terminal, request) if said is None else said

    services.serve = instead


def test_who_begins_again_with_a_fee_that_changed_pays_the_new_one(tmp_path):
    """T17: a new version came damaged once; the platform's word that the fee is another has it asked for again."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        counter.faults.catalogue = "signature"
        change_fee(counter)
        while (await ui.call("terminal.status"))["state"]["catalogue"].get("code") != "catalogue.bad_signature":
            await ui.notice("events.change")
        counter.faults.catalogue = None
        assert (await counter.begun(ui, session, receipt, QR))["code"] == "fee.changed"
        begun = await ui.call("application.begin", session=session, matter=PAID)
        assert begun["matter"]["fee_fen"] != FEE
        again = await counter.begun(ui, session, begun["receipt"], QR, begun["matter"]["fee_fen"])
        assert (again["outcome"], again["state"]) == ("done", "open")

    tell(tmp_path, story)


@pytest.mark.parametrize("method", METHODS)
def test_the_fee_of_an_application_that_is_turned_away_goes_back_at_once(tmp_path, method):
    """Before the answer, while the citizen is there; the slip says so."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt, order = await paid(counter, ui, method)
        change_fee(counter)
        filed = await ui.call("application.file", session=session)
        assert (filed["outcome"], filed["code"], filed["retry"]) == ("refused", "fee.changed", False)
        assert filed["receipt"] == receipt
        assert filed["fee"] == {
            "order": order,
            "state": "reversed",
            "text": "款项已原路退回，到账时间以银行为准。",
        }
        assert counter.charged() == 0
        assert counter.orders() == [("reversed", "reversed")]
        again = await ui.call("application.file", session=session)
        assert (again["code"], [one["what"] for one in again["missing"]]) == ("application.incomplete", ["fee"])
        assert (await counter.begun(ui, session, receipt, method))["code"] == "fee.changed"
        slip = await ui.call("payment.receipt", session=session, order=order)
        assert (slip["outcome"], slip["paper"]) == ("done", "printed")
        await ui.call("session.close", session=session)
        await counter.settled()
        check(counter, paid=False)

    tell(tmp_path, story)


@pytest.mark.parametrize("is_there", [True, False])
def test_one_that_was_turned_away_unheard_has_its_fee_back_when_that_is_known(tmp_path, is_there):
    """Asked again the platform says so; where the citizen has left, the settlement finds it out."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await paid(counter, ui)
        change_fee(counter)
        counter.faults.silent()
        unsure = await ui.call("application.file", session=session)
        assert (unsure["code"], unsure["fee"]) == ("application.unsure", None)
        cancelled = await ui.call("payment.cancel", session=session, order=order)
        assert cancelled["code"] == "application.unsure", "it may be filed"
        assert counter.charged() == FEE
        counter.faults.mend()
        if is_there:
            filed = await ui.call("application.file", session=session)
            assert (filed["code"], filed["fee"]["state"]) == ("fee.changed", "reversed")
            assert counter.charged() == 0
        await ui.call("session.close", session=session)
        await counter.settled()
        check(counter, paid=False)

    tell(tmp_path, story)


def test_a_platform_that_answers_with_a_refused_receipt_has_filed_nothing(tmp_path):
    """The same word, though not as a refusal of the call: the fee is not used."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt, _ = await paid(counter, ui)
        standing = ReceiptStanding(receipt, "application", "refused", "", "", 0, "matter.withdrawn")
        once(counter, FILING, lambda: to_payload(standing))
        filed = await ui.call("application.file", session=session)
        assert (filed["outcome"], filed["code"]) == ("refused", "matter.withdrawn")
        assert filed["fee"]["state"] == "reversed"
        await counter.settled()
        check(counter, paid=False)

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(Refusal("assertion.expired", retry=False), "assertion.expired"), (Refusal("line.busy", retry=True), "line.busy")],
)
def test_a_refusal_that_is_not_of_the_application_leaves_the_fee_for_another_try(tmp_path, refusal, code):
    async def story(counter: Counter, ui: Caller) -> None:
        session, _, _ = await paid(counter, ui)
        once(counter, FILING, lambda: to_payload(refusal))
        filed = await ui.call("application.file", session=session)
        assert (filed["outcome"], filed["code"], filed["fee"]) == ("refused", code, None)
        assert counter.charged() == FEE
        assert (await ui.call("application.file", session=session))["outcome"] == "done"
        await ui.call("session.close", session=session)
        await counter.settled()
        check(counter, paid=True)

    tell(tmp_path, story)


def test_a_fee_that_cannot_go_back_now_does_so_later_and_the_citizen_is_told(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        session, _, _ = await paid(counter, ui)
        change_fee(counter)
        once(counter, REVERSAL, counter.faults.silent)
        filed = await ui.call("application.file", session=session)
        assert (filed["code"], filed["fee"]["state"]) == ("fee.changed", "reversing")
        assert filed["fee"]["text"] == "缴费结果待确认，如已扣款将自动原路退回。"
        await ui.call("session.close", session=session)
        assert ("reverse", "open") in counter.intents()
        counter.faults.mend()
        await counter.settled()
        check(counter, paid=False)

    tell(tmp_path, story)


def test_each_application_uses_its_own_payment(tmp_path):
    """Two in one visit, by different methods; a third one's fee is not taken from the others'."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await paid(counter, ui, CARD)
        assert (await ui.call("application.file", session=session))["outcome"] == "done"
        used = await ui.call("payment.cancel", session=session, order=order)
        assert (used["outcome"], used["code"]) == ("refused", "payment.unknown_order"), "it went with the application"
        await ui.call("session.close", session=session)
        session, _, other = await paid(counter, ui, ECNY)
        assert other != order
        assert (await ui.call("application.file", session=session))["outcome"] == "done"
        await ui.call("session.close", session=session)
        session, receipt = await counter.applied(ui)
        unpaid = await ui.call("application.file", session=session)
        assert [one["what"] for one in unpaid["missing"]] == ["fee"]
        assert receipt
        await ui.call("session.close", session=session)
        await counter.settled()
        assert counter.charged() == 2 * FEE
        assert counter.orders() == [("used", "paid")] * 2
        spent = counter.house.store.database.execute("SELECT spent_on = purpose FROM payment_orders").fetchall()
        assert spent == [(1,), (1,)]

    tell(tmp_path, story)


def test_an_order_that_the_ui_gave_up_while_it_opened_is_settled_and_another_one_can_be_begun(tmp_path):
    """The UI never learned its number, so it cannot cancel it."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        counter.faults.silent()
        params = {"session": session, "method": QR, "amount_fen": FEE, "purpose": receipt}
        started = await ui.call("operation.start", method="payment.begin", params=params)
        await counter.house.until(lambda: counter.orders() == [("open", "open")])
        ended = await ui.call("operation.cancel", operation=started["operation"])
        assert ended["state"] == "cancelled"
        counter.faults.mend()
        await counter.house.until(lambda: counter.orders() == [("refused", "refused")], seconds=60)
        answer = await counter.pay(ui, session, receipt, QR)
        assert answer["outcome"] == "done", answer

    tell(tmp_path, story)


def test_a_charge_that_the_ui_gave_up_is_waited_for_before_another_card_is_taken(tmp_path):
    """T10: it was sent, so the order may be paid: no second card is asked for meanwhile."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        order = (await counter.begun(ui, session, receipt, CARD))["order"]
        params = {"session": session, "order": order}
        started = await ui.call("operation.start", method="payment.card", params=params)
        await counter.insert()
        await counter.house.until(lambda: counter.pad.keypad_on, seconds=60)
        counter.faults.silent()
        await counter.enter()
        await counter.house.until(lambda: counter.charged() == FEE)
        await asyncio.sleep(0.1)
        ended = await ui.call("operation.cancel", operation=started["operation"])
        assert ended["state"] == "cancelled"
        await counter.take()
        counter.faults.mend()
        ui.notices.clear()
        again = await ui.call("payment.card", session=session, order=order)
        assert (again["outcome"], again["code"]) == ("pending", "payment.awaiting")
        assert not [params for name, params in ui.notices if name == "session.guidance"]
        answer = await counter.awaited(ui, session, order)
        assert (answer["outcome"], answer["state"]) == ("done", "paid")
        assert counter.charged() == FEE

    tell(tmp_path, story)
