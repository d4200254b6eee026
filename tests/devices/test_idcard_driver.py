"""The ID-card reader's driver over a good in-memory wire on virtual time (T1, T20)."""

import asyncio
import gc
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from structlog.testing import capture_logs

from devices.driver import Damage
from devices.idcard import driver, protocol
from devices.idcard.driver import READ_SECONDS
from devices.idcard.layout import CitizenText, encode_text_block
from devices.idcard.protocol import CardBlocks, Command, Reply, ReplyDecoder, Status, encode_reply, encode_request
from devices.status import DeviceState, DeviceStatus
from sim.wire import Fault
from tests.devices.idcard_rig import (
    CITIZEN,
    SAM,
    check_read,
    fault_at,
    rig_running,
)
from tests.devices.supervised import on_virtual_time, seconds


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
async def test_the_cards_own_numbers_are_overwritten() -> None:
    """T20: FIND and SELECT answer with numbers of the chip, and a refusal may carry anything."""
    async with rig_running() as rig:
        rig.lay_down()
        numbers = {
            encode_request(Command.FIND): encode_reply(Status.FOUND, b"ISSU"),
            encode_request(Command.SELECT): encode_reply(Status.OK, b"SERIALNO"),
            encode_request(Command.READ): encode_reply(Status.WRONG_CARD_TYPE, b"PERSONAL"),
        }
        heard, taken, replies = rig.device.feed, rig.reader._take, list[Reply]()

        def feed(data: bytes) -> bytes:
            reply = heard(data)
            return numbers.get(data, reply)

        rig.device.feed = feed  # type: ignore[method-assign]

        def take(found: Reply | Damage) -> None:
            if isinstance(found, Reply) and found.data:
                replies.append(found)
            taken(found)

        rig.reader._take = take  # type: ignore[method-assign]
        assert (await rig.refusal()).code == "idcard.wrong_card"
        assert len(replies) == 3
        assert not any(reply.data for reply in replies)


@pytest.mark.parametrize("case", ["plugged", "unplugged"])
@on_virtual_time
async def test_half_a_card_is_overwritten_when_the_read_is_cancelled(case: str) -> None:
    """T20: at once by the next look at the reader, and when its life ends."""
    async with rig_running() as rig:
        rig.lay_down()
        fault_at(rig, Command.READ, Fault.HALF)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await rig.reader.read_card(wait_seconds=60)
        assert isinstance(rig.reader._decoder, ReplyDecoder)
        frames = rig.reader._decoder._frames
        assert frames.pending > 600
        if case == "unplugged":
            rig.port.unplug()
        await asyncio.sleep(1)
        assert frames.pending == 0


@pytest.mark.parametrize("case", ["check digit", "sex", "text"])
@on_virtual_time
async def test_an_error_holds_nothing_of_the_card(case: str) -> None:
    """T20: neither what it was made from, nor the places where it was raised."""
    async with rig_running() as rig:
        rig.lay_down(sex="3" if case == "sex" else CITIZEN.sex)
        if case == "check digit":
            rig.device.bad_check_digit()
        with pytest.MonkeyPatch.context() as patch:
            if case == "text":
                spoilt = bytearray(encode_text_block(CitizenText(**asdict(CITIZEN))))
                spoilt[28:30] = b"\x00\xd8"
                patch.setattr("sim.devices.idcard.encode_text_block", lambda *_, **__: bytes(spoilt))
            error: BaseException | None = await rig.refusal()
    places = 0
    while error is not None:
        assert not isinstance(error, UnicodeDecodeError), "it holds the bytes"
        trace = error.__traceback__
        while trace is not None:
            values = trace.tb_frame.f_locals.values()
            assert not any(isinstance(value, CitizenText) for value in values), trace.tb_frame.f_code.co_name
            trace, places = trace.tb_next, places + 1
        error = error.__context__
    assert places >= 3


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
    assert logs
    assert not any(value in said for value in (CITIZEN.name, CITIZEN.id_number, CITIZEN.address, CITIZEN.birth))
