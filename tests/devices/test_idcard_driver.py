"""The ID-card reader's driver over a good in-memory wire on virtual time (T1, T20)."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from devices.driver import Damage
from devices.idcard import driver, protocol
from devices.idcard.driver import READ_SECONDS
from devices.idcard.protocol import CardBlocks, Command, Reply, Status, encode_reply, encode_request
from devices.status import DeviceState, DeviceStatus
from sim.wire import Fault
from tests.devices.idcard_rig import (
    CITIZEN,
    SAM,
    Rig,
    check_read,
    fault_at,
    on_virtual_time,
    rig_running,
    seconds,
)


@pytest.mark.parametrize(
    "case",
    [{}, {"chunk_bytes": 1}, {"latency_seconds": 0.25}, {"chunk_bytes": 7, "latency_seconds": 0.1}],
    ids=["normal", "a byte at a time", "slow", "slow and in pieces"],
)
@on_virtual_time
async def test_a_card_is_read(case: dict[str, Any]) -> None:
    """T1."""
    async with rig_running(**case) as rig:
        rig.lay_down()
        await check_read(rig)
        assert rig.statuses == [DeviceStatus(DeviceState.ONLINE, identity=SAM, details={"baud": "115200"})]
        assert rig.ends == []


@on_virtual_time
async def test_the_reader_waits_for_the_card() -> None:
    async with rig_running() as rig:
        asyncio.get_running_loop().call_later(20, rig.lay_down)
        assert 20 <= await seconds(check_read(rig)) < 20 + READ_SECONDS


@on_virtual_time
async def test_no_card_in_time() -> None:
    async with rig_running() as rig:
        assert 9 < await seconds(rig.refusal(wait_seconds=10)) <= 10.1
        assert (await rig.refusal()).code == "idcard.no_card"
        assert rig.reader.status.state is DeviceState.ONLINE


@on_virtual_time
async def test_a_forgotten_card_is_not_read_for_the_next_citizen() -> None:
    """T20: after a complete read the card must be lifted."""
    async with rig_running() as rig:
        rig.lay_down()
        await check_read(rig)
        assert (await rig.refusal()).code == "idcard.no_card"
        rig.lay_down()
        await check_read(rig)
        assert rig.device.reads == 2


@on_virtual_time
async def test_bad_cards_have_their_codes() -> None:
    async with rig_running() as rig:
        rig.lay_down()
        rig.device.bad_check_digit()
        assert (await rig.refusal()).code == "idcard.bad_check_digit"
        rig.lay_down(sex="2" if CITIZEN.sex == "1" else "1")
        assert (await rig.refusal()).code == "idcard.bad_record"
        rig.lay_down(flag="J")
        assert (await rig.refusal()).code == "idcard.bad_record", "a citizen's number on a permit"
        rig.lay_down(flag="K")
        assert (await rig.refusal()).code == "idcard.variant_unsupported"
        rig.lay_down()
        await check_read(rig)
        assert rig.reader.status.state is DeviceState.ONLINE


@pytest.mark.parametrize(
    "case",
    [
        (Status.WRONG_CARD_TYPE, "idcard.wrong_card", False),
        (Status.CARD_NOT_GENUINE, "idcard.card_rejected", False),
        (Status.READ_FAILED, "idcard.read_failed", True),
        (Status.UNKNOWN_ERROR, "idcard.refused", True),
        (Status.BAD_CHECKSUM, "idcard.garbled", True),
    ],
    ids=str,
)
@on_virtual_time
async def test_refusals_of_the_reader_have_their_codes(case: tuple[Status, str, bool]) -> None:
    status, code, retry = case
    async with rig_running() as rig:
        rig.lay_down()
        heard = rig.device.feed
        read = encode_request(Command.READ)
        rig.device.feed = lambda data: encode_reply(status) if data == read else heard(data)  # type: ignore[method-assign]
        error = await rig.refusal()
        assert (error.code, error.retry) == (code, retry)
        assert rig.ends == []


@on_virtual_time
async def test_an_unauthorised_module_is_a_permanent_fault() -> None:
    """protocols 1.9: SW3 66."""
    async with rig_running() as rig:
        rig.device.authorise(authorised=False)
        error = await rig.refusal()
        assert (error.code, error.retry) == ("idcard.sam_not_authorised", False)
        await rig.until(DeviceState.HARDWARE_ERROR)
        assert rig.reader.status.code == "idcard.sam_not_authorised"
        assert (await rig.refusal()).code == "idcard.sam_not_authorised"
        await asyncio.sleep(60)
        assert len(rig.statuses) == 2, "a status is told on change, never on a repeat (L9)"
        rig.device.authorise()
        await rig.until(DeviceState.ONLINE)


@on_virtual_time
async def test_a_second_read_waits_its_turn_and_no_longer() -> None:
    async with rig_running() as rig, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(rig.refusal(wait_seconds=10), name="first")
        await asyncio.sleep(1)
        assert (await rig.refusal(wait_seconds=2)).code == "idcard.busy"
        assert (await first).code == "idcard.no_card"


@on_virtual_time
async def test_a_cancelled_read_frees_the_reader() -> None:
    async with rig_running() as rig:
        rig.lay_down()
        fault_at(rig, Command.READ, Fault.LATE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await rig.reader.read_card(wait_seconds=60)
        rig.lay_down()
        await check_read(rig)


@on_virtual_time
async def test_a_life_that_is_cancelled_frees_the_port() -> None:
    rig = Rig()
    for _ in range(3):
        task = asyncio.create_task(rig.reader.run(rig.online.set), name="life")
        rig.online.clear()
        await rig.online.wait()
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        assert rig.reader.status.state is DeviceState.OFFLINE
    assert rig.port.opened == 3


@on_virtual_time
async def test_an_idle_day_is_quiet() -> None:
    async with rig_running() as rig:
        await asyncio.sleep(86_400)
        assert len(rig.statuses) == 1


@on_virtual_time
async def test_buffers_on_the_way_are_overwritten() -> None:
    """T20: what the reader sent, the decoder cut and the parser read is gone; only the record holds it."""
    buffers: list[bytearray] = []

    def keeping(work: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*arguments: Any, **named: Any) -> Any:
            for argument in (*arguments, *named.values()):
                buffers.extend(argument if isinstance(argument, CardBlocks) else [argument])
            return work(*arguments, **named)

        return kept

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((protocol, "decode_reply"), (driver, "split_card"), (driver, "parse_record")):
            patch.setattr(module, name, keeping(getattr(module, name)))
        async with rig_running() as rig:
            rig.lay_down()
            rig.device.new_address("样本市新路1号")
            rig.device.store_fingers()
            record = await rig.reader.read_card(wait_seconds=5, fingerprints=True, management=True)
            record.wipe()
    assert {len(buffer) for buffer in buffers if buffer} >= {2313, 256, 1024, 70, 28}
    assert not any(map(any, buffers))


@on_virtual_time
async def test_a_card_that_arrives_as_the_read_is_cancelled_is_overwritten() -> None:
    """T20: a reader that says nothing more must not hold on to what it said last."""
    async with rig_running() as rig:
        rig.lay_down()
        cards: list[bytearray] = []
        reading = asyncio.create_task(rig.reader.read_card(wait_seconds=60), name="read")
        arrived = rig.reader._take

        def ended(found: Reply | Damage) -> None:
            arrived(found)
            if isinstance(found, Reply) and len(found.data) > 1000:
                cards.append(found.data)
                reading.cancel()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rig.reader, "_take", ended)
            await asyncio.gather(reading, return_exceptions=True)
        assert reading.cancelled()
        assert len(cards) == 1
        assert not any(map(any, cards))
        gc.collect()
        assert not [held for held in gc.get_objects() if isinstance(held, Reply) and any(held.data)]


@on_virtual_time
async def test_nothing_personal_is_logged() -> None:
    """T20."""
    with capture_logs() as logs:
        async with rig_running() as rig:
            rig.lay_down()
            await check_read(rig)
            rig.lay_down(sex="3")
            error = await rig.refusal()
            rig.port.unplug()
            await rig.until(DeviceState.OFFLINE)
    said = f"{logs} {error} {error.advice}"
    assert len(logs) >= 2
    assert not any(value in said for value in (CITIZEN.name, CITIZEN.id_number, CITIZEN.address, CITIZEN.birth))
