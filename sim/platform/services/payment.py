"""Takes payments: opens orders, charges cards, waits for telephones, gives back, lists days (T10).

An order is charged once at most, pays for one receipt, and is spent once by its filing. What a terminal gives up is
closed, and given back where it was paid; what was spent is not given back.
"""

import secrets
from dataclasses import dataclass, field

import structlog

from runtime.messages.applications import ReceiptStanding, ReceiptState
from runtime.messages.certificate import Refusal
from runtime.messages.payment import (
    CardCharge,
    DayList,
    DayOrder,
    DayRequest,
    Method,
    OrderState,
    PaymentOpening,
    PaymentQuery,
    PaymentResult,
    PaymentReversal,
    PaymentStanding,
    PinKeyIssue,
    PinKeyRequest,
)
from runtime.services.receipts import read_receipt
from sim.people import Citizen
from sim.platform.bank import BALANCE_FEN, PIN, Bank, BankRefusal
from sim.platform.payment_orders import Order, Orders
from sim.platform.services.desk import Desk, Handlers
from sim.platform.services.identity import Identity
from sim.platform.services.matters import Matters
from sim.wire import Verbs

log = structlog.get_logger(__name__)

QR_SECONDS = 300
"""How long a code can be paid, by the platform's own clock; terminals give up earlier."""
_CODES: dict[Method, str | None] = {
    "unionpay_card": None,
    "unionpay_qr": "https://qr.platform.example/unionpay/",
    "ecny_qr": "https://qr.platform.example/ecny/",
}
_STATES: dict[OrderState, ReceiptState] = {
    "open": "pending",
    "paid": "paid",
    "refused": "refused",
    "expired": "refused",
    "reversed": "reversed",
}


@dataclass(frozen=True, slots=True)
class Payments:
    """The payment service."""

    desk: Desk
    identity: Identity
    matters: Matters
    bank: Bank = field(init=False)
    orders: Orders = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bank", Bank(self.desk.database))
        object.__setattr__(self, "orders", Orders(self.desk.database))

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {
            PaymentOpening: self._open,
            PinKeyRequest: self._pin_key,
            CardCharge: self._charge_card,
            PaymentQuery: self._tell,
            PaymentReversal: self._reverse,
            DayRequest: self._day,
        }

    @property
    def verbs(self) -> Verbs:
        """What the rig's control socket may order."""
        return {
            "pay_code": self.pay_code,
            "bank_says": self.bank_says,
            "bank_account": self.bank_account,
            "payment_totals": self.totals,
        }

    def pay_code(self, order: str | None = None) -> str:
        """Let a telephone pay the code of an order, the newest open one when left out, and return its state.

        Raises ValueError where there is no such open order.
        """
        payable = [one for one in self.orders.every("state = 'open' AND qr IS NOT NULL") if not self._is_expired(one)]
        row = next((one for one in reversed(payable) if order in (None, one.order)), None)
        if row is None:
            raise ValueError("no open order with a code")
        self._pay(row, f"telephone {row.order}")
        self._say(row)
        return row.state

    def bank_says(self) -> int:
        """Let the bank say what it kept to itself, and return of how many orders."""
        waiting = self.orders.every("held_account IS NOT NULL")
        for row in waiting:
            account, row.held_account = row.held_account or "", None
            self._book(row, account)
            if row.is_given_up and row.state == "paid":
                self._return(row)
            self.orders.save(row)
            self._say(row)
        return len(waiting)

    def bank_account(
        self, number: str, pin: str = PIN, balance_fen: int = BALANCE_FEN, *, blocked: bool = False
    ) -> None:
        """Give the account of a card another PIN, balance or state."""
        self.bank.set_account(number, pin, balance_fen, blocked=blocked)
        self.desk.store.commit()

    def totals(self) -> dict[str, int]:
        """Return the sums of what was charged and given back, in fen."""
        return {"charged_fen": self.bank.total("charge"), "reversed_fen": self.bank.total("reversal")}

    def spend(self, order: str, receipt: str, fee_fen: int) -> bool:
        """Spend what an order paid for a receipt, as part of its filing; False when it did not, or no longer."""
        row = self.orders.find(order)
        if row is None or (row.state, row.purpose, row.amount_fen, row.spent_on) != ("paid", receipt, fee_fen, None):
            return False
        row.spent_on = receipt
        self.orders.save(row)
        return True

    def standing(self, receipt: str) -> ReceiptStanding | None:
        """Return where an order stands, as a receipt."""
        row = self.orders.find(receipt)
        return None if row is None else _receipt(row)

    def standings(self, citizen: Citizen) -> list[ReceiptStanding]:
        """Return where every order of a citizen stands."""
        return [_receipt(row) for row in self.orders.every("id_number = ?", citizen.id_number)]

    def _open(self, terminal: str, opening: PaymentOpening) -> PaymentStanding | Refusal:
        citizen = self.identity.citizen(terminal, opening.assertion)
        if isinstance(citizen, Refusal):
            return citizen
        if (refusal := self._wrong(terminal, opening)) is not None:
            return refusal
        prefix, now = _CODES[opening.method], self.desk.now()
        row = Order(
            opening.order,
            terminal,
            opening.method,
            opening.amount_fen,
            opening.purpose,
            citizen.id_number,
            "open",
            None,
            None if prefix is None else prefix + secrets.token_urlsafe(18),
            now,
            now,
        )
        self.orders.save(row)
        return row.standing

    def _wrong(self, terminal: str, opening: PaymentOpening) -> Refusal | None:
        """Return why an order is not opened: the fee may have changed; all else the terminal should have known."""
        matter = self.matters.matter(self.matters.version, opening.matter)
        if matter is None:
            return Refusal("matter.withdrawn", retry=False)
        if matter.fee_fen != opening.amount_fen or opening.amount_fen <= 0:
            return Refusal("fee.changed", retry=False)
        if not _is_receipt(opening.order, "P") or not _is_receipt(opening.purpose, "A"):
            return self._complain("payment.invalid", terminal)
        if self.orders.find(opening.order) is not None:
            return self._complain("payment.order_used", terminal)
        if self.orders.every("purpose = ? AND state IN ('open', 'paid')", opening.purpose):
            return self._complain("payment.already_paid", terminal)
        return None

    def _pin_key(self, terminal: str, request: PinKeyRequest) -> PinKeyIssue:
        wrapped, check_value = self.bank.new_pin_key(terminal, request.algorithm)
        return PinKeyIssue(request.pad, wrapped, check_value)

    def _charge_card(self, terminal: str, charge: CardCharge) -> PaymentStanding | Refusal:
        row = self._own(terminal, charge.order)
        if row is None:
            return Refusal("payment.unknown_order", retry=False)
        if row.method != "unionpay_card":
            return self._complain("payment.wrong_method", terminal)
        if row.state == "open" and row.held_account is None:
            try:
                self._pay(row, self.bank.card(terminal, charge))
            except BankRefusal as refusal:
                row.code, row.at = refusal.code, self.desk.now()
                self.orders.save(row)
        return row.standing

    def _tell(self, terminal: str, query: PaymentQuery) -> PaymentStanding | Refusal:
        row = self._own(terminal, query.order)
        if row is None:
            return Refusal("payment.unknown_order", retry=False)
        if self._is_expired(row):
            self._end(row, "expired")
        return row.standing

    def _reverse(self, terminal: str, reversal: PaymentReversal) -> PaymentStanding | Refusal:
        row = self._own(terminal, reversal.order)
        if row is None:
            return Refusal("payment.unknown_order", retry=False)
        if row.spent_on is not None:
            return self._complain("payment.used", terminal)
        if row.state == "paid":
            self._return(row)
        elif row.state == "open" and row.held_account is not None and self.desk.faults.bank_hold != "late":
            row.is_given_up = 1
        elif row.state == "open":
            self._end(row, "refused")
        self.orders.save(row)
        return row.standing

    def _day(self, terminal: str, request: DayRequest) -> DayList:
        rows = self.orders.every("terminal = ? AND state <> 'open'", terminal)
        listed = [DayOrder(row.order, row.method, row.amount_fen, row.state) for row in rows if row.day == request.day]
        return DayList(request.day, tuple(listed))

    def _pay(self, row: Order, account: str) -> None:
        """Charge an account for an order, unless the bank refuses or keeps it to itself."""
        faults = self.desk.faults
        row.code = None
        if faults.bank_refusal is not None:
            row.code = faults.bank_refusal
        elif faults.bank_hold is not None:
            row.held_account = account
        else:
            self._book(row, account)
            faults.charged()
        self.orders.save(row)

    def _book(self, row: Order, account: str) -> None:
        row.amount_fen += int(self.desk.faults.is_amount_wrong)
        row.at = self.desk.now()
        try:
            self.bank.charge(row.order, account, row.amount_fen, row.at)
        except BankRefusal as refusal:
            row.code = refusal.code
        else:
            row.state = "paid"

    def _return(self, row: Order) -> None:
        self.bank.give_back(row.order, self.desk.now())
        self._end(row, "reversed")

    def _end(self, row: Order, state: OrderState) -> None:
        row.state, row.at = state, self.desk.now()
        self.orders.save(row)

    def _say(self, row: Order) -> None:
        """Tell the terminal that an order came to an end, now that this is in the database."""
        self.desk.store.commit()
        if row.state != "open":
            self.desk.order_one(row.terminal, PaymentResult(row.order))

    def _is_expired(self, row: Order) -> bool:
        is_over = self.desk.now() >= row.opened_at + QR_SECONDS
        return row.state == "open" and row.qr is not None and row.held_account is None and is_over

    def _own(self, terminal: str, order: str) -> Order | None:
        """Return an order of this terminal; a question for another's is complained of."""
        row = self.orders.find(order)
        if row is not None and row.terminal != terminal:
            self._complain("payment.unknown_order", terminal)
            return None
        return row

    def _complain(self, code: str, terminal: str) -> Refusal:
        log.warning("platform_complains", code=code, terminal=terminal)
        self.desk.store.count(f"complaint {code}")
        return Refusal(code, retry=False)


def _is_receipt(number: str, letter: str) -> bool:
    return read_receipt(number) == number and number.startswith(letter)


def _receipt(row: Order) -> ReceiptStanding:
    text = "款项已原路退回。" if row.state == "reversed" else ""
    title = f"缴费 {row.amount_fen // 100}.{row.amount_fen % 100:02d} 元"
    return ReceiptStanding(row.order, "payment", _STATES[row.state], title, text, row.at)
