"""A journal restored from an older image: all that it has to tell arrives, and that it went back (I6, T12, T23)."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest

from runtime.daemon import WENT_BACK
from runtime.journal import Journal
from runtime.messages import Alarm, RecordsShed, SupervisionEvent, TrialHealth, from_payload
from sim.memory import InlineExecutor
from sim.virtual_time import run
from tests.runtime.house import OPERATOR_UID, House, living
from transport.outbox import RESEND_SECONDS
from transport.sm import sm3

NOW = 1_800_000_000.0


def event(step: str) -> SupervisionEvent:
    return SupervisionEvent("t" * 16, step, "done", None, NOW, 0.5, "boot", rig=False)


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


async def opened(database: sqlite3.Connection) -> Journal:
    journal = Journal(InlineExecutor(database), lambda: NOW)
    await journal.open()
    return journal


def steps(database: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """What the platform stored of steps, once for each place: stream, transaction, step."""
    rows = database.execute(
        "SELECT DISTINCT stream, sequence, event FROM records WHERE schema = 'supervision.event' ORDER BY id"
    ).fetchall()
    told = [(stream, msgspec.json.decode(body, type=SupervisionEvent)) for stream, _, body in rows]
    return [(stream, one.transaction, one.step) for stream, one in told]


def test_a_daemon_on_an_older_journal_tells_everything_and_that_it_went_back(tmp_path, monkeypatch):
    """The platform has records that the image lacks: the terminal is told so by a receipt, and goes on."""

    async def life(house: House, image: sqlite3.Connection | None = None) -> sqlite3.Connection:
        """Open and close sessions, each of which leaves events; return the journal as it was in the middle."""
        tasks = [asyncio.create_task(work) for work in (house.serve_platform(), house.daemon())]
        try:
            ui = house.caller()
            await house.settled(ui)
            content = b""
            for _ in range(4):
                await ui.call("session.close", session=await house.consenting(ui))
                await house.until(lambda: not waiting(house))
                content = content or house.journal.serialize()
            house.stop.set()
            await tasks[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        restored = sqlite3.connect(":memory:", isolation_level=None)
        restored.deserialize(content)
        house.journal.close()
        return restored

    def waiting(house: House) -> list[Any]:
        return house.rows(
            "SELECT 1 FROM records LEFT JOIN cursors USING (stream)"
            " WHERE records.sequence > coalesce(cursors.sequence, 0)"
        )

    async def story() -> None:
        first = House(tmp_path)
        image = await life(first)
        before = steps(first.store.database)
        async with living(House(tmp_path, journal=image, outside=first.outside)) as second:
            ui, operator = second.caller(), second.caller(OPERATOR_UID)
            await second.settled(ui)
            await second.consenting(ui)
            await second.until(lambda: waiting(second))
            await second.until(lambda: not waiting(second), seconds=4 * RESEND_SECONDS)
            (alarm,) = (await operator.call("alarms.list"))["alarms"]
            assert (alarm["code"], alarm["subject"], alarm["receipted"]) == (WENT_BACK, "journal", True)
            told = steps(second.store.database)[len(before) :]
            ours = second.rows("SELECT told_as FROM streams")
            assert {stream for stream, _, _ in told} <= {name for (name,) in ours}
            assert "consent" in {step for _, _, step in told}
            assert WENT_BACK in {step for _, _, step in told}
            heard = second.store.database.execute("SELECT event FROM records WHERE schema = 'alarm'").fetchall()
            assert WENT_BACK in {msgspec.json.decode(body, type=Alarm).code for (body,) in heard}
        audited = second.settings.audit_file.read_text()
        assert '"event":"journal_went_back"' in audited

    run(story())


async def test_what_was_not_receipted_is_numbered_anew_and_stays_so(database):
    journal = await opened(database)
    stream = journal.streams["supervision"]
    heard: list[int] = []
    journal.watch("supervision", heard.append)
    for number in range(1, 6):
        await journal.append(event(str(number)))
    await journal.acknowledge(stream, 3)
    await journal.renew(stream)
    for again in (journal, await opened(database)):
        records = await again.unacknowledged(stream, 0, 9)
        assert [(one.sequence, from_payload(one.payload, SupervisionEvent).step) for one in records] == [
            (1, "4"),
            (2, "5"),
        ]
        assert {one.stream for one in records} == {records[0].stream} != {stream}
        assert await again.unacknowledged(stream, 1, 9) == records[1:]
    await journal.acknowledge(stream, 1)
    assert heard == [3, 4], "here they keep the sequences they have"
    assert await journal.append(event("6")) == 6
    assert [one.sequence for one in await journal.unacknowledged(stream, 0, 9)] == [2, 3]
    await journal.renew(stream)
    (first, second) = await journal.unacknowledged(stream, 0, 9)
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.stream not in (stream, records[0].stream)


async def test_a_record_is_known_by_its_digest(database):
    journal = await opened(database)
    stream = journal.streams["supervision"]
    for number in range(1, 4):
        await journal.append(event(str(number)))
    digests = [sm3(one.payload.body) for one in await journal.unacknowledged(stream, 0, 9)]
    assert [await journal.has(stream, 2, digest) for digest in digests] == [False, True, False]
    assert not await journal.has(stream, 4, digests[2])
    await journal.acknowledge(stream, 2)
    assert await journal.has(stream, 1, bytes(32)), "it was receipted: that is over"
    await journal.renew(stream)
    assert await journal.has(stream, 1, digests[2])
    assert not await journal.has(stream, 2, digests[2])


async def test_a_tombstone_is_told_by_the_new_numbers(database):
    journal = await opened(database)
    stream = journal.streams["telemetry"]
    for number in range(10):
        await journal.append(TrialHealth(str(number), b"", b"x"))
    await journal.acknowledge(stream, 2)
    journal._room._shed(database, stream)
    (tombstone, *rest) = await journal.unacknowledged(stream, 0, 99)
    assert from_payload(tombstone.payload, RecordsShed) == RecordsShed(3, 6, NOW)
    assert await journal.has(stream, 6, bytes(32)), "the platform may have had the record itself"
    assert await journal.has(stream, 5, bytes(32))
    await journal.renew(stream)
    told = await journal.unacknowledged(stream, 0, 99)
    assert (told[0].sequence, from_payload(told[0].payload, RecordsShed)) == (4, RecordsShed(1, 4, NOW))
    assert [(one.sequence, one.payload) for one in told[1:]] == [(one.sequence - 2, one.payload) for one in rest]


async def test_it_is_told_before_it_is_done_and_on_a_full_disk_nothing_changes(database):
    journal = await opened(database)
    stream = journal.streams["alarm"]
    told: list[str] = []

    async def tell(kind: str) -> None:
        told.append(kind)
        database.execute("PRAGMA query_only = 1")

    journal.watch_renewals(tell)
    await journal.append(Alarm("a" * 16, "pinpad.tampered", "pinpad", NOW, "boot", rig=False))
    await journal.renew(stream)
    assert told == ["alarm"]
    assert [one.stream for one in await journal.unacknowledged(stream, 0, 9)] == [stream]
