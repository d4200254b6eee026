"""What every wire of the rig shares: the shape of a virtual device, and the faults a wire can have (protocols 10)."""

from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

NOISE = bytes.fromhex("00 FF AA AA AA 96")
"""Line noise that looks like the start of a frame (protocols 10)."""

LATE_SECONDS = 5.0
"""How late a late reply comes: after the command deadlines of the drivers."""

Verbs = Mapping[str, Callable[..., object]]
"""What the rig's control socket may call, by name; arguments are JSON values given by keyword."""


class VirtualDevice(Protocol):
    """A simulated peripheral without I/O and without a clock.

    `feed` takes the bytes the terminal sent (possibly none) and returns the bytes the device says: its replies,
    and whatever it wanted to say by itself since the last call.
    """

    @property
    def verbs(self) -> Verbs:
        """What can be done to the device by hand."""

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return the device's."""


class Fault(StrEnum):
    """What can happen to a device's reply on its way. `unplug` lets half of it through and then cuts the wire."""

    GARBAGE = "garbage"
    HALF = "half"
    CORRUPT = "corrupt"
    DUPLICATE = "duplicate"
    SILENT = "silent"
    LATE = "late"
    UNPLUG = "unplug"


class Arrival(NamedTuple):
    """What arrives of a reply, how many seconds late, and whether the wire is cut after it."""

    data: bytes
    late_seconds: float = 0.0
    cut: bool = False


class Faults:
    """The faults waiting for a wire's next replies."""

    def __init__(self) -> None:
        self._waiting: deque[Fault] = deque()

    def add(self, kind: str, times: int = 1) -> None:
        """Let the next `times` replies suffer `kind` (a Fault); raise ValueError when there is no such fault."""
        self._waiting.extend([Fault(kind)] * times)

    def clear(self) -> None:
        """Mend the wire."""
        self._waiting.clear()

    def apply(self, reply: bytes) -> Arrival:
        """Return what arrives of `reply`, a reply of at least one byte."""
        if not self._waiting:
            return Arrival(reply)
        middle = len(reply) // 2
        return {
            Fault.GARBAGE: Arrival(NOISE + reply),
            Fault.HALF: Arrival(reply[:middle]),
            Fault.CORRUPT: Arrival(reply[:middle] + bytes([reply[middle] ^ 0x10]) + reply[middle + 1 :]),
            Fault.DUPLICATE: Arrival(reply + reply),
            Fault.SILENT: Arrival(b""),
            Fault.LATE: Arrival(reply, late_seconds=LATE_SECONDS),
            Fault.UNPLUG: Arrival(reply[:middle], cut=True),
        }[self._waiting.popleft()]
