"""The bank-card reader on a real pseudo-terminal at 9,600 baud (T5, L1)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devices.cardreader import emv
from devices.cardreader.chip import ChipPower
from devices.cardreader.driver import Crt310
from devices.cardreader.mechanism import Ending
from devices.cardreader.protocol import Position
from devices.config import CardReader
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.serial import open_serial_link
from devices.status import DeviceState, DeviceStatus
from sim.devices.bankcard import NUMBER
from sim.devices.cardreader import VirtualCardReader
from sim.pty import PtyHost

BAUD = 9600
DEADLINE = 30


class Rig:
    def __init__(self, directory: Path) -> None:
        self.device = VirtualCardReader()
        self.host = PtyHost(self.device, directory / "ttyCARD", baud=BAUD)
        self.changed = asyncio.Event()
        settings = CardReader(port=str(self.host.path), baud=BAUD)
        self.reader = Crt310(settings, open_serial_link, self.note)

    def note(self, status: DeviceStatus) -> None:
        self.changed.set()

    async def until(self, *, state: DeviceState, media: str | None = None) -> None:
        while (self.reader.status.state, self.reader.status.details.get("media")) != (state, media):
            self.changed.clear()
            await self.changed.wait()

    async def supervise(self) -> None:
        while True:
            try:
                await self.reader.run(lambda: None)
            except (LinkLost, DeviceError):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def rig_running(directory: Path) -> AsyncIterator[Rig]:
    rig = Rig(directory)
    async with asyncio.timeout(DEADLINE):
        with rig.host:
            task = asyncio.create_task(rig.supervise(), name="supervisor")
            try:
                await rig.until(state=DeviceState.ONLINE, media="notPresent")
                yield rig
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def card_in(rig: Rig) -> AsyncIterator[None]:
    def insert() -> None:
        if rig.device.entry:
            rig.device.insert_card()
        else:
            asyncio.get_running_loop().call_later(0.02, insert)

    insert()
    async with rig.reader.card():
        yield


async def test_a_card_is_read_at_the_pace_of_the_wire(tmp_path: Path) -> None:
    """T13: stripe and chip within 5 s each, as the reader's factory setting allows."""
    async with rig_running(tmp_path) as rig, card_in(rig):
        tracks = await rig.reader.read_tracks()
        assert tracks.number is not None
        await rig.reader.power(ChipPower.COLD)
        loop = asyncio.get_running_loop()
        start = loop.time()
        card = await emv.read_payment_card(rig.reader)
        assert 0.5 < loop.time() - start < emv.READ_SECONDS
        assert tracks.number.reveal() == card.number.reveal() == NUMBER
        eject = asyncio.create_task(rig.reader.eject(), name="eject")
        await rig.until(state=DeviceState.ONLINE, media="entering")
        rig.device.take_card()
        assert await eject is Ending.TAKEN


async def test_unplugged_with_a_card_inside_and_back(tmp_path: Path) -> None:
    """T5: the card comes out as soon as the reader is there again."""
    async with rig_running(tmp_path) as rig:
        async with card_in(rig):
            rig.host.unplug()
            await rig.until(state=DeviceState.OFFLINE)
            with pytest.raises(DeviceError) as caught:
                await rig.reader.read_tracks()
            assert caught.value.code == "cardreader.offline"
            rig.host.plug()
            await rig.until(state=DeviceState.ONLINE, media="entering")
        assert rig.device.position is Position.GATE_LOOSE
