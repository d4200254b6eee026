"""The statements on records and cursors; each runs inside its caller's transaction."""

import sqlite3
from dataclasses import dataclass

import msgspec

from runtime.messages import CATALOGUE, RecordsShed, to_payload
from transport.payload import Payload, Record
from transport.sm import sm3

_SHED = CATALOGUE[RecordsShed].schema


@dataclass(frozen=True, slots=True)
class Told:
    """What the platform knows a stream by, and after which sequence its numbers under this name begin."""

    name: str
    after: int = 0

    def record(self, sequence: int, payload: Payload) -> Record:
        """Return a record of the stream as the platform is told of it."""
        if self.after and payload.schema == _SHED:
            shed = msgspec.msgpack.decode(payload.body, type=RecordsShed)
            payload = to_payload(RecordsShed(max(1, shed.first - self.after), shed.last - self.after, shed.at))
        return Record(self.name, sequence - self.after, payload)


def told(db: sqlite3.Connection) -> dict[str, Told]:
    """Return the streams that are told under another name than their own."""
    rows = db.execute("SELECT stream, told_as, after FROM streams")
    return {stream: Told(told_as, after) for stream, told_as, after in rows}


def rename(db: sqlite3.Connection, stream: str, name: str) -> Told:
    """Have what was not receipted of a stream told under another name from now on."""
    renamed = Told(name, cursor(db, stream))
    db.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?)", (stream, renamed.name, renamed.after))
    return renamed


def has(db: sqlite3.Connection, stream: str, sequence: int, digest: bytes) -> bool:
    """Whether the record there has a body of this SM3, or may have had: it was receipted, or shed since."""
    if sequence <= cursor(db, stream):
        return True
    row = db.execute(
        "SELECT schema, body FROM records WHERE stream = ? AND sequence = ?", (stream, sequence)
    ).fetchone()
    if row is None:
        return sequence <= last(db, stream)
    return row[0] == _SHED or sm3(row[1]) == digest


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
