"""What the tests of the PIN pad's driver share: a rig in memory, on virtual time, and the keys of protocols 6.3."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from devices.config import PinPad
from devices.errors import DeviceError
from devices.personal import Kind, PersonalText
from devices.pinpad.driver import EncryptingPinPad, PinBlock
from devices.pinpad.protocol import PinKey, encode
from sim.devices.pinpad import VirtualPinPad
from sim.memory import MemoryLinks, MemoryPort
from sim.wire import Fault
from tests.devices.supervised import Supervised

PIN_KEY, MAC_KEY = 0x30, 0x31
SETTINGS = PinPad(port="pinpad")
IDENTITY = "ZT598-26110017"
PIN, PAN12 = "123456", "202123456789"

WRAPPED = bytes.fromhex("3D66234C49E4296FF9C78D8BACBD6A76")
KCV = bytes.fromhex("861E83E31FAEBF10")
GOLDEN_BLOCK = bytes.fromhex("3A60972D6C0EEAF0F277E3E9A9288FD9")
"""protocols 6.3: WK F351D490..., PIN 123456, PAN 6222021234567894, under TMK 12345678..."""


def pan12() -> PersonalText:
    return PersonalText(PAN12, Kind.IDENTIFIER)


class Rig(Supervised):
    """A virtual pad, its wire, and the driver under a supervisor that restarts it after half a second."""

    def __init__(self, settings: PinPad = SETTINGS, **wire: Any) -> None:
        self.device = VirtualPinPad()
        self.port = MemoryPort(self.device, **wire)
        super().__init__()
        self.asked: list[bytes] = []
        self.keys: list[PinKey] = []
        self.pressed = asyncio.Event()
        self.begun = asyncio.Event()
        self.driver = self.pad = EncryptingPinPad(settings, MemoryLinks({"pinpad": self.port}), self.note)
        heard = self.device.feed

        def feed(data: bytes) -> bytes:
            if data:
                self.asked.append(data)
            reply = heard(data)
            (self.begun.set if self.device.keypad_on else self.begun.clear)()
            return reply

        self.device.feed = feed  # type: ignore[method-assign]

    def note_key(self, key: PinKey) -> None:
        self.keys.append(key)
        self.pressed.set()

    def do(self, verb: str, **arguments: Any) -> None:
        """Do a verb of the pad; its host then lets it speak."""
        self.device.verbs[verb](**arguments)
        self.port.nudge()

    async def until_keys(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.keys) < count:
                self.pressed.clear()
                await self.pressed.wait()

    async def until_begun(self) -> None:
        """Wait until the pad has begun an entry and the driver knows it."""
        async with asyncio.timeout(60):
            await self.begun.wait()
        await asyncio.sleep(0.5)

    async def load_keys(self) -> None:
        await self.pad.load_working_key(PIN_KEY, WRAPPED, KCV)
        await self.pad.load_working_key(MAC_KEY, WRAPPED, KCV)

    def enter(self, **limits: int) -> Awaitable[PinBlock]:
        return self.pad.enter_pin(pan12(), self.note_key, **limits)

    @asynccontextmanager
    async def entering(self) -> AsyncIterator[asyncio.Task[PinBlock]]:
        """Begin an entry, give its task, and see that it has ended with the keypad off."""
        self.keys.clear()
        task = asyncio.ensure_future(self.enter())
        try:
            await self.until_begun()
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def check_entry(self) -> None:
        """Enter the golden PIN; the golden block must come out of it."""
        async with self.entering() as task:
            self.do("press", digits=PIN)
            await self.until_keys(len(PIN))
            self.do("enter")
            block = await task
        assert self.keys == [PinKey.STAR] * len(PIN) + [PinKey.ENTER]
        assert bytes(block.view()) == GOLDEN_BLOCK
        assert not self.device.keypad_on
        block.wipe()


@asynccontextmanager
async def rig_running(settings: PinPad = SETTINGS, **wire: Any) -> AsyncIterator[Rig]:
    rig = Rig(settings, **wire)
    task = asyncio.create_task(rig.supervise(), name="supervisor")
    try:
        async with asyncio.timeout(60):
            await rig.online.wait()
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def refusal(work: Awaitable[object]) -> tuple[str, bool]:
    """Return code and retry of the error that `work` ends with."""
    with pytest.raises(DeviceError) as caught:
        await work
    assert caught.value.advice
    return caught.value.code, caught.value.retry


def fault_at(rig: Rig, body: bytes, kind: Fault, times: int = 1) -> None:
    """Let the first answers to requests that begin with `body` suffer `kind`."""
    heard, left = rig.device.feed, times

    def feed(data: bytes) -> bytes:
        nonlocal left
        if left and data[4:].startswith(body):
            left -= 1
            rig.port.faults.add(kind)
        return heard(data)

    rig.device.feed = feed  # type: ignore[method-assign]


def answer_with(rig: Rig, body: bytes, change: Callable[[bytes], bytes]) -> None:
    """Let the pad's answers to requests that begin with `body` be changed."""
    heard = rig.device.feed

    def feed(data: bytes) -> bytes:
        reply = heard(data)
        return encode(change(reply[4:-3])) if data[4:].startswith(body) else reply

    rig.device.feed = feed  # type: ignore[method-assign]
