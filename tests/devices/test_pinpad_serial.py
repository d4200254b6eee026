"""The PIN pad end to end over a real pseudo-terminal at the pace of 9,600 baud (T6, L1)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from devices.config import PinPad
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.pinpad.driver import EncryptingPinPad
from devices.pinpad.protocol import PinKey
from devices.serial import open_serial_link
from devices.status import DeviceState, DeviceStatus
from sim.devices.pinpad import VirtualPinPad
from sim.pty import PtyHost
from tests.devices.pinpad_rig import GOLDEN_BLOCK, KCV, PIN, PIN_KEY, WRAPPED, pan12, refusal

DEADLINE = 20
BAUD = 9600


class Rig:
    def __init__(self, directory: Path) -> None:
        self.device = VirtualPinPad()
        self.host = PtyHost(self.device, directory / "pinpad", baud=BAUD)
        self.changed = asyncio.Event()
        self.begun = asyncio.Event()
        self.keys: asyncio.Queue[PinKey] = asyncio.Queue()
        self.pad = EncryptingPinPad(PinPad(port=str(self.host.path), baud=BAUD), open_serial_link, self.note)
        start = self.device._start

        def begin(args: bytes) -> bytes:
            asyncio.get_running_loop().call_later(0.1, self.begun.set)
            return start(args)

        self.device._start = begin  # type: ignore[method-assign]

    def note(self, _: DeviceStatus) -> None:
        self.changed.set()

    async def until(self, state: DeviceState) -> None:
        while self.pad.status.state is not state:
            self.changed.clear()
            await self.changed.wait()

    async def supervise(self) -> None:
        while True:
            try:
                await self.pad.run(lambda: None)
            except (LinkLost, DeviceError):
                await asyncio.sleep(0.02)

    async def begin(self) -> asyncio.Task[object]:
        self.begun.clear()
        task: asyncio.Task[object] = asyncio.ensure_future(self.pad.enter_pin(pan12(), self.keys.put_nowait))
        await self.begun.wait()
        return task

    async def press(self, digits: str) -> None:
        for digit in digits:
            self.device.press(digit)
            self.host.nudge()
            assert await self.keys.get() is PinKey.STAR


@asynccontextmanager
async def rig_running(directory: Path) -> AsyncIterator[Rig]:
    rig = Rig(directory)
    async with asyncio.timeout(DEADLINE):
        with rig.host:
            task = asyncio.create_task(rig.supervise(), name="supervisor")
            try:
                await rig.until(DeviceState.ONLINE)
                await rig.pad.load_working_key(PIN_KEY, WRAPPED, KCV)
                yield rig
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_a_pin_is_entered_at_the_pace_of_the_wire(tmp_path: Path) -> None:
    async with rig_running(tmp_path) as rig:
        task = await rig.begin()
        await rig.press(PIN)
        rig.device.enter()
        rig.host.nudge()
        block = await task
        assert bytes(block.view()) == GOLDEN_BLOCK  # type: ignore[attr-defined]
        assert not rig.device.keypad_on


async def test_unplugged_idle_and_during_an_entry_and_back(tmp_path: Path) -> None:
    """L1: seen at once each time; the keypad is off when the pad serves again."""
    async with rig_running(tmp_path) as rig:
        for entering in (False, True):
            task = await rig.begin() if entering else None
            rig.host.unplug()
            await rig.until(DeviceState.OFFLINE)
            if task is not None:
                assert await refusal(task) == ("pinpad.offline", True)
            assert await refusal(rig.pad.mac(b"x")) == ("pinpad.offline", True)
            rig.host.plug()
            await rig.until(DeviceState.ONLINE)
            assert not rig.device.keypad_on
        await rig.pad.load_working_key(PIN_KEY, WRAPPED, KCV)


async def test_shutdown_during_an_entry_turns_the_keypad_off(tmp_path: Path) -> None:
    """T6: the bytes are on the wire before the port is closed."""
    async with asyncio.timeout(DEADLINE):
        rig = Rig(tmp_path)
        with rig.host:
            life = asyncio.create_task(rig.supervise(), name="supervisor")
            await rig.until(DeviceState.ONLINE)
            task = await rig.begin()
            await rig.press("123")
            life.cancel()
            assert await refusal(task) == ("pinpad.offline", True)
            await asyncio.gather(life, return_exceptions=True)
            assert not rig.device.keypad_on
