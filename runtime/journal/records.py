"""The statements on records and cursors; each runs inside its caller's transaction."""

import sqlite3

from transport.payload import Payload


def cursor(db: sqlite3.Connection, stream: str) -> int:
    """Return the sequence up to which the platform has the stream."""
    row = db.execute("SELECT sequence FROM cursors WHERE stream = ?", (stream,)).fetchone()
    return 0 if row is None else int(row[0])


def last(db: sqlite3.Connection, stream: str) -> int:
    """Return the last sequence that the stream ever had, also when its records are gone."""
    row = db.execute("SELECT max(sequence) FROM records WHERE stream = ?", (stream,)).fetchone()
    return max(int(row[0] or 0), cursor(db, stream))


def append(db: sqlite3.Connection, stream: str, payload: Payload) -> int:
    """Add a record behind the last one and return its sequence."""
    return put(db, stream, last(db, stream) + 1, payload)


def put(db: sqlite3.Connection, stream: str, sequence: int, payload: Payload) -> int:
    """Store a record at its place and return that."""
    row = (stream, sequence, payload.schema, payload.version, payload.body)
    db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", row)
    return sequence


def waiting(db: sqlite3.Connection, stream: str) -> int:
    """Return how many records have no receipt. Only the first of them can stand for several: behind it are no gaps."""
    row = db.execute(
        "SELECT min(sequence), max(sequence) FROM records WHERE stream = ? AND sequence > ?",
        (stream, cursor(db, stream)),
    ).fetchone()
    return 0 if row[0] is None else int(row[1]) - int(row[0]) + 1


def acknowledge(db: sqlite3.Connection, stream: str, sequence: int, kept: int) -> bool:
    """Move the cursor forward; False for a sequence past the last. Of receipted records about `kept` stay."""
    end = last(db, stream)
    if sequence > end:
        return False
    db.execute(
        "INSERT INTO cursors VALUES (?1, ?2) ON CONFLICT (stream) DO UPDATE SET sequence = ?2 WHERE sequence < ?2",
        (stream, sequence),
    )
    old = min(sequence, end - kept)
    first = db.execute("SELECT min(sequence) FROM records WHERE stream = ?", (stream,)).fetchone()[0]
    if first is not None and old - int(first) >= kept // 100:  # in handfuls: seldom another page to write
        db.execute("DELETE FROM records WHERE stream = ? AND sequence <= ?", (stream, old))
    return True
