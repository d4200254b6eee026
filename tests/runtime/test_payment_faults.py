"""Every fault of platform and bank, for each method: what was told as paid is what citizens are out of pocket (T10)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.runtime.house import Caller
from tests.runtime.payment_rig import FEE, METHODS, Counter, tell

FAULTS: dict[str, Callable[[Any], None]] = {
    "slow": lambda faults: faults.slow(1.5),
    "too_slow": lambda faults: faults.slow(9.0),
    "silent": lambda faults: faults.silent(),
    "outage": lambda faults: faults.outage(),
    "double": lambda faults: faults.double_answer(),
    "refused": lambda faults: faults.refuse_charges("payment.insufficient_funds"),
    "late": lambda faults: faults.hold_charges("late"),
    "bank_slow": lambda faults: faults.hold_charges("slow"),
    "wrong_amount": lambda faults: faults.wrong_amount(),
    "cut": lambda faults: faults.cut_after_charge(),
}
HARMLESS = {"slow", "double"}


def check(counter: Counter, *, paid: bool) -> None:
    """What must hold at rest: nothing open, nothing lost, nothing kept."""
    assert counter.charged() == (FEE if paid else 0)
    assert all(state != "open" for _, state in counter.intents())
    for here, there in counter.orders():
        assert there in {here, "none"} or (here, there) == ("used", "paid"), (here, there)
        assert here == "used" or there != "paid"
    assert counter.complaints() == []
    assert counter.reader.card is None


async def ended(counter: Counter, ui: Caller, session: str, answer: dict[str, Any]) -> bool:
    """End the citizen's visit as a good UI does; return whether they were told that they paid."""
    is_paid = answer["outcome"] == "done"
    if is_paid:
        filed = await ui.call("application.file", session=session)
        assert filed["outcome"] == "done", filed
    elif answer["state"] == "open":
        cancelled = await ui.call("payment.cancel", session=session, order=answer["order"])
        assert (cancelled["outcome"], cancelled["code"]) in {
            ("done", "payment.cancelled"),
            ("done", "payment.reversed"),
            ("pending", "payment.reversing"),
        }
    await ui.call("session.close", session=session)
    return is_paid


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("moment", ["before", "opened"])
def test_a_fault_costs_nobody_anything(tmp_path, fault, method, moment):
    """T10, T13: never charged twice, never charged without a result; each call ends in time with what to do."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        spoil = FAULTS[fault]
        if moment == "before":
            spoil(counter.faults)
            answer = await counter.pay(ui, session, receipt, method)
        else:
            answer = await counter.pay(ui, session, receipt, method, opened=lambda: spoil(counter.faults))
        assert answer["text"]
        if fault in HARMLESS:
            assert answer["outcome"] == "done"
        if fault in {"refused", "wrong_amount", "late", "bank_slow"}:
            assert answer["outcome"] != "done"
        counter.faults.mend()
        is_paid = await ended(counter, ui, session, answer)
        if fault == "bank_slow":
            counter.bank.bank_says()
        await counter.settled()
        if counter.bank.bank_says():
            await counter.settled()
        check(counter, paid=is_paid)
        session, receipt = await counter.applied(ui)
        answer = await counter.pay(ui, session, receipt, method)
        assert answer["outcome"] == "done", "the next citizen is served"

    tell(tmp_path, story)


@pytest.mark.parametrize("how", ["late", "slow"])
@pytest.mark.parametrize("method", METHODS)
def test_a_success_after_the_terminal_gave_up_goes_back(tmp_path, method, how):
    """T10: the citizen is told at once, and the money goes back when the bank says at last that it took it."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        counter.faults.hold_charges(how)
        answer = await counter.pay(ui, session, receipt, method)
        code = "payment.expired" if how == "late" else "payment.reversing"
        assert (answer["outcome"], answer["code"]) == ("refused" if how == "late" else "pending", code)
        again = await counter.begun(ui, session, receipt, method)
        if how == "slow":
            assert (again["code"], again["retry"]) == ("payment.unsettled", True)
        await ui.call("session.close", session=session)
        await asyncio.sleep(30)
        assert counter.charged() == 0
        assert counter.bank.bank_says() == 1
        if how == "late":
            assert counter.charged() == FEE
        await counter.settled()
        check(counter, paid=False)
        assert counter.bank.totals()["reversed_fen"] == FEE
        asked = await ui.call("progress.by_receipt", receipt=answer["order"])
        assert asked["receipts"][0]["state_text"] == "已原路退回"

    tell(tmp_path, story)


@pytest.mark.parametrize("method", METHODS)
def test_a_reversal_is_said_until_the_platform_answers(tmp_path, method):
    """T10: an outage between the charge and its answer that lasts longer than the citizen stays."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        counter.faults.cut_after_charge()
        answer = await counter.pay(ui, session, receipt, method)
        assert (answer["outcome"], answer["code"]) == ("pending", "payment.reversing")
        assert answer["text"] == "缴费结果待确认，如已扣款将自动原路退回。"
        await ui.call("session.close", session=session)
        await asyncio.sleep(600)
        assert counter.charged() == FEE
        assert ("reverse", "open") in counter.intents()
        counter.faults.mend()
        await counter.settled()
        check(counter, paid=False)

    tell(tmp_path, story)
