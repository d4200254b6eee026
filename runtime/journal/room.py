"""Room for what must be written when the disk is full (I6, L28): a reserve, and an order in which records go.

Everything here runs where SQLite runs. What is dropped while it waits for the platform is told of in its place, by one
`RecordsShed`; alarms and supervision events that wait are never dropped.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from runtime.journal import records
from runtime.journal.files import files_of, free_bytes
from runtime.journal.schema import transaction
from runtime.messages import CATALOGUE, RecordsShed, to_payload

log = structlog.get_logger(__name__)

RESERVE_BYTES = 2 * 2**20
"""Blocks kept for the hour of need: what the write-ahead log and a checkpoint of it take at most, as a rule."""
ENOUGH_BYTES = 2**20
"""Free pages inside the database after which nothing more is dropped: some thousand records."""
TELEMETRY_WAITING = 20_000
"""Records of telemetry that may wait: about 70 days of one in 5 min."""
_CHUNKS = (512, 8)
"""Records dropped in one transaction; the fewer, the less room it takes by itself."""

_SHED = CATALOGUE[RecordsShed].schema


def is_full(db: sqlite3.Connection, error: sqlite3.Error) -> bool:
    """Whether SQLite failed for want of room. An I/O error may have other causes, so the file system is asked."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return code == sqlite3.SQLITE_FULL
    file = _reserve(db)
    return file is not None and free_bytes(file) < RESERVE_BYTES // 16


def release(db: sqlite3.Connection, *, backup: bool = True) -> None:
    """Give the blocks of the reserve, and of the `backup` copy, back to the disk."""
    if (files := files_of(db)) is not None:
        with suppress(OSError):
            files.reserve.unlink(missing_ok=True)
            if backup:
                files.backup.unlink(missing_ok=True)


class Room:
    """Keeps the reserve and drops records; `shed` counts those that still waited, in this life."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self.shed = 0
        self._wall_clock = wall_clock
        self._streams: tuple[str, ...] = ()
        self._is_short = False

    def open(self, db: sqlite3.Connection, streams: Iterable[str]) -> None:
        """Take the names of the streams, telemetry last, and make the reserve."""
        self._streams = tuple(streams)
        if not _reserved(db):
            self._is_short = True
            log.warning("disk_has_no_room", advice="free space on the disk of the state directory")

    def make(self, db: sqlite3.Connection) -> None:
        """Drop reserve and backup copy, then records until ENOUGH_BYTES are free or nothing is left that may go.

        Of records in this order: telemetry that the platform has, the older half of telemetry that it has not,
        everything else that it has.
        """
        *others, telemetry = self._streams
        before = self.shed
        release(db)
        _checkpoint(db)
        _forget(db, telemetry)
        if not _is_enough(db):
            self._shed(db, telemetry)
        for stream in reversed(others):
            _forget(db, stream)
        if not self._is_short:
            self._is_short = True
            log.error("records_shed", count=self.shed - before, reason="disk_full")

    def look_after(self, db: sqlite3.Connection) -> None:
        """After a commit: bound the telemetry that waits, and make the reserve anew once there is room."""
        with suppress(sqlite3.Error):  # the next commit tells what is wrong with the disk
            if records.waiting(db, self._streams[-1]) > TELEMETRY_WAITING:
                before = self.shed
                self._shed(db, self._streams[-1])
                log.warning("records_shed", count=self.shed - before, reason="too_many_wait")
            if self._is_short and _is_within_budget(db) and _reserved(db):
                self._is_short = False
                log.info("disk_has_room", shed=self.shed)

    def _shed(self, db: sqlite3.Connection, stream: str) -> None:
        """Drop the older half of what waits, in chunks; a tombstone grows with each."""
        target = self.shed + (records.waiting(db, stream) + 1) // 2
        for size in _CHUNKS:
            with suppress(sqlite3.OperationalError):
                while self.shed < target:
                    count = _bury(db, stream, min(size, target - self.shed), self._wall_clock())
                    if count == 0:
                        return
                    self.shed += count
                    _checkpoint(db)


def _bury(db: sqlite3.Connection, stream: str, most: int, at: float) -> int:
    """Put a tombstone in the place of up to `most` of the oldest waiting records; return how many there were.

    A tombstone among them is merged, and not counted.
    """
    with transaction(db):
        receipted = records.cursor(db, stream)
        rows = db.execute(
            "SELECT sequence, schema FROM records WHERE stream = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (stream, receipted, most + 1),
        ).fetchall()
        tombstones = sum(1 for _, schema in rows if schema == _SHED)
        rows = rows[: most + tombstones]
        if len(rows) > tombstones:
            end = rows[-1][0]
            db.execute(
                "DELETE FROM records WHERE stream = ? AND sequence > ? AND sequence <= ?", (stream, receipted, end)
            )
            records.put(db, stream, end, to_payload(RecordsShed(receipted + 1, end, at)))
        return len(rows) - tombstones


def _forget(db: sqlite3.Connection, stream: str) -> None:
    """Drop receipted records, the oldest first, until there is enough room."""
    statement = """
        DELETE FROM records WHERE stream = ?1 AND sequence IN (
            SELECT sequence FROM records WHERE stream = ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3)"""
    for size in _CHUNKS:
        with suppress(sqlite3.OperationalError):
            count = size
            while count and not _is_enough(db):
                with transaction(db):
                    count = db.execute(statement, (stream, records.cursor(db, stream), size)).rowcount
                _checkpoint(db)


def _checkpoint(db: sqlite3.Connection) -> None:
    """Move the write-ahead log into the database, as far as there is room, so that it begins anew."""
    with suppress(sqlite3.OperationalError):
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _is_enough(db: sqlite3.Connection) -> bool:
    """Whether the database has so many free pages that it need not grow for a while."""
    return _number(db, "freelist_count") * _number(db, "page_size") >= ENOUGH_BYTES


def _is_within_budget(db: sqlite3.Connection) -> bool:
    """Whether the database has, or may still take, as many pages."""
    pages = _number(db, "freelist_count") + _number(db, "max_page_count") - _number(db, "page_count")
    return pages * _number(db, "page_size") >= ENOUGH_BYTES


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


def _reserve(db: sqlite3.Connection) -> Path | None:
    """Return the reserve's path; None for a database in memory."""
    files = files_of(db)
    return None if files is None else files.reserve


def _reserved(db: sqlite3.Connection) -> bool:
    """Make the reserve where there is none and much room; whether there is one. Memory needs none."""
    file = _reserve(db)
    if file is None:
        return True
    try:
        if file.exists() and file.stat().st_size == RESERVE_BYTES:
            return True
        if free_bytes(file) < 4 * RESERVE_BYTES:
            return False
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        with suppress(OSError):
            file.unlink(missing_ok=True)
        return False
    return True
