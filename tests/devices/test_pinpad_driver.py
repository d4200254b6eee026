"""The PIN pad's driver over a good in-memory wire on virtual time (T6, T13, T20)."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from devices.config import PinPad
from devices.driver import HEALTH_SECONDS
from devices.personal import Kind, PersonalText
from devices.pinpad import commands
from devices.pinpad.driver import RESET_SECONDS
from devices.pinpad.keys import EncryptionState, KeyState
from devices.pinpad.protocol import FunctionKey, PinKey
from devices.status import DeviceState
from sim.devices import pinblock
from sim.devices.pinpad import MASTER_KEYS
from sim.wire import Fault
from tests.devices.pinpad_rig import (
    IDENTITY,
    KCV,
    MAC_KEY,
    PAN12,
    PIN,
    PIN_KEY,
    WRAPPED,
    Rig,
    answer_with,
    fault_at,
    pan12,
    refusal,
    rig_running,
)
from tests.devices.supervised import on_virtual_time, seconds

WORKING_KEY = bytes.fromhex("F351D490994603795C6EBEE8FAEBB481")
DES = PinPad(port="pinpad", algorithm="3des")


@pytest.mark.parametrize(
    "case",
    [{}, {"chunk_bytes": 1}, {"latency_seconds": 0.25}, {"chunk_bytes": 7, "latency_seconds": 0.1}],
    ids=["normal", "a byte at a time", "slow", "slow and in pieces"],
)
@on_virtual_time
async def test_a_pin_is_entered(case: dict[str, Any]) -> None:
    """T6: stars and the golden block of protocols 6.3."""
    async with rig_running(**case) as rig:
        await rig.load_keys()
        await rig.check_entry()
        await rig.check_entry()
        assert rig.ends == []
        assert [status.state for status in rig.statuses] == [DeviceState.ONLINE] * 2
        assert rig.pad.status.identity == IDENTITY
        assert rig.pad.status.details == {"encryption_state": "ready"}


@on_virtual_time
async def test_a_pin_under_3des() -> None:
    """protocols 6.3: ISO 9564 form 0; its clear block is the document's."""
    key = MASTER_KEYS["3des"]
    assert pinblock.check_value("3des", key).hex().upper() == "08D7B4FB629D0885"
    async with rig_running(DES) as rig:
        wrapped = pinblock.encrypt("3des", MASTER_KEYS["3des"], key)
        await rig.pad.load_working_key(PIN_KEY, wrapped, bytes.fromhex("08D7B4"))
        await rig.pad.load_working_key(MAC_KEY, wrapped, bytes.fromhex("08D7B4"))
        async with rig.entering() as task:
            rig.do("press", digits=PIN)
            rig.do("enter")
            block = await task
        assert bytes(block.view()) == pinblock.encrypt("3des", key, pinblock.clear_block("3des", PIN, PAN12))
        assert len(await rig.pad.mac(b"12345")) == 8


@pytest.mark.parametrize(
    "case",
    [
        ("3des", "1234", "202123456789", "041214DEDCBA9876"),
        ("3des", "123456", "678901234567", "061253DFFEDCBA98"),
        ("sm4", "123456", "202123456789", "06123456FFFFFFFFFFFFDFDEDCBA9876"),
    ],
    ids=str,
)
def test_the_rigs_blocks_are_the_documents(case: tuple[str, str, str, str]) -> None:
    """protocols 6.3."""
    algorithm, pin, pan, block = case
    assert pinblock.clear_block(algorithm, pin, pan).hex().upper() == block


def test_the_rigs_sm4_is_the_documents() -> None:
    """protocols 6.3."""
    assert pinblock.decrypt("sm4", MASTER_KEYS["sm4"], WRAPPED) == WORKING_KEY
    assert pinblock.check_value("sm4", WORKING_KEY) == KCV
    key = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    assert pinblock.encrypt("sm4", key, key).hex().upper() == "681EDF34D206965E86B3E94F536E4246"


@on_virtual_time
async def test_the_clear_key_takes_the_pin_back() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        async with rig.entering() as task:
            rig.do("press", digits="99")
            rig.do("clear")
            rig.do("press", digits=PIN)
            rig.do("enter")
            block = await task
        assert rig.keys == [PinKey.STAR] * 2 + [PinKey.CLEAR] + [PinKey.STAR] * 6 + [PinKey.ENTER]
        assert bytes(block.view()) == pinblock.pin_block("sm4", WORKING_KEY, PIN, PAN12)


@on_virtual_time
async def test_the_pad_holds_the_limits_of_a_pin() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        task = asyncio.ensure_future(rig.enter(min_digits=4, max_digits=5))
        await rig.until_begun()
        rig.do("press", digits="123")
        rig.do("enter")
        rig.do("press", digits="4567")
        rig.do("enter")
        assert bytes((await task).view()) == pinblock.pin_block("sm4", WORKING_KEY, "12345", PAN12)
        assert rig.keys == [PinKey.STAR] * 5 + [PinKey.ENTER]


@on_virtual_time
async def test_cancel_and_the_pads_own_time_limit() -> None:
    """T6: each ends the entry with the keypad off; the next one is served."""
    async with rig_running() as rig:
        await rig.load_keys()
        for verb, code, key in [
            ("cancel", "pinpad.cancelled", PinKey.CANCEL),
            ("expire", "pinpad.timeout", PinKey.TIMEOUT),
        ]:
            async with rig.entering() as task:
                rig.do("press", digits="12")
                rig.do(verb)
                assert await refusal(task) == (code, True)
            assert rig.keys == [PinKey.STAR, PinKey.STAR, key]
            assert rig.asked[-1] == b"\x020045032\x0333"
        await rig.check_entry()


@on_virtual_time
async def test_a_citizen_who_takes_too_long() -> None:
    """T13: by our own limit, the keypad off and the half PIN gone."""
    async with rig_running() as rig:
        await rig.load_keys()
        async with rig.entering() as task:
            rig.do("press", digits="123")
            assert await seconds(refusal(task)) <= 30
            assert not rig.device.keypad_on
        assert await refusal(rig.pad._command(commands.get_pin_block("sm4", PIN_KEY, PAN12))) == ("pinpad.no_pin", True)
        await rig.check_entry()


@on_virtual_time
async def test_a_caller_that_is_cancelled_leaves_the_keypad_off() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        async with rig.entering() as task:
            rig.do("press", digits="123")
            task.cancel()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not rig.device.keypad_on
        await rig.check_entry()


@on_virtual_time
async def test_a_listener_that_fails_leaves_the_keypad_off() -> None:
    async with rig_running() as rig:
        await rig.load_keys()

        def fail(_: PinKey) -> None:
            raise RuntimeError("the UI")

        task = asyncio.ensure_future(rig.pad.enter_pin(pan12(), fail))
        await rig.until_begun()
        rig.do("press", digits="1")
        with pytest.raises(RuntimeError, match="the UI"):
            await task
        assert not rig.device.keypad_on
        await rig.check_entry()


@on_virtual_time
async def test_shutdown_during_an_entry_turns_the_keypad_off() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        task = asyncio.ensure_future(rig.enter())
        await rig.until_begun()
        rig.do("press", digits="123")
    assert await refusal(task) == ("pinpad.offline", True)
    assert not rig.device.keypad_on
    assert rig.pad.status.state is DeviceState.OFFLINE


@on_virtual_time
async def test_keys_outside_an_entry_are_nothing() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        rig.device._said += b"123*\x0d\x1b"
        rig.port.nudge()
        await asyncio.sleep(1)
        assert rig.keys == []
        assert rig.pad.status.state is DeviceState.ONLINE
        await rig.check_entry()


@on_virtual_time
async def test_a_function_key_is_waited_for_without_plaintext_keys() -> None:
    """T6: digits are masked, so a PIN that is typed too early stays in the pad."""
    async with rig_running() as rig:
        for number, key in enumerate(FunctionKey, start=1):
            task = asyncio.ensure_future(rig.pad.wait_function_key(wait_seconds=60))
            await rig.until_begun()
            rig.do("press", digits="1234")
            rig.do("function", number=number)
            assert await task is key
            assert not rig.device.keypad_on
        assert not any(b"5033" in request for request in rig.asked)


@on_virtual_time
async def test_a_wait_for_a_function_key_ends() -> None:
    async with rig_running() as rig:
        assert 10 <= await seconds(refusal(rig.pad.wait_function_key(wait_seconds=10))) < 11
        task = asyncio.ensure_future(rig.pad.wait_function_key(wait_seconds=60))
        await rig.until_begun()
        rig.do("expire")
        await rig.until_begun()
        rig.do("cancel")
        assert await refusal(task) == ("pinpad.cancelled", True)
        assert rig.device.entries == 3
        assert not rig.device.keypad_on


@on_virtual_time
async def test_a_key_with_another_check_value_is_not_used() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        wrong = rig.pad.load_working_key(PIN_KEY, WRAPPED, bytes(8))
        assert await refusal(wrong) == ("pinpad.bad_key", False)
        assert await refusal(rig.enter()) == ("pinpad.bad_key", False)
        assert rig.pad.status.details == {"encryption_state": "initialized"}
        fault_at(rig, b"c", Fault.SILENT, times=2)
        lost = rig.pad.load_working_key(PIN_KEY, WRAPPED, KCV)
        assert await refusal(lost) == ("pinpad.no_answer", True)
        assert await refusal(rig.enter()) == ("pinpad.bad_key", False), "nor after a load that nobody knows the end of"
        await rig.pad.load_working_key(PIN_KEY, WRAPPED, KCV[:3])
        await rig.check_entry()


@on_virtual_time
async def test_a_check_value_of_blanks_proves_nothing() -> None:
    async with rig_running() as rig:
        answer_with(rig, b"c", lambda _: b"\x60" + b" " * 16)
        assert await refusal(rig.pad.load_working_key(PIN_KEY, WRAPPED, KCV)) == ("pinpad.bad_answer", True)


@on_virtual_time
async def test_what_the_pad_has_shown_of_its_keys() -> None:
    async with rig_running() as rig:
        status = await rig.pad.key_status()
        assert status.encryption is EncryptionState.INITIALIZED
        assert (status.pin_key, status.mac_key) == (KeyState.UNKNOWN, KeyState.ABSENT)
        await rig.pad.load_working_key(MAC_KEY, WRAPPED, KCV)
        await rig.pad.load_working_key(PIN_KEY, WRAPPED, KCV)
        status = await rig.pad.key_status()
        assert status.encryption is EncryptionState.READY
        assert (status.pin_key, status.mac_key) == (KeyState.VERIFIED, KeyState.VERIFIED)
        rig.port.unplug()
        rig.port.plug()
        await rig.until(DeviceState.OFFLINE)
        await rig.until(DeviceState.ONLINE)
        status = await rig.pad.key_status()
        assert (status.pin_key, status.mac_key) == (KeyState.UNKNOWN, KeyState.PRESENT), "in the pad, but not proven"
        await rig.check_entry()
        assert (await rig.pad.key_status()).pin_key is KeyState.PRESENT
        rig.device.forget_keys()
        status = await rig.pad.key_status()
        assert status.encryption is EncryptionState.NOT_INITIALIZED
        assert rig.pad.status.details == {"encryption_state": "notInitialized"}


@on_virtual_time
async def test_missing_keys_have_their_codes() -> None:
    async with rig_running() as rig:
        assert await refusal(rig.pad.mac(b"x")) == ("pinpad.key_missing", True)
        async with rig.entering() as task:
            rig.do("press", digits=PIN)
            rig.do("enter")
            assert await refusal(task) == ("pinpad.key_missing", True)
        rig.device.forget_keys()
        assert await refusal(rig.pad.load_working_key(PIN_KEY, WRAPPED, KCV)) == ("pinpad.no_master_key", False)


@pytest.mark.parametrize("size", [1, 16, 480, 481, 960, 1920])
@on_virtual_time
async def test_a_message_code_is_one_chain_however_many_commands_it_takes(size: int) -> None:
    """T13: the longest message at 9600 bit/s stays under 5 s."""
    data = bytes(number % 251 for number in range(size))
    async with rig_running() as rig:
        await rig.load_keys()
        padded = data + bytes(-size % 16)
        rig.asked.clear()
        assert await rig.pad.mac(data) == pinblock.message_code("sm4", WORKING_KEY, bytes(16), padded)
        answers = 40 * len(rig.asked)
        assert (sum(map(len, rig.asked)) + answers) * 10 / 9600 < 5
    async with rig_running(DES) as rig:
        key = MASTER_KEYS["3des"]
        wrapped = pinblock.encrypt("3des", key, key)
        await rig.pad.load_working_key(MAC_KEY, wrapped, pinblock.check_value("3des", key))
        padded = data + bytes(-size % 8)
        assert await rig.pad.mac(data) == pinblock.message_code("3des", key, bytes(8), padded)


@on_virtual_time
async def test_arguments_that_cannot_be_are_refused_before_the_wire() -> None:
    async with rig_running() as rig:
        asked = len(rig.asked)
        for wrong in ("20212345678", "2021234567890", "20212345678x", "２０２１２３４５６７８９"):
            with pytest.raises(ValueError, match="12 digits") as caught:
                await rig.pad.enter_pin(PersonalText(wrong, Kind.IDENTIFIER), rig.note_key)
            assert wrong not in str(caught.value)
        for limits in ({"min_digits": 3}, {"min_digits": 7, "max_digits": 6}, {"max_digits": 13}):
            with pytest.raises(ValueError, match="4 to 12"):
                await rig.enter(**limits)
        for slot, key, kcv in [(0x40, WRAPPED, KCV), (PIN_KEY, WRAPPED[:8], KCV), (PIN_KEY, WRAPPED, KCV[:2])]:
            with pytest.raises(ValueError, match="not a configured slot"):
                await rig.pad.load_working_key(slot, key, kcv)
        for data in (b"", bytes(1921)):
            with pytest.raises(ValueError, match="1 to 1920"):
                await rig.pad.mac(data)
        assert len(rig.asked) == asked


@on_virtual_time
async def test_one_entry_at_a_time() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        async with rig.entering():
            assert await refusal(rig.enter()) == ("pinpad.busy", True)
            assert await refusal(rig.pad.mac(b"x")) == ("pinpad.busy", True)


@on_virtual_time
async def test_another_key_table_is_set_right() -> None:
    """A pad whose digits had the codes of function keys would leak them; the table is ours before any entry."""
    rig = Rig()
    rig.device.key_table = b"41" * 24
    task = asyncio.create_task(rig.supervise(), name="supervisor")
    await rig.online.wait()
    assert rig.device.key_table == commands.KEY_TABLE
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@on_virtual_time
async def test_a_pad_that_keeps_another_key_table_is_refused() -> None:
    rig = Rig()
    rig.device.key_table = b"41" * 24
    answer_with(rig, b"4", lambda _: b"\x60")
    rig.device._set_table = lambda _: b""  # type: ignore[method-assign]
    task = asyncio.create_task(rig.supervise(), name="supervisor")
    await rig.until(DeviceState.HARDWARE_ERROR)
    assert rig.pad.status.code == "pinpad.unknown_model"
    assert await refusal(rig.pad.mac(b"x")) == ("pinpad.unknown_model", False)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@on_virtual_time
async def test_no_entry_begins_at_a_pad_that_was_not_prepared() -> None:
    """T6: whoever gave up a reset in its middle leaves a pad whose key table nobody has seen."""
    async with rig_running() as rig:
        await rig.load_keys()
        reset = asyncio.ensure_future(rig.pad.reset())
        await asyncio.sleep(1)
        reset.cancel()
        await asyncio.gather(reset, return_exceptions=True)
        rig.device.key_table = b"41" * 24
        async with rig.entering():
            assert rig.device.keypad_on
            assert rig.device.key_table == commands.KEY_TABLE


@on_virtual_time
async def test_reset_starts_the_pad_anew() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        assert RESET_SECONDS <= await seconds(rig.pad.reset()) < RESET_SECONDS + 1
        await rig.check_entry()


@on_virtual_time
async def test_a_low_battery_is_told_and_does_not_stop_the_service() -> None:
    async with rig_running() as rig:
        await rig.load_keys()
        rig.device.low_battery()
        await asyncio.sleep(HEALTH_SECONDS + 1)
        assert rig.pad.status.state is DeviceState.ONLINE
        assert rig.pad.status.code == "pinpad.battery_low"
        assert rig.pad.status.details["battery"] == "low"
        await rig.check_entry()


@on_virtual_time
async def test_an_idle_day_is_quiet() -> None:
    async with rig_running() as rig:
        await asyncio.sleep(86_400)
        assert len(rig.statuses) == 1


@on_virtual_time
async def test_nothing_personal_is_logged_or_printed() -> None:
    """T20."""
    with capture_logs() as logs:
        async with rig_running() as rig:
            await rig.load_keys()
            async with rig.entering() as task:
                rig.do("press", digits=PIN)
                rig.do("enter")
                block = await task
            rig.port.unplug()
            await rig.until(DeviceState.OFFLINE)
            said = f"{logs} {block!r} {block} {rig.statuses}"
    assert logs
    assert not any(value in said for value in (PIN, PAN12, block.view().hex(), WRAPPED.hex()))


def test_a_wrong_configuration_is_refused() -> None:
    for wrong in ({"pin_key": 0x31}, {"algorithm": "3des", "master_key": 0}, {"algorithm": "3des", "pin_key": 0x20}):
        with pytest.raises(ValueError, match="pin_key"):
            PinPad(port="pinpad", **wrong)  # type: ignore[arg-type]
