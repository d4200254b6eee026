"""The Megatec driver end to end over a real pseudo-terminal at the pace of 2400 baud (T14, L1)."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import ValidationError, convert

from devices.config import Ups as UpsSettings
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.serial import open_serial_link
from devices.status import DeviceState, DeviceStatus
from devices.ups.megatec import MegatecUps
from devices.ups.status import Source
from sim.devices.ups import VirtualMegatecUps
from sim.pty import PtyHost
from sim.wire import Fault

DEADLINE = 30


async def test_a_day_of_a_ups_in_seconds(tmp_path: Path) -> None:
    changed = asyncio.Event()
    device = VirtualMegatecUps(asyncio.get_running_loop().time)
    settings = UpsSettings(port=str(tmp_path / "ups"), poll_seconds=1, stale_seconds=5)
    driver = MegatecUps(settings, open_serial_link, lambda _: changed.set())

    async def supervise() -> None:
        while True:
            try:
                await driver.run(lambda: None)
            except (LinkLost, DeviceError):
                await asyncio.sleep(0.02)

    async def until(true: Callable[[DeviceStatus], bool]) -> None:
        while not true(driver.status):
            changed.clear()
            await changed.wait()

    async with asyncio.timeout(DEADLINE):
        with PtyHost(device, tmp_path / "ups", baud=settings.baud) as host:
            life = asyncio.create_task(supervise(), name="supervisor")
            try:
                await until(lambda status: status.state is DeviceState.ONLINE)
                device.mains_off()
                await until(lambda status: status.details.get("source") == "on_battery")
                for cut in (host.unplug, lambda: host.faults.add(Fault.UNPLUG)):
                    cut()
                    await until(lambda status: status.state is DeviceState.OFFLINE)
                    assert driver.reading().source is Source.ON_BATTERY
                    host.plug()
                    await until(lambda status: status.state is DeviceState.ONLINE)
                device.mains_on()
                await until(lambda status: status.details.get("source") == "on_line")
            finally:
                life.cancel()
                await asyncio.gather(life, return_exceptions=True)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"port": "nut://mon:secret@host/ups"}, "port"),
        ({"poll_seconds": 5, "stale_seconds": 9}, "stale_seconds"),
        ({"battery_full_volts": 20}, "battery_full_volts"),
    ],
    ids=str,
)
def test_a_wrong_configuration_names_its_key(section: dict[str, object], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        convert({"port": "x", **section}, UpsSettings)
