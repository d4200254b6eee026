"""The ID-card reader's driver over wires that damage, delay, double, lose and end (T13, L1, L5, L15)."""

import asyncio
from typing import Any

import pytest

from devices.driver import HEALTH_SECONDS
from devices.idcard.driver import READ_SECONDS
from devices.idcard.protocol import Command, Status, encode_reply, encode_request
from devices.link import LinkLost
from devices.status import DeviceState
from sim.wire import Fault
from tests.devices.idcard_rig import check_read, fault_at, rig_running
from tests.devices.supervised import on_virtual_time, seconds


@pytest.mark.parametrize(
    "case",
    [
        {"kind": kind, "from_command": command}
        for kind in (Fault.GARBAGE, Fault.CORRUPT, Fault.DUPLICATE, Fault.HALF, Fault.SILENT, Fault.LATE)
        for command in (Command.FIND, Command.SELECT, Command.ADDRESS, Command.READ)
    ],
    ids=str,
)
@on_virtual_time
async def test_one_fault_at_any_command_is_survived(case: dict[str, Any]) -> None:
    """A damaged, lost, late or doubled reply costs time, not the citizen's patience (T13)."""
    async with rig_running() as rig:
        fault_at(rig, case["from_command"], case["kind"])
        rig.lay_down()
        assert await seconds(check_read(rig)) < 1 + READ_SECONDS
        assert rig.ends == []


@on_virtual_time
async def test_late_answers_are_discarded() -> None:
    """L15: an answer that comes after its deadline answers nothing else."""
    async with rig_running() as rig:
        rig.lay_down()
        fault_at(rig, Command.READ, Fault.LATE)
        await check_read(rig)
        rig.lay_down(name="后来人")
        await asyncio.sleep(6)
        record = await rig.reader.read_card(wait_seconds=5)
        assert record.name.reveal() == "后来人"


@on_virtual_time
async def test_unasked_frames_are_discarded() -> None:
    async with rig_running() as rig:
        heard = rig.device.feed
        rig.device.feed = lambda data: heard(data) or encode_reply(Status.FOUND, bytes(4))  # type: ignore[method-assign]
        for _ in range(3):
            rig.port.nudge()
        rig.lay_down()
        await check_read(rig)


@pytest.mark.parametrize("case", [Fault.CORRUPT, Fault.GARBAGE], ids=str)
@on_virtual_time
async def test_a_wire_that_always_damages(case: Fault) -> None:
    async with rig_running() as rig:
        rig.lay_down()
        rig.port.faults.add(case, times=200)
        if case is Fault.GARBAGE:
            await check_read(rig)
        else:
            error = await rig.refusal()
            assert (error.code, error.retry) == ("idcard.garbled", True)
            await rig.until(DeviceState.OFFLINE)
            rig.port.faults.clear()
            await rig.until(DeviceState.ONLINE)
            await check_read(rig)


@on_virtual_time
async def test_a_reader_that_falls_silent_is_offline_and_comes_back() -> None:
    """L3: health is evidence from the device."""
    async with rig_running() as rig:
        rig.port.faults.add(Fault.SILENT, times=20)
        assert await seconds(rig.until(DeviceState.OFFLINE)) < HEALTH_SECONDS + 5
        assert rig.reader.status.code == "idcard.no_answer"
        error = await rig.refusal()
        assert (error.code, error.retry) == ("idcard.no_answer", True)
        await rig.until(DeviceState.ONLINE)
        rig.lay_down()
        await check_read(rig)


@on_virtual_time
async def test_a_reader_that_falls_silent_while_asked_fails_within_its_deadline() -> None:
    """T13."""
    async with rig_running() as rig:
        rig.lay_down()
        fault_at(rig, Command.READ, Fault.SILENT, times=9)
        assert await seconds(rig.refusal()) < 1 + READ_SECONDS


@on_virtual_time
async def test_a_card_that_leaves_mid_read() -> None:
    async with rig_running() as rig:
        rig.lay_down()
        rig.device.leave_mid_read()
        error = await rig.refusal()
        assert (error.code, error.retry) == ("idcard.card_removed", True)
        rig.lay_down()
        await check_read(rig)


@pytest.mark.parametrize(
    "case",
    [(Fault.SILENT, "idcard.no_answer"), (Fault.HALF, "idcard.no_answer"), (Fault.CORRUPT, "idcard.garbled")],
    ids=str,
)
@on_virtual_time
async def test_no_card_after_a_damaged_complete_read_is_not_removal(case: tuple[Fault, str]) -> None:
    """protocols 1.9: the reader may refuse to find a card that it has read, though it lies there."""
    fault, code = case
    async with rig_running() as rig:
        rig.lay_down()
        fault_at(rig, Command.READ, fault)
        heard = rig.device.feed

        def refuses(data: bytes) -> bytes:
            if data == encode_request(Command.FIND) and rig.device.reads:
                return encode_reply(Status.NO_CARD)
            return heard(data)

        rig.device.feed = refuses  # type: ignore[method-assign]
        assert (await rig.refusal()).code == code


@on_virtual_time
async def test_a_hanging_card_is_read_after_the_field_was_cycled() -> None:
    """protocols 1.9."""
    async with rig_running() as rig:
        rig.lay_down()
        rig.device.hang_card()
        await check_read(rig)


@on_virtual_time
async def test_unplugged_while_idle() -> None:
    """L1, L5: seen at once, refused at once, back by itself."""
    async with rig_running() as rig:
        rig.port.unplug()
        assert await seconds(rig.until(DeviceState.OFFLINE)) == 0
        assert rig.reader.status.code == "idcard.offline"
        error = await rig.refusal()
        assert (error.code, error.retry) == ("idcard.offline", True)
        await asyncio.sleep(30)
        rig.port.plug()
        await rig.until(DeviceState.ONLINE)
        assert [status.state for status in rig.statuses] == [
            DeviceState.ONLINE,
            DeviceState.OFFLINE,
            DeviceState.ONLINE,
        ]
        rig.lay_down()
        await check_read(rig)


@pytest.mark.parametrize("case", [Command.FIND, Command.SELECT, Command.READ], ids=str)
@on_virtual_time
async def test_unplugged_in_the_middle_of_a_reply(case: Command) -> None:
    async with rig_running() as rig:
        rig.lay_down()
        fault_at(rig, case, Fault.UNPLUG)
        assert await seconds(rig.refusal()) < 1
        await rig.until(DeviceState.OFFLINE)
        assert isinstance(rig.ends[0], LinkLost)
        rig.port.plug()
        await rig.until(DeviceState.ONLINE)
        rig.lay_down()
        await check_read(rig)


@on_virtual_time
async def test_unplugged_while_waiting_for_a_card_ends_the_wait() -> None:
    """The wait does not go on over a link of the next life."""
    async with rig_running() as rig:

        async def replug() -> None:
            await asyncio.sleep(3.1)
            rig.port.unplug()
            rig.port.plug()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(replug(), name="replug")
            assert await seconds(rig.refusal(wait_seconds=60)) < 4
        await rig.until(DeviceState.ONLINE)
