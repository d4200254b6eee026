"""The journal: what must survive a power cut, without anything personal (rules 1 and 2, T12, T20).

Schema version 1 has no column for a citizen's data, and `append` takes only messages whose catalogue entry says
`personal=False`. A record and the change it tells of are one transaction. It fulfils `transport.payload.RecordLog`.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import structlog

from runtime.messages import CATALOGUE, BusinessMessage, SupervisionEvent, to_payload
from runtime.seams import JournalExecutor
from transport.payload import Payload, Record

log = structlog.get_logger(__name__)

SCHEMA_VERSION = 1
ANSWER_SECONDS = 10.0
"""What the disk may take for one piece of work; SQLite itself waits 5 s for another program's lock."""
OPEN_SECONDS = 25.0
"""What checking the whole file may take when the daemon starts; shorter than the unit's TimeoutStartSec."""
KEPT = 100_000
"""Receipted records, and settled intents, that are kept: over a month of a busy terminal (T16). Older ones go."""
SUPERVISION = "supervision"
"""What the stream of supervision events (T12) is named, before the journal's own id."""

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE records (
    stream TEXT NOT NULL, sequence INTEGER NOT NULL, schema TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (stream, sequence)
) STRICT;
CREATE TABLE cursors (stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT;
CREATE TABLE intents (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, transaction_id TEXT NOT NULL, state TEXT NOT NULL, code TEXT,
    opened_at REAL NOT NULL, settled_at REAL
) STRICT;
CREATE TABLE identities (device TEXT PRIMARY KEY, identity TEXT NOT NULL) STRICT;
CREATE TABLE tickets (
    id TEXT PRIMARY KEY, device TEXT NOT NULL, code TEXT NOT NULL, opened_at REAL NOT NULL,
    boot_id TEXT NOT NULL, began REAL NOT NULL, closed_at REAL
) STRICT;
CREATE TABLE ticket_clocks (
    ticket TEXT NOT NULL, clock TEXT NOT NULL, stopped_after REAL, late INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (ticket, clock)
) STRICT;
CREATE INDEX open_intents ON intents (kind) WHERE state = 'open';
"""

Outcome = Literal["done", "refused", "unknown"]
T = TypeVar("T")


class JournalError(Exception):
    """The journal cannot be used, or refuses what it was given.

    Codes: `journal.newer`, `journal.damaged`, `journal.write_failed`, `journal.personal`, `journal.no_intent`.
    """

    def __init__(self, code: str, message: str, *, advice: str, retry: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Intent:
    """An effect on the world that was begun: a random key, its kind and the transaction it belongs to."""

    key: str
    kind: str
    transaction: str
    opened_at: float


class Journal:
    """The terminal's durable log, on one SQLite connection behind the executor.

    `stream` names its stream of supervision events, once open. It carries the journal's random id, so that a new
    journal (another disk) never counts in sequences that the platform already has (I6).
    """

    def __init__(self, executor: JournalExecutor, wall_clock: Callable[[], float]) -> None:
        self._executor = executor
        self._wall_clock = wall_clock
        self._appended = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self.stream = ""

    async def open(self) -> None:
        """Check the file and create or accept its schema (I1).

        Raises JournalError: `journal.newer` for a schema from a later release, `journal.damaged` for a broken file.
        """
        self.stream = f"{SUPERVISION}-{await self._run(_prepare, seconds=OPEN_SECONDS)}"

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the database, before the executor is closed."""
        await self._run(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    async def append(self, message: BusinessMessage) -> int:
        """Append a message without personal data to the stream and return its sequence."""
        payload = _public(message)
        sequence = await self._write(lambda db: _append(db, self.stream, payload))
        self._appended.set()
        return sequence

    async def open_intent(self, kind: str, transaction: str) -> Intent:
        """Note, before it is done, that an effect of this `kind` is about to be done (rule 2)."""
        intent = Intent(secrets.token_hex(16), kind, transaction, self._wall_clock())
        row = (intent.key, kind, transaction, intent.opened_at)
        await self._write(lambda db: db.execute("INSERT INTO intents VALUES (?, ?, ?, 'open', NULL, ?, NULL)", row))
        return intent

    async def close_intent(self, intent: Intent, outcome: Outcome, code: str | None, event: SupervisionEvent) -> None:
        """Note what became of an effect and the event that tells of it, in one transaction."""
        payload = _public(event)
        row = (outcome, code, self._wall_clock(), intent.key)

        def settle(db: sqlite3.Connection) -> int:
            statement = "UPDATE intents SET state = ?, code = ?, settled_at = ? WHERE key = ? AND state = 'open'"
            if db.execute(statement, row).rowcount == 1:
                _append(db, self.stream, payload)
                db.execute(
                    "DELETE FROM intents WHERE rowid <= (SELECT max(rowid) FROM intents) - ? AND state <> 'open'",
                    (KEPT,),
                )
                return 1
            return 0

        if await self._write(settle) == 0:
            raise JournalError("journal.no_intent", "there is no such open intent", advice="report a software fault")
        self._appended.set()

    async def open_intents(self, kind: str) -> list[Intent]:
        """Return the intents of a kind whose outcome was never noted, oldest first."""
        statement = (
            "SELECT key, kind, transaction_id, opened_at FROM intents WHERE kind = ? AND state = 'open' ORDER BY 4"
        )
        rows = await self._run(lambda db: db.execute(statement, (kind,)).fetchall())
        return [Intent(*row) for row in rows]

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` finds in the tables of devices and tickets."""
        return await self._run(work)

    async def write(self, work: Callable[[sqlite3.Connection], T], event: SupervisionEvent | None = None) -> T:
        """Change the tables of devices and tickets, and append the event that tells of it, in one transaction."""
        payload = None if event is None else _public(event)

        def change(db: sqlite3.Connection) -> T:
            found = work(db)
            if payload is not None:
                _append(db, self.stream, payload)
            return found

        found = await self._write(change)
        if payload is not None:
            self._appended.set()
        return found

    async def unacknowledged(self, stream: str, after: int, limit: int) -> list[Record]:
        """Return up to `limit` records above both `after` and what the platform has, in order."""
        statement = """
            SELECT sequence, schema, version, body FROM records
            WHERE stream = ?1 AND sequence > max(?2, coalesce((SELECT sequence FROM cursors WHERE stream = ?1), 0))
            ORDER BY sequence LIMIT ?3"""
        rows = await self._run(lambda db: db.execute(statement, (stream, after, limit)).fetchall())
        return [
            Record(stream, sequence, Payload(schema, version, personal=False, body=body))
            for sequence, schema, version, body in rows
        ]

    async def acknowledge(self, stream: str, sequence: int) -> None:
        """Move the stream's cursor forward; never back, and never past the last record.

        Of the receipted records the newest KEPT stay, so the sequence always goes on from the last one.
        """
        row = (stream, sequence)

        def move(db: sqlite3.Connection) -> bool:
            last = _last(db, stream)
            if sequence > last:
                return False
            db.execute(
                "INSERT INTO cursors VALUES (?1, ?2) "
                "ON CONFLICT (stream) DO UPDATE SET sequence = ?2 WHERE sequence < ?2",
                row,
            )
            old = min(sequence, last - KEPT)
            db.execute("DELETE FROM records WHERE stream = ? AND sequence <= ?", (stream, old))
            return True

        if await self._write(move):
            self._acknowledged.set()
        else:
            log.warning("receipt_ahead_of_journal", stream=stream, sequence=sequence)

    async def changed(self) -> None:
        """Return when a record was appended since the last call."""
        await self._appended.wait()
        self._appended.clear()

    async def delivered(self) -> None:
        """Return when the platform has every record; waits without end while it does not."""
        while True:
            self._acknowledged.clear()  # before the look, or a receipt during it would be missed
            if not await self.unacknowledged(self.stream, 0, 1):
                return
            await self._acknowledged.wait()

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def transaction(db: sqlite3.Connection) -> T:
            with _transaction(db):
                return work(db)

        return await self._run(transaction)

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, seconds: float | None = None) -> T:
        seconds = seconds or ANSWER_SECONDS
        try:
            async with asyncio.timeout(seconds):
                return await self._executor.run(work)
        except TimeoutError:
            raise JournalError(
                "journal.write_failed", f"no answer within {seconds:g} s", advice="check the disk", retry=True
            ) from None
        except sqlite3.OperationalError as error:
            raise JournalError(
                "journal.write_failed",
                f"SQLite: {error.sqlite_errorname}",
                advice="check free space and the state directory",
                retry=True,
            ) from None
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise _damaged(getattr(error, "sqlite_errorname", "not a journal")) from None


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _prepare(db: sqlite3.Connection) -> str:
    """Check or create the schema and return the journal's id."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _damaged("quick_check fails")
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        with _transaction(db):
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            new = {"schema_version": str(SCHEMA_VERSION), "journal_id": secrets.token_hex(4)}
            db.executemany("INSERT INTO meta VALUES (?, ?)", new.items())
    elif "meta" not in tables:
        raise _damaged("another program's database")
    meta: dict[str, str] = dict(db.execute("SELECT name, value FROM meta").fetchall())
    version = meta.get("schema_version", "")
    if not version.isdecimal() or "journal_id" not in meta:
        raise _damaged("no schema version")
    if int(version) > SCHEMA_VERSION:
        raise JournalError(
            "journal.newer",
            f"the journal has schema {version}, this release reads {SCHEMA_VERSION}",
            advice="run the release that wrote it, or a later one",
        )
    return meta["journal_id"]


def _damaged(reason: str) -> JournalError:
    return JournalError(
        "journal.damaged",
        f"the journal cannot be read: {reason}",
        advice="keep the file for examination and start with an empty state directory",
    )


def _public(message: BusinessMessage) -> Payload:
    if CATALOGUE[type(message)].personal:
        raise JournalError(
            "journal.personal", "the journal takes no personal data", advice="report a software fault (T20)"
        )
    return to_payload(message)


def _last(db: sqlite3.Connection, stream: str) -> int:
    row = db.execute("SELECT coalesce(max(sequence), 0) FROM records WHERE stream = ?", (stream,)).fetchone()
    return int(row[0])


def _append(db: sqlite3.Connection, stream: str, payload: Payload) -> int:
    sequence = _last(db, stream) + 1
    db.execute(
        "INSERT INTO records VALUES (?, ?, ?, ?, ?)", (stream, sequence, payload.schema, payload.version, payload.body)
    )
    return sequence
