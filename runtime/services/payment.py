"""Payment of an application's fee: UnionPay card, UnionPay QR, e-CNY QR, one state machine (T10).

An order belongs to one application and pays its fee once: filing uses it up. What was paid and is not used goes back,
by itself, with the session or the application; `payment.cancel` gives it back at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.messages.payment import Method, OrderState, PaymentOpening, PaymentStanding
from runtime.services.matters import Matters
from runtime.services.office import Office
from runtime.services.payment_book import PaymentOrder, State, day_of, of_purpose
from runtime.services.payment_card import CardCounter, PinKeyListener
from runtime.services.payment_held import HeldPayment
from runtime.services.payment_till import NOT_CHARGED, UNSURE_SECONDS, Till, Unsure
from runtime.services.receipts import new_receipt, read_receipt
from runtime.services.steps import Refused, Result, Transaction
from runtime.session import Session

LOCAL_SECONDS = 2.0
"""What a step may take that asks nobody outside."""
POLL_SECONDS = 2.0
"""Between two questions how an order stands; the platform's word that it ended comes at once."""
_LONGEST_QR = 251

Guide = Callable[[str], None]
"""Called with a guidance code for the citizen."""


class PaymentShown(Result, frozen=True, kw_only=True):
    """How a payment stands. `pending` means that its result is still waited for, or that the money is on its way back.

    `qr` is what the citizen scans, while the order is open.
    """

    order: str | None = None
    method: Method | None = None
    amount_fen: int | None = None
    purpose: str | None = None
    state: State | None = None
    qr: str | None = None


@dataclass(frozen=True, slots=True)
class Payments:
    """Serves payments; `counter` is None on a terminal without card reader or PIN pad."""

    office: Office
    matters: Matters
    till: Till
    counter: CardCounter | None
    scan_seconds: float

    async def begin(self, session: Session, method: Method, amount_fen: int, purpose: str) -> PaymentShown:
        """Open an order for the fee of the session's application; raises SessionError as `Session.asserted`."""
        assertion = session.asserted()

        async def work(transaction: Transaction) -> dict[str, Any]:
            async with _local(transaction, "check_payment"):
                receipt, matter = self._due(session, method, amount_fen, purpose)
                await self._expect_unpaid(session, receipt)
            now = self.office.origin.wall_clock()
            order = PaymentOrder(new_receipt("payment"), method, amount_fen, receipt, "open", now, day_of(now))
            held = await self.till.open(transaction, order)
            session.hold_payment(held)
            opening = PaymentOpening(order.order, method, amount_fen, receipt, matter, assertion)
            standing: PaymentStanding | None = None
            try:
                standing = await self._opened(transaction, held, opening)
            finally:
                if standing is None and held.state == "open":
                    session.drop_payment()
            if method != "unionpay_card":
                held.waits_until = asyncio.get_running_loop().time() + self.scan_seconds
            return _about(held) | {"qr": standing.qr}

        about = {"method": method, "amount_fen": amount_fen}
        return await self.office.operate(
            session, "payment_begun", PaymentShown, work, done="payment.begun", about=about
        )

    async def card(self, session: Session, order: str, guide: Guide, on_key: PinKeyListener) -> PaymentShown:
        """Charge the session's order to a bank card; raises SessionError as `Session.asserted`.

        A card that cannot be charged leaves the order open: another try, or another card, may do.
        """
        session.asserted()

        async def work(transaction: Transaction) -> dict[str, Any]:
            held = _held(session, order)
            if held.method != "unionpay_card":
                raise Refused("payment.wrong_method", "the order is not for a card", retry=False)
            if held.state != "open" or held.waits_until is not None or self.counter is None:
                return _shown(held)
            standing = await self.counter.charge(transaction, held, guide, on_key)
            if standing is None:
                return _shown(held)
            return await self._take(transaction, held, standing)

        return await self._operate(session, "payment_charged", order, work)

    async def wait(self, session: Session, order: str, seconds: float, guide: Guide) -> PaymentShown:
        """Wait for an order's end, at most so long; one that does not end in its time is given back."""
        session.asserted()

        async def work(transaction: Transaction) -> dict[str, Any]:
            held = _held(session, order)
            if held.state != "open":
                return _shown(held)
            if held.waits_until is None:
                raise Refused("payment.needs_card", "no card was charged yet", retry=True)
            if held.method != "unionpay_card":
                guide("payment.scan_code")
            deadline = seconds + 2 * self.office.answer_seconds
            async with transaction.step("await_payment", deadline_seconds=deadline, no_answer="payment.awaiting"):
                standing = await self._ended(held, asyncio.get_running_loop().time() + seconds)
            if standing is not None:
                return await self._take(transaction, held, standing)
            if asyncio.get_running_loop().time() >= held.waits_until:
                await self.till.give_back(transaction, held, "payment.expired")
            return _shown(held)

        return await self._operate(session, "payment_awaited", order, work)

    async def cancel(self, session: Session, order: str) -> PaymentShown:
        """End an order, open or paid, and give back what was paid; what waits for the citizen is interrupted."""
        session.citizen()
        if session.payment is not None and session.payment.order == order:
            session.payment.cancel()

        async def work(transaction: Transaction) -> dict[str, Any]:
            held = _held(session, order)
            if session.application is not None and session.application.doubtful is not None:
                raise Refused("application.unsure", "it may be filed already", retry=True)
            if held.state in ("open", "paid"):
                await self.till.give_back(transaction, held, "payment.cancelled")
            if held.state == "used":
                raise Refused("payment.used", "what it paid for is filed", retry=False)
            is_back = held.state == "reversed"
            shown = _shown(held)
            if held.state == "reversing":
                return shown
            return shown | {"outcome": "done", "code": "payment.reversed" if is_back else "payment.cancelled"}

        return await self._operate(session, "payment_cancelled", order, work)

    async def _operate(self, session: Session, audit_event: str, order: str, work: Any) -> PaymentShown:
        about = {"order": read_receipt(order)}
        return await self.office.operate(session, audit_event, PaymentShown, work, done="payment.paid", about=about)

    def _due(self, session: Session, method: Method, amount_fen: int, purpose: str) -> tuple[str, str]:
        """Return receipt and matter of the fee; raise Refused where that is not what is due here and now."""
        draft = session.application
        if draft is None:
            raise Refused("application.none", "no application was begun", retry=False)
        if read_receipt(purpose) != draft.receipt:
            raise Refused("payment.wrong_purpose", "not the receipt of the application", retry=False)
        if draft.matter.fee_fen == 0:
            raise Refused("payment.nothing_due", "the matter costs nothing", retry=False)
        _, matter = self.matters.find(draft.matter.id)
        if not amount_fen == draft.matter.fee_fen == matter.fee_fen:
            raise Refused("fee.changed", "not the fee in force", retry=False)
        if method == "unionpay_card" and self.counter is None:
            raise Refused("device.missing", "no card reader or PIN pad", retry=False)
        return draft.receipt, draft.matter.id

    async def _expect_unpaid(self, session: Session, receipt: str) -> None:
        """Raise Refused where an order for this receipt was paid, or may be: nobody is charged twice."""
        states = {order.state for order in await of_purpose(self.office.journal, receipt)}
        if states & {"paid", "used"}:
            raise Refused("payment.already_paid", "it is paid already", retry=False)
        if "open" in states and session.payment is not None and session.payment.state == "open":
            raise Refused("payment.under_way", "cancel the order before", retry=False)
        if states & {"open", "reversing"}:
            raise Refused("payment.unsettled", "the order before is not settled yet", retry=True)

    async def _opened(self, transaction: Transaction, held: HeldPayment, opening: PaymentOpening) -> PaymentStanding:
        """Open an order at the platform; raise Refused, with the order as open as before where nobody knows."""
        deadline = self.office.answer_seconds + 1.0
        async with transaction.step("open_order", deadline_seconds=deadline, no_answer="platform.no_answer"):
            try:
                standing = await self.till.ask(opening, held.order, key=bytes.fromhex(held.charge.key))
                if not _is_for(standing, held) or standing.state != "open" or not _is_payable(standing):
                    raise Unsure("payment.wrong_amount", "not the order that was asked for", retry=True)
            except Unsure:
                raise
            except Refused as refused:
                self.matters.turned_away(refused.code)
                await self.till.end(transaction, held, "refused", refused.code)
                raise
        return standing

    async def _ended(self, held: HeldPayment, until: float) -> PaymentStanding | None:
        """Ask how an order stands until it ended or a card was refused; None when it did not in time."""
        loop = asyncio.get_running_loop()
        until = min(until, held.waits_until or until)
        while True:
            held.news.clear()
            standing: PaymentStanding | None = None
            try:
                standing = await self.till.query(held.order)
            except Refused:
                standing = None  # asked again until the time is over
            if standing is not None and _is_said(standing, held):
                return standing
            if loop.time() >= until:
                return None
            async with held.interruptible():
                try:
                    async with asyncio.timeout(min(POLL_SECONDS, until - loop.time())):
                        await held.news.wait()
                except TimeoutError:
                    continue

    async def _take(self, transaction: Transaction, held: HeldPayment, standing: PaymentStanding) -> dict[str, Any]:
        """Take the platform's word on a held order and return what the citizen is told."""
        if not _is_for(standing, held):
            await self.till.give_back(transaction, held, "payment.wrong_amount")
        elif standing.state == "open":
            if standing.code is None:
                held.waits_until = asyncio.get_running_loop().time() + UNSURE_SECONDS
                return _shown(held)
            held.waits_until = None
            return _about(held) | {"outcome": "refused", "code": standing.code, "retry": True}
        else:
            await self.till.end(transaction, held, standing.state, standing.code or _CODES.get(standing.state))
        return _shown(held)


_CODES: dict[OrderState, str | None] = {
    "refused": NOT_CHARGED,
    "expired": "payment.expired",
    "reversed": "payment.reversed",
}


def _local(transaction: Transaction, name: str) -> Any:
    """A step that asks nobody outside."""
    return transaction.step(name, deadline_seconds=LOCAL_SECONDS, no_answer="operation.interrupted")


def _held(session: Session, order: str) -> HeldPayment:
    if session.payment is None or session.payment.order != read_receipt(order):
        raise Refused("payment.unknown_order", "the session has no such order", retry=False)
    return session.payment


def _is_for(standing: PaymentStanding, held: HeldPayment) -> bool:
    return (standing.method, standing.amount_fen) == (held.method, held.amount_fen)


def _is_payable(standing: PaymentStanding) -> bool:
    """Whether a citizen can pay the open order: a QR one has a code that a screen can show."""
    if standing.method == "unionpay_card":
        return True
    return standing.qr is not None and standing.qr.isascii() and 0 < len(standing.qr) <= _LONGEST_QR


def _is_said(standing: PaymentStanding, held: HeldPayment) -> bool:
    """Whether a standing is a result. A telephone tells its owner itself why it could not pay."""
    return standing.state != "open" or (held.method == "unionpay_card" and standing.code is not None)


def _about(held: HeldPayment) -> dict[str, Any]:
    return {
        "order": held.order,
        "method": held.method,
        "amount_fen": held.amount_fen,
        "purpose": held.purpose,
        "state": held.state,
    }


def _shown(held: HeldPayment) -> dict[str, Any]:
    """Return what the citizen is told of an order as it is now."""
    about = _about(held)
    match held.state:
        case "paid" | "used":
            return about
        case "open":
            return about | {"outcome": "pending", "code": "payment.awaiting", "retry": True}
        case "reversing":
            return about | {"outcome": "pending", "code": "payment.reversing"}
        case "reversed":
            code = held.code if held.code == "payment.wrong_amount" else "payment.reversed"
            return about | {"outcome": "refused", "code": code, "retry": True}
        case _:
            return about | {"outcome": "refused", "code": held.code or NOT_CHARGED, "retry": True}
