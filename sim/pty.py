"""Hosts a virtual device on a pseudo-terminal, at the pace of its line rate (protocols 10)."""

import asyncio
import os
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from sim.wire import Faults, Verbs, VirtualDevice

BITS_PER_BYTE = 10
_CHUNK_BYTES = 32
_DRIBBLE_SECONDS = 0.05
_CUT_SECONDS = 0.02
"""A hang-up throws away what the terminal has not read yet: give it this long to read the half reply."""


class PtyHost:
    """One virtual device behind a symbolic link to a pseudo-terminal.

    A PTY ignores the line rate, so the host paces both directions: `bytes * 10 / baud` seconds. It lives on the
    event loop by callbacks alone: call `plug` and `unplug` from a coroutine, or use it as a context manager there.

    `latency_seconds` pass before each reply. With `dribble` set, bytes come one at a time, 50 ms apart. With `frozen`
    set, the device neither hears nor speaks, and its port stays. Once `set_baud` gave the device a line rate of its
    own, it hears only a terminal that set its line to that rate.
    """

    def __init__(self, device: VirtualDevice, path: Path, *, baud: int = 115_200, latency_seconds: float = 0.0) -> None:
        self.device = device
        self.path = path
        self.faults = Faults()
        self.dribble = False
        self.frozen = False
        self._seconds_per_byte = BITS_PER_BYTE / baud
        self._speed: int | None = None
        self._latency = latency_seconds
        self._line: _Line | None = None

    @property
    def verbs(self) -> Verbs:
        """What can be done to the wire by hand, for the rig's control socket."""
        return {
            "plug": self.plug,
            "unplug": self.unplug,
            "fault": self.faults.add,
            "slow_dribble": self.slow_dribble,
            "freeze": self.freeze,
            "mend": self.mend,
            "set_baud": self.set_baud,
        }

    @property
    def plugged(self) -> bool:
        """Whether the device is on its wire."""
        return self._line is not None

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unplug()

    def plug(self) -> None:
        """Open a new PTY and publish it under `path`. Plugging twice is nothing."""
        if self._line is None:
            self._line = _Line(self._seconds_per_byte, self._heard)
            self.path.unlink(missing_ok=True)
            self.path.symlink_to(self._line.name)

    def unplug(self) -> None:
        """Take the device away: the symbolic link goes and the terminal sees a hang-up. Twice is nothing."""
        if self._line is not None:
            self.path.unlink(missing_ok=True)
            self._line.close()
            self._line = None

    def slow_dribble(self) -> None:
        """Let what the device says come a byte at a time, 50 ms apart, until `mend`."""
        self.dribble = True

    def freeze(self) -> None:
        """Let the device neither hear nor speak until `mend`."""
        self.frozen = True

    def mend(self) -> None:
        """End all faults of the wire, dribble and freeze too."""
        self.faults.clear()
        self.dribble = self.frozen = False

    def set_baud(self, baud: int) -> None:
        """Let the device speak at this rate from now on, and hear nothing at any other.

        Raises ValueError for a rate that no serial line has.
        """
        speed = getattr(termios, f"B{baud}", None)
        if not isinstance(speed, int) or baud <= 0:
            raise ValueError(f"no serial line has {baud} bit/s")
        self._speed, self._seconds_per_byte = speed, BITS_PER_BYTE / baud
        if self._line is not None:
            self._line.seconds_per_byte = self._seconds_per_byte

    def nudge(self) -> None:
        """Let the device say what it wants to say by itself; call it after a verb of the device."""
        self._heard(b"")

    def _heard(self, data: bytes) -> None:
        if self.frozen or (self._line is not None and self._speed not in {None, self._line.speed}):
            return
        reply = self.device.feed(data)
        if self._line is None or not reply:
            return
        arrival = self.faults.apply(reply)
        self._line.later(self._latency + arrival.late_seconds, lambda: self._say(arrival.data, cut=arrival.cut))

    def _say(self, data: bytes, *, cut: bool) -> None:
        if self._line is None:
            return
        if self.dribble:
            seconds = self._line.say(data, chunk_bytes=1, seconds_per_byte=_DRIBBLE_SECONDS)
        else:
            seconds = self._line.say(data, chunk_bytes=_CHUNK_BYTES, seconds_per_byte=self._seconds_per_byte)
        if cut:
            self._line.later(seconds + _CUT_SECONDS, self.unplug)


class _Line:
    """Both ends of an open PTY; `heard` gets what the terminal wrote, after the time that takes on a wire."""

    def __init__(self, seconds_per_byte: float, heard: Callable[[bytes], None]) -> None:
        self.seconds_per_byte = seconds_per_byte
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._timers: set[asyncio.TimerHandle] = set()
        self._free_at = 0.0
        self._read_until = 0.0
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.name = os.ttyname(self._slave)
        self._loop.add_reader(self._master, self._readable)

    @property
    def speed(self) -> int:
        """The rate that the terminal set, as `termios` numbers it."""
        return int(termios.tcgetattr(self._master)[5])

    def close(self) -> None:
        """Hang up."""
        for timer in self._timers:
            timer.cancel()
        self._loop.remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do `work` after `seconds`, unless the line is closed before."""
        self._at(self._loop.time() + seconds, work)

    def say(self, data: bytes, *, chunk_bytes: int, seconds_per_byte: float) -> float:
        """Send `data` after what is being sent; return the seconds until its last byte is out."""
        now = self._loop.time()
        self._free_at = max(now, self._free_at)
        for start in range(0, len(data), chunk_bytes):
            chunk = data[start : start + chunk_bytes]
            self._free_at += len(chunk) * seconds_per_byte
            self._at(self._free_at, partial(self._write, chunk))
        return self._free_at - now

    def _at(self, when: float, work: Callable[[], object]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            work()

        timer = self._loop.call_at(when, fire)
        self._timers.add(timer)

    def _write(self, chunk: bytes) -> None:
        with suppress(BlockingIOError):  # nobody reads: a UART loses bytes too
            os.write(self._master, chunk)

    def _readable(self) -> None:
        """Begin to hear, after a silence."""
        self._loop.remove_reader(self._master)
        self._read_until = self._loop.time()
        self._hear_on()

    def _hear_on(self) -> None:
        """Take the next bytes, or wait for some.

        Without a silence the time goes on where the last byte ended: a machine that wakes up late is no slower line.
        """
        try:
            data = os.read(self._master, _CHUNK_BYTES)
        except BlockingIOError:
            self._loop.add_reader(self._master, self._readable)
            return
        self._read_until += len(data) * self.seconds_per_byte

        def arrived() -> None:
            self._hear_on()
            self._heard(data)

        self._at(self._read_until, arrived)
