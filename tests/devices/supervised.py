"""What the tests of a driver share: a supervisor that restarts it, what it said, and virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, TypeVar

from devices.driver import Driver
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.status import DeviceState, DeviceStatus
from sim import virtual_time


class Supervised:
    """A driver under a supervisor; a rig adds the device and its wire, and makes `driver`."""

    driver: Driver[Any]
    restart_seconds = 0.5

    def __init__(self) -> None:
        self.statuses: list[DeviceStatus] = []
        self.ends: list[Exception] = []
        self.online = asyncio.Event()
        self.changed = asyncio.Event()

    def note(self, status: DeviceStatus) -> None:
        self.statuses.append(status)
        self.changed.set()

    async def supervise(self) -> None:
        while True:
            try:
                await self.driver.run(self.online.set)
            except (LinkLost, DeviceError) as end:
                self.ends.append(end)
                await asyncio.sleep(self.restart_seconds)

    async def until(self, state: DeviceState) -> None:
        async with asyncio.timeout(120):
            while self.driver.status.state is not state:
                self.changed.clear()
                await self.changed.wait()


R = TypeVar("R", bound=Supervised)


@asynccontextmanager
async def supervised(rig: R) -> AsyncIterator[R]:
    """Run the driver of a rig, from the moment it serves."""
    task = asyncio.create_task(rig.supervise(), name="supervisor")
    try:
        async with asyncio.timeout(60):
            await rig.online.wait()
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def on_virtual_time(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Turn a coroutine test into one that runs on virtual time."""

    @wraps(story)
    def test(**parameters: Any) -> None:
        virtual_time.run(story(**parameters))

    return test


async def seconds(work: Awaitable[object]) -> float:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await work
    return loop.time() - start
