"""Day's end: the terminal's orders compared with the platform's list, and what a person makes of a difference (T10)."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from runtime.services.payment_keeper import PaymentKeeper
from runtime.services.receipts import new_receipt
from tests.runtime.house import EPOCH, OPERATOR_UID, Caller, Refusal
from tests.runtime.payment_rig import FEE, METHODS, Counter, crashing, tell

DAY, NEXT_DAY = "2027-01-15", "2027-01-16"
"""In China, of the house's beginning: 16:00."""
MIDNIGHT = 8 * 3600
CARD, QR = METHODS[:2]


async def filed(counter: Counter, ui: Caller, method: str = QR) -> str:
    """An order whose fee was used."""
    session, receipt = await counter.applied(ui)
    answer = await counter.pay(ui, session, receipt, method)
    assert (await ui.call("application.file", session=session))["outcome"] == "done"
    await ui.call("session.close", session=session)
    return answer["order"]


async def cancelled(counter: Counter, ui: Caller) -> str:
    session, receipt = await counter.applied(ui)
    answer = await counter.begun(ui, session, receipt, QR)
    await ui.call("payment.cancel", session=session, order=answer["order"])
    await ui.call("session.close", session=session)
    return answer["order"]


def at_platform(counter: Counter, statement: str, *values: Any) -> None:
    """Change the platform's list behind the terminal's back."""
    counter.house.store.database.execute(statement, values)
    counter.house.store.commit()


def paid_there(counter: Counter, order: str) -> None:
    """Let the platform have charged an order that the terminal believes refused."""
    at_platform(counter, "UPDATE payment_orders SET state = 'paid' WHERE order_id = ?", order)
    counter.bank.bank.charge(order, "telephone", FEE, 0)
    counter.house.store.commit()


def records(counter: Counter) -> list[dict[str, Any]]:
    statement = "SELECT event FROM records WHERE schema = 'payment.difference' ORDER BY id"
    return [json.loads(row[0]) for row in counter.house.store.database.execute(statement)]


def test_a_day_without_differences(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        orders = [await filed(counter, ui), await filed(counter, ui, CARD), await cancelled(counter, ui)]
        operator = counter.house.caller(OPERATOR_UID)
        shown = await operator.call("payments.day", day=DAY)
        assert [(one["order"], one["state"]) for one in shown["orders"]] == list(
            zip(orders, ("used", "used", "refused"), strict=True)
        )
        assert (shown["reconciled_at"], shown["differences"]) == (None, [])
        compared = await operator.call("payments.reconcile", day=DAY)
        assert (compared["outcome"], compared["code"], compared["differences"]) == ("done", None, [])
        assert compared["text"] == "与平台清单一致。"
        assert compared["reconciled_at"] == pytest.approx(EPOCH + counter.house.loop.time(), abs=5)
        await asyncio.sleep(1)
        assert records(counter) == []
        assert ("reconcile_payments", "done", None) in counter.events()

    tell(tmp_path, story)
    trail = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    assert ("payments_reconciled", f"uid {OPERATOR_UID}") in [(one["event"], one["actor"]) for one in trail]


@pytest.mark.parametrize(
    ("spoil", "terminal", "platform"),
    [
        ("UPDATE payment_orders SET amount_fen = 9000", "paid unionpay_qr 8000", "paid unionpay_qr 9000"),
        ("UPDATE payment_orders SET state = 'reversed'", "paid unionpay_qr 8000", "reversed unionpay_qr 8000"),
        ("UPDATE payment_orders SET method = 'ecny_qr'", "paid unionpay_qr 8000", "paid ecny_qr 8000"),
        ("DELETE FROM payment_orders", "paid unionpay_qr 8000", None),
        ("UPDATE payment_orders SET opened_at = opened_at + 28800", None, None),
    ],
)
def test_each_difference_is_a_record_and_shown(tmp_path, spoil, terminal, platform):
    """An order that the platform has on another day, by its clock, is no difference."""

    async def story(counter: Counter, ui: Caller) -> None:
        order = await filed(counter, ui)
        at_platform(counter, spoil)
        operator = counter.house.caller(OPERATOR_UID)
        for _ in range(2):
            compared = await operator.call("payments.reconcile", day=DAY)
        expected = [] if terminal is None else [{"order": order, "terminal": terminal, "platform": platform}]
        assert compared["differences"] == expected
        assert compared["code"] == ("payment.day_differs" if expected else None)
        assert (await operator.call("payments.day", day=DAY))["differences"] == expected
        await asyncio.sleep(1)
        told = [(one["day"], one["order"], one["terminal"], one["platform"]) for one in records(counter)]
        assert told == ([(DAY, order, terminal, platform)] if expected else []), "once, however often it is compared"
        board = (await ui.call("terminal.status"))["state"]["payments"]
        assert board["details"] == {"differences": str(len(expected)), "returning": "0"}

    tell(tmp_path, story)


def test_a_day_that_is_forgotten_already_is_compared_like_any_other(tmp_path):
    """As after the wall clock was years behind for a while: nothing of that day is kept, and nothing is unsettled."""

    async def story(counter: Counter, _ui: Caller) -> None:
        operator = counter.house.caller(OPERATOR_UID)
        compared = await operator.call("payments.reconcile", day="2018-09-06")
        assert (compared["outcome"], compared["code"], compared["unsettled"]) == ("done", None, 0)
        assert (compared["reconciled_at"], compared["differences"]) == (None, [])

    tell(tmp_path, story)


def test_a_difference_that_is_mended_is_gone_with_the_next_comparison(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        await filed(counter, ui)
        at_platform(counter, "UPDATE payment_orders SET amount_fen = 9000")
        operator = counter.house.caller(OPERATOR_UID)
        assert len((await operator.call("payments.reconcile", day=DAY))["differences"]) == 1
        at_platform(counter, "UPDATE payment_orders SET amount_fen = 8000")
        assert (await operator.call("payments.reconcile", day=DAY))["differences"] == []

    tell(tmp_path, story)


def test_what_only_the_platform_has_as_paid_goes_back_by_a_persons_order_alone(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        order = await cancelled(counter, ui)
        operator = counter.house.caller(OPERATOR_UID)
        refused = await operator.call("payments.reverse", order=order)
        assert (refused["outcome"], refused["code"]) == ("refused", "payment.not_different")
        paid_there(counter, order)
        compared = await operator.call("payments.reconcile", day=DAY)
        difference = {"order": order, "terminal": "refused unionpay_qr 8000", "platform": "paid unionpay_qr 8000"}
        assert compared["differences"] == [difference]
        await asyncio.sleep(24 * 3600)
        assert counter.charged() == FEE, "no comparison moves money"
        answer = await operator.call("payments.reverse", order=order)
        assert (answer["outcome"], answer["code"]) == ("pending", "payment.reversing")
        await counter.settled()
        assert counter.charged() == 0
        assert counter.orders() == [("reversed", "reversed")]
        assert (await operator.call("payments.reconcile", day=DAY))["differences"] == []
        assert (await operator.call("payments.reverse", order=order))["code"] == "payment.not_different"

    tell(tmp_path, story)
    trail = [json.loads(line)["event"] for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    assert trail.count("payment_reversal_ordered") == 3


def test_an_order_of_a_lost_journal_is_found_and_given_back(tmp_path):
    """The journal went with its disk: the platform's list still names the order."""

    async def story(counter: Counter, ui: Caller) -> None:
        order = await filed(counter, ui)
        at_platform(counter, "UPDATE payment_orders SET spent_on = NULL")
        counter.house.journal.execute("DELETE FROM payments")
        operator = counter.house.caller(OPERATOR_UID)
        compared = await operator.call("payments.reconcile", day=DAY)
        assert compared["differences"] == [{"order": order, "terminal": None, "platform": "paid unionpay_qr 8000"}]
        assert (await operator.call("payments.reverse", order=order))["outcome"] == "pending"
        await counter.settled()
        assert counter.charged() == 0

    tell(tmp_path, story)


def test_what_was_filed_is_never_given_back(tmp_path):
    """A person's order too: the platform refuses it, and the terminal learns that the fee was used."""

    async def story(counter: Counter, ui: Caller) -> None:
        order = await filed(counter, ui)
        counter.house.journal.execute("UPDATE payments SET state = 'refused'")
        operator = counter.house.caller(OPERATOR_UID)
        await operator.call("payments.reconcile", day=DAY)
        assert (await operator.call("payments.reverse", order=order))["outcome"] == "pending"
        await counter.settled()
        assert counter.charged() == FEE
        assert counter.orders() == [("used", "paid")]

    tell(tmp_path, story)


def test_an_order_without_an_end_is_no_difference_yet(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        counter.faults.hold_charges("slow")
        answer = await counter.pay(ui, session, receipt, QR)
        assert answer["code"] == "payment.reversing"
        operator = counter.house.caller(OPERATOR_UID)
        compared = await operator.call("payments.reconcile", day=DAY)
        assert (compared["outcome"], compared["code"], compared["unsettled"]) == ("pending", "payment.day_unsettled", 1)
        assert compared["differences"] == []
        counter.bank.bank_says()
        await ui.call("session.close", session=session)
        await counter.settled()
        compared = await operator.call("payments.reconcile", day=DAY)
        assert (compared["outcome"], compared["unsettled"]) == ("done", 0)

    tell(tmp_path, story)


def test_a_day_with_an_order_without_an_end_is_compared_again_when_that_ended(tmp_path):
    """T12, T16: a comparison is an event; nothing is told over and over."""

    async def story(counter: Counter, ui: Caller) -> None:
        def compared() -> list[str | None]:
            return [code for step, _, code in counter.events() if step == "reconcile_payments"]

        session, receipt = await counter.applied(ui)
        counter.faults.hold_charges("slow")
        await counter.pay(ui, session, receipt, QR)
        await ui.call("session.close", session=session)
        await asyncio.sleep(MIDNIGHT + 6 * 3600)
        assert compared() == ["payment.day_unsettled"]
        counter.bank.bank_says()
        await asyncio.sleep(1_300)
        assert compared() == ["payment.day_unsettled", None]

    tell(tmp_path, story)


async def test_a_day_that_is_always_refused_holds_up_no_other():
    class Days:
        asked: ClassVar[list[str]] = []

        async def owed(self) -> list[str]:
            return ["2027-01-10", "2027-01-11"]

        async def reconcile(self, day: str, _actor: str) -> SimpleNamespace:
            self.asked.append(day)
            return SimpleNamespace(outcome="refused" if day == "2027-01-10" else "done")

    till: Any = SimpleNamespace(office=SimpleNamespace(origin=SimpleNamespace(wall_clock=lambda: 1_800_500_000.0)))
    days: Any = Days()
    await PaymentKeeper(till, days, 2)._compare()
    assert {"2027-01-10", "2027-01-11"} <= set(Days.asked)


def test_a_day_is_compared_by_itself_after_it_ended(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        await filed(counter, ui)
        await asyncio.sleep(MIDNIGHT + 1_800)
        operator = counter.house.caller(OPERATOR_UID)
        assert (await operator.call("payments.day", day=DAY))["reconciled_at"] is None
        await asyncio.sleep(1_800 + 700)
        assert (await operator.call("payments.day", day=DAY))["reconciled_at"] is not None
        assert (await operator.call("payments.day", day=NEXT_DAY))["reconciled_at"] is None
        await asyncio.sleep(24 * 3600)
        assert (await operator.call("payments.day", day=NEXT_DAY))["reconciled_at"] is not None, "also an empty day"

    tell(tmp_path, story)


def test_a_day_that_was_missed_is_compared_as_soon_as_the_line_allows(tmp_path):
    async def before(counter: Counter, ui: Caller) -> None:
        await filed(counter, ui)
        counter.faults.outage()
        await asyncio.sleep(MIDNIGHT + 3 * 3600)
        counter.faults.mend()

    async def after(counter: Counter, _ui: Caller, _told: None) -> None:
        operator = counter.house.caller(OPERATOR_UID)
        await asyncio.sleep(5)
        assert (await operator.call("payments.day", day=DAY))["reconciled_at"] is not None

    crashing(tmp_path, before, after)


@pytest.mark.parametrize("how", ["silent", "outage"])
def test_a_list_that_does_not_come(tmp_path, how):
    """T13."""

    async def story(counter: Counter, ui: Caller) -> None:
        await filed(counter, ui)
        counter.faults.verbs[how]()
        operator = counter.house.caller(OPERATOR_UID)
        began = counter.house.loop.time()
        compared = await operator.call("payments.reconcile", day=DAY)
        assert (compared["outcome"], compared["code"], compared["retry"]) == ("refused", "platform.no_answer", True)
        assert counter.house.loop.time() - began <= 6.5
        assert compared["reconciled_at"] is None

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("payments.day", {}),
        ("payments.day", {"day": "yesterday"}),
        ("payments.day", {"day": "2027-13-01"}),
        ("payments.day", {"day": 20270115}),
        ("payments.reconcile", {"day": "2027-1-5"}),
        ("payments.reconcile", {"day": DAY, "session": "x"}),
        ("payments.reverse", {}),
        ("payments.reverse", {"order": "P" * 65}),
        ("payments.reverse", {"order": None}),
    ],
)
def test_parameters_that_do_not_fit(tmp_path, method, params):
    async def story(counter: Counter, ui: Caller) -> None:
        operator = counter.house.caller(OPERATOR_UID)
        with pytest.raises(Refusal, match=r"request\.bad_params"):
            await operator.call(method, **params)
        with pytest.raises(Refusal, match=r"caller\.not_allowed"):
            await ui.call(method, **params)

    tell(tmp_path, story)


def test_an_order_that_nobody_knows_is_not_reversed(tmp_path):
    async def story(counter: Counter, _ui: Caller) -> None:
        operator = counter.house.caller(OPERATOR_UID)
        answer = await operator.call("payments.reverse", order=new_receipt("payment"))
        assert (answer["outcome"], answer["code"]) == ("refused", "payment.not_different")

    tell(tmp_path, story)
