"""The journal on a real file system: appends a second beside bare SQLite, and bytes written to the disk (flash wear).

Goal: at most 50 MB written in a day of 300 citizens with eight events and a print each, telemetry every 5 min, and a
receipt for every record.
"""

import asyncio
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.conftest import Figures, within
from runtime.board import ThreadExecutor
from runtime.journal import Journal
from runtime.messages import SupervisionEvent, TerminalHealth
from vision.store import cache_directory

APPENDS = 6_000
GOAL_MEGABYTES = 50.0
CITIZENS = 300
EVENTS = 8
HEALTH_RECORDS = 288
BOOT_ID = "3f0c9a52-7c1e-4b8e-9a57-2f3d1c0b9e4d"
STATES = dict.fromkeys(("idcard", "printer", "pinpad", "ups", "vision", "platform", "session", "tickets"), "online")


def event(step: str = "read_card") -> SupervisionEvent:
    return SupervisionEvent("0123456789abcdef", step, "done", None, 1.8e9, 0.5, BOOT_ID, rig=False)


def health() -> TerminalHealth:
    waiting = {"alarm": 0, "supervision": 0, "telemetry": 1}
    return TerminalHealth(1.8e9, BOOT_ID, False, 86_400.0, STATES, waiting, 60_000_000, 40)


def written_bytes() -> int:
    """Return what this process has had written to disks; a page of a file counts each time it goes out."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on the disk that holds the cache: a temporary directory may be memory, which writes nothing."""
    cache_directory().mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=cache_directory()))
    yield directory
    shutil.rmtree(directory)


async def on_disk(directory: Path, story: Callable[[Journal], Awaitable[None]]) -> tuple[float, int]:
    """Return the seconds that a story with the journal takes and the bytes that it has written."""
    executor = ThreadExecutor(directory / "journal.db")
    journal = Journal(executor, time.time)
    try:
        await journal.open()
        began, before = time.perf_counter(), written_bytes()
        await story(journal)
        taken = time.perf_counter() - began, written_bytes() - before
        await journal.checkpoint()
    finally:
        await executor.close()
    return taken


def bare(directory: Path, together: int, total: int) -> float:
    """Return the appends a second of SQLite alone, with the same settings, so many in a transaction."""
    with closing(sqlite3.connect(directory / "bare.db", isolation_level=None)) as db:
        db.execute("PRAGMA page_size = 2048").close()
        db.execute("PRAGMA journal_mode = WAL").close()
        db.execute("PRAGMA synchronous = FULL").close()
        db.execute("CREATE TABLE records (stream TEXT, sequence INTEGER, body BLOB, PRIMARY KEY (stream, sequence))")
        began = time.perf_counter()
        for start in range(0, total, together):
            db.execute("BEGIN IMMEDIATE")
            for number in range(start, start + together):
                db.execute("INSERT INTO records VALUES ('supervision-0123abcd', ?, ?)", (number, bytes(200)))
            db.execute("COMMIT")
        return total / (time.perf_counter() - began)


@pytest.mark.parametrize(("callers", "together"), [(1, 1), (20, 20), (200, 64)])
def test_appends_a_second(figures: Figures, directory: Path, callers: int, together: int) -> None:
    """Each append returns when it is on the disk; callers that overlap share commits, at most 64 to one."""
    each = APPENDS // callers // (4 if callers == 1 else 1)

    async def story(journal: Journal) -> None:
        async def caller() -> None:
            for _ in range(each):
                await journal.append(event())

        await asyncio.gather(*(caller() for _ in range(callers)))

    seconds, written = asyncio.run(on_disk(directory, story))
    alone = bare(directory, together, each * callers // together * together)
    rate = each * callers / seconds
    figures.add(
        f"journal, {callers} callers",
        f"{rate:,.0f} appends/s, {written / each / callers:,.0f} B written each",
        beside=f"bare SQLite, {together} to a commit: {alone:,.0f}/s",
        verdict=f"{rate / alone:.2f} of bare",
    )
    assert rate > 0


def test_bytes_written_in_a_day(figures: Figures, directory: Path) -> None:
    """A day without its pauses: each append is a commit of its own, and each record's receipt comes before the next."""

    async def day(journal: Journal) -> None:
        supervision, telemetry = journal.streams["supervision"], journal.streams["telemetry"]
        sequence = 0
        for citizen in range(CITIZENS):
            for number in range(EVENTS - 1):
                sequence = await journal.append(event(f"step_{number}"))
                await journal.acknowledge(supervision, sequence)
            intent = await journal.open_intent("print", "receipt", "0123456789abcdef")
            await journal.close_intent(intent, "done", None, event("print"))
            await journal.acknowledge(supervision, sequence + 1)
            if citizen < HEALTH_RECORDS:
                await journal.acknowledge(telemetry, await journal.append(health()))

    _, written = asyncio.run(on_disk(directory, day))
    megabytes = written / 1e6
    count = CITIZENS * EVENTS + HEALTH_RECORDS
    figures.add(
        "journal, bytes written in a day",
        f"{megabytes:,.1f} MB, {written / count:,.0f} B for each of {count:,} records with its receipt",
        beside=f"goal {GOAL_MEGABYTES:.0f} MB",
        verdict=within(megabytes, GOAL_MEGABYTES),
    )
    assert written > 0, "the cache is on no disk"
