"""What the methods of shared information take and give."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from runtime.api.shapes import SessionId
from runtime.services.resources import RESOURCES

_Name = Annotated[str, Meta(pattern="^[a-z0-9_]{1,64}$")]
_Resource = Annotated[_Name, Meta(description=", ".join(f"`{resource.name}`" for resource in RESOURCES) + ".")]
_Purpose = Annotated[_Name, Meta(description="What it is for, as in the grant that `sharing.resources` shows.")]
_Session = Annotated[SessionId | None, Meta(description="Needed where the rows are personal.")]
Month = Annotated[str, Meta(pattern=r"^20\d\d-(0[1-9]|1[0-2])$", description="As `2027-01`, in China Standard Time.")]


class SharedWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to ask of a resource, and for what purpose."""

    resource: _Resource
    purpose: _Purpose
    parameters: Annotated[
        dict[str, Any], Meta(max_length=50, description="As the resource's schema of parameters says.")
    ] = {}
    session: _Session = None


class DataSetWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which data set, whether to bring it up to date, and which of its rows to show."""

    resource: _Resource
    purpose: _Purpose
    pull: Annotated[bool, Meta(description="Ask the platform for a newer version first.")] = True
    first: Annotated[int, Meta(ge=0, le=10_000_000, description="The first row to show, from 0 on.")] = 0
    most: Annotated[int, Meta(ge=0, le=100, description="How many rows to show.")] = 0


class MonthWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a month."""

    month: Month


class PullProgress(msgspec.Struct, frozen=True):
    """Notification `sharing.progress`: how much of a data set is here."""

    resource: str
    received_bytes: int
    total_bytes: int
