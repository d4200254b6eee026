"""Group commit: order, lone failures, callers that go away, and a process that is killed (T12, I6)."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from runtime.board import ThreadExecutor
from runtime.journal import Journal, JournalError, commit
from runtime.messages import SupervisionEvent, TrialRecord, from_payload
from sim.memory import InlineExecutor
from sim.virtual_time import run

NOW = 1_800_000_000.0
T = TypeVar("T")


def event(step: str) -> SupervisionEvent:
    return SupervisionEvent("t" * 16, step, "done", None, NOW, 0.5, "boot", rig=False)


class Counting(ThreadExecutor):
    """The board's executor, with a lid: while it is on, the thread works on nothing."""

    def __init__(self, database: Path) -> None:
        super().__init__(database)
        self.works = 0
        self.lid = asyncio.Event()
        self.lid.set()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.works += 1
        await self.lid.wait()
        return await super().run(work)


@pytest.fixture
async def executor(tmp_path) -> AsyncIterator[Counting]:
    executor = Counting(tmp_path / "journal.db")
    yield executor
    await executor.close()


@pytest.fixture
async def journal(executor) -> Journal:
    journal = Journal(executor, lambda: NOW)
    await journal.open()
    return journal


async def steps(journal: Journal) -> list[str]:
    records = await journal.unacknowledged(journal.streams["supervision"], 0, 9_999)
    assert [record.sequence for record in records] == list(range(1, len(records) + 1))
    return [from_payload(record.payload, SupervisionEvent).step for record in records]


async def test_the_board_commits_to_the_disk_without_other_files(journal, executor):
    names = ("journal_mode", "synchronous", "temp_store", "page_size")
    await journal.append(event("1"))
    found = await executor.run(lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names])
    assert found == ["wal", 2, 2, 2048]


async def test_appends_that_overlap_share_commits_in_the_order_of_the_calls(journal, executor):
    before = executor.works
    sequences = await asyncio.gather(*(journal.append(event(str(number))) for number in range(200)))
    assert sequences == list(range(1, 201))
    assert executor.works - before <= 2 + 200 // commit.TOGETHER
    assert await steps(journal) == [str(number) for number in range(200)]


async def test_a_receipt_alone_waits_for_no_disk_and_is_seen_at_once(journal, executor):
    """A lost one only means that the platform gets a record twice."""
    await journal.append(event("1"))
    await journal.acknowledge(journal.streams["supervision"], 1)
    assert await executor.run(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (1,)
    assert (await journal.waiting())["supervision"] == 0
    await asyncio.gather(journal.append(event("2")), journal.acknowledge(journal.streams["supervision"], 1))
    assert await executor.run(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)


async def test_a_work_that_fails_fails_alone(journal):
    """What it changed before is undone, and its neighbours are kept."""

    def fails(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO identities VALUES ('idcard', 'half')")
        raise LookupError

    def breaks_a_rule(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta VALUES ('journal_id', 'another')")

    done = await asyncio.gather(
        journal.append(event("1")),
        journal.write(fails, event("never")),
        journal.append(event("2")),
        journal.write(breaks_a_rule),
        journal.append(event("3")),
        return_exceptions=True,
    )
    assert [done[0], done[2], done[4]] == [1, 2, 3]
    assert isinstance(done[1], LookupError)
    assert isinstance(done[3], sqlite3.IntegrityError)
    assert await steps(journal) == ["1", "2", "3"]
    assert await journal.read(lambda db: db.execute("SELECT * FROM identities").fetchall()) == []


async def test_a_work_that_ends_the_transaction_itself_is_told_to_all_of_it(journal):
    """A fault of the program: nobody is told that anything was stored."""
    done = await asyncio.gather(
        journal.append(event("1")),
        journal.write(lambda db: db.execute("ROLLBACK")),
        return_exceptions=True,
    )
    assert [type(one) for one in done] == [JournalError, JournalError]
    assert await journal.append(event("2")) == 1


@pytest.mark.parametrize("cancelled", [{0}, {3}, {0, 1, 2}, {5}])
async def test_who_goes_away_harms_nobody_else(journal, executor, cancelled):
    """Whether it leads or follows, before the thread has begun with its work."""
    executor.lid.clear()
    tasks = [asyncio.create_task(journal.append(event(str(number)))) for number in range(6)]
    await asyncio.sleep(0)
    for number in cancelled:
        tasks[number].cancel()
    await asyncio.sleep(0)
    executor.lid.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    others = [number for number in range(6) if number not in cancelled]
    assert [done[number] for number in others] == list(range(1, len(others) + 1))
    assert all(isinstance(done[number], asyncio.CancelledError) for number in cancelled)
    assert await steps(journal) == [str(number) for number in others]


async def test_a_leader_that_goes_away_while_the_disk_works_leaves_the_answers_to_the_others(tmp_path):
    executor = ThreadExecutor(tmp_path / "journal.db")
    try:
        journal = Journal(executor, lambda: NOW)
        await journal.open()
        for round_ in range(50):
            tasks = [asyncio.create_task(journal.append(event(f"{round_}.{number}"))) for number in range(8)]
            for _ in range(round_ % 7):
                await asyncio.sleep(0)
            tasks[0].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert done[1:] == list(range(done[1], done[1] + 7))
        found = await steps(journal)
        assert len(found) == len(set(found))
        assert [step for step in found if not step.endswith(".0")] == [
            f"{round_}.{number}" for round_ in range(50) for number in range(1, 8)
        ]
    finally:
        await executor.close()


async def test_a_disk_that_hangs_is_told_to_every_caller_and_forgotten_when_it_works_again(
    journal, executor, monkeypatch
):
    monkeypatch.setattr("runtime.journal.store.ANSWER_SECONDS", 0.05)
    executor.lid.clear()
    done = await asyncio.gather(*(journal.append(event("lost")) for _ in range(4)), return_exceptions=True)
    assert {error.code for error in done} == {"journal.write_failed"}
    executor.lid.set()
    monkeypatch.undo()
    assert await journal.append(event("kept")) == 1
    assert await steps(journal) == ["kept"]


async def test_a_file_that_cannot_be_opened_is_told_to_every_caller(tmp_path):
    executor = ThreadExecutor(tmp_path / "none" / "journal.db")
    try:
        journal = Journal(executor, lambda: NOW)
        journal.streams = {"supervision": "supervision-ab"}
        done = await asyncio.gather(*(journal.append(event("1")) for _ in range(3)), return_exceptions=True)
        assert {error.code for error in done} == {"journal.write_failed"}
    finally:
        await executor.close()


def test_on_virtual_time_a_thousand_callers_need_no_time():
    async def main() -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            journal = Journal(InlineExecutor(connection), lambda: NOW)
            await journal.open()
            sequences = await asyncio.gather(*(journal.append(event(str(number))) for number in range(1_000)))
            assert sequences == list(range(1, 1_001))
            assert asyncio.get_running_loop().time() == 0

    run(main())


CHILD = """
import asyncio, os, sys
from pathlib import Path
from runtime.board import ThreadExecutor
from runtime.journal import Journal
from runtime.messages import TrialRecord

async def main():
    journal = Journal(ThreadExecutor(Path(sys.argv[1])), lambda: 0.0)
    await journal.open()
    async def caller(name):
        number = 0
        while True:
            trial = f"{name}.{number}"
            sequence = await journal.append(TrialRecord(trial, b"", b""))
            os.write(1, f"{sequence} {trial}\\n".encode())
            number += 1
    await asyncio.gather(*(caller(name) for name in range(40)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 700, 3_000])
def test_what_a_killed_process_had_acknowledged_is_there(tmp_path, lines):
    """I6, T12: SIGKILL in the middle of group commits; each caller's records are a whole beginning of what it wrote."""
    path = tmp_path / "journal.db"
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    told = dict(line.decode().split() for line in said if line.endswith(b"\n"))
    assert len(told) >= lines

    async def kept() -> dict[str, str]:
        with closing(sqlite3.connect(path)) as connection:
            journal = Journal(InlineExecutor(connection), lambda: NOW)
            await journal.open()
            records = await journal.unacknowledged(journal.streams["supervision"], 0, 999_999)
        return {str(one.sequence): from_payload(one.payload, TrialRecord).id for one in records}

    found = asyncio.run(kept())
    assert [int(sequence) for sequence in found] == list(range(1, len(found) + 1))
    assert told.items() <= found.items()
    for name in {trial.partition(".")[0] for trial in found.values()}:
        numbers = [int(trial.partition(".")[2]) for trial in found.values() if trial.partition(".")[0] == name]
        assert numbers == list(range(len(numbers)))
