"""The whole daemon on a journal that was damaged: it tells, settles, and serves again by itself (I6, T12, T23, L29)."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from runtime import storage
from runtime.journal import Journal, JournalError
from runtime.journal.files import Files
from runtime.messages import Alarm
from runtime.messages.storage import IntentLost, JournalRebuilt
from runtime.policy import Security
from sim.memory import InlineExecutor
from sim.virtual_time import run
from tests.runtime.house import EPOCH, OPERATOR_UID, Caller, House, living
from tests.runtime.test_journal_rebuild import spoil


def on_file(directory: Path, outside=None) -> House:
    journal = sqlite3.connect(directory / "journal.db", isolation_level=None)
    house = House(directory, journal=journal, outside=outside)
    house.settings = msgspec.structs.replace(house.settings, security=Security(journal="alarm"))
    return house


def arrived(house: House, schema: str, kind: type) -> list:
    rows = house.store.database.execute("SELECT event FROM records WHERE schema = ? ORDER BY id", (schema,))
    return [msgspec.json.decode(row[0], type=kind) for row in rows]


async def lives(house: House, story) -> None:
    """Run a story while daemon and platform live; the platform's database stays open."""
    tasks = [asyncio.create_task(work) for work in (house.serve_platform(), house.daemon())]
    try:
        ui = house.caller()
        await house.settled(ui)
        await story(ui)
        house.stop.set()
        await tasks[1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        house.journal.close()


async def two_citizens(house: House, ui: Caller) -> None:
    for _ in range(2):
        await ui.call("session.close", session=await house.consenting(ui))


def test_a_damaged_journal_is_told_of_and_the_next_citizen_is_served(tmp_path):
    async def story() -> None:
        first = on_file(tmp_path)
        await lives(first, lambda ui: two_citizens(first, ui))
        steps = first.store.database.execute("SELECT count(*) FROM records").fetchone()[0]
        assert spoil(tmp_path / "journal.db", b"supervision.event") == 1
        second = on_file(tmp_path, first.outside)

        async def told(ui: Caller) -> None:
            await second.until(lambda: arrived(second, "journal.rebuilt", JournalRebuilt))
            (rebuilt,) = arrived(second, "journal.rebuilt", JournalRebuilt)
            assert (rebuilt.source, rebuilt.is_whole) == ("file_and_backup", False)
            assert rebuilt.skipped >= 1
            (alarm,) = arrived(second, "alarm", Alarm)
            assert (alarm.code, alarm.subject) == (storage.DAMAGED, "journal")
            operator = second.caller(OPERATOR_UID)
            (shown,) = (await operator.call("alarms.list"))["alarms"]
            assert (shown["code"], shown["receipted"]) == (storage.DAMAGED, True)
            await two_citizens(second, ui)

        await lives(second, told)
        assert second.store.database.execute("SELECT count(*) FROM records").fetchone()[0] > steps
        assert not [name for name in second.store.counters() if name.startswith("complaint")]
        lines = [json.loads(line) for line in second.settings.audit_file.read_text().splitlines()]
        (audited,) = [line for line in lines if line["event"] == "journal_rebuilt"]
        assert audited["details"]["aside"].startswith("journal.db.damaged-20")
        third = on_file(tmp_path, first.outside)
        await lives(third, lambda ui: two_citizens(third, ui))
        assert len(arrived(third, "journal.rebuilt", JournalRebuilt)) == 1, "told once"
        third.store.close()

    run(story())


def test_damage_that_shows_while_the_daemon_serves_ends_it_and_the_next_start_mends_it(tmp_path):
    async def story() -> None:
        first = on_file(tmp_path)

        async def damaged(ui: Caller) -> None:
            await two_citizens(first, ui)
            first.journal.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            assert spoil(tmp_path / "journal.db", b"supervision.event", count=99) >= 1
            first.journal.execute("PRAGMA shrink_memory").fetchall()
            await ui.call("session.open")
            await first.until(first.stop.is_set)

        with pytest.raises(JournalError) as ended:
            await lives(first, damaged)
        assert ended.value.code == "journal.damaged"
        second = on_file(tmp_path, first.outside)

        async def mended(ui: Caller) -> None:
            await second.until(lambda: arrived(second, "journal.rebuilt", JournalRebuilt))
            await two_citizens(second, ui)

        await lives(second, mended)
        second.store.close()

    run(story())


def test_what_the_platform_did_and_the_journal_has_lost_is_told(tmp_path):
    """Rule 2: no intent is lost silently; one that was refused, or is a week old, is nobody's business."""

    async def story() -> None:
        first = on_file(tmp_path)
        await lives(first, lambda ui: two_citizens(first, ui))
        calls = [
            (b"a" * 16, "application.filing", "receipt.standing", EPOCH - 3_600),
            (b"b" * 16, "application.filing", "refusal", EPOCH - 3_600),
            (b"c" * 16, "hotline.request", "hotline.standing", EPOCH - 10 * 86_400),
            (b"d" * 16, "identity.confirmation", "identity.assertion", EPOCH - 60),
        ]
        for key, schema, answer, at in calls:
            row = ("GT-0001", key, schema, b"digest", at, 0, answer, 1, b"")
            first.store.database.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        Files(tmp_path / "journal.db").backup.unlink()
        (tmp_path / "journal.db").write_bytes(b"\x5a" * 8192)
        second = on_file(tmp_path, first.outside)

        async def told(_: Caller) -> None:
            await second.until(lambda: arrived(second, "journal.intent_lost", IntentLost), seconds=60)
            (lost,) = arrived(second, "journal.intent_lost", IntentLost)
            assert (lost.key, lost.schema, lost.acted_at) == ((b"a" * 16).hex(), "application.filing", EPOCH - 3_600)
            with closing(sqlite3.connect(tmp_path / "journal.db")) as journal:
                noted = journal.execute("SELECT key, state, code FROM intents").fetchall()
                assert noted == [(lost.key, "unknown", storage.DAMAGED)]
                await second.until(lambda: journal.execute("SELECT told FROM rebuilds").fetchall() == [(2,)])

        await lives(second, told)
        second.store.close()

    run(story())


async def test_a_rebuild_that_could_not_be_told_is_told_at_the_next_start(tmp_path):
    """A full disk: nothing is noted as told before it is."""
    file = tmp_path / "journal.db"
    file.write_bytes(b"\x5a" * 8192)

    class NoAlarms:
        async def sound_at_once(self, code: str, subject: str) -> None:
            raise JournalError("journal.disk_full", "no room", advice="")

    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        executor = InlineExecutor(connection)
        journal = Journal(executor, lambda: EPOCH)
        await journal.open()
        await storage.tell_rebuilds(journal, None, NoAlarms(), None, lambda _db: None)
        assert len(await journal.untold()) == 1
        await executor.close()


def test_the_copy_is_made_once_a_day_when_nobody_is_there(tmp_path):
    async def story() -> None:
        async with living(on_file(tmp_path)) as house:
            ui = house.caller()
            await house.settled(ui)
            backup = Files(tmp_path / "journal.db").backup
            made = []
            for _ in range(40):
                await asyncio.sleep(storage.LOOK_SECONDS * 4)
                if backup.exists() and backup.stat().st_mtime not in made:
                    made.append(backup.stat().st_mtime)
            assert [round((at - EPOCH) / 3600) for at in made] == [0, 23]

    run(story())
