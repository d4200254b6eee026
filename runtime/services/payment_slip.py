"""The slip of a payment: what was paid or given back, for what, when; nothing of the card (T10, T22)."""

from dataclasses import dataclass
from typing import Any

from devices.printer.job import Item, Job, Text
from devices.printer.protocol import Align
from runtime import texts
from runtime.messages.payment import Method
from runtime.services.office import Office
from runtime.services.payment_book import PaymentOrder, State, china, find
from runtime.services.printing import Paper, Press
from runtime.services.receipts import read_receipt
from runtime.services.steps import Refused, Result, Transaction
from runtime.session import Session

_METHODS: dict[Method, str] = {
    "unionpay_card": "paper.unionpay_card",
    "unionpay_qr": "paper.unionpay_qr",
    "ecny_qr": "paper.ecny_qr",
}
_STATES: dict[State, str] = {
    "paid": "paper.paid",
    "used": "paper.paid",
    "reversed": "paper.reversed",
    "reversing": "paper.reversing",
}
"""What a slip is printed of; of an order that nobody paid there is none."""


class PaymentSlip(Result, frozen=True, kw_only=True):
    """The answer of `payment.receipt`; `paper` is never a guess: `unknown` when nobody can know."""

    paper: Paper = "not_printed"
    order: str | None = None


@dataclass(frozen=True, slots=True)
class Slips:
    """Prints slips."""

    office: Office
    press: Press
    terminal: str

    async def print_out(self, session: Session, order: str) -> PaymentSlip:
        """Print the slip of the session's order as it stands; raises SessionError as `Session.citizen`."""
        session.citizen()
        said: dict[str, Any] = {"order": read_receipt(order), "paper": "not_printed"}

        async def work(transaction: Transaction) -> dict[str, Any]:
            async with transaction.step("find_order", deadline_seconds=2.0, no_answer="journal.write_failed"):
                known = await self._known(session, said["order"])
            said["paper"] = "unknown"
            try:
                said["paper"] = (await self.press.print_out(transaction, known.order, self._job(known))).paper
            except Refused as refused:
                said["paper"] = "not_printed"
                return said | {"outcome": "refused", "code": refused.code, "retry": refused.retry}
            return said | ({"code": "payment.paper_unknown"} if said["paper"] == "unknown" else {})

        return await self.office.operate(
            session,
            "payment_slip_asked",
            PaymentSlip,
            work,
            done="payment.slip_printed",
            about={"order": said["order"]},
        )

    async def _known(self, session: Session, order: str | None) -> PaymentOrder:
        if order is None or order not in session.orders:
            raise Refused("payment.unknown_order", "the session has no such order", retry=False)
        known = await find(self.office.journal, order)
        if known is None or known.state not in _STATES:
            raise Refused("payment.no_slip", "nothing was paid", retry=False)
        return known

    def _job(self, order: PaymentOrder) -> Job:
        """Lay the slip out."""
        when = china(order.moved_at or order.opened_at)
        lines = (
            ("paper.order", order.order),
            ("paper.receipt", order.purpose),
            ("paper.method", texts.text(_METHODS[order.method]).zh),
            ("paper.amount", f"{order.amount_fen // 100}.{order.amount_fen % 100:02d}"),
            ("paper.state", texts.text(_STATES[order.state]).zh),
            ("paper.time", f"{when:%Y-%m-%d %H:%M:%S}"),
            ("paper.terminal", self.terminal),
        )
        items: list[Item] = [
            Text(texts.text("paper.caption").zh, align=Align.CENTRE, double=True),
            Text(texts.text("paper.payment").zh, align=Align.CENTRE),
            *(Text(f"{texts.text(caption).zh} {value}") for caption, value in lines),
            Text(texts.text("paper.closing").zh, align=Align.CENTRE),
        ]
        return tuple(items)
