"""What the tests of the fingerprint sensor's driver share: a rig in memory, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from devices.config import Fingerprint
from devices.errors import DeviceError
from devices.fingerprint.driver import FingerprintSensor
from devices.fingerprint.finger import FingerImage, Guidance, MatchResult, Template
from devices.fingerprint.protocol import START, Command, Pid
from sim.devices.fingerprint import VirtualFingerprintSensor
from sim.memory import MemoryLinks, MemoryPort
from sim.wire import Fault
from tests.devices.supervised import Supervised, supervised

SETTINGS = Fingerprint(port="fingerprint")
BLANK = bytes(512)


class Rig(Supervised):
    """A virtual sensor, its wire, and the driver under a supervisor that restarts it after half a second."""

    def __init__(
        self, device: VirtualFingerprintSensor | None = None, settings: Fingerprint = SETTINGS, **wire: Any
    ) -> None:
        super().__init__()
        self.device = device or VirtualFingerprintSensor()
        self.port = MemoryPort(self.device, **wire)
        self.guidance: list[str] = []
        self.next_finger: Callable[[], None] | None = None
        self.placing: asyncio.TimerHandle | None = None
        self.driver = self.sensor = FingerprintSensor(settings, MemoryLinks({"fingerprint": self.port}), self.note)

    def guide(self, word: str) -> None:
        """A citizen who does as told, after a second."""
        self.guidance.append(word)
        later = asyncio.get_running_loop().call_later
        if word == Guidance.LIFT:
            later(1, self.device.lift_finger)
        elif word == Guidance.PLACE and self.next_finger is not None:
            self.placing, self.next_finger = later(1, self.next_finger), None

    async def capture(self, finger: str | None = None, wait_seconds: float = 10) -> Template:
        if finger is not None:
            self.lay_down(finger)
        return await self.sensor.capture(wait_seconds=wait_seconds, on_guidance=self.guide)

    async def match(self, template: Template, finger: str | None = None, **placed: float) -> MatchResult:
        if finger is not None:
            self.lay_down(finger, **placed)
        return await self.sensor.match(template, wait_seconds=10, on_guidance=self.guide)

    async def image(self, finger: str) -> FingerImage:
        self.lay_down(finger)
        return await self.sensor.image(wait_seconds=10, on_guidance=self.guide)

    def lay_down(self, finger: str, **placed: float) -> None:
        """Lift the finger that lies there; another one is laid down when it is asked for."""
        self.device.lift_finger()
        if self.placing is not None:
            self.placing.cancel()
        self.next_finger = partial(self.device.place_finger, finger, **placed)

    async def check_emptied(self) -> None:
        """The driver empties the module behind an operation (T20)."""
        await asyncio.sleep(3)
        assert set(self.device.buffers.values()) == {BLANK}


@asynccontextmanager
async def rig_running(*arguments: Any, **wire: Any) -> AsyncIterator[Rig]:
    rig = Rig(*arguments, **wire)
    async with supervised(rig):
        yield rig


def with_settings(**changes: Any) -> Fingerprint:
    return msgspec.structs.replace(SETTINGS, **changes)


async def refusal(work: Awaitable[object]) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        await work
    return caught.value


def asks(data: bytes, command: Command) -> bool:
    """Whether the terminal's bytes are this command, whatever its parameters and address."""
    return data[:2] == START and data[6] == Pid.COMMAND and data[9] == command


def fault_at(rig: Rig, command: Command, kind: Fault, times: int = 1) -> None:
    """Let the first replies to `command` suffer `kind`."""
    heard, left = rig.device.feed, times

    def feed(data: bytes) -> bytes:
        nonlocal left
        if left and data and asks(data, command):
            left -= 1
            rig.port.faults.add(kind)
        return heard(data)

    rig.device.feed = feed  # type: ignore[method-assign]
