"""Virtual time: hours in no time, deadlines that hold, and a deadlock that says so (rule 5)."""

import asyncio
import time

import pytest

from sim.virtual_time import Deadlock, run


def test_an_hour_of_sleeps_takes_no_time() -> None:
    async def hour() -> float:
        for _ in range(3600):
            await asyncio.sleep(1)
        return asyncio.get_running_loop().time()

    start = time.perf_counter()
    assert run(hour()) == pytest.approx(3600)
    assert time.perf_counter() - start < 1


def test_tasks_wake_in_order_of_their_time() -> None:
    async def story() -> list[str]:
        order: list[str] = []

        async def wake(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            order.append(name)

        async with asyncio.TaskGroup() as tasks:
            for name, seconds in (("day", 86_400), ("year", 31_536_000), ("millisecond", 0.001), ("now", 0)):
                tasks.create_task(wake(name, seconds), name=name)
        return order

    assert run(story()) == ["now", "millisecond", "day", "year"]


def test_timeouts_hold() -> None:
    async def story() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.Event().wait()
        async with asyncio.timeout(10):
            await asyncio.sleep(9.9)
        return asyncio.get_running_loop().time()

    assert run(story()) == pytest.approx(12.4)


def test_small_steps_late_in_time_still_advance() -> None:
    async def story() -> float:
        await asyncio.sleep(1e7)
        for _ in range(100):
            await asyncio.sleep(1e-3)
        return asyncio.get_running_loop().time()

    assert run(story()) == pytest.approx(1e7 + 0.1, abs=1e-3)


def test_a_deadlock_is_told() -> None:
    async def waits_for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(waits_for_ever())


def test_threads_are_refused() -> None:
    async def story() -> None:
        await asyncio.to_thread(time.monotonic)

    with pytest.raises(RuntimeError, match="threads"):
        run(story())


def test_an_error_comes_out_and_leaves_no_task() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("background")

    async def story() -> None:
        task = asyncio.create_task(background(), name="background")
        await asyncio.sleep(1)
        raise ValueError(task.get_name())

    with pytest.raises(ValueError, match="background"):
        run(story())
    assert ended == ["background"]
