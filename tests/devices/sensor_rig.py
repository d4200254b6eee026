"""What the tests of the watched devices share: a virtual device in memory, and a supervisor, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from devices.link import OpenLink
from devices.sensor import Sensor
from devices.status import DeviceState, DeviceStatus, StatusListener
from sim.memory import MemoryLinks, MemoryPort
from sim.wire import VirtualDevice
from tests.devices.supervised import Supervised

V = TypeVar("V", bound=VirtualDevice)
S = TypeVar("S", bound=Sensor[Any, Any])


class Rig(Supervised, Generic[V, S]):
    """A virtual device, its wire, and the driver under a supervisor that restarts it after half a second."""

    def __init__(self, device: V, port: str, make: Callable[[OpenLink, StatusListener], S], **wire: Any) -> None:
        self.device = device
        self.port = MemoryPort(device, **wire)
        super().__init__()
        self.driver = make(MemoryLinks({port: self.port}), self.note)

    async def until(self, true: Callable[[DeviceStatus], bool]) -> DeviceStatus:
        async with asyncio.timeout(1200):
            while not true(self.driver.status):
                self.changed.clear()
                await self.changed.wait()
        return self.driver.status

    async def until_state(self, state: DeviceState) -> DeviceStatus:
        return await self.until(lambda status: status.state is state)

    async def until_detail(self, name: str, value: str | bool) -> DeviceStatus:
        return await self.until(lambda status: status.details.get(name) == value)

    def heard(self, command: bytes, answer: Callable[[bytes], bytes]) -> None:
        """Let `answer` change what the device says to `command`."""
        feed = self.device.feed
        self.device.feed = lambda data: answer(feed(data)) if data == command else feed(data)  # type: ignore[method-assign]

    def delay(self, *latencies: float) -> None:
        """Let the next answers come so many seconds late, one after the other, and those after them at once."""
        feed, left = self.device.feed, list(latencies)

        def late(data: bytes) -> bytes:
            answer = feed(data)
            if answer:
                self.port.latency_seconds = left.pop(0) if left else 0.0
            return answer

        self.device.feed = late  # type: ignore[method-assign]


@asynccontextmanager
async def running(rig: Rig[V, S]) -> AsyncIterator[Rig[V, S]]:
    task = asyncio.create_task(rig.supervise(), name="supervisor")
    try:
        async with asyncio.timeout(60):
            await rig.online.wait()
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
