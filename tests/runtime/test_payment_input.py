"""Payments that cannot be: what does not fit, what comes out of order, who may not (T8, T10, T13)."""

import asyncio
from typing import Any

import pytest

from runtime.services.receipts import new_receipt
from sim.platform.services.matters import Matters
from tests.runtime.house import OPERATOR_UID, Caller, Refusal
from tests.runtime.matters_rig import BARE
from tests.runtime.payment_rig import FEE, METHODS, Counter, begun, tell

CARD, QR = METHODS[:2]


@pytest.mark.parametrize("method", METHODS)
def test_a_fee_that_changed_is_not_charged(tmp_path, method):
    """T17: the amount that was shown, the application's and the one in force must be the same."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        answer = await counter.begun(ui, session, receipt, method, FEE - 1)
        assert (answer["outcome"], answer["code"]) == ("refused", "fee.changed")
        matters = next(one for one in counter.house.platform.services.all if isinstance(one, Matters))
        counter.faults.outage()
        matters.publish()
        counter.faults.mend()
        answer = await counter.begun(ui, session, receipt, method)
        assert (answer["outcome"], answer["code"]) == ("refused", "fee.changed")
        while (await ui.call("matters.list"))["version"] != 2:
            await ui.notice("events.change")
        answer = await counter.begun(ui, session, receipt, method)
        assert (answer["code"], answer["text"]) == ("fee.changed", "收费标准已调整，请重新办理。")
        assert counter.charged() == 0

    tell(tmp_path, story)


def test_what_does_not_fit_the_application_is_refused(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        async def refused(session: str, **changes: Any) -> str:
            params = {"session": session, "method": CARD, "amount_fen": FEE, "purpose": "A-0000-0000-0"} | changes
            answer = await ui.answer(ui.ask("payment.begin", **params))
            assert answer["outcome"] == "refused"
            assert answer["order"] is None
            return answer["code"]

        session = await counter.house.verified(ui)
        assert await refused(session) == "application.none"
        while (await ui.call("terminal.status"))["state"]["catalogue"]["state"] != "current":
            await ui.notice("events.change")
        begun = await ui.call("application.begin", session=session, matter=BARE)
        assert await refused(session, purpose=begun["receipt"]) == "payment.nothing_due"
        assert await refused(session, purpose=new_receipt("application")) == "payment.wrong_purpose"
        for method in ("payment.card", "payment.await", "payment.cancel", "payment.receipt"):
            answer = await ui.call(method, session=session, order=new_receipt("payment"))
            assert (answer["outcome"], answer["code"]) == ("refused", "payment.unknown_order")

    tell(tmp_path, story)


def test_calls_out_of_order(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt, order = await begun(counter, ui)
        assert (await counter.awaited(ui, session, order))["code"] == "payment.needs_card"
        assert (await ui.call("payment.receipt", session=session, order=order))["code"] == "payment.no_slip"
        await ui.call("payment.cancel", session=session, order=order)
        for method in ("payment.card", "payment.await"):
            ended = await ui.call(method, session=session, order=order.lower().replace("-", " "))
            assert (ended["outcome"], ended["code"], ended["state"]) == ("refused", "payment.cancelled", "refused")
        again = await ui.call("payment.cancel", session=session, order=order)
        assert (again["outcome"], again["code"]) == ("done", "payment.cancelled")
        answer = await counter.begun(ui, session, receipt, QR)
        assert (await ui.call("payment.card", session=session, order=answer["order"]))["code"] == "payment.wrong_method"

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("payment.begin", {}),
        ("payment.begin", {"method": CARD, "amount_fen": 0, "purpose": "A"}),
        ("payment.begin", {"method": CARD, "amount_fen": -1, "purpose": "A"}),
        ("payment.begin", {"method": CARD, "amount_fen": 10**9, "purpose": "A"}),
        ("payment.begin", {"method": CARD, "amount_fen": 80.5, "purpose": "A"}),
        ("payment.begin", {"method": CARD, "amount_fen": "8000", "purpose": "A"}),
        ("payment.begin", {"method": "cash", "amount_fen": FEE, "purpose": "A"}),
        ("payment.begin", {"method": CARD, "amount_fen": FEE, "purpose": "A" * 65}),
        ("payment.begin", {"method": CARD, "amount_fen": FEE, "purpose": None}),
        ("payment.begin", {"method": CARD, "amount_fen": FEE, "purpose": "A", "card": "6222"}),
        ("payment.card", {}),
        ("payment.card", {"order": 5}),
        ("payment.card", {"order": "P" * 65}),
        ("payment.await", {"order": "P", "seconds": 0}),
        ("payment.await", {"order": "P", "seconds": 61}),
        ("payment.await", {"order": "P", "seconds": "long"}),
        ("payment.cancel", {"order": ["P"]}),
        ("payment.receipt", {"order": None}),
    ],
)
def test_parameters_that_do_not_fit(tmp_path, method, params):
    async def story(_counter: Counter, ui: Caller) -> None:
        with pytest.raises(Refusal, match=r"request\.bad_params"):
            await ui.answer(ui.ask(method, session="x", **params))

    tell(tmp_path, story)


def test_who_may_pay(tmp_path):
    """T21, I4: the owner of a verified session, whose assertion is young; an operator never."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt, order = await begun(counter, ui)
        params = {"session": session, "method": CARD, "amount_fen": FEE, "purpose": receipt}
        calls = [("payment.begin", params)]
        named = ("payment.card", "payment.await", "payment.cancel", "payment.receipt")
        calls += [(name, {"session": session, "order": order}) for name in named]
        for caller, code in (
            (counter.house.caller(OPERATOR_UID), r"caller\.not_allowed"),
            (counter.house.caller(), r"session\.unknown"),
        ):
            for name, given in calls:
                with pytest.raises(Refusal, match=code):
                    await caller.answer(caller.ask(name, **given))
        for _ in range(3):
            await asyncio.sleep(310)
            await ui.call("session.extend", session=session)
        for name, given in calls[:3]:
            with pytest.raises(Refusal, match=r"assertion\.expired"):
                await ui.answer(ui.ask(name, **given))
        cancelled = await ui.call("payment.cancel", session=session, order=order)
        assert cancelled["outcome"] == "done", "an old assertion keeps nobody from getting out"

    tell(tmp_path, story)
