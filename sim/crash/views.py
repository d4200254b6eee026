"""The journal as a power cut leaves it: what was written, and what of that was synced (rule 2)."""

import re
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from sim.crash.points import Kind, Points

T = TypeVar("T")

_CHANGE = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)\b(?:\s+OR\s+\w+)?(?:\s+(?:INTO|FROM))?\s+(\w+)", re.IGNORECASE)
_SYNCHRONOUS = re.compile(r"\s*PRAGMA\s+synchronous\s*=\s*(\w+)", re.IGNORECASE)


def change(statement: str) -> str | None:
    """Return what a statement changes, as `insert intents`; None when it changes no row."""
    found = _CHANGE.match(statement)
    return None if found is None else f"{found[1].lower()} {found[2].lower()}"


class WatchedJournal(sqlite3.Connection):
    """The journal in memory. `written` is the file after the last commit, `synced` after the last one with FULL.

    In WAL mode a commit with `synchronous = NORMAL` is written and not synced: a power cut may take it back, all of
    them since the last commit with FULL at once. Make it with `open_journal`.
    """

    points: Points
    written = b""
    synced = b""
    skips_fsync = False
    _is_full = True
    _seen = 0

    def checkpoint(self) -> None:
        """Take what is there as synced."""
        self._seen = self.total_changes
        self.written = self.synced = self.serialize()

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement, passing a point before a change, and before and after a commit."""
        return self._watched(statement, lambda: super(WatchedJournal, self).execute(statement, parameters))

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Execute a statement several times, as `execute`."""
        return self._watched(statement, lambda: super(WatchedJournal, self).executemany(statement, parameters))

    def _watched(self, statement: str, execute: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        if (what := change(statement)) is not None:
            self.points.reach(Kind.STATEMENT, what)
        is_commit = statement.strip().upper() == "COMMIT" and self.total_changes != self._seen
        if is_commit:
            self.points.reach(Kind.COMMIT, "before")
        cursor = execute()
        if found := _SYNCHRONOUS.match(statement):
            self._is_full = found[1].upper() == "FULL" and not self.skips_fsync
        if not self.in_transaction and self.total_changes != self._seen:
            self._seen = self.total_changes
            self._take(self.serialize())
        return cursor

    def _take(self, content: bytes) -> None:
        """Take the file as it is outside a transaction; after a rollback it is as it was."""
        if content != self.written:
            self.written = content
            if self._is_full:
                self.synced = content
            self.points.moved()
            self.points.reach(Kind.COMMIT, "after")


def open_journal(points: Points, content: bytes = b"", *, skips_fsync: bool = False) -> WatchedJournal:
    """Open a journal with this content (none: a new one); with `skips_fsync` no commit of it is ever synced."""
    journal = sqlite3.connect(":memory:", isolation_level=None, factory=WatchedJournal)
    journal.points = points
    journal.skips_fsync = skips_fsync
    if content:
        journal.deserialize(content)
        journal.checkpoint()
    return journal


class WatchedExecutor:
    """A JournalExecutor on the event loop itself, which passes a point when a line of the audit log was written."""

    def __init__(self, journal: WatchedJournal, audit: Path, points: Points) -> None:
        self._journal = journal
        self._audit = audit
        self._points = points

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` now and return its result."""
        before = _size(self._audit)
        result = work(self._journal)
        if _size(self._audit) != before:
            self._points.moved()
            self._points.reach(Kind.AUDIT, "line")
        return result

    async def replace(self, _work: Callable[[Path], object]) -> bool:
        """Do nothing: the journal is in memory."""
        return False

    async def beside(self, _work: Callable[[Path], bool]) -> bool:
        """Do nothing: the journal is in memory."""
        return False

    async def close(self) -> None:
        """Close the connection."""
        self._journal.close()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
