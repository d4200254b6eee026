"""What can still be read of a damaged journal, row by row.

SQLite's own recovery is not in Python's sqlite3. Each table is walked in the order of its row ids, never by an index;
where a page cannot be read the walk goes on at the first row id behind it that can be. A row that comes out may still
be nonsense: types are checked by the new file's STRICT tables, records by their decoding.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from runtime.journal.schema import tables
from runtime.messages import CATALOGUE

_FIRST, _LAST = -(2**63), 2**63 - 1
_DECODERS = {(entry.schema, entry.version): msgspec.msgpack.Decoder(kind) for kind, entry in CATALOGUE.items()}

Row = tuple[Any, ...]


@dataclass(slots=True)
class Walk:
    """Reads a table; `skipped` counts the places where something could not be read."""

    db: sqlite3.Connection
    table: str
    columns: str
    skipped: int = 0

    def rows(self) -> Iterator[Row]:
        """Yield each readable row: its row id, then its columns."""
        after = _FIRST
        while True:
            try:
                for row in self._query(after, -1):
                    if row[0] <= after:
                        raise sqlite3.DatabaseError("row ids that do not rise")
                    after = row[0]
                    yield row
            except sqlite3.Error:
                self.skipped += 1
                following = self._readable(after)
                if following is None:
                    return
                after = following - 1
            else:
                return

    def _query(self, after: int, limit: int) -> sqlite3.Cursor:
        statement = f"SELECT rowid, {self.columns} FROM {self.table} NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608 - our own names
        return self.db.execute(statement, (after, limit))

    def _readable(self, low: int) -> int | None:
        """Return the first row id above `low + 1` that can be read; None where there is none."""
        step, low = 1, max(low, 0)
        while (found := self._probe(low + step)) is None:
            if low + step == _LAST - 1:
                return None
            step = min(2 * step, _LAST - 1 - low)
        bad, good = low + step // 2, low + step
        while good - bad > 1:
            middle = (bad + good) // 2
            if (nearer := self._probe(middle)) is None:
                bad = middle
            else:
                good, found = middle, nearer
        return found[0]

    def _probe(self, after: int) -> tuple[int | None] | None:
        """Return the next row id behind `after`, None inside where the table ends; None where nothing can be read."""
        try:
            row = self._query(after, 1).fetchone()
        except sqlite3.Error:
            return None
        return (None,) if row is None else (row[0],) if row[0] > after else None


def copy(source: sqlite3.Connection, target: sqlite3.Connection, only: set[str] | None = None) -> dict[str, int]:
    """Copy every readable row of a table that the target has, where it has none of that key.

    `only` names the tables that are wanted; None is all. Returns how many places could not be read, by table, where
    there are any. Raises sqlite3.Error when the target cannot be written.
    """
    skipped: dict[str, int] = {}
    for table in sorted(tables(target) if only is None else only & tables(target)):
        try:
            found = _columns(source, table)
        except sqlite3.Error:
            found = []
        columns = [name for name in _columns(target, table) if name in found]
        if not columns:
            skipped[table] = 1
            continue
        walk = Walk(source, table, ", ".join(columns))
        refused = _copy(walk, target, is_records=table == "records")
        if walk.skipped or refused:
            skipped[table] = walk.skipped + refused
    return skipped


def _copy(walk: Walk, target: sqlite3.Connection, *, is_records: bool) -> int:
    """Copy one table; return how many of its rows are nonsense."""
    marks = ", ".join("?" * (walk.columns.count(",") + 1))
    statement = f"INSERT OR IGNORE INTO {walk.table} ({walk.columns}) VALUES ({marks})"  # noqa: S608 - our own names
    refused = 0
    for row in walk.rows():
        if is_records and not _is_record(row):
            refused += 1
            continue
        try:
            target.execute(statement, row[1:])
        except sqlite3.IntegrityError:
            refused += 1
    return refused


def _is_record(row: Row) -> bool:
    """Whether a body decodes as what its schema says; a schema of another release is nobody's to judge."""
    decoder = _DECODERS.get((row[3], row[4]))
    try:
        if decoder is not None:
            decoder.decode(row[5])
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return False
    return True


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
