"""The fingerprint sensor end to end over a real pseudo-terminal at the pace of 57,600 baud (T3, L1)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devices.config import Fingerprint
from devices.errors import DeviceError
from devices.fingerprint.driver import FingerprintSensor
from devices.fingerprint.finger import FingerImage, MatchResult, Template
from devices.serial import open_serial_link
from devices.status import DeviceState
from sim.devices.fingerprint import VirtualFingerprintSensor, picture
from sim.pty import PtyHost
from sim.wire import Fault
from tests.devices.supervised import Supervised, supervised

DEADLINE = 40


class Rig(Supervised):
    restart_seconds = 0.02

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.device = VirtualFingerprintSensor()
        self.host = PtyHost(self.device, directory / "fingerprint", baud=57_600)
        self.driver = self.sensor = FingerprintSensor(
            Fingerprint(port=str(self.host.path)), open_serial_link, self.note
        )

    def guide(self, word: str) -> None:
        """A citizen who lifts and lays down as told."""
        if word == "finger.lift":
            self.device.lift_finger()
        elif word == "finger.place":
            self.device.place_finger("thumb")

    async def capture(self) -> Template:
        return await self.sensor.capture(wait_seconds=5, on_guidance=self.guide)

    async def match(self, template: Template) -> MatchResult:
        return await self.sensor.match(template, wait_seconds=5, on_guidance=self.guide)

    async def image(self) -> FingerImage:
        return await self.sensor.image(wait_seconds=5, on_guidance=self.guide)


@asynccontextmanager
async def rig_running(directory: Path) -> AsyncIterator[Rig]:
    rig = Rig(directory)
    async with asyncio.timeout(DEADLINE):
        with rig.host:
            async with supervised(rig):
                yield rig


async def test_a_finger_is_captured_and_compared_at_the_pace_of_the_wire(tmp_path: Path) -> None:
    async with rig_running(tmp_path) as rig:
        loop = asyncio.get_running_loop()
        template = await rig.capture()
        start = loop.time()
        assert (await rig.match(template)).matched
        assert loop.time() - start < 5, "T13"


async def test_a_picture_comes_at_the_pace_of_the_wire(tmp_path: Path) -> None:
    """protocols 2.1: 40,032 bytes take 6.95 s at 57,600 baud."""
    async with rig_running(tmp_path) as rig:
        start = asyncio.get_running_loop().time()
        image = await rig.image()
        assert 6.9 < asyncio.get_running_loop().time() - start < 12
        assert bytes(image.pixels.view()[0::2]) == bytes((byte >> 4) * 17 for byte in picture("thumb"))


async def test_unplugged_idle_and_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    """L1: seen without waiting for a health check, back by itself."""
    async with rig_running(tmp_path) as rig:
        start = asyncio.get_running_loop().time()
        rig.host.unplug()
        await rig.until(DeviceState.OFFLINE)
        assert asyncio.get_running_loop().time() - start < 5, "not by the health check of 30 s"
        rig.host.plug()
        await rig.until(DeviceState.ONLINE)
        asyncio.get_running_loop().call_later(1, rig.host.unplug)
        with pytest.raises(DeviceError) as caught:
            await rig.image()
        assert caught.value.code == "fingerprint.offline"
        await rig.until(DeviceState.OFFLINE)
        rig.host.plug()
        await rig.until(DeviceState.ONLINE)
        assert (await rig.match(await rig.capture())).matched


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.CORRUPT, Fault.DUPLICATE])
async def test_hostile_wires(tmp_path: Path, fault: Fault) -> None:
    async with rig_running(tmp_path) as rig:
        template = await rig.capture()
        rig.host.faults.add(fault.value, times=2)
        assert (await rig.match(template)).matched
