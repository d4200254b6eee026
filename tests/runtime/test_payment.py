"""Payments of a fee at the counter and by telephone: what a citizen meets (T5, T6, T10, T13)."""

import asyncio
import json

import pytest

from runtime.messages import from_payload
from runtime.messages.payment import CardCharge
from sim.devices.bankcard import NUMBER
from tests.runtime.house import Caller
from tests.runtime.matters_rig import BARE
from tests.runtime.payment_rig import FEE, METHODS, Counter, begun, tell
from transport.payload import Payload

CARD, QR = METHODS[:2]
STRIPE = f"{NUMBER}=3012101000000000".encode()
"""A stripe whose service code (1..) says that there is no chip."""


def guidance(ui: Caller) -> list[str]:
    return [params["code"] for name, params in ui.notices if name == "session.guidance"]


@pytest.mark.parametrize("method", METHODS)
def test_a_fee_is_paid_and_the_application_filed(tmp_path, method):
    """T10, T8: the payment is bound to its receipt, and a filing uses it up."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        unpaid = await ui.call("application.file", session=session)
        assert unpaid["code"] == "application.incomplete"
        answer = await counter.pay(ui, session, receipt, method)
        assert (answer["outcome"], answer["code"], answer["state"]) == ("done", None, "paid")
        assert (answer["method"], answer["amount_fen"], answer["purpose"]) == (method, FEE, receipt)
        assert answer["text"] == "缴费成功。"
        twice = await counter.begun(ui, session, receipt, method)
        assert (twice["outcome"], twice["code"]) == ("refused", "payment.already_paid")
        filed = await ui.call("application.file", session=session)
        assert filed["outcome"] == "done", filed
        await ui.call("session.close", session=session)
        await counter.settled()
        assert counter.charged() == FEE
        assert counter.orders() == [("used", "paid")]
        assert counter.intents() == [("charge", "done")]
        assert counter.complaints() == []

    tell(tmp_path, story)


def test_the_citizen_is_guided_and_the_pin_is_stars(tmp_path):
    """T6: digits are stars; the card comes out before the answer."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui)
        ui.notices.clear()
        answer = await counter.pay_by_card(ui, session, order)
        assert guidance(ui) == ["payment.insert_card", "payment.enter_pin", "payment.take_card"]
        keys = [params["key"] for name, params in ui.notices if name == "payment.key"]
        assert keys == ["star"] * 6 + ["enter"]
        steps = [(step["step"], step["outcome"]) for step in answer["steps"]]
        names = ("load_pin_key", "read_card", "enter_pin", "charge_card", "charge")
        assert steps == [(name, "done") for name in names]
        machine = sum(step["seconds"] for step in answer["steps"] if step["step"] in ("load_pin_key", "charge_card"))
        assert machine < 5.0, "T13"

    tell(tmp_path, story)


def test_the_pin_block_is_the_pads_and_nothing_of_the_card_is_kept(tmp_path):
    """T6, T20, T22: neither number, track, PIN nor block are in journal or audit log, and no block comes twice."""
    charges: list[CardCharge] = []

    async def story(counter: Counter, ui: Caller) -> bytes:
        services, serve = counter.house.platform.services, counter.house.platform.services.serve

        def listen(terminal: str, request: Payload) -> Payload:
            if request.schema == "payment.card":
                charges.append(from_payload(request, CardCharge))
            return serve(terminal, request)

        services.serve = listen
        session, _, order = await begun(counter, ui)
        assert (await counter.pay_by_card(ui, session, order, pin="918273"))["code"] == "payment.wrong_pin"
        assert (await counter.pay_by_card(ui, session, order))["outcome"] == "done"
        await ui.call("session.close", session=session)
        await counter.settled()
        return "\n".join(counter.house.journal.iterdump()).encode() + (tmp_path / "audit.jsonl").read_bytes()

    written = tell(tmp_path, story)
    assert len({charge.pin_block for charge in charges}) == 2
    for charge in charges:
        assert charge.track2.hex().startswith(NUMBER)
        assert len(charge.pin_block) == 16
        for secret in (NUMBER.encode(), NUMBER[-13:-1].encode(), charge.track2, charge.pin_block, b"918273"):
            assert secret not in written
            assert secret.hex().upper().encode() not in written.upper()


def test_a_wrong_pin_leaves_the_order_open_and_the_third_one_blocks(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui)
        for _ in range(3):
            answer = await counter.pay_by_card(ui, session, order, pin="000000")
            assert (answer["outcome"], answer["code"], answer["retry"]) == ("refused", "payment.wrong_pin", True)
            assert answer["text"] == "密码错误，请重试。"
        answer = await counter.pay_by_card(ui, session, order)
        assert (answer["code"], answer["state"]) == ("payment.pin_tries", "open")
        other = await counter.pay_by_card(ui, session, order, number="6222020000000007")
        assert other["outcome"] == "done"
        assert counter.charged() == FEE

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("account", "code"),
    [
        ({"balance_fen": FEE - 1}, "payment.insufficient_funds"),
        ({"blocked": True}, "payment.card_refused"),
    ],
)
def test_what_the_bank_refuses_is_not_charged(tmp_path, account, code):
    async def story(counter: Counter, ui: Caller) -> None:
        counter.bank.bank_account(NUMBER, **account)
        session, _, order = await begun(counter, ui)
        answer = await counter.pay_by_card(ui, session, order)
        assert (answer["outcome"], answer["code"], answer["state"]) == ("refused", code, "open")
        cancelled = await ui.call("payment.cancel", session=session, order=order)
        assert (cancelled["outcome"], cancelled["code"]) == ("done", "payment.cancelled")
        assert counter.charged() == 0
        assert counter.orders() == [("refused", "refused")]

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("features", "code"),
    [
        ({"chip": False, "tracks": {2: STRIPE}}, None),
        ({"chip": False}, "cardreader.chip_mute"),
        ({"chip": False, "tracks": {2: b"no number"}}, "cardreader.bad_card"),
        ({"blocked": True}, "cardreader.card_blocked"),
        ({"application": bytes.fromhex("A0000000031010")}, "cardreader.no_application"),
        ({"t1": True}, None),
    ],
)
def test_cards_of_every_kind(tmp_path, features, code):
    """T5: a stripe is read where there is no chip; a card that has one is not paid with by its stripe."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui)
        asked = ui.ask("payment.card", session=session, order=order)
        await counter.insert(**features)
        if code is None:
            await counter.enter()
        answer = await ui.answer(asked)
        assert answer["code"] == code
        await counter.take()
        assert answer["outcome"] == ("done" if code is None else "refused")
        assert counter.charged() == (FEE if code is None else 0)

    tell(tmp_path, story)


def test_nobody_inserts_a_card(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui)
        answer = await ui.call("payment.card", session=session, order=order, seconds=90)
        assert (answer["code"], answer["state"] is None, answer["retry"]) == ("cardreader.no_card", True, True)
        assert "payment.take_card" not in guidance(ui)
        assert not counter.reader.entry

    tell(tmp_path, story)


@pytest.mark.parametrize(("hand", "code"), [("cancel", "pinpad.cancelled"), ("expire", "pinpad.timeout")])
def test_a_pin_that_does_not_come_hands_the_card_back(tmp_path, hand, code):
    """T5."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui)
        asked = ui.ask("payment.card", session=session, order=order)
        await counter.insert()
        await counter.house.until(lambda: counter.pad.keypad_on)
        await asyncio.sleep(0.5)
        counter.pad.verbs[hand]()
        counter.house.pinpad_port.nudge()
        answer = await ui.answer(asked)
        assert (answer["outcome"], answer["code"], answer["retry"]) == ("refused", code, True)
        assert counter.at_gate()
        assert guidance(ui)[-1] == "payment.take_card"

    tell(tmp_path, story)


def test_a_pad_that_was_tampered_with_gets_no_pin(tmp_path):
    """T6, T23."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui)
        counter.pad.tamper()
        answer = await ui.call("payment.card", session=session, order=order)
        assert (answer["outcome"], answer["code"]) == ("refused", "pinpad.tampered")
        assert counter.pad.entries == 0

    tell(tmp_path, story)


@pytest.mark.parametrize("moment", ["card", "pin", "code"])
def test_the_citizen_cancels_while_they_are_waited_for(tmp_path, moment):
    """T5: payment.cancel interrupts; the card comes out, nothing is owed."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui, QR if moment == "code" else CARD)
        if moment == "code":
            waiting = ui.ask("payment.await", session=session, order=order, seconds=60)
        else:
            waiting = ui.ask("payment.card", session=session, order=order)
        if moment == "pin":
            await counter.insert()
            await counter.house.until(lambda: counter.pad.keypad_on)
        await asyncio.sleep(1)
        began = counter.house.loop.time()
        cancelled = await ui.call("payment.cancel", session=session, order=order)
        assert (cancelled["outcome"], cancelled["code"]) == ("done", "payment.cancelled")
        assert cancelled["text"] == "缴费已取消，未扣款。"
        interrupted = await ui.answer(waiting)
        assert (interrupted["outcome"], interrupted["code"]) == ("refused", "payment.cancelled")
        assert counter.house.loop.time() - began < 5.0, "T13"
        assert not counter.pad.keypad_on
        assert counter.orders() == [("refused", "refused")]
        if moment == "pin":
            await counter.take()

    tell(tmp_path, story)


def test_what_was_paid_is_given_back_on_request_and_can_be_paid_again(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt, order = await begun(counter, ui)
        assert (await counter.pay_by_card(ui, session, order))["outcome"] == "done"
        cancelled = await ui.call("payment.cancel", session=session, order=order)
        assert (cancelled["outcome"], cancelled["code"]) == ("done", "payment.reversed")
        assert counter.charged() == 0
        unpaid = await ui.call("application.file", session=session)
        assert unpaid["code"] == "application.incomplete"
        answer = await counter.pay(ui, session, receipt, QR)
        assert answer["outcome"] == "done"
        assert (await ui.call("application.file", session=session))["outcome"] == "done"
        assert counter.charged() == FEE
        used = await ui.call("payment.cancel", session=session, order=answer["order"])
        assert used["code"] == "payment.unknown_order", "the order went with the application"

    tell(tmp_path, story)


@pytest.mark.parametrize("how", ["session", "application"])
def test_a_payment_of_no_use_goes_back_by_itself(tmp_path, how):
    """T10: with the application or the session that it was for."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt = await counter.applied(ui)
        assert (await counter.pay(ui, session, receipt, CARD))["outcome"] == "done"
        if how == "session":
            await ui.call("session.close", session=session)
        else:
            assert (await ui.call("application.begin", session=session, matter=BARE))["outcome"] == "done"
        await counter.settled()
        assert counter.charged() == 0
        assert counter.orders() == [("reversed", "reversed")]
        assert ("reverse", "done", None) in counter.events()

    tell(tmp_path, story)


def test_a_push_ends_the_wait_at_once(tmp_path):
    """T10: the result comes by push, not at the next poll."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui, QR)
        waiting = ui.ask("payment.await", session=session, order=order, seconds=60)
        await asyncio.sleep(10.7)
        began = counter.house.loop.time()
        counter.scan(order)
        assert (await ui.answer(waiting))["outcome"] == "done"
        assert counter.house.loop.time() - began < 0.1

    tell(tmp_path, story)


def test_a_push_that_is_lost_is_made_good_by_the_poll(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui, QR)
        counter.house.platform.on_push = lambda _messages: None
        waiting = ui.ask("payment.await", session=session, order=order, seconds=60)
        await asyncio.sleep(10.7)
        counter.scan(order)
        assert (await ui.answer(waiting))["outcome"] == "done"

    tell(tmp_path, story)


def test_a_code_nobody_scans_is_given_up(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        session, receipt, order = await begun(counter, ui, QR)
        answer = await counter.awaited(ui, session, order, seconds=30)
        assert (answer["outcome"], answer["code"], answer["state"]) == ("pending", "payment.awaiting", "open")
        twice = await counter.begun(ui, session, receipt, CARD)
        assert (twice["outcome"], twice["code"]) == ("refused", "payment.under_way")
        for _ in range(3):
            answer = await counter.awaited(ui, session, order, seconds=30)
        assert (answer["outcome"], answer["code"]) == ("refused", "payment.expired")
        assert answer["text"] == "超时未支付，订单已关闭，未扣款。"
        with pytest.raises(ValueError, match="no open order"):
            counter.scan(order)
        assert (await counter.pay(ui, session, receipt, CARD))["outcome"] == "done"

    tell(tmp_path, story)


def test_a_terminal_without_a_counter_takes_telephones(tmp_path):
    async def story(counter: Counter, ui: Caller) -> None:
        payments = counter.house.settings
        assert payments.cardreader is None
        session = await counter.house.verified(ui)
        listed = await ui.call("matters.list")
        costs = [one["matter"] for one in listed["matters"] if one["fee_fen"] and not one["reasons"]]
        begun = await ui.call("application.begin", session=session, matter=costs[0])
        fee, receipt = begun["matter"]["fee_fen"], begun["receipt"]
        assert (await counter.begun(ui, session, receipt, CARD, fee))["code"] == "device.missing"
        assert (await counter.pay(ui, session, receipt, QR, amount_fen=fee))["outcome"] == "done"

    tell(tmp_path, story, bank=False)


@pytest.mark.parametrize("how", ["paid", "reversed"])
def test_a_slip_is_printed_on_request(tmp_path, how):
    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui)
        await counter.pay_by_card(ui, session, order)
        if how == "reversed":
            await ui.call("payment.cancel", session=session, order=order)
        slip = await ui.call("payment.receipt", session=session, order=order)
        assert (slip["outcome"], slip["paper"], slip["order"]) == ("done", "printed", order)
        assert len(counter.house.printer.papers) == 1
        counter.house.printer.paper_out()
        counter.house.printer_port.nudge()
        await ui.component("printer", "offline")
        slip = await ui.call("payment.receipt", session=session, order=order)
        assert (slip["outcome"], slip["paper"], slip["code"]) == ("refused", "not_printed", "printer.paper_out")

    tell(tmp_path, story)


def test_a_slip_of_which_nobody_knows_is_unknown(tmp_path):
    """T4, L16."""

    async def story(counter: Counter, ui: Caller) -> None:
        session, _, order = await begun(counter, ui)
        await counter.pay_by_card(ui, session, order)
        counter.house.printer.paper_out(after_millimetres=10.0)
        slip = await ui.call("payment.receipt", session=session, order=order)
        assert (slip["outcome"], slip["paper"], slip["code"]) == ("done", "unknown", "payment.paper_unknown")

    tell(tmp_path, story)


def test_each_step_is_told_and_audited(tmp_path):
    """T12, H6: with the order's number, without the citizen's."""

    async def story(counter: Counter, ui: Caller) -> str:
        session, _, order = await begun(counter, ui)
        await counter.pay_by_card(ui, session, order)
        await ui.call("payment.cancel", session=session, order=order)
        await asyncio.sleep(1)
        told = [event for event in counter.events() if event[0] in ("open_order", "charge_card", "charge", "reverse")]
        names = ("open_order", "charge_card", "charge", "reverse")
        assert told == [(name, "done", None) for name in names]
        return order

    order = tell(tmp_path, story)
    trail = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    noted = [(one["event"], one["details"].get("order")) for one in trail if one["event"].startswith("payment_")]
    assert noted == [("payment_begun", None), ("payment_charged", order), ("payment_cancelled", order)]
