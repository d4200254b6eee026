"""Takes the platform's commands: each once, in order, its effect and its place in one transaction (T17, T20, H5)."""

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from typing import cast

import structlog

from runtime.journal import Journal, Outcome
from runtime.messages import (
    CatalogueAnnouncement,
    KeyRevocation,
    KeyRotation,
    MaintenanceWindow,
    MessageError,
    from_payload,
)
from runtime.services.steps import Origin, event
from transport.commands import LineOrder
from transport.payload import Payload

log = structlog.get_logger(__name__)

EXPIRED = "command.expired"

Announcement = CatalogueAnnouncement | MaintenanceWindow
_Command = KeyRotation | KeyRevocation | Announcement


class Commands:
    """The handler of the channel's commands; keeps what was announced."""

    def __init__(
        self,
        journal: Journal,
        origin: Origin,
        on_announced: Callable[[Sequence[Announcement]], None],
    ) -> None:
        """Tell `on_announced` of everything that is announced, at the start and at each change."""
        self._journal = journal
        self._origin = origin
        self._on_announced = on_announced
        self._marks: dict[str, int] = {}

    async def open(self) -> None:
        """Read what was taken and announced before; raise JournalError."""
        self._marks = await self._journal.read(
            lambda db: dict(db.execute("SELECT stream, sequence FROM commands ORDER BY rowid DESC LIMIT 16").fetchall())
        )
        self._on_announced(await self._announced())

    def high_water(self) -> dict[str, int]:
        """Return the sequence of the last command taken of each stream."""
        return self._marks

    async def take(self, stream: str, sequence: int, command: Payload, *, expired: bool) -> LineOrder | None:
        """Take one command and tell the platform what became of it (T12); raise JournalError, then it comes again."""
        code: str | None = None
        content: _Command | None = None
        try:
            content = cast("_Command", from_payload(command, KeyRotation, KeyRevocation, *_ANNOUNCEMENTS))
        except MessageError as error:
            code = error.code
        if expired:
            code, content = EXPIRED, None

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO commands VALUES (?1, ?2) ON CONFLICT (stream) DO UPDATE SET sequence = ?2",
                (stream, sequence),
            )
            if isinstance(content, _ANNOUNCEMENTS):
                name = content.id if isinstance(content, MaintenanceWindow) else ""
                row = (command.schema, name, command.version, command.body, sequence)
                db.execute("INSERT OR REPLACE INTO announcements VALUES (?, ?, ?, ?, ?)", row)
            now = self._origin.wall_clock()
            for window in _windows(db):
                if window.ends_unix < now:
                    db.execute("DELETE FROM announcements WHERE schema = ? AND id = ?", (_WINDOW, window.id))

        outcome: Outcome = "done" if code is None else "refused"
        step = f"command.{command.schema}" if content is not None else "command"
        told = event(self._origin, secrets.token_hex(8), step, outcome=outcome, code=code, seconds=0.0)
        await self._journal.write(work, told)
        self._marks[stream] = sequence
        log.info("command_taken", schema=command.schema if content is not None else None, code=code)
        if isinstance(content, _ANNOUNCEMENTS):
            self._on_announced(await self._announced())
        return _ORDERS.get(type(content))

    async def _announced(self) -> list[Announcement]:
        def work(db: sqlite3.Connection) -> list[Announcement]:
            rows = db.execute("SELECT schema, version, body FROM announcements ORDER BY sequence").fetchall()
            read = [_read(Payload(schema, version, personal=False, body=body)) for schema, version, body in rows]
            return [announcement for announcement in read if announcement is not None]

        return await self._journal.read(work)


_ORDERS: dict[type, LineOrder] = {KeyRotation: "rotate_keys", KeyRevocation: "revoke_keys"}
_ANNOUNCEMENTS = (CatalogueAnnouncement, MaintenanceWindow)
_WINDOW = "maintenance.window"


def _windows(db: sqlite3.Connection) -> list[MaintenanceWindow]:
    rows = db.execute("SELECT version, body FROM announcements WHERE schema = ?", (_WINDOW,)).fetchall()
    read = [_read(Payload(_WINDOW, version, personal=False, body=body)) for version, body in rows]
    return [window for window in read if isinstance(window, MaintenanceWindow)]


def _read(payload: Payload) -> Announcement | None:
    """Return an announcement as it was journaled; None for one that a later release took (T19)."""
    try:
        return cast("Announcement", from_payload(payload, *_ANNOUNCEMENTS))
    except MessageError as error:
        log.warning("announcement_unknown", schema=payload.schema, version=payload.version, code=error.code)
        return None
