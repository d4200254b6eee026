"""The PIN pad's driver over bad wires and with pads that are tampered with, leak or fall silent (T6, T13, T23, L15)."""

import asyncio
import random
from typing import Any

import pytest
from structlog.testing import capture_logs

from devices.driver import HEALTH_SECONDS
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.pinpad.commands import KEY_TABLE
from devices.pinpad.driver import PinBlock
from devices.pinpad.keys import KeyState
from devices.pinpad.protocol import CLEAR_DIGITS, PinKey
from devices.status import DeviceState
from sim.devices.pinpad import VirtualPinPad
from sim.wire import Fault
from tests.devices.pinpad_rig import GOLDEN_BLOCK, IDENTITY, PIN, answer_with, fault_at, refusal, rig_running
from tests.devices.supervised import on_virtual_time, seconds


@pytest.mark.parametrize(
    "case",
    [
        {"kind": kind, "body": body}
        for kind in (Fault.GARBAGE, Fault.CORRUPT, Fault.DUPLICATE, Fault.HALF, Fault.SILENT, Fault.LATE)
        for body in (b"54", b"55", b"6", b"5032", b"c", b"I")
    ],
    ids=str,
)
@on_virtual_time
async def test_one_fault_at_any_command_is_survived(case: dict[str, Any]) -> None:
    """A damaged, lost, late or doubled answer costs time, and raises no false alarm."""
    async with rig_running() as rig:
        fault_at(rig, case["body"], case["kind"])
        await rig.load_keys()
        task = asyncio.ensure_future(rig.enter())
        await asyncio.sleep(4)
        rig.do("press", digits=PIN)
        await rig.until_keys(6)
        rig.do("enter")
        (await task).wipe()
        assert rig.keys == [PinKey.STAR] * 6 + [PinKey.ENTER]
        await asyncio.sleep(HEALTH_SECONDS + 10)
        await rig.check_entry()
        assert rig.ends == []
        assert rig.pad.status.state is DeviceState.ONLINE


@pytest.mark.parametrize("kind", [Fault.CORRUPT, Fault.HALF, Fault.SILENT, Fault.LATE], ids=str)
@on_virtual_time
async def test_a_lost_pin_block_asks_the_citizen_again(kind: Fault) -> None:
    """The pad has forgotten the PIN by then; the lost block is given to nobody, however late it comes (L15)."""
    async with rig_running() as rig:
        await rig.load_keys()
        fault_at(rig, b"o", kind)
        async with rig.entering() as task:
            rig.do("press", digits="999999")
            rig.do("enter")
            assert await refusal(task) == ("pinpad.no_pin", True)
        await rig.check_entry()


@on_virtual_time
async def test_a_wire_that_always_damages_ends_the_life() -> None:
    async with rig_running() as rig:
        rig.port.faults.add(Fault.CORRUPT, times=60)
        assert await refusal(rig.pad.mac(b"x")) == ("pinpad.garbled", True)
        await rig.until(DeviceState.OFFLINE)
        rig.port.faults.clear()
        await rig.until(DeviceState.ONLINE)
        await rig.load_keys()
        await rig.check_entry()


@on_virtual_time
async def test_a_garbage_flood_is_bounded_and_survived() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        async with rig.entering() as task:
            rig.device._said += b"\xff\x00*" * 20_000 + b"\x02" * 20_000
            rig.port.nudge()
            await asyncio.sleep(1)
            assert len(rig.keys) <= 64
            assert rig.pad._decoder.pending < 500
            rig.do("cancel")
            assert await refusal(task) == ("pinpad.cancelled", True)
        await rig.check_entry()


@pytest.mark.parametrize("after", [0, 3])
@on_virtual_time
async def test_a_digit_in_clear_ends_the_entry_and_raises_an_alarm(after: int) -> None:
    """T6, T23: at once, without the digit; and that pad takes no PIN again."""
    with capture_logs() as logs:
        async with rig_running() as rig:
            await rig.load_keys()
            async with rig.entering() as task:
                for digit in "1" * after:
                    rig.do("press", digits=digit)
                await rig.until_keys(after)
                rig.device.leak_clear_digit()
                rig.do("press", digits="7")
                assert await seconds(refusal(task)) < 0.1
                assert task.done()
            assert rig.keys == [PinKey.STAR] * after
            assert rig.pad.status.state is DeviceState.FRAUD_ATTEMPT
            assert rig.pad.status.code == "pinpad.clear_digit"
            assert not rig.device.keypad_on
            rig.device.leak_clear_digit(leaking=False)
            for work in (rig.enter(), rig.pad.mac(b"x"), rig.pad.wait_function_key(wait_seconds=9)):
                assert await refusal(work) == ("pinpad.clear_digit", False)
            await rig.pad.reset()
            await asyncio.sleep(HEALTH_SECONDS + 1)
            assert rig.pad.status.state is DeviceState.FRAUD_ATTEMPT, "a digit that leaked once may leak again"
            said = f"{logs} {rig.statuses}"
    assert "7" not in said.replace(IDENTITY, "")


@on_virtual_time
async def test_a_leak_says_the_same_whichever_digit_it_was() -> None:
    """T6: what the UI, the log, the status and the error say cannot tell one digit from another."""
    told = set()
    for digit in CLEAR_DIGITS:
        with capture_logs() as logs:
            async with rig_running() as rig:
                await rig.load_keys()
                async with rig.entering() as task:
                    rig.device._said.append(digit)
                    rig.port.nudge()
                    (error,) = await asyncio.gather(task, return_exceptions=True)
                assert isinstance(error, DeviceError)
                told.add(f"{rig.keys} {logs} {rig.statuses} {error.code} {error} {error.advice}")
    assert len(told) == 1


@on_virtual_time
async def test_only_another_pad_ends_the_alarm_of_a_leak() -> None:
    async with rig_running() as rig:
        rig.device.leak_clear_digit()
        task = asyncio.ensure_future(rig.pad.wait_function_key(wait_seconds=60))
        await rig.until_begun()
        rig.do("press", digits="5")
        assert await refusal(task) == ("pinpad.clear_digit", False)
        rig.device.mend()
        rig.port.unplug()
        rig.port.plug()
        await rig.until(DeviceState.OFFLINE)
        await rig.until(DeviceState.FRAUD_ATTEMPT)
        rig.port.unplug()
        rig.port.device = VirtualPinPad(serial="26110018")
        rig.port.plug()
        await rig.until(DeviceState.OFFLINE)
        await rig.until(DeviceState.ONLINE)
        assert rig.pad.status.identity == "ZT598-26110018"


@pytest.mark.parametrize("case", [("tamper", "tampered"), ("lock", "locked"), ("remove", "removed")], ids=str)
@on_virtual_time
async def test_a_pad_that_was_tampered_with_is_an_alarm(case: tuple[str, str]) -> None:
    """T6, T23: DD, FB and FF; it lasts until a maintainer resets a pad that is whole again."""
    verb, word = case
    async with rig_running() as rig:
        await rig.load_keys()
        rig.do(verb)
        assert await seconds(rig.until(DeviceState.FRAUD_ATTEMPT)) <= HEALTH_SECONDS
        assert rig.pad.status.code == "pinpad.tampered"
        assert rig.pad.status.identity == IDENTITY
        assert rig.pad.status.details == {"encryption_state": "initialized", "tamper": word}
        assert await refusal(rig.enter()) == ("pinpad.tampered", False)
        assert await refusal(rig.pad.reset()) == ("pinpad.tampered", False)
        told = len(rig.statuses)
        rig.device.mend()
        await asyncio.sleep(10 * HEALTH_SECONDS)
        assert rig.pad.status.state is DeviceState.FRAUD_ATTEMPT
        assert len(rig.statuses) == told, "a status is told on change, never on a repeat (L9)"
        await rig.pad.reset()
        assert rig.pad.status.state is DeviceState.ONLINE
        await rig.load_keys()
        await rig.check_entry()
        assert rig.ends == []


@on_virtual_time
async def test_tampering_shows_in_the_answer_to_any_command() -> None:
    async with rig_running() as rig:
        rig.device.tamper()
        assert await refusal(rig.pad.mac(b"x")) == ("pinpad.tampered", False)
        assert rig.pad.status.state is DeviceState.FRAUD_ATTEMPT


@on_virtual_time
async def test_a_pad_that_is_opened_during_an_entry() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        async with rig.entering() as task:
            rig.do("press", digits="123")
            rig.do("tamper")
            assert await seconds(refusal(task)) <= 30
        assert rig.pad.status.code == "pinpad.tampered"
        assert await refusal(rig.enter()) == ("pinpad.tampered", False)


@on_virtual_time
async def test_a_pad_that_was_tampered_with_before_it_was_opened() -> None:
    async with rig_running() as rig:
        rig.port.unplug()
        rig.device.remove()
        rig.port.plug()
        await rig.until(DeviceState.OFFLINE)
        await rig.until(DeviceState.FRAUD_ATTEMPT)
        assert rig.pad.status.details["tamper"] == "removed"
        rig.device.mend()
        await rig.pad.reset()
        await rig.load_keys()
        await rig.check_entry()


@on_virtual_time
async def test_a_pad_that_falls_silent_is_offline_and_comes_back() -> None:
    """L3: health is evidence from the device."""
    async with rig_running() as rig:
        rig.device.silent()
        assert await seconds(rig.until(DeviceState.OFFLINE)) < HEALTH_SECONDS + 5
        assert rig.pad.status.code == "pinpad.no_answer"
        assert await refusal(rig.pad.mac(b"x")) == ("pinpad.no_answer", True)
        rig.device.mend()
        await rig.until(DeviceState.ONLINE)
        await rig.load_keys()
        await rig.check_entry()


@on_virtual_time
async def test_a_pad_that_falls_silent_during_an_entry_has_its_keypad_off_before_it_serves_again() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        async with rig.entering() as task:
            rig.do("press", digits="12")
            rig.device.silent()
            assert await seconds(refusal(task)) < 30 + 5
        await rig.until(DeviceState.OFFLINE)
        rig.device.keypad_on = True
        rig.device.mend()
        await rig.until(DeviceState.ONLINE)
        assert not rig.device.keypad_on
        await rig.load_keys()
        await rig.check_entry()


@on_virtual_time
async def test_a_keypad_that_was_not_turned_off_is_turned_off_by_the_next_check() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        fault_at(rig, b"5032", Fault.SILENT, times=2)
        async with rig.entering() as task:
            rig.do("cancel")
            assert await refusal(task) == ("pinpad.cancelled", True)
        await asyncio.sleep(3)
        assert rig.asked[-1][4:8] == b"5223", "prepared anew"
        assert rig.ends == []
        await rig.check_entry()


@pytest.mark.parametrize("what", ["another pad", "another key table"])
@on_virtual_time
async def test_a_pad_that_is_exchanged_behind_its_adapter_is_another_life(what: str) -> None:
    """L7: the link never broke; nothing that the first pad has shown is believed of the second."""
    async with rig_running() as rig:
        await rig.load_keys()
        if what == "another pad":
            rig.device._serial = "26110018"
        else:
            rig.device.key_table = b"41" * 24
        assert await seconds(rig.until(DeviceState.OFFLINE)) < HEALTH_SECONDS + 1
        await rig.until(DeviceState.ONLINE)
        assert rig.pad.status.identity == ("ZT598-26110018" if what == "another pad" else IDENTITY)
        assert rig.device.key_table == KEY_TABLE
        assert (await rig.pad.key_status()).pin_key is KeyState.UNKNOWN


@on_virtual_time
async def test_unplugged_while_idle() -> None:
    """L1, L5: seen at once, refused at once, back by itself."""
    async with rig_running() as rig:
        rig.port.unplug()
        assert await seconds(rig.until(DeviceState.OFFLINE)) == 0
        assert rig.pad.status.code == "pinpad.offline"
        assert await refusal(rig.enter()) == ("pinpad.offline", True)
        rig.port.plug()
        await rig.until(DeviceState.ONLINE)
        await rig.load_keys()
        await rig.check_entry()


@on_virtual_time
async def test_unplugged_during_an_entry() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        async with rig.entering() as task:
            rig.do("press", digits="123")
            rig.port.unplug()
            assert await seconds(refusal(task)) < 0.1
        assert isinstance(rig.ends[0], LinkLost)
        rig.port.plug()
        await rig.until(DeviceState.ONLINE)
        assert not rig.device.keypad_on
        await rig.load_keys()
        await rig.check_entry()


@pytest.mark.parametrize("body", [b"54", b"6", b"o", b"5032"], ids=str)
@on_virtual_time
async def test_unplugged_in_the_middle_of_an_answer(body: bytes) -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        fault_at(rig, body, Fault.UNPLUG)
        task = asyncio.ensure_future(rig.enter())
        await asyncio.sleep(1)
        rig.do("press", digits=PIN)
        rig.do("enter")
        done = (await asyncio.gather(task, return_exceptions=True))[0]
        assert (body == b"5032") != isinstance(done, Exception)
        await rig.until(DeviceState.OFFLINE)
        rig.port.plug()
        await rig.until(DeviceState.ONLINE)
        await rig.load_keys()
        await rig.check_entry()


@pytest.mark.parametrize(
    "case",
    [
        (0xE1, "pinpad.no_master_key", False),
        (0xE4, "pinpad.key_missing", True),
        (0xE6, "pinpad.bad_key", False),
        (0xE7, "pinpad.bad_key", False),
        (0xEB, "pinpad.refused", True),
        (0xEC, "pinpad.not_authorised", False),
        (0xDE, "pinpad.failed", False),
        (0xEE, "pinpad.timeout", True),
        (0xC0, "pinpad.refused", True),
    ],
    ids=str,
)
@on_virtual_time
async def test_refusals_of_the_pad_have_their_codes(case: tuple[int, str, bool]) -> None:
    code, said, retry = case
    async with rig_running() as rig:
        await rig.load_keys()
        answer_with(rig, b"e", lambda _: bytes((code,)))
        assert await refusal(rig.pad.mac(b"x")) == (said, retry)
        assert rig.ends == []


@pytest.mark.parametrize("answer", [b"\x600006" + b"x" * 32, b"\x600006" + b" " * 32], ids=str)
@on_virtual_time
async def test_a_pin_block_that_is_none_is_refused(answer: bytes) -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        answer_with(rig, b"o", lambda _: answer)
        async with rig.entering() as task:
            rig.do("press", digits=PIN)
            rig.do("enter")
            assert await refusal(task) == ("pinpad.bad_answer", True)
        assert not rig.device.keypad_on


@pytest.mark.parametrize("seed", range(4))
@on_virtual_time
async def test_a_wire_that_loses_one_answer_in_five(seed: int) -> None:
    """Every entry ends with the block or with an error that may pass, and never leaves the keypad on for long."""
    chance = random.Random(seed)  # noqa: S311 - a schedule of faults
    async with rig_running() as rig:
        await rig.load_keys()
        heard = rig.device.feed
        blocks = 0
        for _ in range(20):
            rig.device.feed = lambda data: heard(data) if not data or chance.random() > 0.2 else heard(data)[:0]  # type: ignore[method-assign]
            task = asyncio.ensure_future(rig.enter())
            await asyncio.sleep(8)
            rig.do("press", digits=PIN)
            rig.do("enter")
            (end,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(end, PinBlock):
                blocks += 1
                assert bytes(end.view()) == GOLDEN_BLOCK
            else:
                assert isinstance(end, DeviceError)
                assert end.retry
            rig.device.feed = heard  # type: ignore[method-assign]
            await asyncio.sleep(HEALTH_SECONDS + 10)
            assert not rig.device.keypad_on
            assert rig.pad.status.state is DeviceState.ONLINE
        assert blocks >= 8
