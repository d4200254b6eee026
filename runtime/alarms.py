"""Alarms and their clock (T23): what must be at the platform within 30 min is told at once and watched until it is.

An alarm's clock runs from the terminal's knowledge to the platform's receipt, on the monotonic clock of this boot; over
a reboot only the wall clock knows, and counts on from there. Nothing of a citizen is in an alarm (T20).
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from runtime.journal import Journal, JournalError
from runtime.messages import Alarm
from runtime.services.steps import Origin

log = structlog.get_logger(__name__)

WAITS_SECONDS = 60.0
"""An alarm that the platform has not receipted by now is logged: the line is down, and somebody should know."""
LIMIT_SECONDS = 1_800.0
"""T23: a breach is reported within 30 min of knowledge."""
REPEAT_SECONDS = 3_600.0
"""The same code about the same subject within this time is counted, not raised anew."""
RETRY_SECONDS = 5.0
"""Between two tries to write an alarm down."""
KEPT = 1_000
"""Alarms that stay in the journal."""
SHOWN = 100
"""Alarms that are listed, beside all that are open."""


class AlarmEntry(msgspec.Struct, frozen=True):
    """An alarm: when it was raised (UTC seconds) and how many seconds it waited for its receipt, or waits since.

    `repeats` counts how often the same was raised again within an hour; in the journal it may be some behind.
    """

    alarm: str
    code: str
    subject: str
    raised_at: float
    seconds: float
    receipted: bool
    late: bool
    repeats: int


class UnknownAlarm(Exception):
    """There is no such alarm (`alarm.unknown`)."""

    code = "alarm.unknown"
    retry = False
    advice = "`alarms.list` names the alarms of this terminal"


@dataclass(slots=True)
class _Known:
    """An alarm that is open, or young enough to be repeated; `sequence` is its record's, None until it is written."""

    alarm: Alarm
    began: float
    sequence: int | None = None
    repeats: int = 0
    is_late: bool = False
    receipted_after: float | None = None
    is_changed: bool = False
    said_waits: bool = False
    said_not_journaled: bool = False

    @property
    def is_open(self) -> bool:
        return self.receipted_after is None

    @property
    def is_unwritten(self) -> bool:
        return self.is_changed or self.sequence is None


class Alarms:
    """Every alarm of this terminal. `sound` takes them; `run` is one supervised life of their clocks."""

    def __init__(self, journal: Journal, origin: Origin, on_change: Callable[[int, int], None]) -> None:
        """Tell `on_change` how many alarms are open and how many of those are late."""
        self._journal = journal
        self._origin = origin
        self._on_change = on_change
        self._known: list[_Known] = []
        self._received = 0
        self._changed = asyncio.Event()

    def sound(self, code: str, subject: str) -> None:
        """Raise an alarm: it is in the log now, and in the journal as soon as `run` comes to it. Never raises.

        `code` says what (`pinpad.tampered`), `subject` what it is about (`pinpad`, `line`, `egress`).
        """
        now = asyncio.get_running_loop().time()
        code, subject = code[:64], subject[:64]
        for known in self._known:
            if (known.alarm.code, known.alarm.subject) == (code, subject) and now < known.began + REPEAT_SECONDS:
                known.repeats += 1
                known.is_changed = True
                return
        origin = self._origin
        alarm = Alarm(secrets.token_hex(8), code, subject, origin.wall_clock(), origin.boot_id, origin.rig)
        self._known.append(_Known(alarm, now))
        log.error("alarm_raised", alarm=alarm.id, code=code, subject=subject)
        self._changed.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Journal alarms, watch their receipts and clocks; raise JournalError when the journal cannot be read."""
        await self._load()
        ready()
        while True:
            self._changed.clear()
            self._look()
            is_written = await self._write()
            opened = [known for known in self._known if known.is_open]
            self._on_change(len(opened), sum(1 for known in opened if known.is_late))
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._next(is_written=is_written)):
                    await self._changed.wait()

    async def list(self) -> list[AlarmEntry]:
        """Return every open alarm and the last others, newest first; raise JournalError."""
        rows = await self._journal.read(
            lambda db: db.execute(
                f"{_ROWS} ORDER BY receipted_after IS NOT NULL, raised_at DESC LIMIT ?", (KEPT,)
            ).fetchall()
        )
        found = {row[0]: self._read(row) for row in rows} | {known.alarm.id: known for known in self._known}
        newest = sorted(found.values(), key=lambda known: (not known.is_open, -known.alarm.at))
        opened = sum(1 for known in newest if known.is_open)
        now = asyncio.get_running_loop().time()
        return sorted((_entry(known, now) for known in newest[: opened + SHOWN]), key=lambda one: -one.raised_at)

    async def _load(self) -> None:
        """Take up what the journal has and keep what it does not have yet."""
        stream = self._journal.streams["alarm"]
        self._journal.watch("alarm", self._receive)

        def work(db: sqlite3.Connection) -> tuple[list[_Row], int]:
            rows = db.execute(f"{_ROWS} ORDER BY sequence").fetchall()
            cursor = db.execute("SELECT sequence FROM cursors WHERE stream = ?", (stream,)).fetchone()
            return rows, 0 if cursor is None else int(cursor[0])

        rows, received = await self._journal.read(work)
        self._received = max(self._received, received)
        here = {known.alarm.id: known for known in self._known}
        for row in rows:
            known = here.setdefault(row[0], self._read(row))
            known.sequence = row[6]
        self._known = sorted(here.values(), key=lambda known: known.began)

    def _receive(self, sequence: int) -> None:
        self._received = max(self._received, sequence)
        self._changed.set()

    def _look(self) -> None:
        """Settle what was receipted, watch the clocks of the rest, forget what is over."""
        now = asyncio.get_running_loop().time()
        for known in self._known:
            seconds = now - known.began
            about = {"alarm": known.alarm.id, "code": known.alarm.code, "seconds": round(seconds, 1)}
            if known.is_open and known.sequence is not None and known.sequence <= self._received:
                known.receipted_after, known.is_changed = seconds, True
                log.info("alarm_receipted", **about)
            if known.is_open and seconds >= WAITS_SECONDS and not known.said_waits:
                known.said_waits = True
                log.warning("alarm_waits", **about)
            if known.is_open and seconds >= LIMIT_SECONDS and not known.is_late:
                known.is_late = known.is_changed = True
                log.error("alarm_late", limit_seconds=LIMIT_SECONDS, **about)
        self._known = [
            known for known in self._known if known.is_open or known.is_unwritten or now < known.began + REPEAT_SECONDS
        ]

    async def _write(self) -> bool:
        """Write down what changed, the oldest first; whether the journal has everything."""
        for known in [known for known in self._known if known.is_unwritten]:
            try:
                if known.sequence is None:
                    known.sequence = await self._journal.write(self._row(known, None), known.alarm)
                else:
                    await self._journal.write(self._row(known, known.sequence))
            except JournalError as error:
                known.is_changed = True
                if not known.said_not_journaled:
                    known.said_not_journaled = True
                    log.error("alarm_not_journaled", alarm=known.alarm.id, code=error.code)
                return False
        return True

    def _row(self, known: _Known, sequence: int | None) -> Callable[[sqlite3.Connection], int]:
        """Return the work that writes an alarm's row; without a sequence, that of the record it was journaled with."""
        alarm, stream, boot_id = known.alarm, self._journal.streams["alarm"], self._origin.boot_id
        tail = (known.repeats, int(known.is_late), known.receipted_after)
        known.is_changed = False

        def work(db: sqlite3.Connection) -> int:
            place = sequence
            if place is None:
                place = int(db.execute("SELECT max(sequence) FROM records WHERE stream = ?", (stream,)).fetchone()[0])
                db.execute("DELETE FROM alarms WHERE sequence <= ? AND receipted_after IS NOT NULL", (place - KEPT,))
            row = (alarm.id, alarm.code, alarm.subject, alarm.at, boot_id, known.began, place, *tail)
            db.execute("INSERT OR REPLACE INTO alarms VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            return place

        return work

    def _read(self, row: "_Row") -> _Known:
        """Return the alarm of a row; one of an earlier boot began before this one's clock did."""
        name, code, subject, raised_at, boot_id, began, sequence, repeats, late, receipted_after = row
        is_older = boot_id != self._origin.boot_id
        if is_older:
            began = asyncio.get_running_loop().time() - max(0.0, self._origin.wall_clock() - raised_at)
        alarm = Alarm(name, code, subject, raised_at, boot_id, self._origin.rig)
        is_changed = is_older and receipted_after is None
        return _Known(alarm, began, sequence, repeats, bool(late), receipted_after, is_changed)

    def _next(self, *, is_written: bool) -> float | None:
        """Return when a clock is next to be looked at, or the journal to be tried again."""
        opened = [known for known in self._known if known.is_open]
        looks = [known.began + WAITS_SECONDS for known in opened if not known.said_waits]
        looks += [known.began + LIMIT_SECONDS for known in opened if not known.is_late]
        if not is_written:
            looks.append(asyncio.get_running_loop().time() + RETRY_SECONDS)
        return min(looks, default=None)


_Row = tuple[str, str, str, float, str, float, int, int, int, float | None]
_ROWS = "SELECT id, code, subject, raised_at, boot_id, began, sequence, repeats, late, receipted_after FROM alarms"


def _entry(known: _Known, now: float) -> AlarmEntry:
    seconds = now - known.began if known.receipted_after is None else known.receipted_after
    return AlarmEntry(
        alarm=known.alarm.id,
        code=known.alarm.code,
        subject=known.alarm.subject,
        raised_at=known.alarm.at,
        seconds=round(seconds, 3),
        receipted=not known.is_open,
        late=known.is_late,
        repeats=known.repeats,
    )
