"""The journal's file: its settings, its tables, and how an older one becomes the present one (I1)."""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from runtime.journal.errors import JournalError, damaged
from runtime.journal.files import Files, files_of, sync_directory

BUDGET_BYTES = 256 * 2**20
"""What the database may grow to, over a year of records that nobody receipts; beyond it is as a full disk."""

PAGE_BYTES = 2048
"""Of a new file: one record then writes 12 KB with its receipt, with pages of 4096 it is 18 KB."""
SUSPECT = 1
"""The `user_version` of a file in which a page could not be read: the next start rebuilds it."""

_PRAGMAS = (
    f"page_size = {PAGE_BYTES}",
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
    """
CREATE TABLE rebuilds (
    at REAL PRIMARY KEY, reason TEXT NOT NULL, source TEXT NOT NULL, aside TEXT, records INTEGER NOT NULL,
    intents INTEGER NOT NULL, skipped INTEGER NOT NULL, is_whole INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE lockdowns (
    code TEXT NOT NULL, subject TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (code, subject)
) STRICT
""",
    """
CREATE TABLE audit_head (id INTEGER PRIMARY KEY, head TEXT NOT NULL) STRICT
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

    Raises JournalError: `journal.newer`, then nothing was changed, `journal.damaged`; sqlite3.Error.
    """
    version = _version(db)
    for pragma in _PRAGMAS:
        db.execute(f"PRAGMA {pragma}").fetchall()
    page_bytes = db.execute("PRAGMA page_size").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {BUDGET_BYTES // page_bytes}").fetchall()
    if db.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
        raise damaged("integrity_check fails")
    if db.execute("PRAGMA user_version").fetchone()[0] == SUSPECT:
        raise damaged("a page of it could not be read before")
    if version < SCHEMA_VERSION:
        with transaction(db):
            migrate(db, version)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('journal_id', ?)", (secrets.token_hex(4),))
            db.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
        if (files := files_of(db)) is not None:
            sync_directory(files.database.parent)
    row = db.execute("SELECT value FROM meta WHERE name = 'journal_id'").fetchone()
    if row is None:
        raise damaged("no journal id")
    return str(row[0])


def migrate(db: sqlite3.Connection, version: int, to: int = SCHEMA_VERSION) -> None:
    """Take the steps after schema `version` up to `to`, inside the caller's transaction."""
    for step in _STEPS[version:to]:
        for statement in step.split(";"):
            db.execute(statement.strip())


def tables(db: sqlite3.Connection) -> set[str]:
    """Return the names of the tables of a file; raise sqlite3.Error."""
    return {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def tables_of(version: int) -> set[str]:
    """Return the names of the tables of a schema version."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, 0, version)
        return tables(db)


def readable_version(db: sqlite3.Connection) -> int:
    """Return the schema version of a damaged file by its tables; 0 where they cannot be read, or are another's.

    Raises JournalError `journal.newer`.
    """
    try:
        found = tables(db)
    except sqlite3.Error:
        return 0
    try:
        return _version(db)
    except (sqlite3.Error, JournalError) as error:
        if isinstance(error, JournalError) and error.code == "journal.newer":
            raise
    return next((version for version in range(SCHEMA_VERSION, 0, -1) if tables_of(version) - {"meta"} <= found), 0)


def look(files: Files) -> None:
    """Look at the files before the journal is opened: what a power cut left unfinished is finished.

    Raises JournalError: `journal.newer` for a file of a later release, of which no byte is changed (a connection that
    may write moves the write-ahead log into the file when it ends; this one may not); `journal.damaged` where the file
    is gone, or empty, and its backup copy is there; OSError.
    """
    files.finish()
    file = files.database
    if not file.exists() or not file.stat().st_size:
        if files.backup.exists():
            raise damaged("the file is gone")
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db:
        try:
            _version(db)
        except JournalError as error:
            if error.code == "journal.newer":
                raise


def _version(db: sqlite3.Connection) -> int:
    """Return the schema version of the file; 0 for an empty one."""
    found = tables(db)
    if not found:
        return 0
    if "meta" not in found:
        raise damaged("another program's database")
    meta: dict[str, str] = dict(db.execute("SELECT name, value FROM meta").fetchall())
    version = meta.get("schema_version", "")
    if not version.isdecimal() or "journal_id" not in meta:
        raise damaged("no schema version")
    if int(version) > SCHEMA_VERSION:
        raise JournalError(
            "journal.newer",
            f"the journal has schema {version}, this release reads {SCHEMA_VERSION}",
            advice="run the release that wrote it, or a later one",
        )
    return int(version)
