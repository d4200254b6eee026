"""What the reference platform remembers, in SQLite, so that somebody else can count it."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SCHEMA = """
CREATE TABLE IF NOT EXISTS grants (
    id INTEGER PRIMARY KEY, terminal TEXT NOT NULL, boot_id TEXT NOT NULL, nonce BLOB NOT NULL UNIQUE,
    up_key_id BLOB NOT NULL, down_key_id BLOB NOT NULL, granted_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    terminal TEXT NOT NULL, key BLOB NOT NULL, schema TEXT NOT NULL, digest BLOB NOT NULL, received_at REAL NOT NULL,
    copies INTEGER NOT NULL, answer_schema TEXT NOT NULL, answer_version INTEGER NOT NULL, answer BLOB NOT NULL,
    PRIMARY KEY (terminal, key));
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY, terminal TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL,
    schema TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL, event TEXT, received_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS records_place ON records (terminal, stream, sequence);
CREATE TABLE IF NOT EXISTS receipts (
    terminal TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (terminal, stream));
CREATE TABLE IF NOT EXISTS certificates (
    number TEXT PRIMARY KEY, certificate TEXT NOT NULL, terminal TEXT NOT NULL, issued_at INTEGER NOT NULL,
    digest BLOB NOT NULL, seal BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS presence (
    terminal TEXT PRIMARY KEY, online INTEGER NOT NULL, boot_id TEXT NOT NULL, software TEXT NOT NULL,
    changed_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call that was answered: the digest of what was asked, and the answer given."""

    digest: bytes
    schema: str
    version: int
    body: bytes


class Store:
    """The platform's database; every method is one step of the transaction that `commit` ends."""

    def __init__(self, path: Path | Literal[":memory:"]) -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + SCHEMA)

    def close(self) -> None:
        """Close the database; what was not committed is lost."""
        self._database.close()

    def commit(self) -> None:
        """Make the steps since the last commit durable, all of them or none."""
        self._database.commit()

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self._database.execute(
            "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET count = count + 1", (name,)
        )

    def counters(self) -> dict[str, int]:
        """Return every counter that counted."""
        return dict(self._database.execute("SELECT name, count FROM counters ORDER BY name"))

    def is_new_nonce(self, nonce: bytes) -> bool:
        """Whether no grant answered this nonce."""
        return not self._database.execute("SELECT 1 FROM grants WHERE nonce = ?", (nonce,)).fetchone()

    def add_grant(
        self, terminal: str, boot_id: str, nonce: bytes, key_ids: tuple[bytes, bytes], *, granted: int, expires: int
    ) -> None:
        """Note a granted pair of keys (up, down) by their ids; the keys themselves are never written."""
        self._database.execute(
            "INSERT INTO grants (terminal, boot_id, nonce, up_key_id, down_key_id, granted_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (terminal, boot_id, nonce, *key_ids, granted, expires),
        )

    def call(self, terminal: str, key: bytes) -> StoredCall | None:
        """Return the call of `terminal` under the idempotency key, if it was answered before, and count the copy."""
        row = self._database.execute(
            "UPDATE calls SET copies = copies + 1 WHERE terminal = ? AND key = ?"
            " RETURNING digest, answer_schema, answer_version, answer",
            (terminal, key),
        ).fetchone()
        return None if row is None else StoredCall(*row)

    def add_call(self, terminal: str, key: bytes, schema: str, received_at: float, answered: StoredCall) -> None:
        """Note a call and its answer."""
        self._database.execute(
            "INSERT INTO calls VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?)",
            (terminal, key, schema, answered.digest, received_at, answered.schema, answered.version, answered.body),
        )

    def record(self, terminal: str, stream: str, sequence: int) -> bytes | None:
        """Return the body stored at this place of the stream, or None."""
        row = self._database.execute(
            "SELECT body FROM records WHERE terminal = ? AND stream = ? AND sequence = ?", (terminal, stream, sequence)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def add_record(
        self, place: tuple[str, str, int], schema: str, version: int, body: bytes, *, event: str | None, at: float
    ) -> None:
        """Store a record at its place (terminal, stream, sequence); `event` is its body as JSON where it is known."""
        self._database.execute(
            "INSERT INTO records (terminal, stream, sequence, schema, version, body, event, received_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*place, schema, version, body, event, at),
        )

    def receipted(self, terminal: str, stream: str) -> int:
        """Return the sequence up to which the stream was receipted; 0 when nothing was."""
        row = self._database.execute(
            "SELECT sequence FROM receipts WHERE terminal = ? AND stream = ?", (terminal, stream)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def set_receipted(self, terminal: str, stream: str, sequence: int) -> None:
        """Note the sequence up to which the stream is receipted."""
        self._database.execute("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?)", (terminal, stream, sequence))

    def add_certificate(
        self, number: str, certificate: str, terminal: str, *, issued_at: int, digest: bytes, seal: bytes
    ) -> None:
        """Enter an issued certificate in the register, by its number; nothing of the citizen."""
        self._database.execute(
            "INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?)",
            (number, certificate, terminal, issued_at, digest, seal),
        )

    def set_presence(self, terminal: str, *, online: bool, boot_id: str, software: str, at: float) -> None:
        """Note whether the terminal is there."""
        self._database.execute(
            "INSERT OR REPLACE INTO presence VALUES (?, ?, ?, ?, ?)", (terminal, online, boot_id, software, at)
        )

    def summary(self) -> dict[str, object]:
        """Return the counts of everything stored, and the counters."""
        tables = ("grants", "calls", "records", "certificates")
        counts: dict[str, object] = {
            table: self._database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
            for table in tables
        }
        places = "SELECT count(*) FROM (SELECT DISTINCT terminal, stream, sequence FROM records)"
        online = "SELECT terminal FROM presence WHERE online ORDER BY terminal"
        counts["record_places"] = self._database.execute(places).fetchone()[0]
        counts["online"] = [terminal for (terminal,) in self._database.execute(online)]
        return counts | {"counters": self.counters()}
