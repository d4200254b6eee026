"""When there is no room (I6, L28): what goes, in which order, how it is told, and what is refused. In memory."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from runtime.journal import Journal, JournalError, room
from runtime.messages import Alarm, SupervisionEvent, TrialHealth, TrialRecord, from_payload
from sim.memory import InlineExecutor
from tests.runtime.journal_reader import shed, whole

NOW = 1_800_000_000.0
ALARM = Alarm("a" * 16, "pinpad.tampered", "pinpad", NOW, "boot", rig=False)
PAGES = 300


def event(step: str = "read_card") -> SupervisionEvent:
    return SupervisionEvent("t" * 16, step, "done", None, NOW, 0.5, "boot", rig=False)


def health(trial: int, filler: int = 800) -> TrialHealth:
    return TrialHealth(str(trial), b"", b"x" * filler)


class Short(sqlite3.Connection):
    """A database whose disk is full for the next `failures` statements that begin with `at`."""

    at = "COMMIT"
    failures = 0

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if self.failures and statement.startswith(self.at):
            self.failures -= 1
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
            raise error
        return super().execute(statement, *values)


@pytest.fixture
def database():
    with closing(sqlite3.connect(":memory:", factory=Short, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
async def journal(database) -> Journal:
    journal = Journal(InlineExecutor(database), lambda: NOW)
    await journal.open()
    return journal


async def test_a_journal_in_memory_leaves_no_file(tmp_path, monkeypatch):
    """SQLite calls a database that was deserialized `x`: that is no place for a reserve."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect(":memory:")) as image, closing(sqlite3.connect(":memory:")) as read:
        await Journal(InlineExecutor(image), lambda: NOW).open()
        read.deserialize(image.serialize())
        await Journal(InlineExecutor(read), lambda: NOW).open()
    assert list(tmp_path.iterdir()) == []


async def fill(journal: Journal, message: Callable[[int], Any]) -> int:
    """Append until it is refused; return how many were taken."""
    for count in range(100_000):
        try:
            await journal.append(message(count + 1))
        except JournalError as error:
            full = (error.code, error.retry)
            break
    assert full == ("journal.disk_full", True)
    return count


@pytest.mark.parametrize("at", ["COMMIT", "BEGIN", "INSERT INTO records"])
async def test_after_room_was_made_the_append_is_tried_once_more(journal, database, at):
    for number in range(4):
        await journal.append(health(number))
    database.at, database.failures = at, 1
    with capture_logs() as lines:
        assert await journal.append(event()) == 1
    assert journal.shed == 2
    told = [(line["event"], line.get("count")) for line in lines]
    assert told == [("records_shed", 2), ("disk_has_room", None)]
    (tombstone, *_) = await journal.unacknowledged(journal.streams["telemetry"], 0, 9)
    assert (tombstone.sequence, shed(tombstone.payload).first, shed(tombstone.payload).at) == (2, 1, NOW)
    assert [len(records) for records in (await whole(journal)).values()] == [0, 1, 2]


async def test_appends_that_share_a_commit_are_each_tried_once_more(journal, database):
    """Nobody's record is stored twice, and the order stays."""
    database.failures = 1
    done = await asyncio.gather(*(journal.append(event(str(number))) for number in range(5)))
    assert done == [1, 2, 3, 4, 5]
    found = (await whole(journal))["supervision"]
    assert [from_payload(one, SupervisionEvent).step for one in found.values()] == list("01234")


async def test_what_waits_in_supervision_and_alarms_is_never_shed(journal, database):
    """T12, T23: the call is refused instead, with a code that says why; afterwards everything goes on."""
    database.execute(f"PRAGMA max_page_count = {PAGES}")
    with capture_logs() as lines:
        taken = await fill(journal, lambda number: TrialRecord(str(number), b"", b"x" * 800))
        for _ in range(5):
            with pytest.raises(JournalError):
                await journal.append(TrialRecord("again", b"", b"x" * 800))
    assert [line["event"] for line in lines] == ["records_shed"], "once, not at each refusal"
    assert len((await whole(journal))["supervision"]) == taken
    assert journal.shed == 0
    with capture_logs() as lines:
        database.execute("PRAGMA max_page_count = 100000")
        assert await journal.append(event()) == taken + 1
    assert [line["event"] for line in lines] == ["disk_has_room"]


async def test_a_refused_intent_leaves_nothing(journal, database):
    """Rule 2: nothing is begun that could not be written down."""
    database.execute(f"PRAGMA max_page_count = {PAGES}")
    await fill(journal, lambda number: TrialRecord(str(number), b"", b"x" * 800))
    done = await asyncio.gather(
        *(journal.open_intent("print", "receipt", "t" * 16) for _ in range(500)), return_exceptions=True
    )
    refused = {one.code for one in done if isinstance(one, JournalError)}
    assert refused == {"journal.disk_full"}
    assert sorted(one.key for one in await journal.open_intents("print")) == sorted(
        one.key for one in done if not isinstance(one, BaseException)
    )


async def test_telemetry_makes_room_for_supervision_and_alarms(journal, database):
    database.execute(f"PRAGMA max_page_count = {PAGES}")
    for number in range(1, 800):
        await journal.append(health(number))
    before = journal.shed
    assert before > 0, "telemetry alone filled it"
    for number in range(100):
        await journal.append(event(str(number)))
    await journal.append(ALARM)
    found = await whole(journal)
    assert [len(found[stream]) for stream in ("alarm", "supervision")] == [1, 100]
    assert len(found["telemetry"]) == 799 - journal.shed
    assert max(found["telemetry"]) == 799, "the newest stay"
    assert await journal.append(health(800)) == 800


async def test_history_of_telemetry_goes_before_what_waits(journal, database, monkeypatch):
    monkeypatch.setattr(room, "ENOUGH_BYTES", 100_000)
    for number in range(1, 301):
        await journal.append(health(number))
    for number in range(200):
        await journal.append(event(str(number)))
    await journal.acknowledge(journal.streams["telemetry"], 200)
    await journal.acknowledge(journal.streams["supervision"], 200)
    database.failures = 1
    await journal.append(event())
    counts = dict(database.execute("SELECT substr(stream, 1, 3), count(*) FROM records GROUP BY 1").fetchall())
    assert counts["sup"] == 201
    assert 100 <= counts["tel"] < 300
    assert journal.shed == 0
    found = await whole(journal, {"telemetry": 200, "supervision": 200})
    assert len(found["telemetry"]) == 100


async def test_history_of_the_others_goes_last(journal, database):
    for number in range(20):
        await journal.append(event(str(number)))
        await journal.append(health(number))
    await journal.acknowledge(journal.streams["supervision"], 15)
    database.failures = 1
    await journal.append(ALARM)
    assert database.execute("SELECT count(*) FROM records WHERE stream LIKE 'supervision-%'").fetchone() == (5,)
    assert journal.shed == 10
    assert await journal.append(event()) == 21


async def test_a_tombstone_that_was_receipted_is_not_grown(journal, database):
    for number in range(1, 9):
        await journal.append(health(number))
    database.failures = 1
    await journal.append(event())
    telemetry = journal.streams["telemetry"]
    (first, *_) = await journal.unacknowledged(telemetry, 0, 9)
    assert shed(first.payload).last == first.sequence == 4
    await journal.acknowledge(telemetry, 4)
    database.failures = 1
    await journal.append(event())
    (second, *_) = await journal.unacknowledged(telemetry, 0, 9)
    assert (shed(second.payload).first, shed(second.payload).last) == (5, second.sequence)
    assert len((await whole(journal, {"telemetry": 4}))["telemetry"]) == 8 - journal.shed


async def test_a_bound_on_telemetry_that_waits(journal, monkeypatch):
    monkeypatch.setattr(room, "TELEMETRY_WAITING", 100)
    with capture_logs() as lines:
        for number in range(1, 251):
            await journal.append(health(number, filler=10))
    assert (await journal.waiting())["telemetry"] <= 100
    assert len((await whole(journal))["telemetry"]) == 250 - journal.shed
    assert {line["reason"] for line in lines} == {"too_many_wait"}
    assert sum(line["count"] for line in lines) == journal.shed


async def test_other_trouble_sheds_nothing(journal, database, monkeypatch):
    """An I/O error is not taken for a full disk, nor is a lock."""
    await journal.append(health(1))
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE"
    monkeypatch.setattr(Short, "execute", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(JournalError) as failed:
        await journal.append(event())
    monkeypatch.undo()
    assert (failed.value.code, journal.shed) == ("journal.write_failed", 0)


Act = tuple[str, int]
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("health"), st.integers(1, 30)),
        st.tuples(st.just("event"), st.integers(1, 5)),
        st.tuples(st.just("receipt"), st.integers(0, 100)),
        st.tuples(st.just("full"), st.just(1)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(ACTS)
def test_however_often_the_disk_fills_no_gap_is_unexplained(acts: list[Act]) -> None:
    """I6: sequences never go back, and what was shed is what was counted."""

    async def main() -> None:
        with closing(sqlite3.connect(":memory:", factory=Short, isolation_level=None)) as database:
            journal = Journal(InlineExecutor(database), lambda: NOW)
            await journal.open()
            telemetry = journal.streams["telemetry"]
            sent = events = receipted = received = 0
            for act, number in acts:
                if act == "receipt":
                    new = (await journal.unacknowledged(telemetry, 0, number))[-1:]
                    received += sum(
                        1 for one in await journal.unacknowledged(telemetry, 0, number) if not shed(one.payload)
                    )
                    receipted = max([receipted, *(one.sequence for one in new)])
                    await journal.acknowledge(telemetry, receipted)
                    continue
                if act == "full":
                    database.failures = 1
                for _ in range(number):
                    if act == "health":
                        sent += 1
                        assert await journal.append(health(sent, filler=10)) == sent
                    else:
                        events += 1
                        assert await journal.append(event()) == events
            found = await whole(journal, {"telemetry": receipted})
            assert len(found["supervision"]) == events
            assert len(found["telemetry"]) + received + journal.shed == sent

    asyncio.run(main())


async def test_a_receipt_that_cannot_be_written_stops_nothing(journal, database):
    """A lost one only means a repeat: the line must not fall for it, or no alarm would ever leave (T23)."""
    for number in range(3):
        await journal.append(event(str(number)))
    heard: list[int] = []
    journal.watch("supervision", heard.append)
    stream = journal.streams["supervision"]
    database.failures = 50
    with capture_logs() as logs:
        await journal.acknowledge(stream, 1)
        await journal.acknowledge(stream, 2)
    assert [line["event"] for line in logs if line["event"] == "receipt_not_journaled"] == ["receipt_not_journaled"]
    assert heard == [1, 2]
    database.failures = 0
    await journal.acknowledge(stream, 2)
    assert [record.sequence for record in await journal.unacknowledged(stream, 0, 9)] == [3]
