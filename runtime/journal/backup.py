"""The backup copy of the journal: made page by page beside all other work, checked, and only then in its place (L29).

It lies on the same disk: it is for pages that go bad, not for a disk that is gone. Like the journal it holds nothing
personal. A power cut leaves the copy before, whole, and perhaps an unfinished one that the next start removes.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import structlog

from runtime.journal.files import Files, free_bytes, sync_directory, sync_file
from runtime.journal.room import RESERVE_BYTES

log = structlog.get_logger(__name__)

PAGES = 64
"""Copied between two pauses."""
YOUNG_SECONDS = 82_800.0
"""A copy younger than 23 h is not made anew: flash wears."""


class BackupStopped(Exception):
    """Nobody waits for the copy any more."""


class Copying:
    """One making of the copy, of the time `now` (UTC seconds). It ends at its next step once it `is_over`."""

    def __init__(self, pause_seconds: float, now: float) -> None:
        self._pause_seconds = pause_seconds
        self._now = now
        self.is_over = False

    def run(self, database: Path) -> bool:
        """Make the copy, on a thread of its own; False where there is a young one, no room, or nobody waits any more.

        Raises OSError; sqlite3.DatabaseError where the journal is damaged: then the copy before stays.
        """
        files = Files(database)
        if files.backup.exists() and abs(files.backup.stat().st_mtime - self._now) < YOUNG_SECONDS:
            return False
        if free_bytes(database) < database.stat().st_size + 4 * RESERVE_BYTES:
            log.warning("journal_not_backed_up", reason="no room")
            return False
        began = time.monotonic()
        files.copying.unlink(missing_ok=True)
        try:
            self._copy(files)
            os.utime(files.copying, (self._now, self._now))
            sync_file(files.copying)
            os.rename(files.copying, files.backup)  # noqa: PTH104 - the write guard sees this call
            sync_directory(database.parent)
        except BackupStopped:
            return False
        finally:
            files.copying.unlink(missing_ok=True)
        log.info("journal_backed_up", bytes=files.backup.stat().st_size, seconds=round(time.monotonic() - began, 1))
        return True

    def _copy(self, files: Files) -> None:
        with (
            closing(sqlite3.connect(files.database, isolation_level=None)) as journal,
            closing(sqlite3.connect(files.copying, isolation_level=None)) as copy,
        ):
            journal.execute("PRAGMA query_only = 1").close()
            journal.execute("BEGIN").close()
            journal.execute("SELECT count(*) FROM meta").fetchall()  # from here on it is one moment's journal
            copy.execute("PRAGMA synchronous = OFF").close()
            journal.backup(copy, pages=PAGES, progress=self._pause)
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, which needs no log to be read
            copy.set_progress_handler(self._is_stopped, 100_000)
            if copy.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("the journal is damaged")

    def _pause(self, _status: int, _remaining: int, _total: int) -> None:
        if self.is_over:
            raise BackupStopped
        time.sleep(self._pause_seconds)

    def _is_stopped(self) -> int:
        """Interrupt the check; it raises sqlite3.OperationalError then."""
        return int(self.is_over)
