"""The journal as the runtime sees it: records of several streams, intents, and tables of others' own.

No table has a column for a citizen's data, and only messages whose catalogue entry says `personal=False` are taken.
A record and the change it tells of are one transaction. It fulfils `transport.payload.RecordLog`.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec
import structlog

from runtime.journal import records
from runtime.journal.backup import Copying
from runtime.journal.commit import Commits
from runtime.journal.errors import JournalError, answered, damaged, disk_full
from runtime.journal.files import Files
from runtime.journal.rebuild import Rebuild, rebuild, untold
from runtime.journal.room import Room, is_full, release
from runtime.journal.schema import SUSPECT, prepare
from runtime.messages import CATALOGUE, STREAMS, Stream, SupervisionEvent, to_payload
from runtime.seams import JournalExecutor
from transport.payload import Payload, Record

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 10.0
"""What the disk may take for one piece of work; SQLite itself waits 5 s for another program's lock."""
OPEN_SECONDS = 25.0
"""What checking the whole file may take when the daemon starts; shorter than the unit's TimeoutStartSec."""
REBUILD_SECONDS = 600.0
"""What rebuilding the largest journal may take on a slow board; systemd is told to wait."""
KEPT = 100_000
"""Receipted records of a stream, and settled intents, that are kept: over a month of a busy terminal (T16)."""
AWAITED: tuple[Stream, ...] = ("alarm", "supervision")
"""The streams whose delivery a stop waits for."""

Outcome = Literal["done", "refused", "unknown"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Intent:
    """An effect on the world that was begun: a random key, its kind, what it is found by, whose step it was."""

    key: str
    kind: str
    name: str
    transaction: str
    opened_at: float


class Journal:
    """The terminal's durable log, on one SQLite connection behind the executor.

    `streams` names its streams, the most urgent first, once it is open. The names carry the journal's random id, so
    that a new journal (another disk) never counts in sequences that the platform already has (I6). One that was
    restored from an older image does: what it has left to tell of a stream is then told under another name (`renew`).

    What is written is on the disk when the call returns. A call that is cancelled may or may not have taken place.
    When the disk is full room is made (`runtime.journal.room`); where that does not help, every call that writes
    raises JournalError `journal.disk_full`, and `journal.write_failed` for any other trouble with the disk.
    """

    def __init__(self, executor: JournalExecutor, wall_clock: Callable[[], float]) -> None:
        self._executor = executor
        self._wall_clock = wall_clock
        self._room = Room(wall_clock)
        self._commits = Commits(executor, self._room)
        self._appended = asyncio.Event()
        self._receipt = asyncio.Event()
        self._is_deaf = False
        self._copying: Copying | None = None
        self._on_receipt: dict[str, Callable[[int], None]] = {}
        self._on_renewal: Callable[[Stream], Awaitable[None]] | None = None
        self._told: dict[str, records.Told] = {}
        self._on_damage: Callable[[], None] = lambda: None
        self.damage: JournalError | None = None
        self.streams: dict[Stream, str] = {}

    @property
    def shed(self) -> int:
        """How many records that waited for the platform a full disk made it drop, in this life."""
        return self._room.shed

    async def open(self, on_rebuild: Callable[[float], None] = lambda _: None) -> None:
        """Check the file, create its schema or bring it to this release's (I1); rebuild a damaged one (L29).

        `on_rebuild` is told how many seconds that may take. What was rebuilt is `untold` until somebody was. Raises
        JournalError: `journal.newer` for a schema from a later release, of which nothing is changed; `journal.damaged`
        where a broken file cannot be replaced.
        """
        try:
            await self._open()
        except JournalError as error:
            if error.code != "journal.damaged":
                raise
            reason, now = str(error), self._wall_clock()
            log.error("journal_damaged", reason=reason)
            on_rebuild(REBUILD_SECONDS)
            async with answered(REBUILD_SECONDS):
                try:
                    if not await self._executor.replace(lambda file: rebuild(Files(file), reason, now)):
                        raise
                except OSError as full:
                    raise disk_full() from full
            await self._open()

    async def _open(self) -> None:
        def work(db: sqlite3.Connection) -> tuple[dict[Stream, str], dict[str, records.Told]]:
            journal_id = _prepared(db)
            streams: dict[Stream, str] = {stream: f"{stream}-{journal_id}" for stream in STREAMS}
            self._room.open(db, streams.values())
            return streams, records.told(db)

        self.streams, self._told = await self._read(work, seconds=OPEN_SECONDS)

    async def untold(self) -> list[Rebuild]:
        """Return the rebuilds of this journal that nobody was told of yet."""
        return await self._read(untold)

    async def back_up(self, *, seconds: float, pause_seconds: float = 0.0) -> bool:
        """Make the backup copy anew beside all other work, where it is older than a day; whether there is a new one.

        A journal in memory has none. It pauses so long after each 128 KiB, and gives up after `seconds`: then, as on a
        disk without room for it, the one before stays. A journal that proves damaged is rebuilt at the next start
        (`damage`).
        """
        self._copying = copying = Copying(pause_seconds, self._wall_clock())
        try:
            async with asyncio.timeout(seconds):
                return await self._executor.beside(copying.run)
        except TimeoutError:
            log.warning("journal_not_backed_up", reason="too slow")
        except (OSError, sqlite3.OperationalError) as error:
            log.warning("journal_not_backed_up", reason=type(error).__name__)
        except sqlite3.DatabaseError:
            await self._suspect(damaged("a page of it cannot be copied"))
        finally:
            copying.is_over = True
        return False

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the database, before the executor is closed; on a full disk it stays a log.

        A backup copy that is being made is given up: the moment that it reads would hold up the thread.
        """
        if self._copying is not None:
            self._copying.is_over = True
        try:
            (row,) = await self._read(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
            if row[0]:
                log.warning("journal_not_checkpointed", reason="busy")
        except JournalError as error:
            log.warning("journal_not_checkpointed", code=error.code)

    async def append(self, message: msgspec.Struct) -> int:
        """Append a message without personal data to the stream of its catalogue entry and return its sequence.

        Calls that overlap share a commit and get their sequences in their order.
        """
        stream, payload = self._place(message)
        try:
            return await self._write(lambda db: records.append(db, stream, payload))
        finally:
            self._appended.set()

    async def open_intent(
        self,
        kind: str,
        name: str,
        transaction: str,
        also: Callable[[sqlite3.Connection], object] | None = None,
        *,
        key: str | None = None,
    ) -> Intent:
        """Note, before it is done, that an effect of this `kind` is about to be done (rule 2), and what that changes.

        `name` is what it is found by (a receipt or order number), `transaction` the id under which its events are told.
        `also` changes tables of others' own in the same transaction, as the work of `write` does. `key` (32 hexadecimal
        digits) is given by a caller who has to know it before anybody can find the intent.
        """
        intent = Intent(key or secrets.token_hex(16), kind, name, transaction, self._wall_clock())
        row = (intent.key, kind, transaction, intent.opened_at, name)

        def begin(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO intents VALUES (?, ?, ?, 'open', NULL, ?, NULL, ?)", row)
            if also is not None:
                also(db)

        await self._write(begin)
        return intent

    async def close_intent(
        self,
        intent: Intent,
        outcome: Outcome,
        code: str | None,
        event: SupervisionEvent,
        also: Callable[[sqlite3.Connection], object] | None = None,
        *,
        last_word: msgspec.Struct | None = None,
    ) -> None:
        """Note what became of an effect, the event that tells of it and what it changed (`also`), in one transaction.

        `also` changes tables of others' own, as the work of `write` does. `last_word` is appended too where no other
        intent of this kind and name is open or was done.
        """
        stream, payload = self._place(event)
        last = None if last_word is None else self._place(last_word)
        row = (outcome, code, self._wall_clock(), intent.key)
        others = "SELECT 1 FROM intents WHERE kind = ? AND name = ? AND key <> ? AND state IN ('open', 'done')"

        def settle(db: sqlite3.Connection) -> int:
            statement = "UPDATE intents SET state = ?, code = ?, settled_at = ? WHERE key = ? AND state = 'open'"
            if db.execute(statement, row).rowcount == 1:
                records.append(db, stream, payload)
                if last is not None and db.execute(others, (intent.kind, intent.name, intent.key)).fetchone() is None:
                    records.append(db, *last)
                if also is not None:
                    also(db)
                db.execute(
                    "DELETE FROM intents WHERE rowid <= (SELECT max(rowid) FROM intents) - ? AND state <> 'open'",
                    (KEPT,),
                )
                return 1
            return 0

        try:
            if await self._write(settle) == 0:
                raise JournalError(
                    "journal.no_intent", "there is no such open intent", advice="report a software fault"
                )
        finally:
            self._appended.set()

    async def open_intents(self, kind: str) -> list[Intent]:
        """Return the intents of a kind whose outcome was never noted, oldest first."""
        statement = """
            SELECT key, kind, name, transaction_id, opened_at FROM intents
            WHERE kind = ? AND state = 'open' ORDER BY opened_at"""
        rows = await self._read(lambda db: db.execute(statement, (kind,)).fetchall())
        return [Intent(*row) for row in rows]

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` finds in the tables of devices, tickets, alarms and commands."""
        return await self._read(work)

    async def write(self, work: Callable[[sqlite3.Connection], T], message: msgspec.Struct | None = None) -> T:
        """Append the message that tells of a change, and make the change, in one transaction.

        `work` changes the tables of devices, tickets, alarms and commands, and nothing else: it may be done twice, of
        which one is undone. It finds the record of the message at the end of its stream.
        """
        place = None if message is None else self._place(message)

        def change(db: sqlite3.Connection) -> T:
            if place is not None:
                records.append(db, *place)
            return work(db)

        try:
            return await self._write(change)
        finally:
            if place is not None:
                self._appended.set()

    async def unacknowledged(self, stream: str, after: int, limit: int) -> list[Record]:
        """Return up to `limit` records above both `after` and what the platform has, in order, as it is told of them.

        `after`, like every sequence that the line says, counts under the name that the platform knows the stream by.
        """
        statement = "SELECT sequence, schema, version, body FROM records WHERE stream = ? AND sequence > ?"
        told = self._told_as(stream)

        def work(db: sqlite3.Connection) -> list[tuple[int, str, int, bytes]]:
            start = max(after + told.after, records.cursor(db, stream))
            return db.execute(f"{statement} ORDER BY sequence LIMIT ?", (stream, start, limit)).fetchall()

        return [
            told.record(sequence, Payload(schema, version, personal=False, body=body))
            for sequence, schema, version, body in await self._read(work)
        ]

    async def has(self, stream: str, sequence: int, digest: bytes) -> bool:
        """Whether the body of the record at `sequence` has this SM3, as far as the journal still knows it."""
        place = sequence + self._told_as(stream).after
        return await self._read(lambda db: records.has(db, stream, place, digest))

    async def renew(self, stream: str) -> None:
        """Tell what the platform has not receipted of `stream` under another name from now on, numbered from 1.

        The platform has other records under this one, so the journal went back to an older image. That is told before
        it is done; where it cannot be written down all stays as it is, and the next receipt shows it again.
        """
        kind = next(one for one, name in self.streams.items() if name == stream)
        log.error("journal_went_back", stream=stream)
        if self._on_renewal is not None:
            await self._on_renewal(kind)
        name = f"{kind}-{secrets.token_hex(8)}"
        try:
            self._told[stream] = await self._write(lambda db: records.rename(db, stream, name))
        except JournalError as error:
            if error.code not in ("journal.disk_full", "journal.write_failed"):
                raise
            log.error("stream_not_renewed", code=error.code)

    async def acknowledge(self, stream: str, sequence: int) -> None:
        """Move the stream's cursor forward; never back, and never past the last record.

        Of the receipted records the newest KEPT stay. A power cut may lose the last of these calls; the platform then
        gets some records once more, and knows them. So a disk that takes nothing does not stop the delivery either.
        """
        place = sequence + self._told_as(stream).after
        try:
            if not await self._write(lambda db: records.acknowledge(db, stream, place, KEPT), is_urgent=False):
                log.warning("receipt_ahead_of_journal", stream=stream, sequence=place)
                return
            self._is_deaf = False
        except JournalError as error:
            if error.code not in ("journal.disk_full", "journal.write_failed"):
                raise
            if not self._is_deaf:
                log.error("receipt_not_journaled", code=error.code)
            self._is_deaf = True
        self._receipt.set()
        self._receipt = asyncio.Event()
        if listener := self._on_receipt.get(stream):
            listener(place)

    def watch_renewals(self, listener: Callable[[Stream], Awaitable[None]]) -> None:
        """Have `listener` tell that the journal went back, whenever it shows in a stream."""
        self._on_renewal = listener

    def watch_damage(self, listener: Callable[[], None]) -> None:
        """Have `listener` hear once that the open journal proved damaged (`damage`): the next start rebuilds it."""
        self._on_damage = listener

    def watch(self, stream: Stream, listener: Callable[[int], None]) -> None:
        """Tell `listener` of each receipt of a stream from now on: its sequence."""
        self._on_receipt[self.streams[stream]] = listener

    async def changed(self) -> None:
        """Return when a record was appended since the last call."""
        await self._appended.wait()
        self._appended.clear()

    async def waiting(self) -> dict[Stream, int]:
        """Return how many records of each stream the platform has not receipted."""
        names = self.streams
        return await self._read(lambda db: {stream: records.waiting(db, name) for stream, name in names.items()})

    async def delivered(self) -> None:
        """Return when the platform has every alarm and every supervision event; waits without end while it does not."""
        while True:
            receipt = self._receipt  # before the look, or a receipt during it would be missed
            waiting = await self.waiting()
            if not any(waiting[stream] for stream in AWAITED):
                return
            await receipt.wait()

    def _told_as(self, stream: str) -> records.Told:
        return self._told.get(stream) or records.Told(stream)

    def _place(self, message: msgspec.Struct) -> tuple[str, Payload]:
        """Return the stream that a message goes to, and the message encoded."""
        entry = CATALOGUE[type(message)]
        if entry.personal:
            raise JournalError(
                "journal.personal", "the journal takes no personal data", advice="report a software fault (T20)"
            )
        if entry.stream is None:
            raise JournalError(
                "journal.no_stream", f"{entry.schema} belongs to no stream", advice="report a software fault"
            )
        return self.streams[entry.stream], to_payload(message)

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, is_urgent: bool = True) -> T:
        try:
            async with answered(ANSWER_SECONDS):
                return await self._commits.run(work, is_urgent=is_urgent)
        except JournalError as error:
            await self._note_damage(error)
            raise

    async def _read(self, work: Callable[[sqlite3.Connection], T], *, seconds: float | None = None) -> T:
        try:
            async with answered(seconds or ANSWER_SECONDS):
                return await self._executor.run(work)
        except JournalError as error:
            await self._note_damage(error)
            raise

    async def _note_damage(self, error: JournalError) -> None:
        """Tell of a journal that proves damaged while it is open (`watch_damage`)."""
        if error.code == "journal.damaged" and self.streams:
            await self._suspect(error)

    async def _suspect(self, error: JournalError) -> None:
        """Mark the file, so that the next start rebuilds it whatever its own check finds."""
        if self.damage is not None:
            return
        self.damage = error
        log.error("journal_damaged", reason=str(error))
        with suppress(sqlite3.Error):
            await self._executor.run(lambda db: db.execute(f"PRAGMA user_version = {SUSPECT}").fetchall())
        self._on_damage()


def _prepared(db: sqlite3.Connection) -> str:
    """Prepare the file; on a full disk with the room of the reserve, and of the backup copy where that is too little.

    A damaged file has need of the copy, and whether it is damaged shows only once there is a little room.
    """
    for backup in (False, True):
        try:
            return prepare(db)
        except sqlite3.OperationalError as error:
            if not is_full(db, error):
                raise
            release(db, backup=backup)
    return prepare(db)
