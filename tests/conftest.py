"""Leaks fail tests: tasks, descriptors and threads that outlive the test that made them."""

import asyncio
import gc
import os
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a descriptor or a thread behind (tasks are seen by the loop's own check)."""
    threads_before = set(threading.enumerate())
    before = set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    threads = {thread for thread in threading.enumerate() if thread.is_alive()} - threads_before
    assert not threads, f"threads left: {threads}"
    left = [fd for fd in set(os.listdir("/proc/self/fd")) - before if os.path.exists(f"/proc/self/fd/{fd}")]
    assert not left, f"descriptors left: {[os.readlink(f'/proc/self/fd/{fd}') for fd in left]}"


@pytest.fixture(autouse=True)
async def no_leaked_tasks() -> object:
    """Fail a test that leaves a task running."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert not left, f"tasks left: {left}"
