"""The real seams that need no hardware: SQLite on its thread, and the boot id."""

import asyncio
import sqlite3
import threading
import time
import uuid
from types import SimpleNamespace

import pytest

from runtime.board import ThreadExecutor, _wall_clock, boot_id


async def test_work_runs_in_order_on_one_thread(tmp_path):
    executor = ThreadExecutor(tmp_path / "journal.db")
    try:
        threads = await asyncio.gather(*(executor.run(lambda _: threading.get_ident()) for _ in range(5)))
        assert len(set(threads)) == 1
        assert threads[0] != threading.get_ident()
        done = []
        await asyncio.gather(*(executor.run(lambda _, n=n: done.append(n)) for n in range(50)))
        assert done == list(range(50))
    finally:
        await executor.close()


async def test_what_was_asked_is_finished_before_the_close(tmp_path):
    executor = ThreadExecutor(tmp_path / "journal.db")
    writing = asyncio.create_task(executor.run(lambda database: database.execute("CREATE TABLE t (x)").close()))
    await asyncio.sleep(0)
    await executor.close()
    await writing
    await executor.close()
    with sqlite3.connect(tmp_path / "journal.db") as database:
        assert database.execute("SELECT name FROM sqlite_schema").fetchall() == [("t",)]
    database.close()


async def test_errors_reach_the_caller_and_leave_the_executor_usable(tmp_path):
    executor = ThreadExecutor(tmp_path / "journal.db")
    try:
        with pytest.raises(sqlite3.OperationalError):
            await executor.run(lambda database: database.execute("nonsense"))
        assert await executor.run(lambda _: 7) == 7
    finally:
        await executor.close()


async def test_a_database_that_cannot_be_opened_is_told_each_time(tmp_path):
    executor = ThreadExecutor(tmp_path / "none" / "journal.db")
    try:
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError):
                await executor.run(lambda _: None)
    finally:
        await executor.close()


def test_the_boot_id_is_the_kernels():
    assert uuid.UUID(boot_id()).version == 4


def test_only_a_rigs_clock_can_be_set_wrong(tmp_path, monkeypatch):
    """For the faults of `govterm soak`; a terminal that serves citizens does not look at the file."""
    off = tmp_path / "clock"
    off.write_text("-86400.0\n")
    rig, terminal = SimpleNamespace(rig=True), SimpleNamespace(rig=False)
    assert _wall_clock(rig) is time.time
    monkeypatch.setenv("GOVTERM_RIG_CLOCK_FILE", str(off))
    assert _wall_clock(terminal) is time.time
    assert _wall_clock(rig)() == pytest.approx(time.time() - 86_400, abs=5)
    off.write_text("1e9\n")
    clock = _wall_clock(rig)
    assert clock() == pytest.approx(time.time() + 1e9, abs=5)
    off.unlink()
    assert clock() == pytest.approx(time.time() + 1e9, abs=5), "as wrong as before while the file cannot be read"
