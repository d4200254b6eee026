"""What a fault is: a kind of it, where it happens, and the time in which it did."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from sim.scripted import ScriptedVision
from sim.simulate.outside import DEVICES, Surroundings


class Density(StrEnum):
    """How many faults there are."""

    LIGHT = "light"
    HEAVY = "heavy"


GAP_SECONDS = {Density.LIGHT: 5_400.0, Density.HEAVY: 55.0}
"""Between two faults, on average."""


class Place(Protocol):
    """Where faults happen."""

    around: Surroundings
    chance: random.Random

    @property
    def vision(self) -> ScriptedVision:
        """The vision process of the daemon's present life."""

    def order(self, verb: str, **args: Any) -> Any:
        """Have the platform do something; raise ValueError when it cannot."""

    def kill(self, *, at_point: bool) -> None:
        """Kill the daemon's process, now or at one of the next things it does."""

    def expect_cut(self, *, expected: bool) -> None:
        """Take note that the power may be cut from now on, or not any more."""

    def stop(self) -> None:
        """Stop the daemon in order."""

    def stall(self, *, stalls: bool) -> None:
        """Let the citizens' screen take nothing that it is told, or take it again."""

    def cut(self, *, at_point: bool) -> None:
        """Take the power, likewise."""


Deed = Callable[[Place], object]


def nothing(_place: Place) -> None:
    """Do nothing: what began is over by itself."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `target` is the component that suffers; `needs_ticket` when that surely is at fault meanwhile.

    It lasts between the two `seconds`.
    """

    name: str
    target: str
    seconds: tuple[float, float]
    begin: Deed
    end: Deed = nothing
    needs_ticket: bool = False

    def hits(self, component: str) -> bool:
        """Whether a component may be ill of it."""
        everything = self.target in ("power", "daemon")
        is_part = self.target == "vision" and component.endswith("camera")
        is_at_usb = self.target == "usb" and component in ("hotplug", *DEVICES)
        return everything or self.target == component or is_part or is_at_usb


@dataclass(slots=True)
class Window:
    """A fault that happened; `until` is infinite while it lasts."""

    kind: Kind
    since: float
    until: float = field(default=float("inf"))
