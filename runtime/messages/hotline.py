"""The government hotline (H1 to H4): a request, what is done about it, the reply, the citizen's rating."""

from typing import Literal

import msgspec

from runtime.messages.applications import Scan
from runtime.messages.entry import Entry, Personal

Category = Literal["consultation", "complaint", "suggestion", "help", "report", "police_non_emergency"]
OrderStage = Literal[
    "registered",
    "transcribed",
    "reviewed",
    "routed",
    "assigned",
    "handling",
    "verified",
    "answered",
    "followed_up",
    "archived",
]
"""The life of an order (H1); one that is rated unsatisfied goes from `answered` back to `assigned` (H3)."""
Verdict = Literal["satisfied", "neutral", "unsatisfied"]

ATTACHMENTS = 5
"""The most scans of a request."""
TEXT_CHARACTERS = 2_000
"""The longest request."""
RATING_CHARACTERS = 500
"""The longest word with a rating."""


class HotlineRequest(Personal, frozen=True):
    """Registers a request; an anonymous one has no assertion and is asked for by its receipt number alone."""

    receipt: str
    category: Category
    text: str
    district: str
    scans: tuple[Scan, ...]
    assertion: bytes | None
    telephone: str | None


class HotlineQuery(Personal, frozen=True):
    """Asks how a request stands; without the assertion of who made it, only what a number may say is told."""

    receipt: str
    assertion: bytes | None = None


class HotlineStep(msgspec.Struct, frozen=True):
    """One step of an order's life, for the citizen."""

    stage: OrderStage
    at: int
    department: str
    text: str


class HotlineStanding(Personal, frozen=True):
    """How a request stands; `reply` is there once it is answered, `due_unix` is when the department is due.

    It `is_bare` when it is told to a number alone though a verified citizen made it: no texts, no reply, no rating.
    """

    receipt: str
    category: Category
    stage: OrderStage
    department: str
    steps: tuple[HotlineStep, ...]
    due_unix: int
    overdue: bool
    reply: str | None
    may_be_rated: bool
    is_bare: bool = False


class HotlineRating(Personal, frozen=True):
    """Rates an answered request (H3); `unsatisfied` opens it again. One that is not anonymous needs its citizen."""

    receipt: str
    verdict: Verdict
    text: str
    assertion: bytes | None = None


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    HotlineRequest: Entry("hotline.request", 1, personal=True, limit_bytes=24_000_000),
    HotlineQuery: Entry("hotline.query", 1, personal=True, limit_bytes=2_048),
    HotlineStanding: Entry("hotline.standing", 1, personal=True, limit_bytes=64_000),
    HotlineRating: Entry("hotline.rating", 1, personal=True, limit_bytes=4_096),
}
