"""The fingerprint sensor's driver over wires that damage, delay, double, lose and end (T13, L1, L5, L15)."""

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

from devices.driver import HEALTH_SECONDS
from devices.errors import DeviceError
from devices.fingerprint.driver import WORK_SECONDS
from devices.fingerprint.protocol import IMAGE_BYTES, START, Code, Command, Pid, encode_ack, encode_data, encode_packet
from devices.link import LinkLost
from devices.status import DeviceState
from sim.wire import Fault
from tests.devices.fingerprint_rig import Rig, asks, fault_at, refusal, rig_running
from tests.devices.supervised import on_virtual_time, seconds

SURVIVED = (Fault.GARBAGE, Fault.CORRUPT, Fault.DUPLICATE, Fault.HALF, Fault.SILENT, Fault.LATE)
USED = (
    Command.READ_PARAMETERS,
    Command.GENERATE_IMAGE,
    Command.IMAGE_TO_CHARACTERS,
    Command.MATCH,
    Command.UPLOAD_CHARACTERS,
    Command.DOWNLOAD_CHARACTERS,
)


async def check_use(rig: Rig) -> None:
    template = await rig.capture("thumb")
    assert (await rig.match(template, "thumb")).matched
    assert not (await rig.match(template, "finger")).matched


@pytest.mark.parametrize(
    "case",
    [
        {"kind": kind, "command": command, "chunk_bytes": size, "latency_seconds": 0.01}
        for kind in SURVIVED
        for command in USED
        for size in (1, None)
    ],
    ids=lambda case: f"{case['kind']}-{case['command'].name}-{case['chunk_bytes']}",
)
@on_virtual_time
async def test_one_fault_at_any_command_is_survived(case: dict[str, Any]) -> None:
    """A damaged, lost, late or doubled answer costs time, never a wrong decision (T3)."""
    kind, command = case.pop("kind"), case.pop("command")
    async with rig_running(**case) as rig:
        fault_at(rig, command, kind)
        await check_use(rig)
        await rig.check_emptied()
        assert rig.ends == []


@pytest.mark.parametrize("case", range(6))
@on_virtual_time
async def test_one_answer_in_five_lost(case: int) -> None:
    """Every operation ends in time with a result or a typed error, and a result is always right."""
    async with rig_running(latency_seconds=0.01) as rig:
        template = await rig.capture("thumb")
        source = random.Random(case)  # noqa: S311 - a fault schedule
        heard = rig.device.feed

        def feed(data: bytes) -> bytes:
            reply = heard(data)
            return b"" if source.random() < 0.2 else reply

        rig.device.feed = feed  # type: ignore[method-assign]
        results, codes = 0, set[str]()
        for number in range(10):
            finger = "thumb" if number % 2 else "finger"
            try:
                result = await rig.match(template, finger)
            except DeviceError as error:
                codes.add(error.code)
                await rig.until(DeviceState.ONLINE)
            else:
                results += 1
                assert result.matched is (finger == "thumb")
        assert results >= 3
        assert codes <= {f"fingerprint.{code}" for code in ("no_answer", "offline", "busy", "no_finger", "not_lifted")}


@on_virtual_time
async def test_a_late_answer_to_a_look_answers_nothing_else() -> None:
    """L15, protocols 2, quirks: a late GenImg answer must not shift every answer after it by one."""
    async with rig_running() as rig:
        template = await rig.capture("thumb")
        rig.device.lift_finger()
        await refusal(rig.capture(wait_seconds=1))
        heard = rig.device.feed
        late = 0

        def feed(data: bytes) -> bytes:
            nonlocal late
            reply = heard(data)
            if data and asks(data, Command.GENERATE_IMAGE) and late < 2:
                late += 1
                rig.port.faults.add(Fault.LATE)
            return reply

        rig.device.feed = feed  # type: ignore[method-assign]
        assert not (await rig.match(template, "finger")).matched
        await asyncio.sleep(6)
        assert (await rig.match(template, "thumb")).matched


@on_virtual_time
async def test_a_doubled_good_answer_never_stands_for_a_failed_one() -> None:
    """The double comes while the next command waits: no features must not pass for a good finger."""
    async with rig_running(latency_seconds=0.02) as rig:
        template = await rig.capture("thumb")
        heard = rig.device.feed

        def feed(data: bytes) -> bytes:
            reply, link = heard(data), rig.port._link
            if link is not None and data and asks(data, Command.GENERATE_IMAGE):
                asyncio.get_running_loop().call_later(0.03, link.deliver, reply)
            return reply

        rig.device.feed = feed  # type: ignore[method-assign]
        rig.device.dry()
        error = await refusal(rig.match(template, "finger"))
        assert error.code in {"fingerprint.garbled", "fingerprint.few_features"}


@on_virtual_time
async def test_answers_of_other_modules_are_ignored() -> None:
    """The sum does not see the address."""
    async with rig_running() as rig:
        heard = rig.device.feed
        rig.device.feed = lambda data: encode_ack(Code.OK, address=1) + heard(data) if data else b""  # type: ignore[method-assign]
        assert (await refusal(rig.capture(wait_seconds=2))).code == "fingerprint.no_finger"


@on_virtual_time
async def test_every_answer_can_be_late_in_turn() -> None:
    """Each command's first answer comes after its deadline, and nothing overtakes it, as on a busy module."""
    async with rig_running() as rig:
        heard, free_at, slow = rig.device.feed, 0.0, set[int]()

        def feed(data: bytes) -> bytes:
            nonlocal free_at
            reply, link, loop = heard(data), rig.port._link, asyncio.get_running_loop()
            if not reply or link is None:
                return b""
            delay = 0.0 if data[9] in slow else 1.8
            slow.add(data[9])
            free_at = max(free_at, loop.time() + delay)
            loop.call_at(free_at, link.deliver, reply)
            return b""

        template = await rig.capture("thumb")
        await rig.check_emptied()
        rig.device.feed = feed  # type: ignore[method-assign]
        for finger in ("thumb", "finger"):
            slow.clear()
            with suppress(DeviceError):
                assert (await rig.match(template, finger)).matched is (finger == "thumb")
        again = await rig.capture("thumb")
        assert (await rig.match(again, "thumb")).matched


@pytest.mark.parametrize("case", ["damaged", "not received"])
@on_virtual_time
async def test_features_lost_on_their_way_into_the_module_are_sent_again(case: str) -> None:
    async with rig_running() as rig:
        template = await rig.capture("thumb")
        await rig.check_emptied()
        heard, damaged = rig.device.feed, 0

        def feed(data: bytes) -> bytes:
            nonlocal damaged
            if data and data[6] == Pid.DATA and not damaged:
                damaged += 1
                if case == "not received":
                    return encode_ack(Code.CANNOT_RECEIVE)
                data = data[:20] + bytes([data[20] ^ 1]) + data[21:]
            return heard(data)

        rig.device.feed = feed  # type: ignore[method-assign]
        assert (await rig.match(template, "thumb")).matched
        assert damaged


@on_virtual_time
async def test_a_packet_lost_from_an_upload_is_noticed() -> None:
    """A template with a hole in it is never handed out."""
    async with rig_running() as rig:
        heard, lost = rig.device.feed, 0

        def feed(data: bytes) -> bytes:
            nonlocal lost
            reply = heard(data)
            if data and asks(data, Command.UPLOAD_CHARACTERS) and not lost:
                lost += 1
                return reply[: 12 + 139] + reply[12 + 2 * 139 :]
            return reply

        rig.device.feed = feed  # type: ignore[method-assign]
        template = await rig.capture("thumb")
        assert lost
        assert (await rig.match(template, "thumb")).matched


@on_virtual_time
async def test_half_a_packet_does_not_swallow_the_next_answers() -> None:
    async with rig_running() as rig:
        fault_at(rig, Command.UPLOAD_CHARACTERS, Fault.HALF)
        assert await seconds(rig.capture("thumb")) < 2.5, "one second of it is the citizen's"


@on_virtual_time
async def test_unasked_packets_are_discarded() -> None:
    async with rig_running() as rig:
        heard = rig.device.feed
        unasked = encode_ack(Code.OK) + encode_ack(Code.OK, b"\x00\xc8") + encode_data(bytes(256), 128)
        rig.device.feed = lambda data: heard(data) or (unasked if not data else b"")  # type: ignore[method-assign]
        for _ in range(3):
            rig.port.nudge()
        await check_use(rig)


@pytest.mark.parametrize("case", [Fault.CORRUPT, Fault.GARBAGE], ids=str)
@on_virtual_time
async def test_a_wire_that_always_damages(case: Fault) -> None:
    async with rig_running() as rig:
        rig.port.faults.add(case, times=500)
        if case is Fault.GARBAGE:
            await check_use(rig)
        else:
            error = await refusal(rig.capture("thumb"))
            assert (error.code, error.retry) == ("fingerprint.garbled", True)
            await rig.until(DeviceState.OFFLINE)
            rig.port.faults.clear()
            await rig.until(DeviceState.ONLINE)
            await check_use(rig)


@on_virtual_time
async def test_a_flood_of_garbage_is_bounded_and_ends() -> None:
    async with rig_running() as rig:
        heard = rig.device.feed
        flood = (START * 50 + b"\x00\xff") * 1000
        rig.device.feed = lambda data: flood + heard(data)  # type: ignore[method-assign]
        await refusal(rig.capture("thumb"))
        rig.device.feed = heard  # type: ignore[method-assign]
        await rig.until(DeviceState.ONLINE)
        await check_use(rig)


@on_virtual_time
async def test_a_sensor_that_falls_silent_is_offline_and_comes_back() -> None:
    """L3: health is evidence from the device."""
    async with rig_running() as rig:
        rig.device.silent()
        assert await seconds(rig.until(DeviceState.OFFLINE)) < HEALTH_SECONDS + 10
        assert rig.sensor.status.code == "fingerprint.no_answer"
        error = await refusal(rig.capture())
        assert (error.code, error.retry) == ("fingerprint.no_answer", True)
        rig.device.silent(silent=False)
        await rig.until(DeviceState.ONLINE)
        await check_use(rig)


@on_virtual_time
async def test_a_sensor_that_falls_silent_while_asked_fails_within_its_deadline() -> None:
    """T13."""
    async with rig_running() as rig:
        rig.device.place_finger("thumb")
        fault_at(rig, Command.UPLOAD_CHARACTERS, Fault.SILENT, times=9)
        assert await seconds(refusal(rig.capture(wait_seconds=1))) < 1 + WORK_SECONDS


@pytest.mark.parametrize("case", [None, *USED], ids=str)
@on_virtual_time
async def test_unplugged_and_back(case: Command | None) -> None:
    """L1, L5: idle, or in the middle of any answer; seen at once, refused at once, back by itself."""
    async with rig_running() as rig:
        template = await rig.capture("finger")
        await rig.check_emptied()
        if case is None:
            rig.port.unplug()
            assert await seconds(rig.until(DeviceState.OFFLINE)) == 0
        elif case is Command.UPLOAD_CHARACTERS:
            fault_at(rig, case, Fault.UNPLUG)
            await refusal(rig.capture("thumb"))
        else:
            fault_at(rig, case, Fault.UNPLUG)
            await refusal(rig.match(template, "thumb"))
        await rig.until(DeviceState.OFFLINE)
        assert rig.sensor.status.code == "fingerprint.offline"
        error = await refusal(rig.capture())
        assert (error.code, error.retry) == ("fingerprint.offline", True)
        assert isinstance(rig.ends[0], LinkLost)
        await asyncio.sleep(30)
        rig.port.plug()
        await rig.until(DeviceState.ONLINE)
        states = [status.state for status in rig.statuses]
        assert states.count(DeviceState.OFFLINE) == 1, "one event, once (L5)"
        await check_use(rig)


@on_virtual_time
async def test_unplugged_while_waiting_for_a_finger_ends_the_wait() -> None:
    """The wait does not go on over a link of the next life."""
    async with rig_running() as rig:

        async def replug() -> None:
            await asyncio.sleep(3.1)
            rig.port.unplug()
            rig.port.plug()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(replug(), name="replug")
            assert await seconds(refusal(rig.capture(wait_seconds=60))) < 4
        await rig.until(DeviceState.OFFLINE)
        await rig.until(DeviceState.ONLINE)
        await check_use(rig)


class Pacing:
    """Lets a picture come at the pace of 57,600 baud, meanwhile deaf; after `stop` packets of it comes silence."""

    def __init__(self, rig: Rig, stop: int | None = None, damaged: int | None = None) -> None:
        self._rig, self._heard, self._stop = rig, rig.device.feed, stop
        self._deaf_until = 0.0
        self._damaged = damaged

    def __call__(self, data: bytes) -> bytes:
        if asyncio.get_running_loop().time() < self._deaf_until:
            return b""
        reply = self._heard(data)
        if len(reply) < IMAGE_BYTES:
            return reply
        if self._stop is None:
            self._deaf_until = asyncio.get_running_loop().time() + 6.9
        link, loop = self._rig.port._link, asyncio.get_running_loop()
        packets = [reply[start : start + 139] for start in range(12, len(reply), 139)]
        if self._damaged is not None:
            place, self._damaged = self._damaged, None
            packets[place] = packets[place][:50] + bytes([packets[place][50] ^ 1]) + packets[place][51:]
        for number, packet in enumerate(packets[: self._stop], 1):
            if link is not None:
                loop.call_later(number * 1390 / 57600, link.deliver, packet)
        return reply[:12]


@on_virtual_time
async def test_a_picture_takes_its_time_on_the_wire() -> None:
    """protocols 2.1: 7 s at 57,600 baud, longer than one answer may take."""
    async with rig_running() as rig:
        rig.device.feed = Pacing(rig)  # type: ignore[method-assign]
        assert 6.9 < await seconds(rig.image("thumb")) < 8.5


@on_virtual_time
async def test_a_damaged_picture_is_sent_again_when_the_rest_of_it_is_through() -> None:
    async with rig_running() as rig:
        rig.device.feed = Pacing(rig, damaged=10)  # type: ignore[method-assign]
        assert 2 * 6.9 < await seconds(rig.image("thumb")) < 16


@on_virtual_time
async def test_a_picture_that_stops_half_way_is_given_up_after_the_gap() -> None:
    async with rig_running() as rig:
        heard = rig.device.feed
        rig.device.feed = Pacing(rig, stop=20)  # type: ignore[method-assign]
        assert (await refusal(rig.image("thumb"))).code == "fingerprint.no_answer"
        assert asyncio.get_running_loop().time() < 8
        rig.device.feed = heard  # type: ignore[method-assign]
        await check_use(rig)


@on_virtual_time
async def test_a_cancelled_picture_leaves_the_sensor_usable() -> None:
    """The rest of it is still on its way: the next command waits for silence on the wire."""
    async with rig_running() as rig:
        template = await rig.capture("thumb")
        await rig.check_emptied()
        rig.device.feed = Pacing(rig)  # type: ignore[method-assign]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2):
                await rig.image("thumb")
        assert (await rig.match(template, "thumb")).matched
        assert rig.ends == []


@on_virtual_time
async def test_an_upload_without_end_is_bounded() -> None:
    async with rig_running() as rig:
        heard = rig.device.feed
        endless = encode_ack(Code.OK) + encode_packet(Pid.DATA, bytes(128)) * 2000
        rig.device.feed = lambda data: endless if data and asks(data, Command.UPLOAD_CHARACTERS) else heard(data)  # type: ignore[method-assign]
        assert (await refusal(rig.capture("thumb"))).code == "fingerprint.garbled"
        rig.device.feed = heard  # type: ignore[method-assign]
        await rig.until(DeviceState.ONLINE)
        await check_use(rig)


@on_virtual_time
async def test_a_cancellation_is_never_lost_while_a_life_ends() -> None:
    """The link is lost and, before the life has ended, the unit is stopped: it stops."""
    rig = Rig()
    life = asyncio.create_task(rig.sensor.run(rig.online.set), name="life")
    await rig.online.wait()
    leave = rig.sensor._leave

    async def stopped_while_leaving() -> None:
        life.cancel()
        await asyncio.sleep(0)
        await leave()

    rig.sensor._leave = stopped_while_leaving  # type: ignore[method-assign]
    rig.port.unplug()
    assert isinstance((await asyncio.gather(life, return_exceptions=True))[0], asyncio.CancelledError)
    assert rig.sensor.status.state is DeviceState.OFFLINE
