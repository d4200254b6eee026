"""What the methods of matters, applications and progress take and give."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from runtime.api.shapes import SessionId
from runtime.messages.matters import Matter
from runtime.services.matters import Offer, Reason

Name = Annotated[str, Meta(pattern="^[a-z0-9_]{1,64}$")]


class MatterWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a matter of the catalogue."""

    matter: Annotated[Name, Meta(description="What matters.list gives as `matter`.")]


class ApplicationWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and a matter of the catalogue."""

    session: SessionId
    matter: Annotated[Name, Meta(description="What matters.list gives as `matter`.")]


class FormFilled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, and fields of the form; null takes a field away."""

    session: SessionId
    values: Annotated[
        dict[str, Any], Meta(max_length=200, description="Each field's value, as the form's schema has it.")
    ]


class MaterialTaken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, and which material the finished document is."""

    session: SessionId
    material: Annotated[Name, Meta(description="An `id` of the matter's materials.")]


class ReceiptWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A receipt number as somebody typed it."""

    receipt: Annotated[str, Meta(max_length=64, description="Case, hyphens and spaces do not matter.")]


class MattersListed(msgspec.Struct, frozen=True):
    """The catalogue in force: its version, and every matter with what keeps this terminal from it now."""

    version: int
    in_force_unix: int
    matters: list[Offer]


class MatterShown(msgspec.Struct, frozen=True):
    """A matter with its form and materials, and what keeps this terminal from it now."""

    catalogue_version: int
    matter: Matter
    reasons: list[Reason]


class CatalogueInForce(msgspec.Struct, frozen=True):
    """The version that is in force now."""

    version: int


class FilingProgress(msgspec.Struct, frozen=True):
    """Notification `application.progress`: how much of an application the platform has."""

    session: str
    sent_bytes: int
    total_bytes: int
