"""The fingerprint sensor's driver over a good in-memory wire on virtual time (T3, T13, T20)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from devices.fingerprint import dialogue
from devices.fingerprint.driver import POLL_SECONDS, WORK_SECONDS, FingerprintSensor
from devices.fingerprint.finger import Guidance, MatchResult, Template, TemplateFormat
from devices.fingerprint.protocol import Code, Command, Upload, encode_ack
from devices.personal import PersonalBytes
from devices.status import DeviceState, DeviceStatus
from sim.devices.fingerprint import VirtualFingerprintSensor, picture
from sim.wire import Fault
from tests.devices.fingerprint_rig import (
    BLANK,
    Rig,
    asks,
    fault_at,
    refusal,
    rig_running,
    with_settings,
)
from tests.devices.supervised import on_virtual_time, seconds


@pytest.mark.parametrize(
    "case",
    [{}, {"chunk_bytes": 1}, {"latency_seconds": 0.25}, {"chunk_bytes": 7, "latency_seconds": 0.1}],
    ids=["normal", "a byte at a time", "slow", "slow and in pieces"],
)
@on_virtual_time
async def test_a_finger_is_captured_and_compared(case: dict[str, Any]) -> None:
    """T3: the same finger matches its template, another one does not."""
    async with rig_running(**case) as rig:
        template = await rig.capture("left thumb")
        assert template.format is TemplateFormat.ZFM_512
        same, other = await rig.match(template, "left thumb"), await rig.match(template, "right thumb")
        assert same.matched
        assert same.score is not None
        assert same.score > 100
        assert other == MatchResult(matched=False, score=None, security_level=4)
        assert rig.ends == []
        assert {status.state for status in rig.statuses} == {DeviceState.ONLINE}


@pytest.mark.parametrize("case", [(1, True), (5, False)], ids=["loose", "strict"])
@on_virtual_time
async def test_the_configured_security_level_decides(case: tuple[int, bool]) -> None:
    """T3: half a finger is enough at level 1 and too little at level 5."""
    level, matched = case
    async with rig_running(settings=with_settings(security_level=level)) as rig:
        assert rig.device.parameters.security_level == level
        template = await rig.capture("thumb")
        result = await rig.match(template, "thumb", share=0.3)
        assert (result.matched, result.security_level) == (matched, level)


@on_virtual_time
async def test_a_cards_record_is_never_compared() -> None:
    """T3, protocols 2.5: GA/T 1012 and ZFM records are both 512 bytes and mean nothing to each other."""
    async with rig_running() as rig:
        record = Template(TemplateFormat.GAT_1012, PersonalBytes(bytes(512)))
        rig.device.place_finger("thumb")
        error = await refusal(rig.match(record))
        assert (error.code, error.retry) == ("fingerprint.format_mismatch", False)
        assert "GA/T 1012" in str(error)
        assert "licensed" in error.advice
        assert rig.guidance == [], "the citizen is not asked for a finger in vain"


@on_virtual_time
async def test_modules_have_templates_of_their_size() -> None:
    async with rig_running(VirtualFingerprintSensor(record_bytes=256)) as rig:
        template = await rig.capture("thumb")
        assert template.format is TemplateFormat.ZFM_256
        assert (await rig.match(template, "thumb")).matched
        larger = Template(TemplateFormat.ZFM_512, PersonalBytes(bytes(512)))
        assert (await refusal(rig.match(larger))).code == "fingerprint.format_mismatch"
        assert rig.sensor.status.details["template"] == "zfm-256"
    rig = Rig(VirtualFingerprintSensor(record_bytes=768))
    error = await refusal(rig.sensor.run(lambda: pytest.fail("trusted")))
    assert (error.code, error.retry) == ("fingerprint.unknown_format", False)


@on_virtual_time
async def test_a_picture_is_taken_and_says_which_fap_it_meets() -> None:
    """T3: none; the sensor's capabilities, status and picture all say so."""
    async with rig_running() as rig:
        image = await rig.image("thumb")
        packed = picture("thumb")
        assert bytes(image.pixels.view()[0::2]) == bytes((byte >> 4) * 17 for byte in packed)
        assert bytes(image.pixels.view()[1::2]) == bytes((byte & 15) * 17 for byte in packed)
        assert image.fap is None
        assert FingerprintSensor.CAPABILITIES["fap"] == rig.sensor.status.details["fap"] == "none"


@on_virtual_time
async def test_the_sensor_waits_for_the_finger() -> None:
    async with rig_running() as rig:
        asyncio.get_running_loop().call_later(15, lambda: rig.device.place_finger("thumb"))
        assert 14.9 < await seconds(rig.capture(wait_seconds=20)) < 15 + WORK_SECONDS
        assert rig.guidance == [Guidance.PLACE]


@on_virtual_time
async def test_no_finger_in_time() -> None:
    async with rig_running() as rig:
        assert 9 < await seconds(refusal(rig.capture())) <= 10.1
        error = await refusal(rig.capture())
        assert (error.code, error.retry) == ("fingerprint.no_finger", True)
        assert rig.sensor.status.state is DeviceState.ONLINE


@pytest.mark.parametrize(
    "case",
    [("dirty", Guidance.WIPE, "fingerprint.dirty"), ("dry", Guidance.PRESS, "fingerprint.few_features")],
    ids=str,
)
@on_virtual_time
async def test_poor_pictures_are_told_and_taken_again(case: tuple[str, Guidance, str]) -> None:
    verb, word, code = case
    async with rig_running() as rig:
        rig.device.verbs[verb]()
        assert (await refusal(rig.capture("thumb"))).code == code
        assert rig.guidance == [Guidance.PLACE, word], "said once, not at each poll"
        asyncio.get_running_loop().call_later(3, rig.device.wipe)
        await rig.capture("thumb")


@on_virtual_time
async def test_a_finger_is_used_once() -> None:
    """T20: what one citizen left on the plate is not the next one's finger."""
    async with rig_running() as rig:
        template = await rig.capture("thumb")
        rig.guidance.clear()
        error = await refusal(
            rig.sensor.match(template, wait_seconds=3, on_guidance=rig.guidance.append),
        )
        assert (error.code, error.retry) == ("fingerprint.not_lifted", True)
        assert rig.guidance == [Guidance.LIFT]
        asyncio.get_running_loop().call_later(5, lambda: rig.device.place_finger("thumb"))
        assert (await rig.match(template)).matched
        assert rig.guidance == [Guidance.LIFT, Guidance.LIFT, Guidance.PLACE]


@on_virtual_time
async def test_nothing_of_a_finger_stays_in_the_module() -> None:
    """T20: after success, refusal and cancellation, by itself; `clear` can be awaited."""
    async with rig_running() as rig:
        template = await rig.capture("thumb")
        await rig.check_emptied()
        await rig.match(template, "thumb")
        assert set(rig.device.buffers.values()) != {BLANK}
        await rig.sensor.clear()
        assert set(rig.device.buffers.values()) == {BLANK}
        rig.device.lift_finger()
        await refusal(rig.match(template))
        await rig.check_emptied()
        rig.device.place_finger("thumb")
        fault_at(rig, Command.MATCH, Fault.SILENT)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await rig.match(template)
        assert set(rig.device.buffers.values()) != {BLANK}
        await rig.check_emptied()
        assert (await rig.match(template, "thumb")).matched


@on_virtual_time
async def test_a_finger_left_by_a_crash_is_overwritten_at_the_start() -> None:
    """T20."""
    device = VirtualFingerprintSensor()
    device.buffers |= {1: b"\1" * 512, 2: b"\2" * 512}
    async with rig_running(device):
        assert set(device.buffers.values()) == {BLANK}


@on_virtual_time
async def test_a_life_that_ends_takes_the_finger_along() -> None:
    """T20: cancelled while a citizen's template waits in the module, three times over; the port is free each time."""
    rig = Rig()
    for _ in range(3):
        rig.online.clear()
        life = asyncio.create_task(rig.sensor.run(rig.online.set), name="life")
        await rig.online.wait()
        template = Template(TemplateFormat.ZFM_512, PersonalBytes(b"\5" * 512))
        operation = asyncio.create_task(refusal(rig.match(template)), name="operation")
        await asyncio.sleep(2)
        assert rig.device.buffers[2] == b"\5" * 512
        life.cancel()
        assert isinstance((await asyncio.gather(life, return_exceptions=True))[0], asyncio.CancelledError)
        assert (await operation).code == "fingerprint.offline"
        assert set(rig.device.buffers.values()) == {BLANK}
        assert rig.sensor.status.state is DeviceState.OFFLINE
    assert rig.port.opened == 3


@on_virtual_time
async def test_a_wrong_password_is_a_permanent_fault() -> None:
    async with rig_running() as rig:
        rig.device.wrong_password()
        await rig.until(DeviceState.HARDWARE_ERROR)
        assert rig.sensor.status.code == "fingerprint.wrong_password"
        error = await refusal(rig.capture())
        assert (error.code, error.retry) == ("fingerprint.wrong_password", False)
        told = len(rig.statuses)
        await asyncio.sleep(60)
        assert len(rig.statuses) == told, "a status is told on change, never on a repeat (L9)"
        rig.device.wrong_password(wrong=False)
        await rig.until(DeviceState.ONLINE)


@on_virtual_time
async def test_the_configured_password_and_address_are_used() -> None:
    """A module with an address of its own can be told from every other one."""
    device = VirtualFingerprintSensor(address=0x12345678)
    device.wrong_password()
    async with rig_running(device, with_settings(address=0x12345678, password=1)) as rig:
        assert rig.sensor.status.identity == "0009-12345678"
        await rig.capture("thumb")


@pytest.mark.parametrize("case", ["silence", "code 20"])
@on_virtual_time
async def test_a_wrong_address_is_refused(case: str) -> None:
    """protocols 2, quirks: silence or code 20."""
    rig = Rig(VirtualFingerprintSensor(address=1))
    if case == "code 20":
        rig.device.feed = lambda data: encode_ack(Code.WRONG_ADDRESS, address=1) if data else b""  # type: ignore[method-assign]
    error = await refusal(rig.sensor.run(lambda: pytest.fail("trusted")))
    assert error.code == ("fingerprint.no_answer" if case == "silence" else "fingerprint.wrong_address")
    assert error.retry is (case == "silence")


@on_virtual_time
async def test_a_module_that_was_restarted_is_opened_again() -> None:
    """It forgot that the password was verified (21), and says 55."""
    async with rig_running() as rig:
        rig.device.power_cycle()
        rig.port.nudge()
        error = await refusal(rig.capture("thumb"))
        assert (error.code, error.retry) == ("fingerprint.not_verified", True)
        await rig.until(DeviceState.OFFLINE)
        await rig.until(DeviceState.ONLINE)
        await rig.capture("thumb")


@pytest.mark.parametrize(
    "case",
    [
        (Command.SET_PARAMETER, Code.BAD_REGISTER, "fingerprint.bad_setting"),
        (Command.SET_PARAMETER, Code.OK, "fingerprint.bad_setting"),
        (Command.SET_PARAMETER, Code.FLASH_ERROR, "fingerprint.hardware_error"),
    ],
    ids=str,
)
@on_virtual_time
async def test_a_level_that_the_module_does_not_take_is_refused(case: tuple[Command, Code, str]) -> None:
    command, code, expected = case
    rig = Rig()
    answer_with(rig, command, code)
    error = await refusal(rig.sensor.run(lambda: pytest.fail("trusted")))
    assert (error.code, error.retry) == (expected, False)
    assert rig.sensor.status.state is DeviceState.HARDWARE_ERROR


@pytest.mark.parametrize(
    "case",
    [
        (Command.GENERATE_IMAGE, Code.NOT_IMAGED, "fingerprint.not_imaged"),
        (Command.IMAGE_TO_CHARACTERS, Code.NO_IMAGE, "fingerprint.refused"),
        (Command.MATCH, Code.CANNOT_RECEIVE, "fingerprint.refused"),
        (Command.DOWNLOAD_CHARACTERS, Code.CANNOT_RECEIVE, "fingerprint.refused"),
        (Command.MATCH, Code.PACKET_ERROR, "fingerprint.garbled"),
    ],
    ids=str,
)
@on_virtual_time
async def test_refusals_of_the_module_have_their_codes(case: tuple[Command, Code, str]) -> None:
    command, code, expected = case
    async with rig_running() as rig:
        template = Template(TemplateFormat.ZFM_512, PersonalBytes(bytes(512)))
        mend = answer_with(rig, command, code)
        error = await refusal(rig.match(template, "thumb"))
        assert (error.code, error.retry) == (expected, True)
        mend()
        assert not (await rig.match(template, "thumb")).matched


@pytest.mark.parametrize("case", [32, 64, 128, 256])
@on_virtual_time
async def test_every_packet_size_is_spoken(case: int) -> None:
    async with rig_running(VirtualFingerprintSensor(packet_bytes=case)) as rig:
        assert (await rig.match(await rig.capture("thumb"), "thumb")).matched
        await rig.image("thumb")


@pytest.mark.parametrize("case", [Command.HANDSHAKE, Command.CHECK_SENSOR, Command.MATCH], ids=["40", "53", "none"])
@on_virtual_time
async def test_both_handshakes_are_known_and_neither_is_needed(case: Command) -> None:
    """protocols 2, quirks; no answer is unknown, never a value (L14)."""
    async with rig_running(VirtualFingerprintSensor(handshake=case)) as rig:
        known = {Command.HANDSHAKE: "40", Command.CHECK_SENSOR: "53"}
        assert rig.sensor.status.details.get("handshake") == known.get(case)
        assert rig.sensor.status.identity == "0009-FFFFFFFF"


@on_virtual_time
async def test_a_second_operation_waits_its_turn_and_no_longer() -> None:
    async with rig_running() as rig, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(refusal(rig.capture(wait_seconds=10)), name="first")
        await asyncio.sleep(1)
        assert (await refusal(rig.capture(wait_seconds=2))).code == "fingerprint.busy"
        assert (await first).code == "fingerprint.no_finger"


@on_virtual_time
async def test_an_idle_day_is_quiet_and_the_plate_is_left_alone() -> None:
    async with rig_running() as rig:
        looks = 0
        heard = rig.device.feed

        def feed(data: bytes) -> bytes:
            nonlocal looks
            looks += asks(data, Command.GENERATE_IMAGE)
            return heard(data)

        rig.device.feed = feed  # type: ignore[method-assign]
        await asyncio.sleep(86_400)
        assert len(rig.statuses) == 1
        assert looks == 0
        await refusal(rig.capture(wait_seconds=2))
        assert looks <= 2 / POLL_SECONDS + 1


@on_virtual_time
async def test_buffers_on_the_way_are_overwritten() -> None:
    """T20: only the template and the picture hold the finger."""
    buffers: list[bytearray] = []

    class Kept(Upload):
        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            buffers.append(self.data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialogue, "Upload", Kept)
        async with rig_running() as rig:
            buffers.clear()
            heard = rig.device.feed
            cuts = [(200, 568), (151, 290), (0, 0)]  # half of it, a packet, nothing

            def feed(data: bytes) -> bytes:
                reply = heard(data)
                if data and asks(data, Command.UPLOAD_CHARACTERS):
                    start, end = cuts.pop(0)
                    return reply[:start] + reply[end:]
                return reply

            rig.device.feed = feed  # type: ignore[method-assign]
            template = await rig.capture("thumb")
            await rig.image("thumb")
            assert any(template.data.view())
    assert [len(buffer) for buffer in buffers] == [128, 384, 512, 36_864]
    assert not any(map(any, buffers))


@on_virtual_time
async def test_an_operation_at_once_after_another_finds_the_module_empty() -> None:
    """T20."""
    async with rig_running() as rig:
        await rig.capture("thumb")
        rig.device.lift_finger()
        seen = set[bytes]()
        asyncio.get_running_loop().call_later(1, lambda: seen.update(rig.device.buffers.values()))
        await refusal(rig.capture(wait_seconds=5))
        assert seen == {BLANK}


@on_virtual_time
async def test_nothing_personal_is_logged() -> None:
    """T20: no log, status or error holds features, nor the name of whose they are."""
    with capture_logs() as logs:
        async with rig_running() as rig:
            template = await rig.capture("zhang san's thumb")
            result = await rig.match(template, "zhang san's thumb")
            error = await refusal(rig.match(template))
            rig.port.unplug()
            await rig.until(DeviceState.OFFLINE)
    said = f"{logs} {rig.statuses} {error} {error.advice} {template} {result}"
    assert logs
    assert "zhang" not in said
    assert not any(bytes(template.data.view()[start : start + 4]).hex() in said for start in range(0, 64, 4))


@on_virtual_time
async def test_the_first_status_of_a_sensor() -> None:
    async with rig_running() as rig:
        details: dict[str, str | bool] = {
            "fap": "none",
            "security_level": "4",
            "template": "zfm-512",
            "handshake": "40",
        }
        assert rig.statuses == [DeviceStatus(DeviceState.ONLINE, None, "0009-FFFFFFFF", details)]


def answer_with(rig: Rig, command: Command, code: Code) -> Callable[[], None]:
    """Let the module answer `command` with `code` without obeying it; return how to end that."""
    heard = rig.device.feed

    def feed(data: bytes) -> bytes:
        return encode_ack(code) if data and asks(data, command) else heard(data)

    def mend() -> None:
        rig.device.feed = heard  # type: ignore[method-assign]

    rig.device.feed = feed  # type: ignore[method-assign]
    return mend
