"""The way down with a real UPS protocol: NUT as it is shipped, and Megatec on a pseudo-terminal (T14)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from devices.config import Ups as UpsSettings
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.serial import open_serial_link
from devices.ups.megatec import MegatecUps
from runtime.power import PowerKeeper
from runtime.services.steps import Origin
from runtime.state import StateBoard
from sim.devices.ups import VirtualMegatecUps
from sim.pty import PtyHost
from tests.devices.test_ups_nut_real import Nut, process, served
from tests.runtime.house import Noted
from tests.runtime.power_around import POWER, Around, holds

DEADLINE = 60


@asynccontextmanager
async def kept(around: Around, driver: Any) -> AsyncIterator[StateBoard]:
    """A keeper of this UPS's driver, with everything else recorded; at the end, what failed."""
    board, noted = StateBoard(), Noted()
    keeper = PowerKeeper(
        POWER,
        [driver],
        driver,
        audit=noted,  # type: ignore[arg-type]
        origin=Origin("b", False, lambda: 0.0),
        board=board,
        means=around.means(),
    )
    keeper.guard(around, lambda: None)  # type: ignore[arg-type]
    around.on_status = keeper.heard
    task = asyncio.create_task(keeper.run(lambda: None))
    try:
        yield board
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        steps = [about for line, _, about in noted.lines if line == "power_step"]
        around.failed = {about["step"]: about["code"] for about in steps if "code" in about}


async def until_state(board: StateBoard, state: str) -> None:
    def is_there() -> bool:
        component = board.get("power")
        return component is not None and component.state == state

    await holds(is_there, seconds=DEADLINE)


async def test_nut_says_on_battery_then_low_and_the_host_is_powered_off(tmp_path: Path) -> None:
    """A simulated UPS of NUT's cannot cut: that is told, and the board goes off all the same."""
    values = tmp_path / "kiosk.dev"

    def write(status: str) -> None:
        values.write_text(f"ups.mfr: Dummy\nups.model: R4\nups.status: {status}\nbattery.runtime: 1800\n")

    write("OL")
    around = Around()
    async with asyncio.timeout(DEADLINE), AsyncExitStack() as stack:
        nut = Nut(tmp_path, f"driver = dummy-ups\nport = {values}\nmode = dummy-once")
        await stack.enter_async_context(process(tmp_path, "dummy-ups", "-a", "kiosk"))
        await stack.enter_async_context(served(nut))
        around.ups = nut.driver
        board = await stack.enter_async_context(kept(around, nut.driver))
        await until_state(board, "on_mains")
        write("OB DISCHRG")
        await until_state(board, "on_battery")
        assert around.begun == []
        write("OB DISCHRG LB")
        await holds(lambda: "off" in around.done, seconds=DEADLINE)
    assert around.done[-2:] == ["wipe", "off"]
    assert around.failed == {"ups": "ups.delay_unsupported"}


async def test_a_megatec_ups_hears_of_the_cut_after_everything_else(tmp_path: Path) -> None:
    """The bytes `S..R....` on the wire, when the keys are wiped and before the host is told."""
    around = Around()
    device = VirtualMegatecUps(asyncio.get_running_loop().time)
    settings = UpsSettings(port=str(tmp_path / "ups"), poll_seconds=1, stale_seconds=5)
    driver = MegatecUps(settings, open_serial_link, lambda _: around.on_status())
    around.ups = driver
    heard: list[tuple[str, list[str]]] = []
    around.on_begin = lambda step: heard.append((step, list(device.orders)))

    async def supervise() -> None:
        while True:
            try:
                await driver.run(lambda: None)
            except (LinkLost, DeviceError):
                await asyncio.sleep(0.02)

    async with asyncio.timeout(DEADLINE):
        with PtyHost(device, tmp_path / "ups", baud=settings.baud):
            life = asyncio.create_task(supervise(), name="supervisor")
            try:
                async with kept(around, driver) as board:
                    await until_state(board, "on_mains")
                    device.battery_low()
                    device.mains_off()
                    driver.ask_now()
                    await holds(lambda: "off" in around.done, seconds=DEADLINE)
            finally:
                life.cancel()
                await asyncio.gather(life, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
    assert around.failed == {}
    assert heard[-1] == ("off", ["S01R0003"])
    assert all(orders == [] for step, orders in heard[:-1])
