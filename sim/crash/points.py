"""The points of a run at which the daemon may stop: each counted, and told of while it is passed."""

from collections.abc import Callable
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What the daemon was about to do, or had just done."""

    STATEMENT = "statement"
    COMMIT = "commit"
    AUDIT = "audit"
    SENT = "sent"
    RECEIVED = "received"
    DEVICE = "device"
    TOLD = "told"


class Point(msgspec.Struct, frozen=True):
    """A place in a run. Points with the same `world` leave the same behind: nothing outside changed between them.

    `is_open` when the journal then held an open intent.
    """

    number: int
    kind: Kind
    what: str
    world: int
    is_open: bool = False


class Points:
    """Counts the points of a run and tells `on_point` of each; not before it is armed."""

    def __init__(self, on_point: Callable[[Point], None]) -> None:
        self.passed = 0
        self._on_point = on_point
        self._world = 0
        self._armed = False

    def arm(self) -> None:
        """Count from now on."""
        self._armed = True

    def disarm(self) -> None:
        """Count no more."""
        self._armed = False

    def moved(self) -> None:
        """Note that something changed that outlives the daemon."""
        self._world += 1

    def reach(self, kind: Kind, what: str) -> None:
        """Pass a point; whoever is told may not let the daemon go on."""
        if self._armed:
            self.passed += 1
            self._on_point(Point(self.passed, kind, what, self._world))
