"""Leaks fail tests: tasks, descriptors and threads that outlive the test that made them."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime would open connections of its own, in any test


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> None:
    """Keep what the imports made out of the collection that follows each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def usual_signals() -> None:
    """A run under nohup or in a shell's background ignores these two, and every program it starts would as well."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _descriptors() -> dict[str, str]:
    listed = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return {path: os.readlink(path) for path in listed if os.path.lexists(path)}


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a descriptor or a thread behind."""
    threads_before = set(threading.enumerate())
    before = _descriptors()
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith(("asyncio-waitpid", "mqtt-resolve")):  # it tells the loop just before it ends itself
            thread.join(1)
    threads = {thread for thread in threading.enumerate() if thread.is_alive()} - threads_before
    assert not threads, f"threads left: {threads}"
    left = {
        path: target
        for path, target in _descriptors().items()
        if path not in before and "/mpl-data/fonts/" not in target  # matplotlib keeps the fonts it drew with open
    }
    assert not left, f"descriptors left: {left}"


@pytest.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves a task running."""
    before = asyncio.all_tasks()
    yield
    left = {task.get_name() for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not task.done()}
    assert not left, f"tasks left: {left}"
