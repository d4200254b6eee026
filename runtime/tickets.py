"""Faults and what the maintainer owes for them (T15): a ticket for each, with clocks that restarts do not stop.

A device is at fault from the moment it stops serving until it serves again. A fault that lasts GRACE_SECONDS opens a
ticket, whose clocks count from the fault's own beginning; recovery closes it and stops what still runs. Each clock
counts on the monotonic clock of this boot; over a reboot only the wall clock knows, and counts on from there.
Nothing of a citizen is in a ticket (T20).
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import structlog

from runtime.journal import Journal
from runtime.services.steps import Origin, event

log = structlog.get_logger(__name__)

GRACE_SECONDS = 60.0
"""A fault over sooner than this is a glitch (a cable touched, a device that restarts) and opens no ticket."""
SHOWN = 50
"""Closed tickets that are listed, beside all that are open."""
YEAR_SECONDS = 365 * 86_400.0
"""Over which late answers are counted (T15: three end the contract)."""
KEPT_SECONDS = 400 * 86_400.0
"""How long a closed ticket stays in the journal: over a year, so that the year's count is complete."""

Step = Literal["answer", "on_site", "part"]
LIMITS: dict[Step, float] = {"answer": 1_800.0, "on_site": 14_400.0, "part": 172_800.0}
"""T15: a fault is answered within 30 min, somebody is on site within 4 h, a part is there within 48 h."""


class TicketError(Exception):
    """There is no such open ticket (`ticket.unknown`)."""

    code = "ticket.unknown"
    retry = False
    advice = "`tickets.list` names the open tickets"


class Clock(msgspec.Struct, frozen=True):
    """One of a ticket's clocks: how long it may run, how long it has run, whether it runs, and whether it is late."""

    limit_seconds: float
    seconds: float
    running: bool
    late: bool


class Ticket(msgspec.Struct, frozen=True):
    """A fault of a device: its first code, when it began and ended (UTC seconds), and its clocks."""

    ticket: str
    device: str
    code: str
    opened_at: float
    closed_at: float | None
    clocks: dict[str, Clock]


class TicketList(msgspec.Struct, frozen=True):
    """Every open ticket and the last closed ones, newest first; late answers of the last 365 days."""

    tickets: list[Ticket]
    late_answers: int


@dataclass(slots=True)
class _Open:
    id: str
    device: str
    code: str
    opened_at: float
    began: float
    stopped: dict[str, float] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)

    def overdue(self, now: float) -> list[Step]:
        return [step for step, at in self.deadlines() if now >= at]

    def deadlines(self) -> list[tuple[Step, float]]:
        return [
            (step, self.began + limit)
            for step, limit in LIMITS.items()
            if step not in self.stopped and step not in self.late
        ]


class Tickets:
    """Every ticket of this terminal. `heard` takes the devices' words; `run` is one supervised life of the book."""

    def __init__(
        self, journal: Journal, origin: Origin, devices: Collection[str], on_count: Callable[[int, int], None]
    ) -> None:
        self._journal = journal
        self._origin = origin
        self._devices = frozenset(devices)
        self._on_count = on_count
        self._faults: dict[str, tuple[str, float]] = {}
        self._healthy: dict[str, float] = {}
        self._open: dict[str, _Open] = {}
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()

    def heard(self, device: str, fault: str | None) -> None:
        """Take what one of the devices says now: the code of its fault, or None when it serves."""
        now = asyncio.get_running_loop().time()
        if fault is None:
            self._faults.pop(device, None)
            self._healthy.setdefault(device, now)
        else:
            self._healthy.pop(device, None)
            self._faults.setdefault(device, (fault, now))
        self._changed.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Open, close and watch tickets; raise JournalError when they cannot be written down."""
        async with self._lock:
            await self._load()
        ready()
        while True:
            self._changed.clear()
            async with self._lock:
                await self._settle()
            self._on_count(len(self._open), sum(1 for ticket in self._open.values() if ticket.late))
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._next()):
                    await self._changed.wait()

    async def answer(self, ticket: str, step: Step) -> Ticket:
        """Stop a clock of an open ticket, because a person did what it measures; a stopped one stays as it is."""
        async with self._lock:
            found = next((one for one in self._open.values() if one.id == ticket), None)
            if found is None:
                raise TicketError(f"there is no open ticket {ticket}")
            if step not in found.stopped:
                seconds = self._seconds(found)
                late = seconds > LIMITS[step]
                await self._tell(found, f"ticket.{step}", seconds, _stop(found.id, step, seconds, late=late))
                found.stopped[step] = seconds
                if late:
                    found.late.add(step)
        self._changed.set()
        return next(one for one in (await self.book()).tickets if one.ticket == ticket)

    async def book(self) -> TicketList:
        """Return every open ticket, the last closed ones, and the late answers of the year."""
        year = self._origin.wall_clock() - YEAR_SECONDS

        def work(db: sqlite3.Connection) -> tuple[list[_Row], list[_ClockRow], int]:
            rows = db.execute(f"{_ROWS} ORDER BY closed_at IS NULL DESC, opened_at DESC").fetchmany(1_000)
            closed = [row for row in rows if row[6] is not None][:SHOWN]
            shown = [row for row in rows if row[6] is None] + closed
            clocks = db.execute("SELECT ticket, clock, stopped_after, late FROM ticket_clocks").fetchall()
            late = db.execute(
                "SELECT count(*) FROM ticket_clocks JOIN tickets ON id = ticket "
                "WHERE clock = 'answer' AND late AND opened_at >= ?",
                (year,),
            )
            return shown, clocks, int(late.fetchone()[0])

        rows, clocks, late_answers = await self._journal.read(work)
        tickets = [self._view(row, [clock[1:] for clock in clocks if clock[0] == row[0]]) for row in rows]
        return TicketList(sorted(tickets, key=lambda one: -one.opened_at), late_answers)

    async def _load(self) -> None:
        rows = await self._journal.read(lambda db: db.execute(f"{_ROWS} WHERE closed_at IS NULL").fetchall())
        clocks = await self._journal.read(lambda db: db.execute("SELECT * FROM ticket_clocks").fetchall())
        self._open.clear()
        for row in rows:
            ticket = _Open(row[0], row[1], row[2], row[3], self._began(row))
            for owner, clock, stopped_after, late in clocks:
                if owner == ticket.id and stopped_after is not None:
                    ticket.stopped[clock] = stopped_after
                if owner == ticket.id and late:
                    ticket.late.add(clock)
            self._open[ticket.device] = ticket
            anchor = (self._origin.boot_id, ticket.began, ticket.id)
            await self._journal.write(_do("UPDATE tickets SET boot_id = ?, began = ? WHERE id = ?", anchor))

    def _began(self, row: "_Row") -> float:
        """Return the moment a fault began on this boot's monotonic clock, which is negative for an earlier boot."""
        if row[4] == self._origin.boot_id:
            return row[5]
        return asyncio.get_running_loop().time() - max(0.0, self._origin.wall_clock() - row[3])

    async def _settle(self) -> None:
        now = asyncio.get_running_loop().time()
        for device, (code, since) in list(self._faults.items()):
            if device not in self._open and now >= since + GRACE_SECONDS:
                await self._begin(device, code, since)
        for ticket in list(self._open.values()):
            gone = None if ticket.device in self._devices else now  # no longer configured
            healthy_since = self._healthy.get(ticket.device, gone)
            for step in ticket.overdue(now if healthy_since is None else min(now, healthy_since)):
                await self._overdue(ticket, step)
            if healthy_since is not None:
                await self._end(ticket, max(0.0, healthy_since - ticket.began))

    async def _begin(self, device: str, code: str, since: float) -> None:
        ago = asyncio.get_running_loop().time() - since
        ticket = _Open(secrets.token_hex(8), device, code, self._origin.wall_clock() - ago, since)
        row = (ticket.id, device, code, ticket.opened_at, self._origin.boot_id, since)

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
            db.executemany("INSERT INTO ticket_clocks (ticket, clock) VALUES (?, ?)", [(ticket.id, s) for s in LIMITS])

        await self._tell(ticket, "ticket.opened", ago, work)
        self._open[device] = ticket
        log.warning("ticket_opened", ticket=ticket.id, device=device, code=code)

    async def _overdue(self, ticket: _Open, step: Step) -> None:
        change = _do("UPDATE ticket_clocks SET late = 1 WHERE ticket = ? AND clock = ?", (ticket.id, step))
        await self._tell(ticket, f"ticket.{step}_late", self._seconds(ticket), change)
        ticket.late.add(step)
        log.error("ticket_late", ticket=ticket.id, device=ticket.device, clock=step, limit_seconds=LIMITS[step])

    async def _end(self, ticket: _Open, seconds: float) -> None:
        closed_at = ticket.opened_at + seconds
        old = closed_at - KEPT_SECONDS

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE ticket_clocks SET stopped_after = ? WHERE ticket = ? AND stopped_after IS NULL",
                (seconds, ticket.id),
            )
            db.execute("UPDATE tickets SET closed_at = ? WHERE id = ?", (closed_at, ticket.id))
            db.execute("DELETE FROM tickets WHERE closed_at < ?", (old,))
            db.execute("DELETE FROM ticket_clocks WHERE ticket NOT IN (SELECT id FROM tickets)")

        await self._tell(ticket, "ticket.closed", seconds, work)
        del self._open[ticket.device]
        log.info("ticket_closed", ticket=ticket.id, device=ticket.device, seconds=round(seconds, 1))

    async def _tell(self, ticket: _Open, step: str, seconds: float, work: Callable[[sqlite3.Connection], None]) -> None:
        """Change the journal and tell the platform of it, in one transaction (T12)."""
        told = event(
            self._origin,
            ticket.id,
            step,
            outcome="done",
            code=ticket.code,
            seconds=round(seconds, 6),
            device=ticket.device,
        )
        await self._journal.write(work, told)

    def _seconds(self, ticket: _Open) -> float:
        return asyncio.get_running_loop().time() - ticket.began

    def _next(self) -> float | None:
        """Return when the next fault is old enough for a ticket, or the next clock is late."""
        opening = [since + GRACE_SECONDS for device, (_, since) in self._faults.items() if device not in self._open]
        late = [at for ticket in self._open.values() for _, at in ticket.deadlines()]
        return min(opening + late, default=None)

    def _view(self, row: "_Row", clocks: "list[tuple[str, float | None, int]]") -> Ticket:
        elapsed = asyncio.get_running_loop().time() - self._began(row)
        stopped = {clock: after for clock, after, _ in clocks}
        late = {clock for clock, _, is_late in clocks if is_late}
        views: dict[str, Clock] = {}
        for step, limit in LIMITS.items():
            after = stopped.get(step)
            seconds = elapsed if after is None else after
            views[step] = Clock(limit, round(seconds, 3), after is None, step in late or seconds > limit)
        return Ticket(*row[:4], closed_at=row[6], clocks=views)


_Row = tuple[str, str, str, float, str, float, float | None]
_ClockRow = tuple[str, str, float | None, int]
_ROWS = "SELECT id, device, code, opened_at, boot_id, began, closed_at FROM tickets"


def _do(statement: str, values: tuple[str | float, ...]) -> Callable[[sqlite3.Connection], None]:
    def work(db: sqlite3.Connection) -> None:
        db.execute(statement, values)

    return work


def _stop(ticket: str, step: str, seconds: float, *, late: bool) -> Callable[[sqlite3.Connection], None]:
    statement = "UPDATE ticket_clocks SET stopped_after = ?, late = max(late, ?) WHERE ticket = ? AND clock = ?"
    return _do(statement, (seconds, int(late), ticket, step))
