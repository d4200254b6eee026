"""What the methods of payments take and give."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from runtime.api.shapes import SessionId
from runtime.messages.payment import Method

_Number = Annotated[str, Meta(max_length=64, description="Case, hyphens and spaces do not matter.")]
_Order = Annotated[str, Meta(max_length=64, description="What payment.begin gave as `order`.")]
_Day = Annotated[
    str,
    Meta(pattern=r"^20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$", description="As `2027-01-31`, in China."),
]


class PaymentWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, how the citizen pays, and the fee of which receipt."""

    session: SessionId
    method: Annotated[Method, Meta(description="A bank card at the terminal, or a telephone that scans a code.")]
    amount_fen: Annotated[int, Meta(ge=1, le=100_000_000, description="What the citizen was shown: the matter's fee.")]
    purpose: Annotated[_Number, Meta(description="The receipt number of the application.")]


class OfPayment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and its order."""

    session: SessionId
    order: _Order


class PaymentAwaited(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, its order, and how long this call may take."""

    session: SessionId
    order: _Order
    seconds: Annotated[float, Meta(gt=0, le=60, description="After so long the answer is `payment.awaiting`.")] = 30.0


class DayWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a day."""

    day: _Day


class OrderNamed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names an order of `payments.day`."""

    order: Annotated[str, Meta(pattern="^P-[0-9A-Z-]{1,20}$", description="As `P-7K2M-Q9XD-S`.")]


class PinKeyPressed(msgspec.Struct, frozen=True):
    """Notification `payment.key`: a key of the PIN pad; a digit is a star, whichever it is (T6)."""

    session: str
    key: Literal["star", "clear", "enter", "cancel", "timeout"]
