"""What the methods of the hotline take and give."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from runtime.api.shapes import SessionId
from runtime.messages.hotline import ATTACHMENTS, RATING_CHARACTERS, TEXT_CHARACTERS, Verdict

Attachment = Annotated[int, Meta(ge=1, le=ATTACHMENTS, description="Which attachment, the first is 1.")]
Chosen = Literal["consultation", "complaint", "suggestion", "help", "report", "police_non_emergency", "emergency"]
Number = Annotated[str, Meta(max_length=64, description="A receipt number; case, hyphens and spaces do not matter.")]


class AttachmentWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, and which attachment the finished document is."""

    session: SessionId
    attachment: Attachment


class RequestWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and says what is registered."""

    session: SessionId
    category: Annotated[Chosen, Meta(description="What hotline.categories gives; `emergency` is never sent.")]
    text: Annotated[str, Meta(max_length=10_000, description=f"At most {TEXT_CHARACTERS} characters are taken.")]
    district: Annotated[str, Meta(min_length=1, max_length=20, description="One of hotline.categories.")]
    anonymous: Annotated[bool, Meta(description="True: no identity goes with it, and no telephone number.")]
    telephone: Annotated[str, Meta(max_length=32, description="Where the citizen can be called back.")] | None = None
    scans: Annotated[
        tuple[Attachment, ...], Meta(max_length=ATTACHMENTS, description="Which attachments go with it.")
    ] = ()
    no_danger: Annotated[
        bool, Meta(description="The citizen was told what to dial and says that nobody is in danger.")
    ] = False


class RequestNamed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and a request."""

    session: SessionId
    receipt: Number


class ReplyRated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, a request, and what the citizen thinks of its reply."""

    session: SessionId
    receipt: Number
    verdict: Annotated[Verdict, Meta(description="`unsatisfied` opens the request again.")]
    text: Annotated[str, Meta(max_length=5_000, description=f"At most {RATING_CHARACTERS} characters are taken.")] = ""


class CategoryShown(msgspec.Struct, frozen=True):
    """A category of requests in both languages."""

    category: Chosen
    zh: str
    en: str


class HotlineShown(msgspec.Struct, frozen=True):
    """What a request may be about and where; the notice is shown before anything is typed."""

    categories: list[CategoryShown]
    districts: list[str]
    emergency_zh: str
    emergency_en: str
    dial: list[str]


class EmergencyTold(msgspec.Struct, frozen=True):
    """Notification `hotline.emergency`: what to dial now; nothing was sent."""

    session: str
    dial: list[str]
    code: str
    zh: str
    en: str


class RequestProgress(msgspec.Struct, frozen=True):
    """Notification `hotline.progress`: how much of a request the platform has."""

    session: str
    sent_bytes: int
    total_bytes: int
