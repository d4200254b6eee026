"""The journal's file: its settings, its tables, and how an older one becomes the present one (I1)."""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.journal.errors import JournalError, damaged

BUDGET_BYTES = 256 * 2**20
"""What the database may grow to, over a year of records that nobody receipts; beyond it is as a full disk."""

_PRAGMAS = (
    "page_size = 2048",  # of a new file: one record then writes 12 KB with its receipt, with pages of 4096 it is 18 KB
    "journal_mode = WAL",  # one write for a commit, not two
    "synchronous = FULL",  # what a caller was told is on the disk (rule 2)
    "temp_store = MEMORY",  # no file but those that the write guard knows
    "wal_autocheckpoint = 512",  # 1 MiB: no more bytes than with 4 MiB, and a full disk must find that much less room
    "journal_size_limit = 4194304",  # a log this long is used again, not cut off: a commit then needs no new block
)

_STEPS = (
    """
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
CREATE INDEX open_intents ON intents (kind) WHERE state = 'open'
""",
    """
CREATE TABLE alarms (
    id TEXT PRIMARY KEY, code TEXT NOT NULL, subject TEXT NOT NULL, raised_at REAL NOT NULL,
    boot_id TEXT NOT NULL, began REAL NOT NULL, sequence INTEGER NOT NULL,
    repeats INTEGER NOT NULL, late INTEGER NOT NULL, receipted_after REAL
) STRICT;
CREATE TABLE commands (stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT;
CREATE TABLE announcements (
    schema TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (schema, id)
) STRICT
""",
    """
ALTER TABLE intents ADD COLUMN name TEXT NOT NULL DEFAULT '';
UPDATE intents SET name = transaction_id;
CREATE TABLE streams (stream TEXT PRIMARY KEY, told_as TEXT NOT NULL, after INTEGER NOT NULL) STRICT;
CREATE TABLE payments (
    order_id TEXT PRIMARY KEY, method TEXT NOT NULL, amount_fen INTEGER NOT NULL, purpose TEXT NOT NULL,
    state TEXT NOT NULL, opened_at REAL NOT NULL, day TEXT NOT NULL, code TEXT, moved_at REAL
) STRICT;
CREATE INDEX payments_purpose ON payments (purpose);
CREATE INDEX payments_day ON payments (day);
CREATE INDEX payments_under_way ON payments (state) WHERE state IN ('paid', 'reversing');
CREATE TABLE payment_ends (order_id TEXT PRIMARY KEY) STRICT;
CREATE TABLE payment_days (
    day TEXT PRIMARY KEY, reconciled_at REAL NOT NULL, orders INTEGER NOT NULL, unsettled INTEGER NOT NULL
) STRICT;
CREATE TABLE payment_differences (
    day TEXT NOT NULL, order_id TEXT NOT NULL, terminal TEXT, platform TEXT, at REAL NOT NULL,
    PRIMARY KEY (day, order_id)
) STRICT;
CREATE TABLE catalogues (
    version INTEGER PRIMARY KEY, content BLOB NOT NULL, signature BLOB NOT NULL, state TEXT NOT NULL
) STRICT;
CREATE TABLE metering (
    id TEXT PRIMARY KEY, resource TEXT NOT NULL, mode TEXT NOT NULL, units INTEGER NOT NULL, at REAL NOT NULL,
    month TEXT NOT NULL, code TEXT
) STRICT;
CREATE TABLE sharing (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE datasets (
    resource TEXT NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (resource, version, position)
) STRICT
""",
)
"""Step n makes schema version n of the version before; a new file takes all of them."""

SCHEMA_VERSION = len(_STEPS)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or none of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def prepare(db: sqlite3.Connection) -> str:
    """Check the file, bring it to this release's schema in one transaction, and return the journal's id.

    Raises JournalError: `journal.newer`, `journal.damaged`; sqlite3.Error.
    """
    for pragma in _PRAGMAS:
        db.execute(f"PRAGMA {pragma}").fetchall()
    page_bytes = db.execute("PRAGMA page_size").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {BUDGET_BYTES // page_bytes}").fetchall()
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise damaged("quick_check fails")
    version = _version(db)
    if version > SCHEMA_VERSION:
        raise JournalError(
            "journal.newer",
            f"the journal has schema {version}, this release reads {SCHEMA_VERSION}",
            advice="run the release that wrote it, or a later one",
        )
    if version < SCHEMA_VERSION:
        with transaction(db):
            for step in _STEPS[version:]:
                for statement in step.split(";"):
                    db.execute(statement.strip())
            db.execute("INSERT OR IGNORE INTO meta VALUES ('journal_id', ?)", (secrets.token_hex(4),))
            db.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
    return str(db.execute("SELECT value FROM meta WHERE name = 'journal_id'").fetchone()[0])


def _version(db: sqlite3.Connection) -> int:
    """Return the schema version of the file; 0 for an empty one."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        return 0
    if "meta" not in tables:
        raise damaged("another program's database")
    meta: dict[str, str] = dict(db.execute("SELECT name, value FROM meta").fetchall())
    version = meta.get("schema_version", "")
    if not version.isdecimal() or "journal_id" not in meta:
        raise damaged("no schema version")
    return int(version)
