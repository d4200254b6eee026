"""A citizen pays the fee of an application and files it, pays another one and takes the money back, and leaves a third.

By bank card, by UnionPay QR and by e-CNY QR. When the daemon stops, the one with the UnionPay code pays it all the
same, if it is not paid; the one with the e-CNY code does not.

Another citizen gets two fees back: of an application that is turned away, and one that the bank charges after it was
cancelled.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from runtime.messages.payment import Method
from sim.caller import Caller
from sim.control import ControlError
from sim.crash.sabotage import Sabotage
from sim.crash.service import Remains, Service, Stage
from sim.crash.services import applications, certificate
from sim.world import expect

MATTER, FEE_FEN, PIN = "property_search", 8_000, "123456"
FORM = {"purpose": "交易", "certificate_number": "样本不动产权第0000001号"}
HAND_SECONDS = 1.0
"""What a citizen needs to do what they are asked to."""
BACK_SECONDS = 30
BEGIN, CARD, AWAIT, CANCEL, SLIP = (f"payment.{name}" for name in ("begin", "card", "await", "cancel", "receipt"))

Pay = Callable[[Stage, Caller, str, str], Awaitable[dict[str, Any]]]


async def _card(stage: Stage, ui: Caller, session: str, order: str) -> dict[str, Any]:
    asked = ui.ask(CARD, session=session, order=order)
    await _guided(ui, "payment.insert_card")
    await stage.insert_bank_card()
    await _guided(ui, "payment.enter_pin")
    await stage.enter_pin(PIN)
    await _guided(ui, "payment.take_card")
    answer = await ui.answer(asked)
    await stage.take_bank_card()
    return answer


async def _code(stage: Stage, ui: Caller, session: str, order: str) -> dict[str, Any]:
    asked = ui.ask(AWAIT, session=session, order=order)
    await _guided(ui, "payment.scan_code")
    await stage.order("pay_code", order=order)
    return await ui.answer(asked)


async def _guided(ui: Caller, code: str) -> None:
    """Wait until the citizen is asked to do something, and has heard it."""
    while (await ui.notice("session.guidance"))["code"] != code:
        continue
    await asyncio.sleep(HAND_SECONDS)


async def _live(method: Method, pay: Pay, stage: Stage, ui: Caller) -> None:
    session = await stage.verified(ui)
    order = await _paid(method, pay, stage, ui, session)
    expect(await ui.call(SLIP, session=session, order=order))
    expect(await ui.call(applications.FILE, session=session))
    order = await _paid(method, pay, stage, ui, session)
    expect(await ui.call(CANCEL, session=session, order=order))
    await _paid(method, pay, stage, ui, session)
    await ui.call("session.close", session=session)


async def _live_back(stage: Stage, ui: Caller) -> None:
    session = await stage.verified(ui)
    order = await _begun("unionpay_qr", ui, session)
    await stage.order("hold_charges", how="late")
    asked = ui.ask(AWAIT, session=session, order=order)
    await _guided(ui, "payment.scan_code")
    await stage.order("pay_code", order=order)
    expect(await ui.call(CANCEL, session=session, order=order))
    expect(await ui.answer(asked), "refused")
    await stage.order("mend")
    await stage.order("bank_says")
    await _back(ui, order)
    order = await _paid("unionpay_qr", _code, stage, ui, session)
    await stage.order("publish_catalogue")  # with another fee
    expect(await ui.call(applications.FILE, session=session), "refused")
    await _back(ui, order)
    await ui.call("session.close", session=session)


async def _back(ui: Caller, order: str) -> None:
    """Wait until the platform says that an order was given back."""
    for _ in range(BACK_SECONDS):
        if expect(await ui.call("progress.by_receipt", receipt=order))["receipts"][0]["state"] == "reversed":
            return
        await asyncio.sleep(HAND_SECONDS)
    raise AssertionError(f"{order} was not given back")


async def _paid(method: Method, pay: Pay, stage: Stage, ui: Caller, session: str) -> str:
    """Begin an application, pay its fee and return the order."""
    order = await _begun(method, ui, session)
    expect(await pay(stage, ui, session, order))
    return order


async def _begun(method: Method, ui: Caller, session: str) -> str:
    """Begin an application that lacks nothing but its fee, and an order for that."""
    receipt = expect(await ui.call(applications.BEGIN, session=session, matter=MATTER))["receipt"]
    expect(await ui.call("application.form", session=session, values=FORM))
    await ui.call("session.begin_document", session=session)
    expect(await ui.call("session.add_page", session=session))
    expect(await ui.call("session.finish_document", session=session))
    expect(await ui.call("application.material", session=session, material="id_card"))
    asked = {"method": method, "amount_fen": FEE_FEN, "purpose": receipt}
    order: str = expect(await ui.call(BEGIN, session=session, **asked))["order"]
    return order


async def _pay_late(stage: Stage) -> None:
    try:
        await stage.order("pay_code")
    except (ValueError, ControlError):
        return  # there is no code that can be paid


async def _say_late(stage: Stage) -> None:
    await stage.order("bank_says")


async def _check(remains: Remains) -> list[str]:
    """Never charged twice, never charged without result: what was not used for a filing was given back."""
    failures = await applications.check(remains)
    failures += certificate.paper(remains, SLIP)
    orders = "SELECT order_id, purpose, spent_on FROM payment_orders"
    platform = {order: (purpose, spent) for order, purpose, spent in remains.platform.execute(orders)}
    here = dict(remains.journal.execute("SELECT order_id, state FROM payments").fetchall())
    filed = {row[0] for row in remains.platform.execute("SELECT receipt FROM filings WHERE fee_fen > 0")}
    for order, (purpose, spent) in platform.items():
        charged, given_back = (_booked(remains.platform, order, kind) for kind in ("charge", "reversal"))
        if charged > 1 or given_back > charged:
            failures.append(f"{order} was charged {charged} times and given back {given_back} times")
        is_used = purpose in filed and spent == purpose
        if charged > given_back and not is_used:
            failures.append(f"{order} is charged, and nothing was filed for it")
        if is_used and charged == given_back:
            failures.append(f"{order} was used for a filing, and is not charged")
        right = {"used"} if charged > given_back else {"reversed"} if charged else {"refused", "expired", "reversed"}
        if here.get(order) not in right:
            failures.append(f"{order} is {here.get(order)} here, right is {' or '.join(sorted(right))}")
    paid_for = {purpose for purpose, spent in platform.values() if spent == purpose}
    failures += [f"{receipt} was filed, and its fee is not paid" for receipt in filed - paid_for]
    for order in sorted(here.keys() - platform.keys()):
        if here[order] not in ("refused", "expired", "reversed"):
            failures.append(f"{order} is {here[order]} here, and the platform has none")
    return failures


def _booked(platform: sqlite3.Connection, order: str, kind: str) -> int:
    statement = "SELECT count(*) FROM bank_ledger WHERE order_id = ? AND kind = ?"
    return int(platform.execute(statement, (order, kind)).fetchone()[0])


def _charge_twice(platform: sqlite3.Connection) -> None:
    platform.execute(
        "INSERT INTO bank_ledger (order_id, kind, account, amount_fen, at)"
        " SELECT order_id, kind, account, amount_fen, at FROM bank_ledger WHERE kind = 'charge'"
    )


def _keep(platform: sqlite3.Connection) -> None:
    platform.execute("DELETE FROM bank_ledger WHERE kind = 'reversal'")


_SABOTAGES = {Sabotage.DOUBLE_CHARGE: _charge_twice, Sabotage.KEEP_FEE: _keep}

_SECRETS = (FORM["certificate_number"],)

SERVICES = (
    Service("payment-card", partial(_live, "unionpay_card", _card), _check, secrets=_SECRETS, sabotages=_SABOTAGES),
    Service(
        "payment-unionpay",
        partial(_live, "unionpay_qr", _code),
        _check,
        _pay_late,
        secrets=_SECRETS,
        sabotages=_SABOTAGES,
    ),
    Service("payment-ecny", partial(_live, "ecny_qr", _code), _check, secrets=_SECRETS, sabotages=_SABOTAGES),
    Service("payment-back", _live_back, _check, _say_late, secrets=_SECRETS, sabotages=_SABOTAGES),
)
