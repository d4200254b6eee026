"""Alarms and their clock (T23): what must be at the platform within 30 min is told at once and watched until it is.

An alarm's clock runs from the terminal's knowledge to the platform's receipt, on the monotonic clock of this boot. Over
a reboot only a wall clock knows: the platform's as soon as it is known, the terminal's own until then, and never less
than this boot has lasted. Nothing of a citizen is in an alarm (T20).
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog

from runtime.alarm_log import AlarmLog
from runtime.alarm_rows import KEPT, ROWS, Known, Row, WrittenBefore, writing
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
CLOCKS_DIFFER_SECONDS = 5.0
"""A wall clock this far from the platform's is set right in what is said of an alarm."""
BEFORE_BOOT = -1.0
"""On the monotonic clock of this boot, no alarm of an earlier one began later, and no other so early."""
SHOWN = 100
"""Alarms that are listed, beside all that are open."""


class AlarmEntry(msgspec.Struct, frozen=True):
    """An alarm: when it was raised (UTC seconds) and how many seconds it waited for its receipt, or waits since.

    `raised_at` is by the platform's clock once that is known and the terminal's is wrong.
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


class Alarms:
    """Every alarm of this terminal. `sound` takes them; `run` is one supervised life of their clocks.

    `records` are what the line delivers: the journal's, and alarms that the disk does not take.
    """

    def __init__(
        self,
        journal: Journal,
        origin: Origin,
        platform_time: Callable[[], float | None],
        on_change: Callable[[int, int], None],
    ) -> None:
        """Tell `on_change` how many alarms are open and how many of those are late.

        `platform_time` is the platform's clock (UTC seconds), None while it is not known.
        """
        self._journal = journal
        self._origin = origin
        self._platform_time = platform_time
        self._on_change = on_change
        self._known: list[Known] = []
        self._received = 0
        self._changed = asyncio.Event()
        self.records = AlarmLog(journal, self._changed.set)

    async def open(self) -> None:
        """Take up what the journal has, of earlier lives too, and keep what it lacks; raise JournalError."""
        stream = self._journal.streams["alarm"]
        self._journal.watch("alarm", self._receive)

        def work(db: sqlite3.Connection) -> tuple[list[Row], int]:
            rows = db.execute(f"{ROWS} ORDER BY sequence").fetchall()
            cursor = db.execute("SELECT sequence FROM cursors WHERE stream = ?", (stream,)).fetchone()
            return rows, 0 if cursor is None else int(cursor[0])

        rows, received = await self._journal.read(work)
        self._received = max(self._received, received)
        here = {known.alarm.id: known for known in self._known}
        for row in rows:
            known = here.setdefault(row[0], self._read(row))
            known.sequence = row[6]
        self._known = sorted(here.values(), key=lambda known: known.began)

    def sound(self, code: str, subject: str) -> None:
        """Raise an alarm: it is in the log now, and in the journal as soon as `run` comes to it. Never raises.

        `code` says what (`pinpad.tampered`), `subject` what it is about (`pinpad`, `line`, `egress`).
        """
        now = asyncio.get_running_loop().time()
        code, subject = code[:64], subject[:64]
        for known in self._known:
            is_same = (known.alarm.code, known.alarm.subject) == (code, subject) and not known.is_dealt_with
            if is_same and now < known.began + REPEAT_SECONDS:
                known.repeats += 1
                known.is_changed = True
                return
        origin = self._origin
        alarm = Alarm(secrets.token_hex(8), code, subject, origin.wall_clock(), origin.boot_id, origin.rig)
        self._known.append(Known(alarm, alarm.at, now))
        log.error("alarm_raised", alarm=alarm.id, code=code, subject=subject)
        self._changed.set()

    def dealt_with(self, code: str, subject: str) -> None:
        """Note that what was told is over: if it happens again it is told again, however soon."""
        for known in self._known:
            if (known.alarm.code, known.alarm.subject) == (code, subject):
                known.is_dealt_with = True

    async def sound_at_once(self, code: str, subject: str) -> None:
        """Raise an alarm and write it down, for a daemon that ends with it; raise JournalError."""
        await self.open()
        self.sound(code, subject)
        await self._write()

    async def run(self, ready: Callable[[], None]) -> None:
        """Journal alarms, watch their receipts and clocks; raise JournalError when the journal cannot be read."""
        await self.open()
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
                f"{ROWS} ORDER BY receipted_after IS NOT NULL, raised_at DESC LIMIT ?", (KEPT,)
            ).fetchall()
        )
        found = {row[0]: self._read(row) for row in rows} | {known.alarm.id: known for known in self._known}
        newest = sorted(found.values(), key=lambda known: (not known.is_open, -known.raised_at))
        opened = sum(1 for known in newest if known.is_open)
        now = asyncio.get_running_loop().time()
        return sorted((_entry(known, now) for known in newest[: opened + SHOWN]), key=lambda one: -one.raised_at)

    def _receive(self, sequence: int) -> None:
        self._received = max(self._received, sequence)
        self._changed.set()

    def _look(self) -> None:
        """Settle what was receipted, watch the clocks of the rest, forget what is over."""
        now = asyncio.get_running_loop().time()
        self._set_right(now)
        for known in self._known:
            seconds = now - known.began
            about = {"alarm": known.alarm.id, "code": known.alarm.code, "seconds": round(seconds, 1)}
            has_record = known.sequence is not None and known.sequence <= self._received
            if known.is_open and (has_record or self.records.place(known.alarm) is not None):
                known.receipted_after, known.is_changed = seconds, True
                log.info("alarm_receipted", **about)
            if known.is_open and now >= known.began + WAITS_SECONDS and not known.said_waits:
                known.said_waits = True
                log.warning("alarm_waits", **about)
            if known.is_open and now >= known.began + LIMIT_SECONDS and not known.is_late:
                known.is_late = known.is_changed = True
                log.error("alarm_late", limit_seconds=LIMIT_SECONDS, **about)
        self._known = [
            known for known in self._known if known.is_open or known.is_unwritten or now < known.began + REPEAT_SECONDS
        ]

    def _set_right(self, now: float) -> None:
        """By the platform's clock, count what was counted over a reboot, and date what was raised in this boot."""
        utc = self._platform_time()
        if utc is None:
            return
        for known in self._known:
            if known.is_open and known.began <= BEFORE_BOOT:
                began = min(BEFORE_BOOT, now - (utc - known.raised_at))
                if abs(began - known.began) > CLOCKS_DIFFER_SECONDS:
                    known.began, known.is_changed = began, True
                    known.is_late = known.is_late and now - began >= LIMIT_SECONDS
            elif known.is_open and abs(utc - known.raised_at - (now - known.began)) > CLOCKS_DIFFER_SECONDS:
                known.raised_at, known.is_changed = utc - (now - known.began), True

    async def _write(self) -> bool:
        """Write down what changed, the oldest first; whether the journal has everything."""
        is_written = True
        for known in [known for known in self._known if known.is_unwritten]:
            is_record = known.sequence is None and known.is_open
            if is_record and not self.records.take_back(known.alarm):
                continue  # it is on its way: once there is a receipt only its row is written
            known.is_changed = False
            stream, place = self._journal.streams["alarm"], self.records.place(known.alarm)
            work = writing(known, stream, self._origin.boot_id, place)
            try:
                known.sequence = await self._journal.write(work, known.alarm if is_record else None)
            except WrittenBefore as before:
                known.sequence, known.is_changed = before.sequence, True
                self._changed.set()
            except JournalError as error:
                known.is_changed = True
                if not known.said_not_journaled:
                    known.said_not_journaled = True
                    log.error("alarm_not_journaled", alarm=known.alarm.id, code=error.code)
                if error.code != "journal.disk_full":
                    return False
                is_written = False
                if is_record:
                    self.records.offer(known.alarm)
        return is_written

    def _read(self, row: Row) -> Known:
        """Return the alarm of a row; one of an earlier boot began before this one did."""
        name, code, subject, raised_at, boot_id, began, sequence, repeats, late, receipted_after = row
        is_older = boot_id != self._origin.boot_id
        if is_older:
            utc = self._platform_time() or self._origin.wall_clock()
            began = min(BEFORE_BOOT, asyncio.get_running_loop().time() - (utc - raised_at))
        alarm = Alarm(name, code, subject, raised_at, boot_id, self._origin.rig)
        is_changed = is_older and receipted_after is None
        return Known(alarm, raised_at, began, sequence, repeats, bool(late), receipted_after, is_changed)

    def _next(self, *, is_written: bool) -> float | None:
        """Return when a clock is next to be looked at, or the journal to be tried again."""
        opened = [known for known in self._known if known.is_open]
        looks = [known.began + WAITS_SECONDS for known in opened if not known.said_waits]
        looks += [known.began + LIMIT_SECONDS for known in opened if not known.is_late]
        if not is_written:
            looks.append(asyncio.get_running_loop().time() + RETRY_SECONDS)
        return min(looks, default=None)


def _entry(known: Known, now: float) -> AlarmEntry:
    seconds = now - known.began if known.receipted_after is None else known.receipted_after
    return AlarmEntry(
        alarm=known.alarm.id,
        code=known.alarm.code,
        subject=known.alarm.subject,
        raised_at=known.raised_at,
        seconds=round(seconds, 3),
        receipted=not known.is_open,
        late=known.is_late,
        repeats=known.repeats,
    )
