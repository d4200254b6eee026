"""What the reference platform remembers, in SQLite, so that somebody else can count it."""

import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transport.wire import Command

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
    terminal TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (terminal, stream));
CREATE TABLE IF NOT EXISTS certificates (
    number TEXT PRIMARY KEY, certificate TEXT NOT NULL, terminal TEXT NOT NULL, issued_at INTEGER NOT NULL,
    digest BLOB NOT NULL, seal BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS presence (
    terminal TEXT PRIMARY KEY, online INTEGER NOT NULL, boot_id TEXT NOT NULL, software TEXT NOT NULL,
    changed_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS commands (
    terminal TEXT NOT NULL, sequence INTEGER NOT NULL, expires_at INTEGER NOT NULL, schema TEXT NOT NULL,
    version INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (terminal, sequence));
CREATE TABLE IF NOT EXISTS taken (terminal TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trials (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, digest BLOB NOT NULL, ok INTEGER NOT NULL, arrivals INTEGER NOT NULL,
    first_at REAL NOT NULL);
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
        self.database = sqlite3.connect(path)
        self.database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + SCHEMA)

    def close(self) -> None:
        """Close the database; what was not committed is lost."""
        self.database.close()

    def commit(self) -> None:
        """Make the steps since the last commit durable, all of them or none."""
        self.database.commit()

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        self.database.execute(
            "INSERT INTO counters VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET count = count + ?2", (name, number)
        )

    def counters(self) -> dict[str, int]:
        """Return every counter that counted."""
        return dict(self.database.execute("SELECT name, count FROM counters ORDER BY name"))

    def is_new_nonce(self, nonce: bytes) -> bool:
        """Whether no grant answered this nonce."""
        return not self.database.execute("SELECT 1 FROM grants WHERE nonce = ?", (nonce,)).fetchone()

    def last_nonce(self, terminal: str) -> bytes | None:
        """Return the nonce of the terminal's last request that was granted."""
        statement = "SELECT nonce FROM grants WHERE terminal = ? ORDER BY id DESC LIMIT 1"
        row = self.database.execute(statement, (terminal,)).fetchone()
        return None if row is None else bytes(row[0])

    def add_grant(
        self, terminal: str, boot_id: str, nonce: bytes, key_ids: tuple[bytes, bytes], *, granted: int, expires: int
    ) -> None:
        """Note a granted pair of keys (up, down) by their ids; the keys themselves are never written."""
        self.database.execute(
            "INSERT INTO grants (terminal, boot_id, nonce, up_key_id, down_key_id, granted_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (terminal, boot_id, nonce, *key_ids, granted, expires),
        )

    def call(self, terminal: str, key: bytes) -> StoredCall | None:
        """Return the call of `terminal` under the idempotency key, if it was answered before, and count the copy."""
        row = self.database.execute(
            "UPDATE calls SET copies = copies + 1 WHERE terminal = ? AND key = ?"
            " RETURNING digest, answer_schema, answer_version, answer",
            (terminal, key),
        ).fetchone()
        return None if row is None else StoredCall(*row)

    def add_call(self, terminal: str, key: bytes, schema: str, received_at: float, answered: StoredCall) -> None:
        """Note a call and its answer."""
        self.database.execute(
            "INSERT INTO calls VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?)",
            (terminal, key, schema, answered.digest, received_at, answered.schema, answered.version, answered.body),
        )

    def record(self, terminal: str, stream: str, sequence: int) -> bytes | None:
        """Return the body stored at this place of the stream, or None."""
        row = self.database.execute(
            "SELECT body FROM records WHERE terminal = ? AND stream = ? AND sequence = ?", (terminal, stream, sequence)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def add_record(
        self, place: tuple[str, str, int], schema: str, version: int, body: bytes, *, event: str | None, at: float
    ) -> None:
        """Store a record at its place (terminal, stream, sequence); `event` is its body as JSON where it is known."""
        self.database.execute(
            "INSERT INTO records (terminal, stream, sequence, schema, version, body, event, received_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*place, schema, version, body, event, at),
        )

    def receipted(self, terminal: str, stream: str) -> int:
        """Return the sequence up to which the stream was receipted; 0 when nothing was."""
        row = self.database.execute(
            "SELECT sequence FROM receipts WHERE terminal = ? AND stream = ?", (terminal, stream)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def receipted_digest(self, terminal: str, stream: str) -> bytes:
        """Return the SM3 of the last record that was receipted of the stream, as it came."""
        row = self.database.execute(
            "SELECT digest FROM receipts WHERE terminal = ? AND stream = ?", (terminal, stream)
        ).fetchone()
        return bytes(row[0])

    def set_receipted(self, terminal: str, stream: str, sequence: int, digest: bytes) -> None:
        """Note the sequence up to which the stream is receipted, and the SM3 of the body of that record."""
        row = (terminal, stream, sequence, digest)
        self.database.execute("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?)", row)

    def add_trial(self, trial: str, kind: str, digest: bytes, *, is_right: bool, at: float) -> None:
        """Count a trial by its id; it stays `ok` while every arrival has the same digest and the right bytes."""
        self.database.execute(
            "INSERT INTO trials VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT (id) DO UPDATE SET arrivals = arrivals + 1,"
            " ok = ok AND excluded.ok AND digest = excluded.digest AND kind = excluded.kind",
            (trial, kind, digest, is_right, at),
        )

    def add_certificate(
        self, number: str, certificate: str, terminal: str, *, issued_at: int, digest: bytes, seal: bytes
    ) -> None:
        """Enter an issued certificate in the register, by its number; nothing of the citizen."""
        self.database.execute(
            "INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?)",
            (number, certificate, terminal, issued_at, digest, seal),
        )

    def command_stream(self) -> str:
        """Return the name of this database's stream of commands; another platform's sequences are not ours."""
        row = self.database.execute("SELECT id FROM identity").fetchone()
        if row is None:
            row = (secrets.token_hex(4),)
            self.database.execute("INSERT INTO identity VALUES (?)", row)
        return f"command-{row[0]}"

    def add_command(self, terminal: str, expires_at: int, schema: str, version: int, body: bytes) -> None:
        """Give a terminal a command, after those it was given before."""
        self.database.execute(
            "INSERT INTO commands SELECT ?1, coalesce(max(sequence), 0) + 1, ?2, ?3, ?4, ?5 FROM commands"
            " WHERE terminal = ?1",
            (terminal, expires_at, schema, version, body),
        )

    def commands(self, terminal: str) -> list[Command]:
        """Return the commands that the terminal has not taken, in order."""
        stream = self.command_stream()
        rows = self.database.execute(
            "SELECT sequence, expires_at, schema, version, body FROM commands WHERE terminal = ?1 AND sequence >"
            " coalesce((SELECT sequence FROM taken WHERE terminal = ?1), 0) ORDER BY sequence LIMIT 32",
            (terminal,),
        )
        return [Command(stream, *row) for row in rows]

    def take_commands(self, terminal: str, streams: Mapping[str, int]) -> None:
        """Note up to which command the terminal took them, also when that is less than it said before.

        Its journal then went back, and it takes no command but the next after that.
        """
        taken = streams.get(self.command_stream(), 0)
        self.database.execute("INSERT OR REPLACE INTO taken VALUES (?, ?)", (terminal, taken))

    def set_presence(self, terminal: str, *, online: bool, boot_id: str, software: str, at: float) -> None:
        """Note whether the terminal is there."""
        self.database.execute(
            "INSERT OR REPLACE INTO presence VALUES (?, ?, ?, ?, ?)", (terminal, online, boot_id, software, at)
        )

    def summary(self) -> dict[str, object]:
        """Return the counts of everything stored, and the counters."""
        tables = ("grants", "calls", "records", "certificates")
        counts: dict[str, object] = {
            table: self.database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
            for table in tables
        }
        places = "SELECT count(*) FROM (SELECT DISTINCT terminal, stream, sequence FROM records)"
        online = "SELECT terminal FROM presence WHERE online ORDER BY terminal"
        counts["record_places"] = self.database.execute(places).fetchone()[0]
        counts["online"] = [terminal for (terminal,) in self.database.execute(online)]
        return counts | {"counters": self.counters()}
