"""The NUT driver over an in-memory connection on virtual time (T14, L10)."""

import asyncio
from typing import Any

import pytest

from devices.config import Ups as UpsSettings
from devices.errors import DeviceError
from devices.status import DeviceState
from devices.ups.factory import make_ups
from devices.ups.megatec import MegatecUps
from devices.ups.nut import NutUps
from devices.ups.nut_protocol import encode_listing
from devices.ups.status import STALE, Basis, Source, UpsFault
from sim.memory import MemoryLinks
from sim.wire import Fault
from tests.devices.supervised import on_virtual_time, seconds
from tests.devices.ups_rig import nut_rig

POLL = 5.0


async def refused(work: Any) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        await work
    return caught.value


@pytest.mark.parametrize("case", [{}, {"chunk_bytes": 1}, {"latency_seconds": 0.3}], ids=str)
@on_virtual_time
async def test_a_ups_on_the_mains(case: dict[str, Any]) -> None:
    async with nut_rig(**case) as rig:
        (status,) = rig.statuses
        assert (status.state, status.code, status.identity) == (DeviceState.ONLINE, None, "SANTAK C1K")
        assert status.details["runtime_basis"] == "ups"
        reading = rig.driver.reading()
        assert (reading.source, reading.battery_low, reading.charge) == (Source.ON_LINE, False, 1.0)
        assert (reading.runtime_seconds, reading.runtime_basis) == (1800.0, Basis.UPS)
        assert (reading.load, reading.input_volts, reading.temperature_celsius) == (0.12, 221.3, None)


@on_virtual_time
async def test_without_a_user_it_reads_and_may_not_order() -> None:
    async with nut_rig("nut://nut/kiosk") as rig:
        assert rig.driver.reading().source is Source.ON_LINE
        error = await refused(rig.driver.test())
        assert (error.code, error.retry) == ("ups.access_denied", False)
        assert rig.ends == []


@pytest.mark.parametrize(
    ("words", "source", "low", "other"),
    [
        ("OB DISCHRG", Source.ON_BATTERY, False, {}),
        ("ALARM OB LB", Source.ON_BATTERY, True, {}),
        ("OL LB CHRG", Source.ON_LINE, True, {}),
        ("FSD OB LB", Source.ON_BATTERY, True, {"shutting_down": True}),
        ("OL CAL", Source.ON_LINE, False, {"testing": True}),
        ("OL RB OVER SOMETHING", Source.ON_LINE, False, {"faults": (UpsFault.OVERLOAD, UpsFault.REPLACE_BATTERY)}),
        ("OL BYPASS", Source.ON_LINE, False, {"faults": (UpsFault.BYPASS,)}),
        ("OFF", Source.UNKNOWN, False, {"faults": (UpsFault.OUTPUT_OFF,)}),
        ("OL OB", Source.UNKNOWN, False, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@on_virtual_time
async def test_status_words(words: str, source: Source, low: bool, other: dict[str, Any]) -> None:
    async with nut_rig() as rig:
        rig.device.set_variable("ups.status", words)
        await asyncio.sleep(POLL + 1)
        reading = rig.driver.reading()
        assert (reading.source, reading.battery_low) == (source, low)
        assert {name: getattr(reading, name) for name in other} == other
        assert rig.driver.status.details.get("source") == (None if source is Source.UNKNOWN else str(source))


@on_virtual_time
async def test_a_battery_that_wants_replacing_is_told() -> None:
    async with nut_rig() as rig:
        rig.device.set_variable("ups.status", "OL RB")
        status = await rig.until_detail("batteryStatus", "failure")
        assert (status.state, status.code) == (DeviceState.ONLINE, "ups.replace_battery")


@on_virtual_time
async def test_without_runtime_the_estimate_says_so() -> None:
    async with nut_rig() as rig:
        for name in ("battery.runtime", "battery.charge"):
            del rig.device.variables[name]
        rig.device.set_variable("battery.voltage", "24.2")
        rig.device.set_variable("ups.load", "much")
        await asyncio.sleep(POLL + 1)
        reading = rig.driver.reading()
        assert (reading.runtime_basis, reading.load) == (Basis.VOLTAGE, None)
        assert reading.runtime_seconds == pytest.approx(900)
        rig.device.set_variable("battery.charge", "80")
        await asyncio.sleep(POLL + 1)
        reading = rig.driver.reading()
        assert (reading.charge, reading.runtime_basis) == (0.8, Basis.CHARGE)
        assert reading.runtime_seconds == pytest.approx(0.8 * 1800)
        del rig.device.variables["battery.charge"], rig.device.variables["battery.voltage"]
        await asyncio.sleep(POLL + 1)
        reading = rig.driver.reading()
        assert (reading.charge, reading.runtime_seconds, reading.runtime_basis) == (None, None, None)


@pytest.mark.parametrize("error", ["DATA-STALE", "DRIVER-NOT-CONNECTED"])
@on_virtual_time
async def test_a_server_without_data_is_stale_and_never_low(error: str) -> None:
    """L10."""
    async with nut_rig() as rig:
        rig.device.set_variable("ups.status", "OB")
        await rig.until_detail("source", "on_battery")
        rig.device.fail(error)
        await asyncio.sleep(10)
        assert rig.driver.reading().source is Source.ON_BATTERY
        status = await rig.until_state(DeviceState.OFFLINE)
        assert status.code == "ups.stale"
        assert rig.driver.reading() == STALE
        await asyncio.sleep(300)
        assert len(rig.statuses) == 3
        rig.device.mend()
        await rig.until_detail("source", "on_battery")


@on_virtual_time
async def test_a_driver_that_is_still_waiting_for_its_ups_has_no_data() -> None:
    async with nut_rig() as rig:
        rig.device.set_variable("ups.status", "WAIT")
        assert (await rig.until_state(DeviceState.OFFLINE)).code == "ups.stale"


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.LATE, Fault.HALF, Fault.CORRUPT, Fault.GARBAGE], ids=str)
@on_virtual_time
async def test_one_bad_answer_is_not_an_event(fault: Fault) -> None:
    """L10, L15: the connection gets in step again; nothing is offline while what is known is good."""
    async with nut_rig() as rig:
        rig.device.set_variable("ups.status", "OB LB")
        rig.port.faults.add(fault)
        assert await seconds(rig.until_detail("source", "on_battery")) < POLL + 3
        rig.device.set_variable("ups.status", "OL")
        await rig.until_detail("source", "on_line")
        await asyncio.sleep(30)
        assert rig.driver.reading().source is Source.ON_LINE
        assert {status.state for status in rig.statuses} == {DeviceState.ONLINE}
        assert rig.ends == []


@on_virtual_time
async def test_two_late_answers_are_not_taken_for_new_ones() -> None:
    """L15: old "on battery"s that arrive after the mains came back, before and behind the mark."""
    async with nut_rig() as rig:
        await asyncio.sleep(POLL - 0.5)
        rig.device.set_variable("ups.status", "OB")
        rig.delay(3.0, 3.0)
        await asyncio.sleep(0.6)
        rig.device.set_variable("ups.status", "OL")
        await asyncio.sleep(60)
        assert all(status.details.get("source") != "on_battery" for status in rig.statuses)
        assert (rig.driver.reading().age_seconds or 0) < POLL
        assert rig.ends == []


@on_virtual_time
async def test_a_server_that_falls_silent_is_stale_and_connected_anew() -> None:
    """A status is offline when the reading is unknown, not before; a server that never gets in step is left."""
    async with nut_rig() as rig:
        rig.heard(b"LIST VAR kiosk\n", lambda _: b"")
        while rig.driver.status.state is DeviceState.ONLINE:
            assert rig.ends == []
            await asyncio.sleep(0.5)
        assert rig.driver.reading() == STALE
        assert rig.driver.status.code == "ups.stale"
        rig.heard(b"LIST VAR kiosk\n", lambda _: encode_listing("kiosk", rig.device.variables))
        await rig.until_state(DeviceState.ONLINE)
        assert rig.port.opened >= 2


@on_virtual_time
async def test_an_order_behind_a_missing_answer_is_done() -> None:
    async with nut_rig() as rig:
        rig.port.faults.add(Fault.SILENT)
        error, _ = await asyncio.gather(refused(rig.driver.test()), rig.driver.cancel_shutdown())
        assert error.code == "ups.no_answer"
        assert rig.device.orders == ["test.battery.start.quick", "shutdown.stop"]
        assert len(rig.statuses) == 1


@on_virtual_time
async def test_a_cancelled_order_leaves_the_ups_usable() -> None:
    async with nut_rig(latency_seconds=0.5) as rig:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await rig.driver.cancel_shutdown()
        await rig.driver.test()
        assert rig.device.orders == ["shutdown.stop", "test.battery.start.quick"]
        assert rig.ends == []


@on_virtual_time
async def test_the_server_goes_and_comes_back() -> None:
    async with nut_rig() as rig:
        rig.port.unplug()
        assert await seconds(rig.until_state(DeviceState.OFFLINE)) == 0
        assert rig.driver.reading().source is Source.ON_LINE
        rig.port.plug()
        await rig.until_state(DeviceState.ONLINE)


@pytest.mark.parametrize(
    ("address", "password", "code"),
    [
        ("nut://govterm@nut:3493/kiosk", "wrong", "ups.access_denied"),
        ("nut://govterm@nut:3493/other", "rig", "ups.unknown_ups"),
    ],
    ids=["wrong password", "unknown UPS"],
)
@on_virtual_time
async def test_a_wrong_configuration_is_told(address: str, password: str, code: str) -> None:
    statuses = []
    async with nut_rig() as rig:
        port = rig.port
    settings = UpsSettings(port=address)
    driver = NutUps(settings, MemoryLinks({"tcp://nut:3493": port}), statuses.append, password=password)
    error = await refused(driver.run(lambda: None))
    assert (error.code, error.retry) == (code, False)
    assert [(status.state, status.code) for status in statuses] == [(DeviceState.HARDWARE_ERROR, code)]
    assert "wrong" not in str(error)


@pytest.mark.parametrize(("seconds", "delay"), [(0, "12"), (31, "36"), (55, "60"), (61, "120")])
@on_virtual_time
async def test_the_output_is_cut_never_earlier_than_asked(seconds: float, delay: str) -> None:
    async with nut_rig() as rig:
        await rig.driver.shutdown_return(seconds)
        assert rig.device.variables["ups.delay.shutdown"] == delay
        assert rig.device.orders == ["shutdown.return"]
        rig.device.set_variable("ups.status", "FSD OL")
        await rig.driver.cancel_shutdown()
        start = asyncio.get_running_loop().time()
        await rig.until_detail("shutting_down", value=True)
        assert asyncio.get_running_loop().time() == start, "asked at once behind an order"
        await rig.driver.test()
        assert rig.device.orders[1:] == ["shutdown.stop", "test.battery.start.quick"]


@on_virtual_time
async def test_a_delay_that_cannot_be_set() -> None:
    """A driver that tells a long enough delay of its own is trusted with it; a shorter or unknown one is not."""
    async with nut_rig() as rig:
        rig.device._set = lambda *_: ("ERR", "READONLY")  # type: ignore[method-assign]
        await rig.driver.shutdown_return(30)
        rig.device.set_variable("ups.delay.shutdown", "24")
        for _ in range(2):
            error = await refused(rig.driver.shutdown_return(30))
            assert (error.code, error.retry) == ("ups.delay_unsupported", False)
            rig.device.variables.pop("ups.delay.shutdown", None)
        assert (await refused(rig.driver.shutdown_return(float("nan")))).code == "ups.delay_unsupported"
        assert rig.device.orders == ["shutdown.return"]


@on_virtual_time
async def test_orders_that_the_ups_or_the_server_refuses() -> None:
    async with nut_rig() as rig:
        order = b"INSTCMD kiosk test.battery.start.quick\n"
        rig.heard(order, lambda _: b"ERR CMD-NOT-SUPPORTED\n")
        error = await refused(rig.driver.test())
        assert (error.code, error.retry) == ("ups.unsupported", False)
        rig.heard(order, lambda _: b"ERR INSTCMD-FAILED\n")
        error = await refused(rig.driver.test())
        assert (error.code, error.retry) == ("ups.refused", True)
        assert rig.ends == []


def test_the_port_decides_the_driver() -> None:
    links = MemoryLinks({})
    assert isinstance(make_ups(UpsSettings(port="/dev/ttyS0"), links, lambda _: None), MegatecUps)
    assert isinstance(make_ups(UpsSettings(port="nut://host/a"), links, lambda _: None, password="x"), NutUps)
