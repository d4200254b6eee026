"""Payment (T10): UnionPay card, UnionPay QR and e-CNY QR, one order from its opening to its end."""

from typing import Literal

import msgspec

from runtime.messages.entry import Entry, Personal

Method = Literal["unionpay_card", "unionpay_qr", "ecny_qr"]
OrderState = Literal["open", "paid", "refused", "reversed", "expired"]
"""An order ends `paid`, `refused`, `reversed` (paid once, then given back) or `expired`; `open` is not an end."""


class PaymentOpening(Personal, frozen=True):
    """Opens an order; `order` is made by the terminal, `purpose` is the receipt number that is paid for.

    `matter` is what that receipt is of: the platform compares `amount_fen` with the fee in force before it takes money.
    """

    order: str
    method: Method
    amount_fen: int
    purpose: str
    matter: str
    assertion: bytes


class PinKeyRequest(msgspec.Struct, frozen=True):
    """Asks for the working key that encrypts PIN blocks in the PIN pad of this identity (T6, T20)."""

    pad: str
    algorithm: Literal["sm4", "3des"]


class PinKeyIssue(msgspec.Struct, frozen=True):
    """A PIN key, encrypted under the pad's master key, which never leaves the pad, and its check value."""

    pad: str
    wrapped: bytes
    check_value: bytes


class CardCharge(Personal, frozen=True):
    """Charges an open order to a card: its data as the reader gave it, the PIN block as the PIN pad encrypted it.

    `track2` is the chip's track 2 equivalent data (tag 57) and `emv` its data objects, or `track2` is the stripe's in
    ASCII and `emv` is empty.
    """

    order: str
    track2: bytes
    emv: bytes
    pin_block: bytes


class PaymentQuery(msgspec.Struct, frozen=True):
    """Asks how an order stands."""

    order: str


class PaymentReversal(msgspec.Struct, frozen=True):
    """Ends an order: gives back what was paid, refuses what was not. It can be said again."""

    order: str


class PaymentStanding(msgspec.Struct, frozen=True):
    """How an order stands; `qr` is what the citizen scans, while a QR order is open. Nothing of the card.

    `code` says why it was refused; of an open order, why the last card could not be charged.
    """

    order: str
    method: Method
    amount_fen: int
    state: OrderState
    at: int
    qr: str | None = None
    code: str | None = None


class PaymentResult(msgspec.Struct, frozen=True):
    """Command: an order has come to an end; the terminal asks for it at once instead of at its next poll."""

    order: str


class DayRequest(msgspec.Struct, frozen=True):
    """Asks for the platform's list of a day (`2027-01-31`, in China) of this terminal."""

    day: str


class DayOrder(msgspec.Struct, frozen=True):
    """One order of a day's list."""

    order: str
    method: Method
    amount_fen: int
    state: OrderState


class DayList(msgspec.Struct, frozen=True):
    """Every order of a day that did not stay open."""

    day: str
    orders: tuple[DayOrder, ...]


class DayDifference(msgspec.Struct, frozen=True):
    """A record: at day's end the two lists differ in this order; a side that does not have it is None.

    A side reads as state, method and amount in fen: `paid unionpay_qr 8000`.
    """

    day: str
    order: str
    terminal: str | None
    platform: str | None
    at: float


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    PaymentOpening: Entry("payment.opening", 1, personal=True, limit_bytes=2_048),
    PinKeyRequest: Entry("payment.pin_key_request", 1, personal=False, limit_bytes=256),
    PinKeyIssue: Entry("payment.pin_key", 1, personal=False, limit_bytes=512),
    CardCharge: Entry("payment.card", 1, personal=True, limit_bytes=4_096),
    PaymentQuery: Entry("payment.query", 1, personal=False, limit_bytes=256),
    PaymentReversal: Entry("payment.reversal", 1, personal=False, limit_bytes=256),
    PaymentStanding: Entry("payment.standing", 1, personal=False, limit_bytes=1_024),
    PaymentResult: Entry("payment.result", 1, personal=False, limit_bytes=256),
    DayRequest: Entry("payment.day", 1, personal=False, limit_bytes=256),
    DayList: Entry("payment.day_list", 1, personal=False, limit_bytes=4_000_000),
    DayDifference: Entry("payment.difference", 1, personal=False, limit_bytes=512, stream="supervision"),
}
