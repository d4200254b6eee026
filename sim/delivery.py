"""Counts supervision records end to end: what the daemon's journal sent against what the platform stored (I6, T12)."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec

_RECORDS = "SELECT stream, sequence, schema, version, body FROM records"
_WAITING = """
    SELECT count(*) FROM records LEFT JOIN cursors USING (stream)
    WHERE records.sequence > coalesce(cursors.sequence, 0)"""

_Record = tuple[str, int, str, int, bytes]


class Delivery(msgspec.Struct, frozen=True):
    """`lost`: sent, but not stored as it was sent. `duplicates`: stored more than once. `altered`: never sent so."""

    sent: int
    received: int
    lost: int
    duplicates: int
    altered: int


def count(journal: Path, platform: Path, terminal: str) -> Delivery:
    """Compare the two databases record by record, bodies included; sqlite3.Error when one cannot be read."""
    sent = set(_rows(journal, _RECORDS))
    received = Counter(_rows(platform, _RECORDS + " WHERE terminal = ?", terminal))
    return Delivery(
        sent=len(sent),
        received=len(received),
        lost=len(sent - received.keys()),
        duplicates=received.total() - len(received),
        altered=len(received.keys() - sent),
    )


def waiting(journal: Path) -> int:
    """Return how many of the journal's records the platform has not receipted yet."""
    with closing(_open(journal)) as database:
        return int(database.execute(_WAITING).fetchone()[0])


def _rows(path: Path, statement: str, *values: str) -> list[_Record]:
    with closing(_open(path)) as database:
        return database.execute(statement, values).fetchall()


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
