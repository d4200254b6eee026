"""What the tests of the ID-card reader's driver share: a rig in memory, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import wraps
from typing import Any

import pytest

from devices.config import IdCard
from devices.errors import DeviceError
from devices.idcard.driver import IdCardReader
from devices.idcard.protocol import Command, encode_request
from devices.link import LinkLost
from devices.status import DeviceState, DeviceStatus
from sim import virtual_time
from sim.devices.idcard import VirtualIdCardReader
from sim.memory import MemoryLinks, MemoryPort
from sim.people import make_citizen
from sim.wire import Fault

CITIZEN = make_citizen(1, seed=7)
PHOTO = bytes(range(256)) * 4
SETTINGS = IdCard(port="idcard")
SAM = "05.01-20160101-0001234567-0987654321"


class Rig:
    """A virtual reader, its wire, and the driver under a supervisor that restarts it after half a second."""

    def __init__(self, **wire: Any) -> None:
        self.device = VirtualIdCardReader()
        self.port = MemoryPort(self.device, **wire)
        self.port.set_baud(115_200)
        self.statuses: list[DeviceStatus] = []
        self.ends: list[Exception] = []
        self.online = asyncio.Event()
        self.changed = asyncio.Event()
        self.reader = IdCardReader(SETTINGS, MemoryLinks({"idcard": self.port}), self.note)

    def note(self, status: DeviceStatus) -> None:
        self.statuses.append(status)
        self.changed.set()

    def lay_down(self, **changes: Any) -> None:
        self.device.place_card(**(asdict(CITIZEN) | {"photo": PHOTO} | changes))

    async def supervise(self) -> None:
        while True:
            try:
                await self.reader.run(self.online.set)
            except (LinkLost, DeviceError) as end:
                self.ends.append(end)
                await asyncio.sleep(0.5)

    async def until(self, state: DeviceState) -> None:
        async with asyncio.timeout(120):
            while self.reader.status.state is not state:
                self.changed.clear()
                await self.changed.wait()

    async def refusal(self, wait_seconds: float = 10) -> DeviceError:
        with pytest.raises(DeviceError) as caught:
            await self.reader.read_card(wait_seconds=wait_seconds)
        return caught.value


@asynccontextmanager
async def rig_running(**wire: Any) -> AsyncIterator[Rig]:
    rig = Rig(**wire)
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


async def check_read(rig: Rig) -> None:
    record = await rig.reader.read_card(wait_seconds=60)
    assert record.name.reveal() == CITIZEN.name
    assert record.id_number.reveal() == CITIZEN.id_number
    assert bytes(record.photo.view()) == PHOTO
    record.wipe()


def fault_at(rig: Rig, command: Command, kind: Fault, times: int = 1) -> None:
    """Let the first replies to `command` suffer `kind`."""
    heard, left = rig.device.feed, times

    def feed(data: bytes) -> bytes:
        nonlocal left
        if left and data == encode_request(command):
            left -= 1
            rig.port.faults.add(kind)
        return heard(data)

    rig.device.feed = feed  # type: ignore[method-assign]


def asked(rig: Rig) -> list[Command]:
    """Return the list that the reader's commands will be noted in."""
    heard, commands = rig.device.feed, list[Command]()

    def feed(data: bytes) -> bytes:
        commands.extend(command for command in Command if data == encode_request(command))
        return heard(data)

    rig.device.feed = feed  # type: ignore[method-assign]
    return commands
