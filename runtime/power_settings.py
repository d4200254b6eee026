"""What is configured of a power failure, and the budget of every step of the way down (T14, docs/power.md)."""

from typing import Annotated

import msgspec
from msgspec import Meta

LAST_SECONDS = 7.0
"""What a session that is open still gets when the way down begins."""
BUDGETS: dict[str, float] = {
    "session": LAST_SECONDS,
    "end": 6.0,
    "cards": 5.0,
    "print": 3.0,
    "settle": 2.0,
    "tell": 1.0,
    "checkpoint": 2.0,
    "look": 2.0,
    "wipe": 3.0,
    "ups": 5.0,
    "results": 1.0,
    "off": 3.0,
}
"""What each step may take, in seconds; `alarms` and `records` share `deliver_seconds`."""
HOST_SECONDS = 15.0
"""What the host needs from the order to power off until it is off (14.6 s measured on a virtual machine)."""


class Power(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens when the mains fail, on a terminal with a UPS."""

    reserve_seconds: Annotated[
        float,
        Meta(ge=60, le=7_200, description="With less runtime left no session is opened, and an open one has to end."),
    ] = 600.0
    session_seconds: Annotated[
        float, Meta(ge=10, le=600, description="How long an open session then has; its citizen is told.")
    ] = 180.0
    stop_seconds: Annotated[
        float,
        Meta(ge=60, le=3_600, description="With less runtime left, or a low battery by its flag, the board goes down."),
    ] = 120.0
    longest_on_battery_seconds: Annotated[
        float,
        Meta(ge=60, le=86_400, description="After this long on battery the board goes down, whatever the UPS tells."),
    ] = 1_500.0
    mains_back_seconds: Annotated[
        float, Meta(ge=0, le=120, description="How long the mains must be back without a break to be relied on.")
    ] = 10.0
    deliver_seconds: Annotated[
        float,
        Meta(ge=0, le=60, description="What the platform may take to receipt the last alarms and records on the way."),
    ] = 5.0
    cut_seconds: Annotated[
        float, Meta(ge=30, le=600, description="How long after it was told the UPS cuts; the board is off before.")
    ] = 60.0

    def __post_init__(self) -> None:
        if self.reserve_seconds < self.stop_seconds:
            raise ValueError("reserve_seconds must be at least stop_seconds: nobody begins what cannot be finished")
        if self.stop_seconds < (longest := longest_way_seconds(self)):
            raise ValueError(f"stop_seconds must be at least {longest:g}: going down takes that long when all is slow")


def longest_way_seconds(settings: Power) -> float:
    """Return the seconds from the decision until the board is off when every step takes its whole budget."""
    return sum(BUDGETS.values()) + settings.deliver_seconds + HOST_SECONDS
