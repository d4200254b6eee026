"""The journal's file: migration of older ones, and what is refused (I1)."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runtime.board import ThreadExecutor
from runtime.journal import Journal, JournalError, schema
from runtime.journal.schema import SCHEMA_VERSION
from runtime.messages import SupervisionEvent, TrialHealth, from_payload
from sim.memory import InlineExecutor

NOW = 1_800_000_000.0
VECTORS = Path(__file__).parents[1] / "vectors/journal"
"""Made by releases of each schema, the later ones as a daemon that was killed leaves them, with a write-ahead log.

1: eleven events of which five are receipted, intents, tickets, an identity. 2 and 3: two citizens while the platform
was there, and after it a third, an unplugged reader with its ticket, an alarm, an open intent and a settled one; 3 also
orders in three states, a catalogue of matters, and telemetry that is told under another name.
"""
OLD = range(1, SCHEMA_VERSION)


def event(step: str = "read_card") -> SupervisionEvent:
    return SupervisionEvent("t" * 16, step, "done", None, NOW, 0.5, "boot", rig=False)


def dump(database: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {table: sorted(database.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}  # noqa: S608


def placed(version: int, directory: Path) -> Path:
    """Copy the files of a version, and return the database's path."""
    for file in VECTORS.glob(f"version-{version}.db*"):
        shutil.copy(file, directory / file.name.replace(f"version-{version}", "journal"))
    return directory / "journal.db"


@pytest.fixture
def old(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(placed(1, tmp_path))) as connection:
        yield connection


async def opened(connection: sqlite3.Connection) -> Journal:
    journal = Journal(InlineExecutor(connection), lambda: NOW)
    await journal.open()
    return journal


async def test_a_journal_of_the_first_release_is_taken_over_whole_and_delivery_goes_on(old):
    before = dump(old)
    assert len(before["records"]) == 11
    before["intents"] = [(*row, row[2]) for row in before["intents"]]  # found by what their transaction was
    journal = await opened(old)
    after = dump(old)
    assert after.pop("meta") == [("journal_id", "0cda2545"), ("schema_version", str(SCHEMA_VERSION))]
    assert {table: after.pop(table) for table in before if table != "meta"} | {"meta": before["meta"]} == before
    assert after.keys() >= {"alarms", "commands", "announcements"}
    assert not any(after.values()), "new tables are empty"
    stream = journal.streams["supervision"]
    waiting = await journal.unacknowledged(stream, 0, 99)
    assert [record.sequence for record in waiting] == list(range(6, 12))
    assert from_payload(waiting[0].payload, SupervisionEvent).step == "step_6"
    assert [intent.transaction for intent in await journal.open_intents("print")] == ["b" * 16]
    assert await journal.append(event()) == 12
    await journal.acknowledge(stream, 12)
    assert (await journal.waiting())["supervision"] == 0


@pytest.mark.parametrize("version", OLD)
async def test_every_row_of_an_older_file_is_kept(tmp_path, version):
    with closing(sqlite3.connect(placed(version, tmp_path))) as connection:
        before = dump(connection)
        assert dict(before.pop("meta"))["schema_version"] == str(version)
        assert all(before[table] for table in ("records", "cursors", "intents", "tickets", "identities"))
        journal = await opened(connection)
        after = dump(connection)
        for table, rows in before.items():
            assert [row[: len(rows[0])] for row in after[table]] == rows if rows else after[table] == []
        assert len(await journal.open_intents({1: "print"}.get(version, "file"))) == 1
        waiting = await journal.unacknowledged(journal.streams["supervision"], 0, 99)
        assert waiting
        assert all(from_payload(one.payload, SupervisionEvent).boot_id for one in waiting)
        stream = journal.streams["supervision"]
        assert await journal.append(event()) == max(row[1] for row in before["records"] if row[0] == stream) + 1


def test_there_is_an_old_file_of_every_schema_before_this_one():
    assert {int(file.stem.removeprefix("version-")) for file in VECTORS.glob("*.db")} == set(OLD)


async def test_of_schema_3_orders_alarms_and_renewed_names_are_kept(tmp_path):
    with closing(sqlite3.connect(placed(3, tmp_path))) as connection:
        journal = await opened(connection)
        orders = connection.execute("SELECT state, amount_fen FROM payments ORDER BY order_id").fetchall()
        assert orders == [("open", 8000), ("paid", 8000), ("used", 8000)]
        assert connection.execute("SELECT code, receipted_after FROM alarms").fetchall() == [("egress.connect", None)]
        await journal.append(TrialHealth("1", b"", b"x"))
        (record,) = await journal.unacknowledged(journal.streams["telemetry"], 0, 9)
        assert record.sequence == 1
        assert record.stream != journal.streams["telemetry"]


@pytest.mark.parametrize("version", OLD)
async def test_an_old_and_a_new_file_have_the_same_tables(tmp_path, version):
    with closing(sqlite3.connect(placed(version, tmp_path))) as old, closing(sqlite3.connect(":memory:")) as new:
        await opened(old)
        await opened(new)
        statement = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        assert old.execute(statement).fetchall() == new.execute(statement).fetchall()


async def test_of_schema_4_a_lock_outlives_the_migration(tmp_path):
    with closing(sqlite3.connect(placed(4, tmp_path))) as connection:
        await opened(connection)
        assert connection.execute("SELECT code, subject, kind FROM lockdowns").fetchall() == [
            ("security.door_open", "door", "door")
        ]
        assert connection.execute("SELECT told FROM rebuilds").fetchall() == [(2,)]


async def test_a_migration_that_fails_leaves_the_old_file(old, monkeypatch):
    before = dump(old)
    *steps, last = schema._STEPS
    monkeypatch.setattr(schema, "_STEPS", (*steps, f"{last}; CREATE TABLE tickets (x)"))
    with pytest.raises(JournalError) as failed:
        await opened(old)
    assert failed.value.code == "journal.write_failed"
    assert dump(old) == before
    monkeypatch.undo()
    assert (await opened(old)).streams["supervision"] == "supervision-0cda2545"


async def test_a_newer_journal_is_left_as_it_is_byte_for_byte(tmp_path):
    """I1: also where a later release was killed and left a write-ahead log, and whether or not it is whole."""
    file = tmp_path / "newer.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as newer:
        await opened(newer)
        newer.execute("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
        newer.execute("CREATE TABLE unknown (x)")
        left = {suffix: (tmp_path / f"newer.db{suffix}").read_bytes() for suffix in ("", "-wal")}
    assert left["-wal"]
    for suffix, content in left.items():
        (tmp_path / f"journal.db{suffix}").write_bytes(content)
    for _ in range(2):
        executor = ThreadExecutor(tmp_path / "journal.db")
        with pytest.raises(JournalError) as refused:
            await Journal(executor, lambda: NOW).open()
        await executor.close()
        assert refused.value.code == "journal.newer"
        assert {suffix: (tmp_path / f"journal.db{suffix}").read_bytes() for suffix in left} == left
    assert not list(tmp_path.glob("*.damaged-*"))


async def test_a_newer_schema_is_refused(old):
    await opened(old)
    old.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (str(SCHEMA_VERSION + 1),))
    old.commit()
    with pytest.raises(JournalError) as refused:
        await opened(old)
    assert refused.value.code == "journal.newer"
    assert f"schema {SCHEMA_VERSION + 1}," in str(refused.value)


@pytest.mark.parametrize("damage", ["garbage", "page", "foreign", "no_version", "suspect"])
async def test_a_damaged_journal_is_told_from_a_whole_one(tmp_path, damage):
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as connection:
        journal = await opened(connection)
        for number in range(100):
            await journal.append(event(str(number)))
        await journal.checkpoint()
        if damage == "no_version":
            connection.execute("DELETE FROM meta")
        if damage == "foreign":
            connection.execute("DROP TABLE meta")
        if damage == "suspect":
            connection.execute(f"PRAGMA user_version = {schema.SUSPECT}")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        path.write_bytes(b"\x5a" * len(content))
    if damage == "page":
        content[4096 * 2 : 4096 * 4] = b"\x5a" * 8192
        path.write_bytes(content)
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
        pytest.raises((JournalError, sqlite3.DatabaseError)) as refused,
    ):
        schema.prepare(connection)
    assert getattr(refused.value, "code", "journal.damaged") == "journal.damaged"


async def test_a_damaged_journal_in_memory_is_refused():
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE notes (text)")
        with pytest.raises(JournalError) as refused:
            await opened(connection)
    assert refused.value.code == "journal.damaged"
