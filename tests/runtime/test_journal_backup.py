"""The backup copy: beside all other work, whole or not at all, never in the way of a record (L28, L29)."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from runtime import board
from runtime.board import ThreadExecutor
from runtime.journal import Journal, backup, files
from runtime.journal.backup import YOUNG_SECONDS
from runtime.journal.files import Files
from tests.runtime.test_journal_rebuild import NOW, event, fills, life, spoil


def content(file) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as database:
        return database.execute("SELECT * FROM records ORDER BY stream, sequence").fetchall()


async def begun(place: Files) -> None:
    """Return when the thread beside has begun a copy."""
    async with asyncio.timeout(30):
        while not place.copying.exists():  # noqa: ASYNC110 - a thread makes it
            await asyncio.sleep(0)


async def test_it_is_one_moments_journal_while_others_write(tmp_path):
    file = tmp_path / "journal.db"

    async def copied(journal: Journal) -> None:
        await fills(journal)
        before = content(file)
        copying = asyncio.create_task(journal.back_up(seconds=60.0, pause_seconds=0.05))
        await begun(Files(file))
        for number in range(20):
            await journal.append(event(f"beside_{number}"))
        assert not copying.done(), "they did not wait for it"
        assert await copying
        copy = content(Files(file).backup)
        assert len(before) <= len(copy) < len(before) + 20
        assert copy == [row for row in content(file) if row in copy]

    await life(file, copied)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["journal.backup.db", "journal.db", "journal.reserve"]


async def test_one_that_takes_too_long_is_given_up_and_the_one_before_stays(tmp_path):
    file = tmp_path / "journal.db"

    async def copied(journal: Journal) -> None:
        await fills(journal)
        assert await journal.back_up(seconds=60.0)

    await life(file, copied)
    before = Files(file).backup.read_bytes()

    async def too_slow(journal: Journal) -> None:
        assert not await journal.back_up(seconds=0.05, pause_seconds=0.1)

    await life(file, too_slow, at=NOW + YOUNG_SECONDS + 1)
    assert Files(file).backup.read_bytes() == before
    assert not Files(file).copying.exists()


async def test_a_checkpoint_does_not_wait_for_a_copy(tmp_path):
    """T14: the way down has 2 s for it; the copy is given up, and the one of another day is made."""
    file = tmp_path / "journal.db"

    async def checkpointed(journal: Journal) -> None:
        await fills(journal)
        copying = asyncio.create_task(journal.back_up(seconds=600.0, pause_seconds=0.2))
        await begun(Files(file))
        await journal.append(event("beside_"))
        with capture_logs() as lines:
            await journal.checkpoint()
        assert not await copying
        assert lines == []
        assert file.with_name("journal.db-wal").stat().st_size == 0
        assert await journal.back_up(seconds=60.0)

    await life(file, checkpointed)


async def test_a_checkpoint_that_a_reader_holds_up_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "_BUSY_SECONDS", 0.1)
    file = tmp_path / "journal.db"

    async def held_up(journal: Journal) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            content_of = reader.execute("SELECT count(*) FROM records").fetchall()
            await journal.append(event("beside_"))
            with capture_logs() as lines:
                await journal.checkpoint()
            assert content_of == [(0,)]
        assert [(line["event"], line["reason"]) for line in lines] == [("journal_not_checkpointed", "busy")]

    await life(file, held_up)


async def test_an_executor_that_is_closed_does_not_wait_for_a_copy(tmp_path):
    executor = ThreadExecutor(tmp_path / "journal.db")
    journal = Journal(executor, lambda: NOW)
    await journal.open()
    await fills(journal)
    copying = asyncio.create_task(journal.back_up(seconds=600.0, pause_seconds=0.2))
    await begun(Files(tmp_path / "journal.db"))
    copying.cancel()
    await asyncio.gather(copying, return_exceptions=True)
    async with asyncio.timeout(60):
        await executor.close()
    assert not Files(tmp_path / "journal.db").backup.exists()


async def test_a_damaged_journal_does_not_take_the_place_of_a_good_copy(tmp_path):
    file = tmp_path / "journal.db"

    async def copied(journal: Journal) -> None:
        await fills(journal)
        assert await journal.back_up(seconds=60.0)
        good = Files(file).backup.read_bytes()
        assert spoil(file, b"step_300_") == 1
        journal._wall_clock = lambda: NOW + YOUNG_SECONDS + 1
        heard: list[str] = []
        journal.watch_damage(lambda: heard.append("damaged"))
        assert not await journal.back_up(seconds=60.0)
        assert heard == ["damaged"], "the copy is the daily check of the whole file too"
        assert Files(file).backup.read_bytes() == good

    await life(file, copied)


async def test_without_much_room_there_is_none(tmp_path, monkeypatch):
    file = tmp_path / "journal.db"

    async def copied(journal: Journal) -> None:
        await fills(journal)
        monkeypatch.setattr(backup, "free_bytes", lambda _: 2**20)
        assert not await journal.back_up(seconds=60.0)

    await life(file, copied)
    assert not Files(file).backup.exists()


@pytest.mark.parametrize("cut", ["sync_file", "rename", "sync_directory"])
async def test_a_power_cut_leaves_the_copy_before_or_the_new_one(tmp_path, monkeypatch, cut):
    file = tmp_path / "journal.db"

    async def copied(journal: Journal) -> bool:
        if not await journal.waiting() or (await journal.waiting())["supervision"] == 0:
            await fills(journal)
        return await journal.back_up(seconds=60.0)

    await life(file, copied)
    before = Files(file).backup.read_bytes()

    def power_cut(*_: object) -> None:
        raise OSError("power")

    with monkeypatch.context() as patch:
        if cut == "rename":
            patch.setattr(files.os, "rename", power_cut)
        else:
            patch.setattr(backup, cut, power_cut)
        assert not await life(file, copied, at=NOW + YOUNG_SECONDS + 1)
    if cut == "sync_directory":
        assert content(Files(file).backup) == content(file)
    else:
        assert Files(file).backup.read_bytes() == before
    Files(file).copying.write_bytes(b"unfinished")
    await life(file, copied, at=NOW)
    assert not Files(file).copying.exists()
