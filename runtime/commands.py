"""Takes the platform's commands: each once, in order, its effect and its place in one transaction (T17, T20, H5)."""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import structlog

from runtime.journal import Journal, Outcome
from runtime.messages import (
    CATALOGUE,
    CatalogueAnnouncement,
    KeyRevocation,
    KeyRotation,
    MaintenanceWindow,
    MessageError,
    from_payload,
)
from runtime.messages.audit import RemoteWindow, StaffGrant, StaffRevocation
from runtime.messages.payment import PaymentResult
from runtime.messages.sharing import SharingChanged
from runtime.services.payment_book import note_end
from runtime.services.steps import Origin, event
from runtime.staff import StaffError
from transport.commands import LineOrder
from transport.payload import Payload

log = structlog.get_logger(__name__)

EXPIRED = "command.expired"
MOST_STREAMS = 16
"""Streams whose marks are told, those used last: the wire names no more. A platform has one, and another one when its
database is new."""
LOOK_SECONDS = 60.0
"""A maintenance that is over is announced no longer than this."""

StaffWord = StaffGrant | RemoteWindow
Announcement = CatalogueAnnouncement | MaintenanceWindow | StaffWord
_Command = KeyRotation | KeyRevocation | SharingChanged | PaymentResult | StaffRevocation | Announcement


class StaffOffice(Protocol):
    """Who takes the platform's words about its staff (`runtime.staff.Staff`)."""

    def verify(self, word: StaffWord) -> None:
        """Raise StaffError unless the platform signed this for this terminal."""

    async def taken(self, word: StaffWord | StaffRevocation) -> None:
        """Note what the platform said."""


class _TakenBefore(Exception):
    """The journal has this command; `mark` is the last one taken of its stream."""

    def __init__(self, mark: int) -> None:
        super().__init__()
        self.mark = mark


class Commands:
    """The handler of the channel's commands; keeps what was announced. `run` is one supervised life of its clock."""

    def __init__(
        self,
        journal: Journal,
        origin: Origin,
        platform_time: Callable[[], float | None],
        *,
        on_announced: Callable[[Sequence[Announcement]], None],
        on_sharing: Callable[[], None],
        on_payment: Callable[[str], None],
        staff: StaffOffice,
    ) -> None:
        """Tell `on_announced` of everything that is announced, at the start and at each change.

        By `platform_time` (UTC seconds, None while it is not known) a maintenance window is over, never by the
        terminal's own clock.
        `on_sharing` is called when grants or suspension changed (S4, S7); that is not kept: each start asks anew.
        `on_payment` is called with an order that has ended (T10), which stays noted until it is known here how.
        """
        self._journal = journal
        self._origin = origin
        self._platform_time = platform_time
        self._on_announced = on_announced
        self._on_sharing = on_sharing
        self._on_payment = on_payment
        self._staff = staff
        self._marks: dict[str, int] = {}
        self._told: list[Announcement] = []

    async def open(self) -> None:
        """Read what was taken and announced before; raise JournalError."""
        statement = "SELECT stream, sequence FROM commands ORDER BY rowid DESC LIMIT ?"
        rows = await self._journal.read(lambda db: db.execute(statement, (MOST_STREAMS,)).fetchall())
        self._marks = dict(reversed(rows))
        await self._tell()

    async def run(self, ready: Callable[[], None]) -> None:
        """Take back what is over, until cancelled; raise JournalError."""
        ready()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._platform_time()
            if any(_is_over(one, now) for one in self._told):
                await self._tell()

    def high_water(self) -> dict[str, int]:
        """Return the sequence of the last command taken of each of the MOST_STREAMS streams that were used last."""
        return dict(self._marks)

    async def take(self, stream: str, sequence: int, command: Payload, *, expired: bool) -> LineOrder | None:
        """Take one command and tell the platform what became of it (T12); raise JournalError, then it comes again.

        One that the journal has, though its line broke before that was known, is not taken again; what it orders is.
        An expired one has no effect, but a StaffRevocation has: to take a role away too late is better than never (H6).
        """
        content, code = self._decoded(command)
        if expired and not isinstance(content, StaffRevocation):
            content, code = None, EXPIRED
        now = self._platform_time()

        def work(db: sqlite3.Connection) -> None:
            mark = db.execute("SELECT sequence FROM commands WHERE stream = ?", (stream,)).fetchone()
            if mark is not None and mark[0] >= sequence:
                raise _TakenBefore(mark[0])
            db.execute("INSERT OR REPLACE INTO commands VALUES (?, ?)", (stream, sequence))
            if isinstance(content, _ANNOUNCEMENTS):
                name = "" if isinstance(content, CatalogueAnnouncement) else content.id
                row = (command.schema, name, command.version, command.body, sequence)
                db.execute("INSERT OR REPLACE INTO announcements VALUES (?, ?, ?, ?, ?)", row)
            _note(db, content)
            for schema, name in _over(db, now):
                db.execute("DELETE FROM announcements WHERE schema = ? AND id = ?", (schema, name))

        outcome: Outcome = "done" if code is None else "refused"
        step = f"command.{command.schema}" if content is not None else "command"
        told = event(self._origin, secrets.token_hex(8), step, outcome=outcome, code=code, seconds=0.0)
        try:
            await self._journal.write(work, told)
        except _TakenBefore as before:
            self._mark(stream, before.mark)
            if before.mark > sequence:
                return None
        else:
            self._mark(stream, sequence)
        log.info("command_taken", schema=command.schema if content is not None else None, code=code)
        await self._hand_on(content)
        return _ORDERS.get(type(content))

    async def _hand_on(self, content: _Command | None) -> None:
        if isinstance(content, (StaffGrant, RemoteWindow, StaffRevocation)):
            await self._staff.taken(content)
        if isinstance(content, (*_ANNOUNCEMENTS, StaffRevocation)):
            await self._tell()
        if isinstance(content, SharingChanged):
            self._on_sharing()
        if isinstance(content, PaymentResult):
            self._on_payment(content.order)

    def _decoded(self, command: Payload) -> tuple[_Command | None, str | None]:
        """Return what a command says, or the code of why it cannot be understood or does not count."""
        try:
            content = cast("_Command", from_payload(command, *_KINDS))
            if isinstance(content, (StaffGrant, RemoteWindow)):
                self._staff.verify(content)
        except (MessageError, StaffError) as error:
            return None, error.code
        return content, None

    def _mark(self, stream: str, sequence: int) -> None:
        marks = {name: mark for name, mark in self._marks.items() if name != stream} | {stream: sequence}
        self._marks = dict(list(marks.items())[-MOST_STREAMS:])

    async def _tell(self) -> None:
        announced, now = await self._announced(), self._platform_time()
        self._told = [one for one in announced if not _is_over(one, now)]
        self._on_announced(self._told)

    async def _announced(self) -> list[Announcement]:
        def work(db: sqlite3.Connection) -> list[Announcement]:
            rows = db.execute("SELECT schema, version, body FROM announcements ORDER BY sequence").fetchall()
            read = [_read(Payload(schema, version, personal=False, body=body)) for schema, version, body in rows]
            return [announcement for announcement in read if announcement is not None]

        return await self._journal.read(work)


def _note(db: sqlite3.Connection, content: _Command | None) -> None:
    if isinstance(content, PaymentResult):
        note_end(content.order)(db)
    if isinstance(content, StaffRevocation):
        db.execute("DELETE FROM announcements WHERE schema IN (?, ?) AND id = ?", (*_STAFF_SCHEMAS, content.id))


_ORDERS: dict[type, LineOrder] = {KeyRotation: "rotate_keys", KeyRevocation: "revoke_keys"}
_ANNOUNCEMENTS = (CatalogueAnnouncement, MaintenanceWindow, StaffGrant, RemoteWindow)
_KINDS = (KeyRotation, KeyRevocation, SharingChanged, PaymentResult, StaffRevocation, *_ANNOUNCEMENTS)
_STAFF_SCHEMAS = tuple(CATALOGUE[kind].schema for kind in (StaffGrant, RemoteWindow))


def _is_over(one: Announcement, now: float | None) -> bool:
    return not isinstance(one, CatalogueAnnouncement) and now is not None and one.ends_unix < now


def _over(db: sqlite3.Connection, now: float | None) -> list[tuple[str, str]]:
    """Return schema and id of what was announced and is over."""
    rows = db.execute("SELECT schema, id, version, body FROM announcements").fetchall()
    read = [
        (schema, name, _read(Payload(schema, version, personal=False, body=body)))
        for schema, name, version, body in rows
    ]
    return [(schema, name) for schema, name, one in read if one is not None and _is_over(one, now)]


def _read(payload: Payload) -> Announcement | None:
    """Return an announcement as it was journaled; None for one that a later release took (T19)."""
    try:
        return cast("Announcement", from_payload(payload, *_ANNOUNCEMENTS))
    except MessageError as error:
        log.warning("announcement_unknown", schema=payload.schema, version=payload.version, code=error.code)
        return None
