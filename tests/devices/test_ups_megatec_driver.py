"""The Megatec driver over in-memory wires on virtual time (T14, L3, L10, L11, L15)."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from devices.errors import DeviceError
from devices.status import DeviceState, DeviceStatus
from devices.ups.megatec_protocol import Bits, encode_command
from devices.ups.status import STALE, Basis, Source, UpsFault
from sim.wire import Fault
from tests.devices.supervised import on_virtual_time, seconds
from tests.devices.ups_rig import MegatecRig, megatec_rig

POLL = 5.0
STALE_AFTER = 20.0
Q1 = encode_command("Q1")


async def refused(work: Any) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        await work
    return caught.value


@pytest.mark.parametrize(
    "case",
    [{}, {"chunk_bytes": 1}, {"latency_seconds": 0.25}, {"chunk_bytes": 7, "latency_seconds": 0.1}],
    ids=["normal", "a byte at a time", "slow", "slow and in pieces"],
)
@on_virtual_time
async def test_a_ups_on_the_mains(case: dict[str, Any]) -> None:
    async with megatec_rig(**case) as rig:
        (status,) = rig.statuses
        assert (status.state, status.code, status.identity) == (DeviceState.ONLINE, None, "SANTAK C1K VER 1.0")
        assert status.details == {
            "source": "on_line",
            "batteryStatus": "operational",
            "testing": False,
            "shutting_down": False,
            "runtime_basis": "estimate from battery voltage at configured runtime",
            "rating": "220.0 V, 4 A, battery 24.0 V, 50.0 Hz",
        }
        reading = rig.driver.reading()
        assert (reading.source, reading.battery_low, reading.charge) == (Source.ON_LINE, False, 1.0)
        assert (reading.runtime_seconds, reading.runtime_basis) == (1800.0, Basis.VOLTAGE)
        assert (reading.load, reading.input_volts, reading.temperature_celsius) == (0.12, 221.3, 27.0)
        assert (reading.faults, reading.code) == ((), None)
        assert rig.ends == []


@on_virtual_time
async def test_a_mains_failure_is_noticed_within_one_poll_and_so_is_its_end() -> None:
    async with megatec_rig() as rig:
        for _ in range(3):
            await asyncio.sleep(60.3)
            rig.device.mains_off()
            assert await seconds(rig.until_detail("source", "on_battery")) <= POLL
            rig.device.mains_on()
            assert await seconds(rig.until_detail("source", "on_line")) <= POLL


@on_virtual_time
async def test_a_battery_discharges_until_the_ups_is_gone() -> None:
    """T14: 30 minutes by the configured runtime; low is the UPS's own flag."""
    async with megatec_rig() as rig:
        rig.device.mains_off()
        await rig.until_detail("source", "on_battery")
        await asyncio.sleep(900)
        reading = rig.driver.reading()
        assert reading.runtime_seconds == pytest.approx(900, abs=60)
        assert reading.battery_low is False
        await rig.until_detail("batteryStatus", "low")
        assert rig.driver.reading().charge == pytest.approx(0.2, abs=0.02)
        assert 340 < await seconds(rig.until_state(DeviceState.OFFLINE)) < 420
        assert rig.driver.status.code == "ups.stale"
        assert not rig.device.output_on
        rig.device.mains_on()
        await rig.until_detail("source", "on_line")


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.CORRUPT, Fault.HALF, Fault.SILENT, Fault.DUPLICATE], ids=str)
@on_virtual_time
async def test_one_bad_poll_is_not_an_event(fault: Fault) -> None:
    async with megatec_rig() as rig:
        for _ in range(5):
            rig.port.faults.add(fault)
            await asyncio.sleep(POLL * 2)
        assert len(rig.statuses) == 1
        assert rig.ends == []
        assert rig.driver.reading().source is Source.ON_LINE


@on_virtual_time
async def test_garbage_and_an_echoed_query_are_not_events() -> None:
    async with megatec_rig() as rig:
        rig.device.garbage(2)
        await asyncio.sleep(30)
        rig.heard(Q1, lambda _: Q1)
        await asyncio.sleep(12)
        assert len(rig.statuses) == 1


@on_virtual_time
async def test_a_flipped_status_bit_is_no_power_failure() -> None:
    """There is no checksum: bits that changed must be said twice."""
    async with megatec_rig() as rig:
        lies = [b"00001001", b"10001001", b"11001001", b"11011001"]

        def flip(answer: bytes) -> bytes:
            return answer.replace(b"00001001", lies.pop()) if lies else answer

        rig.heard(Q1, flip)
        await asyncio.sleep(60)
        assert not lies
        assert len(rig.statuses) == 1
        assert rig.driver.reading().source is Source.ON_LINE


@on_virtual_time
async def test_a_late_answer_tells_nothing_of_now() -> None:
    """L11, L15: an old "on battery" that arrives after the mains came back."""
    async with megatec_rig() as rig:
        await asyncio.sleep(POLL - 0.5)
        rig.device.mains_off()
        rig.port.faults.add(Fault.LATE)
        await asyncio.sleep(0.6)
        rig.device.mains_on()
        await asyncio.sleep(60)
        assert all(status.details.get("source") != "on_battery" for status in rig.statuses)


@on_virtual_time
async def test_a_late_answer_hides_no_power_failure() -> None:
    """L15: an old "on the mains" that arrives when the next question waits, after the mains failed."""
    async with megatec_rig() as rig:
        await asyncio.sleep(POLL - 0.5)
        rig.delay(1.2, 0.4)
        await asyncio.sleep(0.6)
        rig.device.mains_off()
        assert await seconds(rig.until_detail("source", "on_battery")) < 2


@on_virtual_time
async def test_a_silent_ups_is_stale_and_never_low() -> None:
    """L10: unknown after `stale_seconds`, whatever was known before."""
    async with megatec_rig() as rig:
        rig.device.mains_off()
        await rig.until_detail("source", "on_battery")
        at = asyncio.get_running_loop().time() - (rig.driver.reading().age_seconds or 0)
        rig.device.silent()
        await asyncio.sleep(STALE_AFTER - 1.5)
        reading = rig.driver.reading()
        assert (reading.source, reading.code) == (Source.ON_BATTERY, None)
        assert reading.age_seconds == asyncio.get_running_loop().time() - at
        await asyncio.sleep(1.6)
        assert rig.driver.reading() == STALE
        assert (STALE.source, STALE.battery_low, STALE.code) == (Source.UNKNOWN, None, "ups.stale")
        status = await rig.until_state(DeviceState.OFFLINE)
        assert (status.code, status.details) == ("ups.stale", {})
        assert asyncio.get_running_loop().time() - at < STALE_AFTER + 2
        error = await refused(rig.driver.test())
        assert (error.code, error.retry) == ("ups.stale", True)
        await asyncio.sleep(600)
        assert len(rig.statuses) <= 4, "told on change, never on a repeat (L9)"
        rig.device.silent(silent=False)
        await rig.until_detail("source", "on_battery")


@on_virtual_time
async def test_a_short_loss_of_the_link_keeps_what_is_known() -> None:
    """L10: a USB drop of 0.2 s recovers by itself and is never read as low or unknown."""
    async with megatec_rig() as rig:
        rig.device.mains_off()
        await rig.until_detail("source", "on_battery")
        rig.port.unplug()
        status = await rig.until_state(DeviceState.OFFLINE)
        assert status.code == "ups.offline"
        assert rig.driver.reading().source is Source.ON_BATTERY
        assert (await refused(rig.driver.cancel_shutdown())).code == "ups.offline"
        await asyncio.sleep(0.2)
        rig.port.plug()
        assert await seconds(rig.until_detail("source", "on_battery")) < 2


@pytest.mark.parametrize("times", [1, 2])
@on_virtual_time
async def test_unplugged_in_the_middle_of_an_answer(times: int) -> None:
    async with megatec_rig() as rig:
        for _ in range(times):
            rig.port.faults.add(Fault.UNPLUG)
            await rig.until_state(DeviceState.OFFLINE)
            rig.port.plug()
            await rig.until_state(DeviceState.ONLINE)


@on_virtual_time
async def test_a_ups_that_speaks_qs_and_little_else() -> None:
    """Neither ratings nor identity: only a status is needed."""
    async with megatec_rig(ups={"query": "QS"}) as rig:
        assert rig.driver.reading().source is Source.ON_LINE
        rig.device.ratings, rig.device.identity = rig.device.ratings[:-1], b"#\xff\xfe\x80 \r"
        rig.port.unplug()
        rig.port.plug()
        rig.online.clear()
        await rig.online.wait()
        assert rig.driver.status.details["rating"] == "220.0 V, 4 A, battery 24.0 V, 50.0 Hz"
        rig.device.silent()
        await rig.until_state(DeviceState.OFFLINE)


@on_virtual_time
async def test_one_missing_answer_does_not_end_the_opening() -> None:
    async with megatec_rig() as rig:
        rig.port.unplug()
        rig.port.plug()
        rig.port.faults.add(Fault.SILENT)
        rig.online.clear()
        await rig.online.wait()
        assert len(rig.ends) == 1


@on_virtual_time
async def test_a_ups_that_never_answers_is_not_ready() -> None:
    async with megatec_rig() as rig:
        rig.device.silent()
        rig.driver._last = None
        rig.port.unplug()
        rig.port.plug()
        status = await rig.until(lambda status: status.code == "ups.no_answer")
        assert status.state is DeviceState.OFFLINE
        assert rig.driver.reading() == STALE


async def next_life(rig: MegatecRig) -> DeviceStatus:
    rig.online.clear()
    rig.port.unplug()
    rig.port.plug()
    await rig.online.wait()
    return rig.driver.status


@on_virtual_time
async def test_a_ups_is_who_it_says_twice() -> None:
    """H8: a flipped letter makes no other UPS, a lost answer no unknown one, and another one has a name of its own."""
    async with megatec_rig() as rig:
        online = rig.driver.status
        names = [b"", b"#SANUAK          C1K        VER 1.0   \r"]
        ratings = [b"", b"#230.0 004 024.0 50.0\r"]
        rig.heard(b"I\r", lambda answer: names.pop() if names else answer)
        rig.heard(b"F\r", lambda answer: ratings.pop() if ratings else answer)
        assert await next_life(rig) == online
        assert not names
        assert len(ratings) == 2, "the same UPS is not asked its ratings again: a replug is over sooner"
        rig.heard(b"I\r", lambda _: b"#ANOTHER         UPS        1         \r")
        another = await next_life(rig)
        assert another.identity == "ANOTHER UPS 1"
        assert another.details["rating"] == online.details["rating"]
        assert not ratings
        rig.heard(b"I\r", lambda _: b"")
        rig.heard(b"F\r", lambda _: b"")
        status = await next_life(rig)
        assert status.identity is None, "not the name of the UPS before it"
        assert "rating" not in status.details


@on_virtual_time
async def test_noise_is_no_answer_to_an_order() -> None:
    async with megatec_rig() as rig:
        rig.heard(b"S.5R0003\r", lambda _: b"~x\rT\r")
        await rig.driver.shutdown_return(30)
        assert rig.device.orders == ["S.5R0003"]


@pytest.mark.parametrize(
    ("ups", "settings", "charge"),
    [
        ({"per_cell": True}, {}, 1.0),
        ({}, {"battery_full_volts": 54.8, "battery_empty_volts": 42.0}, None),
        ({}, {"battery_full_volts": 13.7, "battery_empty_volts": 10.5}, None),
    ],
    ids=["volts of a cell", "a battery half as large as configured", "twice as large"],
)
@on_virtual_time
async def test_the_estimate_knows_its_battery(ups: dict[str, Any], settings: dict[str, Any], charge: float) -> None:
    """NUT issues 1039 and 3482; a voltage that cannot be the configured battery's gives no runtime."""
    async with megatec_rig(settings, ups) as rig:
        reading = rig.driver.reading()
        assert reading.charge == (None if charge is None else pytest.approx(charge, abs=0.05))
        assert (reading.runtime_seconds is None) == (reading.runtime_basis is None) == (charge is None)


@on_virtual_time
async def test_a_voltage_between_full_and_empty() -> None:
    async with megatec_rig({"battery_minutes": 60}) as rig:
        rig.device.set_battery(24.2)
        await asyncio.sleep(POLL + 1)
        assert rig.driver.reading().charge == pytest.approx(0.5, abs=0.01)
        assert rig.driver.reading().runtime_seconds == pytest.approx(1800, abs=36)


@on_virtual_time
async def test_faults_of_the_ups_itself() -> None:
    async with megatec_rig() as rig:
        rig.device.fail()
        status = await rig.until_state(DeviceState.HARDWARE_ERROR)
        assert status.code == "ups.failed"
        assert rig.driver.reading().faults == (UpsFault.FAILED,)
        rig.device.fail(failed=False)
        await rig.until_state(DeviceState.ONLINE)
        assert rig.ends == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"012 50.0", b"120 50.0", "ups.overload"),
        (b"00001001", b"00101001", "ups.bypass"),
        (b"220.0 012 50.0 27.4 27.0 00001001", b"242.0 012 50.0 27.4 27.0 00101001", None),
    ],
    ids=["overload", "bypass", "the voltage regulator is no fault"],
)
@on_virtual_time
async def test_what_the_status_says_between_the_lines(old: bytes, new: bytes, code: str | None) -> None:
    async with megatec_rig() as rig:
        rig.heard(Q1, lambda answer: answer.replace(old, new))
        await asyncio.sleep(POLL * 2 + 1)
        assert rig.driver.status.state is DeviceState.ONLINE
        assert rig.driver.status.code == code


@on_virtual_time
async def test_the_output_is_cut_and_comes_back_with_the_mains() -> None:
    """NUT's own default, `S.5R0003`, for half a minute."""
    async with megatec_rig() as rig:
        rig.device.mains_off()
        await rig.driver.shutdown_return(30)
        assert rig.device.orders == ["S.5R0003"]
        await rig.until_detail("shutting_down", value=True)
        assert rig.device.output_on
        await asyncio.sleep(30)
        assert not rig.device.output_on
        rig.device.mains_on()
        assert not rig.device.output_on, "the board must see the cut"
        await asyncio.sleep(180)
        assert rig.device.output_on


@on_virtual_time
async def test_a_shutdown_is_taken_back() -> None:
    async with megatec_rig() as rig:
        await rig.driver.shutdown_return(60)
        await rig.until_detail("shutting_down", value=True)
        await rig.driver.cancel_shutdown()
        await rig.until_detail("shutting_down", value=False)
        await asyncio.sleep(300)
        assert rig.device.output_on
        assert rig.device.orders == ["S01R0003", "C"]


@on_virtual_time
async def test_a_battery_test_shows() -> None:
    async with megatec_rig() as rig:
        await rig.driver.test()
        await rig.until_detail("testing", value=True)
        assert await seconds(rig.until_detail("testing", value=False)) < 10 + POLL


@pytest.mark.parametrize("answer", [b"T\r", b"NAK\r"], ids=repr)
@on_virtual_time
async def test_an_order_that_the_ups_does_not_know(answer: bytes) -> None:
    async with megatec_rig() as rig:
        rig.heard(b"T\r", lambda _: answer)
        error = await refused(rig.driver.test())
        assert (error.code, error.retry) == ("ups.unsupported", False)
        rig.heard(b"T\r", lambda _: b"ACK\r")
        await rig.driver.test()
        error = await refused(rig.driver.shutdown_return(601))
        assert (error.code, error.retry) == ("ups.delay_unsupported", False)
        assert rig.ends == []


@on_virtual_time
async def test_a_cancelled_order_leaves_the_ups_usable() -> None:
    async with megatec_rig() as rig:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await rig.driver.shutdown_return(60)
        await rig.until_detail("shutting_down", value=True)
        await rig.driver.cancel_shutdown()
        await rig.until_detail("shutting_down", value=False)


@on_virtual_time
async def test_orders_wait_their_turn_within_their_deadline() -> None:
    """T13."""
    async with megatec_rig() as rig:
        orders = [rig.driver.test(), rig.driver.cancel_shutdown(), rig.driver.shutdown_return(12)]
        assert await seconds(asyncio.gather(*orders)) < 5
        assert sorted(rig.device.orders) == ["C", "S.2R0003", "T"]
        async with rig.driver._lock:
            error = await refused(rig.driver.test())
        assert error.code == "ups.no_answer"


@on_virtual_time
async def test_a_flood_of_garbage_is_survived() -> None:
    async with megatec_rig() as rig:
        online, flooding = rig.driver.status, True
        rig.heard(Q1, lambda answer: bytes(range(256)) * 400 if flooding else answer)
        await rig.until_state(DeviceState.OFFLINE)
        assert rig.driver.reading().charge is None, "what it said last is not passed on"
        flooding = False
        await rig.until_state(DeviceState.ONLINE)
        assert rig.driver.status == online


@on_virtual_time
async def test_an_idle_day_is_quiet() -> None:
    with capture_logs() as logs:
        async with megatec_rig() as rig:
            await asyncio.sleep(86_400)
            assert len(rig.statuses) == 1
    assert len(logs) <= 2


@on_virtual_time
async def test_the_beeper_and_a_short_battery_of_the_rig() -> None:
    async with megatec_rig() as rig:
        rig.device.beeper(on=False)
        rig.device.discharge(minutes=1)
        with pytest.raises(ValueError, match="minutes"):
            rig.device.discharge(minutes=0)
        await asyncio.sleep(POLL + 1)
        assert rig.driver._bits is not None
        assert not rig.driver._bits & Bits.BEEPER
        rig.device.battery_low()
        await rig.until_detail("batteryStatus", "low")
        rig.device.battery_low(low=False)
        rig.device.mains_off()
        assert await seconds(rig.until_state(DeviceState.OFFLINE)) < 60 + STALE_AFTER + 2
