"""The environment unit's driver over in-memory wires on virtual time, and over a real pseudo-terminal (T14)."""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from msgspec import ValidationError, convert
from structlog.testing import capture_logs

from devices.config import Environment
from devices.environment.driver import Climate, EnvironmentUnit
from devices.environment.protocol import ExceptionCode, Function, Request, encode_request
from devices.link import LinkLost
from devices.serial import open_serial_link
from devices.status import DeviceState, DeviceStatus
from sim.devices.environment import VirtualEnvironmentUnit
from sim.pty import PtyHost
from sim.wire import Fault
from tests.devices.sensor_rig import Rig, running
from tests.devices.supervised import on_virtual_time, seconds

POLL = 10.0
STALE_AFTER = 30.0
UNKNOWN = Climate(code="environment.stale")
ASK_CLIMATE = encode_request(Request(1, Function.READ_INPUT_REGISTERS, 0, 2))
ASK_DOOR = encode_request(Request(1, Function.READ_DISCRETE_INPUTS, 0, 1))


def environment_rig(
    settings: dict[str, Any] | None = None, **wire: Any
) -> AbstractAsyncContextManager[Rig[VirtualEnvironmentUnit, EnvironmentUnit]]:
    made = Environment(port="environment", **(settings or {}))
    device = VirtualEnvironmentUnit(unit=made.unit)
    return running(Rig(device, "environment", lambda opened, told: EnvironmentUnit(made, opened, told), **wire))


@pytest.mark.parametrize(
    "case", [{}, {"chunk_bytes": 1}, {"latency_seconds": 0.4}, {"settings": {"unit": 247}}], ids=str
)
@on_virtual_time
async def test_the_climate_is_read(case: dict[str, Any]) -> None:
    async with environment_rig(**case) as rig:
        details = {"cabinetDoor": "closed", "humidity_out_of_range": False}
        assert rig.statuses == [DeviceStatus(DeviceState.ONLINE, details=details)]
        reading = rig.driver.reading()
        assert (reading.humidity_percent, reading.temperature_celsius, reading.door_open) == (45.0, 23.1, False)
        assert (reading.humidity_out_of_range, reading.code) == (False, None)


@on_virtual_time
async def test_the_door_is_noticed_within_one_poll() -> None:
    async with environment_rig() as rig:
        await asyncio.sleep(600.5)
        rig.device.open_door()
        assert await seconds(rig.until_detail("cabinetDoor", "open")) <= POLL
        rig.device.close_door()
        assert await seconds(rig.until_detail("cabinetDoor", "closed")) <= POLL
        assert len(rig.statuses) == 3


@on_virtual_time
async def test_humidity_out_of_range_is_told_and_does_not_flicker() -> None:
    """T14: 10 to 80 %RH."""
    async with environment_rig() as rig:
        for percent in (10, 80, 80.1, 79, 80.2, 78.1, 78, 79.9, 9.9, 11, 12):
            rig.device.set_humidity(percent)
            await asyncio.sleep(POLL + 1)
        flags = [status.details["humidity_out_of_range"] for status in rig.statuses]
        assert flags == [False, True, False, True, False]
        assert {status.code for status in rig.statuses} == {None, "environment.humidity_out_of_range"}
        assert {status.state for status in rig.statuses} == {DeviceState.ONLINE}


@on_virtual_time
async def test_frost_and_a_missing_sensor() -> None:
    async with environment_rig() as rig:
        rig.device.set_temperature(-12.5)
        rig.device.registers[0] = 0xFFFF
        status = await rig.until(lambda status: status.code == "environment.sensor_missing")
        assert status.details == {"cabinetDoor": "closed"}
        reading = rig.driver.reading()
        assert (reading.temperature_celsius, reading.humidity_percent) == (-12.5, None)
        assert reading.humidity_out_of_range is None
        rig.device.registers[1] = 0x8000
        await asyncio.sleep(POLL + 1)
        assert rig.driver.reading().temperature_celsius is None


@pytest.mark.parametrize("fault", [*(each for each in Fault if each is not Fault.UNPLUG)], ids=str)
@on_virtual_time
async def test_one_bad_answer_is_not_an_event(fault: Fault) -> None:
    async with environment_rig() as rig:
        for _ in range(5):
            rig.port.faults.add(fault)
            await asyncio.sleep(2.5 * POLL)
        assert len(rig.statuses) == 1
        assert rig.ends == []


@pytest.mark.parametrize("late", [ASK_CLIMATE, ASK_DOOR], ids=["registers", "input"])
@on_virtual_time
async def test_a_late_answer_is_not_taken_for_a_new_one(late: bytes) -> None:
    """L15: it arrives when the next question waits, and tells of a cabinet that has changed since."""
    async with environment_rig() as rig:
        await asyncio.sleep(POLL - 1)
        rig.device.open_door()
        rig.device.set_humidity(90)
        rig.delay(*((1.5, 0.3) if late == ASK_CLIMATE else (0.0, 1.5, 0.3)))
        await asyncio.sleep(1.5)
        rig.device.close_door()
        rig.device.set_humidity(45)
        await asyncio.sleep(2)
        assert rig.driver.reading().humidity_percent == 45.0
        assert (rig.driver.reading().age_seconds or 0) < 2
        assert len(rig.statuses) == 1


@on_virtual_time
async def test_noise_like_the_head_of_a_long_answer_swallows_nothing() -> None:
    async with environment_rig() as rig:
        link = rig.port._link
        assert link is not None
        for _ in range(10):
            link.deliver(bytes.fromhex("01 04 F0"))
            await asyncio.sleep(POLL + 0.1)
            assert (rig.driver.reading().age_seconds or 0) < POLL
        assert len(rig.statuses) == 1


@on_virtual_time
async def test_a_silent_unit_is_stale() -> None:
    async with environment_rig() as rig:
        rig.device.open_door()
        await rig.until_detail("cabinetDoor", "open")
        rig.device.silent()
        await asyncio.sleep(STALE_AFTER - 1)
        assert rig.driver.reading().door_open is True
        await asyncio.sleep(1)
        assert rig.driver.reading() == UNKNOWN
        status = await rig.until_state(DeviceState.OFFLINE)
        assert (status.code, status.details) == ("environment.stale", {})
        await asyncio.sleep(600)
        assert len(rig.statuses) <= 4
        rig.device.silent(silent=False)
        await rig.until_detail("cabinetDoor", "open")


@on_virtual_time
async def test_exceptions_of_the_unit() -> None:
    async with environment_rig() as rig:
        rig.device.exception(ExceptionCode.BUSY)
        await asyncio.sleep(3 * POLL)
        assert len(rig.statuses) == 1, "one bad answer is not an event"
        rig.device.exception(ExceptionCode.DEVICE_FAILURE, times=1000)
        status = await rig.until_state(DeviceState.OFFLINE)
        assert status.code in {"environment.stale", "environment.sensor_failed"}
        rig.device.exception(times=0)
        await rig.until_state(DeviceState.ONLINE)


@on_virtual_time
async def test_registers_that_the_unit_does_not_have() -> None:
    async with environment_rig() as rig:
        rig.device.exception(ExceptionCode.ILLEGAL_ADDRESS)
        status = await rig.until_state(DeviceState.HARDWARE_ERROR)
        assert status.code == "environment.bad_setting"
        await rig.until_state(DeviceState.ONLINE)
        del rig.device.inputs[0]
        assert (await rig.until_state(DeviceState.HARDWARE_ERROR)).code == "environment.bad_setting"


@on_virtual_time
async def test_other_registers_and_another_input() -> None:
    settings = {"humidity_register": 9, "temperature_register": 7, "door_input": 3}
    made = Environment(port="environment", **settings)
    device = VirtualEnvironmentUnit()
    device.registers = {7: 200, 8: 0, 9: 500}
    device.inputs = {3: True}
    rig = Rig(device, "environment", lambda opened, told: EnvironmentUnit(made, opened, told))
    async with running(rig):
        reading = rig.driver.reading()
        assert (reading.humidity_percent, reading.temperature_celsius, reading.door_open) == (50.0, 20.0, True)


@on_virtual_time
async def test_unplugged_and_back() -> None:
    async with environment_rig() as rig:
        rig.port.unplug()
        assert await seconds(rig.until_state(DeviceState.OFFLINE)) == 0
        assert rig.driver.status.code == "environment.offline"
        assert rig.driver.reading().humidity_percent == 45.0
        rig.port.plug()
        rig.port.faults.add(Fault.UNPLUG)
        await asyncio.sleep(5)
        rig.port.plug()
        await rig.until_state(DeviceState.ONLINE)
        assert {type(end) for end in rig.ends} == {LinkLost}


@on_virtual_time
async def test_an_idle_day_is_quiet() -> None:
    with capture_logs() as logs:
        async with environment_rig():
            await asyncio.sleep(86_400)
    assert len(logs) <= 2


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"humidity_register": 0, "temperature_register": 125}, "humidity_register"),
        ({"stale_seconds": 15}, "stale_seconds"),
        ({"unit": 0}, "unit"),
    ],
    ids=str,
)
def test_a_wrong_configuration_names_its_key(section: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        convert({"port": "x", **section}, Environment)


async def test_over_a_pseudo_terminal_at_its_pace(tmp_path: Path) -> None:
    """L1: read, unplugged, and read again."""
    device = VirtualEnvironmentUnit()
    host = PtyHost(device, tmp_path / "environment", baud=9600)
    changed = asyncio.Event()
    driver = EnvironmentUnit(Environment(port=str(host.path)), open_serial_link, lambda _: changed.set())
    async with asyncio.timeout(20):
        with host:
            for _ in range(2):
                host.plug()
                ready = asyncio.Event()
                life = asyncio.create_task(driver.run(ready.set), name="life")
                await ready.wait()
                assert driver.reading().humidity_percent == 45.0
                host.unplug()
                (end,) = await asyncio.gather(life, return_exceptions=True)
                assert isinstance(end, LinkLost)
