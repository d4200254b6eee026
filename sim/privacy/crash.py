"""Both processes fail as by a bug in native code, with a session open and a citizen's data in memory."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sim.privacy import memory
from sim.privacy.finder import Finder
from sim.privacy.report import Crash
from sim.privacy.stage import Stage
from sim.privacy.visit import VisitError

_END_SECONDS = 10.0
_LOOK_SECONDS = 0.05


class _Ended(msgspec.Struct, frozen=True, tag="vision_ended", tag_field="event"):
    """What the daemon's log says of the end of the vision process, its child."""

    status: int


@dataclass(frozen=True, slots=True)
class Crashed:
    """The signal that ended a process, as `told_by` says it, and all that it held right before that was sent."""

    signal: int
    told_by: str
    held: list[memory.Run]

    def searched(self, finder: Finder) -> Crash:
        """Search what it held."""
        hits = memory.search(self.held, finder)
        return Crash(self.signal, self.told_by, dict(Counter(hit.what for hit in hits)))


async def crash(stage: Stage) -> dict[str, Crashed]:
    """Let the citizen be verified, fill in a form and scan a page; then have both processes crash, one by one.

    Each process's memory is read right before its signal is sent. Raises VisitError when the visit does not go as told,
    or nobody says how a process ended.
    """
    session = await stage.visit.begin()
    await stage.visit.apply(session)
    pids = stage.pids
    try:
        vision = await _crash_vision(stage, pids["vision"])
        return {"vision": vision, "daemon": await _crash_daemon(stage, pids["daemon"])}
    except TimeoutError:
        raise VisitError(f"nobody says within {_END_SECONDS:g} s that a process ended of its signal") from None


async def _crash_vision(stage: Stage, pid: int) -> Crashed:
    held = await asyncio.to_thread(memory.read, pid)
    log = stage.rig.files.daemon_log
    said = log.stat().st_size
    os.kill(pid, signal.SIGSEGV)
    async with asyncio.timeout(_END_SECONDS):
        return Crashed(-await _ended(log, said), "the daemon's log", held)


async def _crash_daemon(stage: Stage, pid: int) -> Crashed:
    held = await asyncio.to_thread(memory.read, pid)
    os.kill(pid, signal.SIGSEGV)
    async with asyncio.timeout(_END_SECONDS):
        return Crashed(-await stage.process.wait(), "the kernel", held)


async def _ended(log: Path, after: int) -> int:
    """Return the status of the vision process that the log names behind a place, as soon as it names one."""
    while True:
        for line in log.read_bytes()[after:].splitlines():
            with suppress(msgspec.DecodeError):  # of another event, or not yet whole
                return msgspec.json.decode(line, type=_Ended).status
        await asyncio.sleep(_LOOK_SECONDS)
