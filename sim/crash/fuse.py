"""A SIGKILL at a point of a real daemon: what the rig plugs into its seams (`govterm.rig`, `seams`).

The daemon asks for it with `rig = true` and GOVTERM_RIG_CRASH_FILE only. From when that file is there points are
counted and logged; at the one whose number it holds the process kills itself. 0 is none.
"""

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from devices.link import FlowControl, Link, OpenLink
from runtime.seams import JournalExecutor, Seams
from sim.crash.points import Kind, Point, Points
from sim.crash.views import change
from sim.crash.wires import WatchedLink, WatchedUplink

log = structlog.get_logger(__name__)

PASSED = "crash_point_passed"
VARIABLE = "GOVTERM_RIG_CRASH_FILE"
EFFECTFUL = ("printer", "cardreader")
"""The devices at which something happens that cannot be undone: each write to one is a point."""

T = TypeVar("T")


def watch(seams: Seams) -> Seams:
    """Return seams that pass points, with the fuse at them."""
    points = Points(Fuse(Path(os.environ[VARIABLE])).passes)
    points.arm()
    return replace(
        seams,
        journal=_Executor(seams.journal, points),
        uplink=WatchedUplink(seams.uplink, points),
        open_link=_watched(seams.open_link, points),
    )


class Fuse:
    """Counts, logs and kills; told of points from any thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._passed = 0

    def passes(self, point: Point) -> None:
        """Take a point; at the one that is asked for it does not return."""
        with self._lock:
            if not self._file.exists():
                return
            self._passed += 1
            log.info(PASSED, number=self._passed, kind=str(point.kind), what=point.what)
            if self._passed == int(self._file.read_text()):
                os.kill(os.getpid(), signal.SIGKILL)


def passed(lines: Iterable[bytes]) -> list[Point]:
    """Return the points that a daemon's log tells of."""
    told = [msgspec.json.decode(line) for line in lines if PASSED.encode() in line]
    return [Point(one["number"], Kind(one["kind"]), one["what"], one["number"]) for one in told]


class _Executor:
    """Passes points for every statement that changes something and every commit, where SQLite runs."""

    def __init__(self, executor: JournalExecutor, points: Points) -> None:
        self._executor = executor
        self._points = points
        self._commits = False
        self.replace = executor.replace
        self.beside = executor.beside
        self.close = executor.close

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def watched(db: sqlite3.Connection) -> T:
            db.set_trace_callback(self._executes)
            try:
                return work(db)
            finally:
                db.set_trace_callback(None)
                if self._commits and not db.in_transaction:
                    self._commits = False
                    self._points.reach(Kind.COMMIT, "after")

        return await self._executor.run(watched)

    def _executes(self, statement: str) -> None:
        if (what := change(statement)) is not None:
            self._points.reach(Kind.STATEMENT, what)
        elif statement == "COMMIT":
            self._commits = True
            self._points.reach(Kind.COMMIT, "before")


def _watched(open_link: OpenLink, points: Points) -> OpenLink:
    async def opened(port: str, baud: int, flow_control: FlowControl = "none") -> Link:
        link = await open_link(port, baud, flow_control)
        name = Path(port).name
        return WatchedLink(link, name, points, count().__next__) if name in EFFECTFUL else link

    return opened
