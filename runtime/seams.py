"""Everything of the outside world that the daemon is given (rule 5): real on the board, in memory in `sim`."""

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from devices.hotplug import Hotplug
from devices.link import OpenLink
from transport.routes import Routes
from transport.uplink import Uplink
from vision.verifier import Cameras, Verifier

T = TypeVar("T")


class JournalExecutor(Protocol):
    """Where SQLite runs: one thread on the board, inline on a virtual clock."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the journal's connection, one at a time, in order, and return its result."""

    async def replace(self, work: Callable[[Path], object]) -> bool:
        """Close the connection and have `work` put another file in the place of the journal's; the next work opens it.

        False, and nothing is done, where the journal is in memory. Raises what `work` raises.
        """

    async def beside(self, work: Callable[[Path], bool]) -> bool:
        """Run `work` on the journal's file beside all other work and return its result; False for one in memory."""

    async def close(self) -> None:
        """Finish what was asked and close the connection."""


class HostPower(Protocol):
    """The board's power switch: logind on the board."""

    async def power_off(self) -> None:
        """Ask the host to power off."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the daemon's process uses."""

    resident_bytes: int
    open_descriptors: int
    is_locked: bool = False
    """Whether its memory is kept out of swap."""


@dataclass(frozen=True, slots=True)
class Seams:
    """The seams, the wall clock (seconds since 1970) and the random source of back-off and scheduling.

    Keys, nonces, session ids, idempotency keys and the order of liveness challenges never come from `jitter`:
    they come from the operating system.
    """

    open_link: OpenLink
    hotplug: Hotplug
    routes: Routes
    uplink: Uplink
    verifier: Verifier
    cameras: Cameras
    journal: JournalExecutor
    power: HostPower
    usage: Callable[[], Usage]
    watch_egress: Callable[[Callable[[str], None]], None]
    """Given who is told when this process was refused an address that is not the platform's (T20)."""
    wall_clock: Callable[[], float]
    jitter: random.Random
