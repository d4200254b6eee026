"""The ID-card reader end to end over a real pseudo-terminal at the pace of 115,200 baud (T1, L1)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from devices.config import IdCard
from devices.errors import DeviceError
from devices.idcard.driver import IdCardReader
from devices.idcard.protocol import Command, encode_request
from devices.serial import open_serial_link
from devices.status import DeviceState
from sim.devices.idcard import VirtualIdCardReader
from sim.people import make_citizen
from sim.pty import PtyHost
from sim.wire import Fault
from tests.devices.supervised import Supervised, supervised

CITIZEN = make_citizen(2, seed=7)
PHOTO = bytes(range(256)) * 4
DEADLINE = 20


class Rig(Supervised):
    restart_seconds = 0.02

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.device = VirtualIdCardReader()
        self.host = PtyHost(self.device, directory / "idcard")
        self.driver = self.reader = IdCardReader(IdCard(port=str(self.host.path)), open_serial_link, self.note)

    def lay_down(self) -> None:
        self.device.place_card(**asdict(CITIZEN), photo=PHOTO)

    async def check_read(self) -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        record = await self.reader.read_card(wait_seconds=5)
        assert record.id_number.reveal() == CITIZEN.id_number
        assert bytes(record.photo.view()) == PHOTO
        record.wipe()
        return loop.time() - start


@asynccontextmanager
async def rig_running(directory: Path) -> AsyncIterator[Rig]:
    rig = Rig(directory)
    async with asyncio.timeout(DEADLINE):
        with rig.host:
            async with supervised(rig):
                yield rig


async def test_a_card_is_read_at_the_pace_of_the_wire(tmp_path: Path) -> None:
    """1,295 bytes take 112 ms at 115,200 baud (protocols 1.9)."""
    async with rig_running(tmp_path) as rig:
        rig.lay_down()
        assert 0.112 <= await rig.check_read() < 5


async def test_unplugged_idle_and_back(tmp_path: Path) -> None:
    """L1: three times over, seen each time without waiting for a health check."""
    async with rig_running(tmp_path) as rig:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            start = loop.time()
            rig.host.unplug()
            await rig.until(DeviceState.OFFLINE)
            assert loop.time() - start < 5, "not by the health check of 30 s"
            with pytest.raises(DeviceError) as caught:
                await rig.reader.read_card(wait_seconds=5)
            assert caught.value.code == "idcard.offline"
            rig.host.plug()
            await rig.until(DeviceState.ONLINE)
        rig.lay_down()
        await rig.check_read()


async def test_unplugged_in_the_middle_of_a_frame_and_back(tmp_path: Path) -> None:
    async with rig_running(tmp_path) as rig:
        rig.lay_down()
        heard = rig.device.feed

        def feed(data: bytes) -> bytes:
            if data == encode_request(Command.READ):
                rig.host.faults.add(Fault.UNPLUG)
            return heard(data)

        rig.device.feed = feed  # type: ignore[method-assign]
        with pytest.raises(DeviceError) as caught:
            await rig.reader.read_card(wait_seconds=5)
        assert caught.value.code == "idcard.offline"
        await rig.until(DeviceState.OFFLINE)
        rig.device.feed = heard  # type: ignore[method-assign]
        rig.host.plug()
        await rig.until(DeviceState.ONLINE)
        rig.lay_down()
        await rig.check_read()


async def test_a_reader_at_another_rate_is_found(tmp_path: Path) -> None:
    """protocols 1.1: 1,295 bytes take 0.67 s at 19,200 baud."""
    async with rig_running(tmp_path) as rig:
        rig.host.unplug()
        await rig.until(DeviceState.OFFLINE)
        rig.host.set_baud(19_200)
        rig.host.plug()
        await rig.until(DeviceState.ONLINE)
        assert rig.reader.status.details == {"baud": "19200"}
        rig.lay_down()
        assert 0.67 <= await rig.check_read() < 5


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.CORRUPT, Fault.DUPLICATE])
async def test_hostile_wires(tmp_path: Path, fault: Fault) -> None:
    async with rig_running(tmp_path) as rig:
        rig.lay_down()
        rig.host.faults.add(fault)
        await rig.check_read()
