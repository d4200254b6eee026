"""What the operations of the hotline answer (H1 to H3)."""

from typing import Any

import msgspec

from runtime.hotline_texts import STAGES
from runtime.messages.hotline import Category, HotlineStanding, OrderStage
from runtime.services.applications import SCANS_BYTES
from runtime.services.steps import Result


class AttachmentTaken(Result, frozen=True, kw_only=True):
    """The answer of `hotline.attach`: how many bytes of attachments are held, of how many at most."""

    held_bytes: int | None = None
    most_bytes: int = SCANS_BYTES


class RequestBegun(Result, frozen=True, kw_only=True):
    """The answer of `hotline.begin`: the receipt number, to be shown before anything is sent."""

    receipt: str | None = None


class RequestRegistered(Result, frozen=True, kw_only=True):
    """The answer of `hotline.register`; `dial` is there when it is an emergency, and nothing was sent then.

    With the code `hotline.already` the request before, of this number, was registered, and this one was not sent.
    """

    receipt: str | None = None
    stage: OrderStage | None = None
    due_unix: int | None = None
    dial: list[str] = msgspec.field(default_factory=list)


class OrderStep(msgspec.Struct, frozen=True):
    """A step of a request's life, in words for the citizen."""

    stage: OrderStage
    stage_text: str
    at: int
    department: str
    text: str


class RequestShown(Result, frozen=True, kw_only=True):
    """The answer of `hotline.standing` and `hotline.rate`: how a request stands.

    With the code `hotline.needs_identity` a verified citizen made it: the texts and the reply are for them alone.
    """

    receipt: str | None = None
    category: Category | None = None
    stage: OrderStage | None = None
    stage_text: str | None = None
    department: str | None = None
    due_unix: int | None = None
    overdue: bool = False
    reply: str | None = None
    may_be_rated: bool = False
    history: list[OrderStep] = msgspec.field(default_factory=list)


def shown(standing: HotlineStanding) -> dict[str, Any]:
    """Return the fields of a RequestShown."""
    history = [OrderStep(one.stage, STAGES[one.stage].zh, one.at, one.department, one.text) for one in standing.steps]
    return {
        "code": "hotline.needs_identity" if standing.is_bare else None,
        "receipt": standing.receipt,
        "category": standing.category,
        "stage": standing.stage,
        "stage_text": STAGES[standing.stage].zh,
        "department": standing.department,
        "due_unix": standing.due_unix,
        "overdue": standing.overdue,
        "reply": standing.reply,
        "may_be_rated": standing.may_be_rated,
        "history": history,
    }
