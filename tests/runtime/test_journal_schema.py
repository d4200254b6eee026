"""The journal's file: migration of older ones, and what is refused (I1)."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runtime.journal import Journal, JournalError, schema
from runtime.journal.schema import SCHEMA_VERSION
from runtime.messages import SupervisionEvent, from_payload
from sim.memory import InlineExecutor

NOW = 1_800_000_000.0
VERSION_1 = Path(__file__).parents[1] / "vectors/journal/version-1.db"
"""Made by the release before streams: eleven events of which five are receipted, intents, tickets, an identity."""


def event(step: str = "read_card") -> SupervisionEvent:
    return SupervisionEvent("t" * 16, step, "done", None, NOW, 0.5, "boot", rig=False)


def dump(database: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {table: sorted(database.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}  # noqa: S608


@pytest.fixture
def old(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    shutil.copy(VERSION_1, tmp_path / "journal.db")
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
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


async def test_an_old_and_a_new_file_have_the_same_tables(old, tmp_path):
    await opened(old)
    with closing(sqlite3.connect(tmp_path / "new.db")) as new:
        await opened(new)
        statement = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        assert old.execute(statement).fetchall() == new.execute(statement).fetchall()


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


async def test_a_newer_schema_is_refused(old):
    await opened(old)
    old.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (str(SCHEMA_VERSION + 1),))
    old.commit()
    with pytest.raises(JournalError) as refused:
        await opened(old)
    assert refused.value.code == "journal.newer"
    assert f"schema {SCHEMA_VERSION + 1}," in str(refused.value)


@pytest.mark.parametrize("damage", ["garbage", "page", "foreign", "no_version"])
async def test_a_damaged_journal_is_refused(tmp_path, damage):
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
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        path.write_bytes(b"\x5a" * len(content))
    if damage == "page":
        content[4096 * 2 : 4096 * 4] = b"\x5a" * 8192
        path.write_bytes(content)
    with closing(sqlite3.connect(path)) as connection:
        with pytest.raises(JournalError) as refused:
            await opened(connection)
        assert refused.value.code == "journal.damaged"
