"""The bank-card reader over wires and with cards that misbehave: the card still goes out (T5, T13, L1, L5, L15)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from devices.cardreader import emv
from devices.cardreader import protocol as wire
from devices.cardreader.chip import ChipPower
from devices.cardreader.mechanism import Ending
from devices.cardreader.protocol import Position, Request
from devices.cardreader.reader import CardReaderDriver
from devices.driver import SAFE_SECONDS
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.status import DeviceState
from sim.devices.bankcard import NUMBER
from sim.wire import Fault
from tests.devices.cardreader_rig import Rig, card_in, fault_at, on_virtual_time, rig_running

WIRE_FAULTS = (Fault.GARBAGE, Fault.CORRUPT, Fault.DUPLICATE, Fault.HALF, Fault.SILENT, Fault.LATE)


async def pay(rig: Rig) -> None:
    """Serve one citizen from start to end."""
    async with card_in(rig) as reader:
        tracks = await reader.read_tracks()
        assert tracks.number is not None
        assert tracks.number.reveal() == NUMBER
        await reader.power(ChipPower.COLD)
        assert (await emv.read_payment_card(reader)).number.reveal() == NUMBER
        rig.soon(3, lambda: rig.device.take_card() if rig.at_gate else None)
        assert await reader.eject() is Ending.TAKEN


async def failing(rig: Rig, use: Callable[[CardReaderDriver[Any]], Awaitable[object]]) -> DeviceError:
    """Return the error with which the use of a card ends."""

    async def block() -> None:
        async with card_in(rig) as reader:
            await use(reader)

    with pytest.raises(DeviceError) as caught:
        await block()
    return caught.value


@pytest.mark.parametrize("nth", [0, 1], ids=["its ACK", "its reply"])
@pytest.mark.parametrize("kind", WIRE_FAULTS)
@pytest.mark.parametrize(
    "command",
    [
        wire.STATUS,
        wire.ALLOW_ENTRY,
        wire.READ_TRACKS,
        wire.TO_CONTACT,
        wire.COLD_RESET,
        wire.EJECT,
        wire.PROHIBIT_ENTRY,
    ],
    ids=["status", "entry", "tracks", "contact", "reset", "eject", "shut"],
)
@on_virtual_time
async def test_one_fault_at_any_command_is_survived(command: Request, kind: Fault, nth: int) -> None:
    """A damaged, lost, late or doubled answer costs time, not the card (T5)."""
    async with rig_running() as rig:
        happened = fault_at(rig, wire.encode(command), kind, nth=nth)
        await pay(rig)
        assert happened()
        await asyncio.sleep(10)
        await pay(rig)
        assert rig.ends == []


@pytest.mark.parametrize("kind", [Fault.CORRUPT, Fault.HALF, Fault.SILENT, Fault.LATE])
@on_virtual_time
async def test_a_lost_answer_of_the_chip_is_an_error_and_never_asked_twice(kind: Fault) -> None:
    """A chip counts what it is asked; the chip is reset instead, and the late answer is nobody's."""
    async with rig_running() as rig:
        async with card_in(rig) as reader:
            await reader.power(ChipPower.COLD)
            select = bytes.fromhex("00A404000E315041592E5359532E444446303100")
            fault_at(rig, wire.encode(wire.apdu(select, t1=False)), kind, nth=1)
            before = rig.device.asked.count((0x37, 0x31))
            with pytest.raises(DeviceError) as caught:
                await reader.transmit(select)
            assert caught.value.code in {"cardreader.no_answer", "cardreader.garbled"}
            assert rig.device.asked.count((0x37, 0x31)) == before + 1
            await reader.power(ChipPower.COLD)
            assert (await emv.read_payment_card(reader)).number.reveal() == NUMBER
        assert rig.at_gate


@on_virtual_time
async def test_a_cancelled_command_leaves_the_reader_usable() -> None:
    """T5, L15: the late answer to it answers nothing else."""
    async with rig_running() as rig, card_in(rig) as reader:
        fault_at(rig, wire.encode(wire.STATUS), Fault.SILENT)
        await reader.power(ChipPower.COLD)
        fault_at(rig, wire.encode(wire.READ_TRACKS), Fault.LATE, nth=1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await reader.read_tracks()
        await reader.power(ChipPower.WARM)
        assert (await emv.read_payment_card(reader)).number.reveal() == NUMBER
        await asyncio.sleep(10)
        assert (await reader.read_tracks()).number is not None


@on_virtual_time
async def test_the_reader_may_refuse_a_frame_now_and_then() -> None:
    async with rig_running() as rig:
        rig.device.nak_next(times=wire.RESENDS)
        await pay(rig)
        assert rig.ends == []


@on_virtual_time
async def test_a_reader_that_reads_nothing_of_what_it_is_told() -> None:
    async with rig_running() as rig:
        rig.device.nak_next(times=1_000_000)
        assert (await rig.refusal()).code == "cardreader.garbled"
        await asyncio.sleep(60)
        assert rig.reader.status.code == "cardreader.garbled"
        assert len(rig.statuses) == 2, "a status is told on change, never on a repeat (L9)"
        rig.device.nak_next(times=0)
        await rig.until_state(DeviceState.ONLINE)


@on_virtual_time
async def test_a_silent_reader_is_found_out_and_the_card_handed_back_when_it_speaks_again() -> None:
    """T5, driver failure."""
    async with rig_running() as rig:

        async def use(reader: CardReaderDriver[Any]) -> None:
            rig.device.silent()
            await reader.read_tracks()

        error = await failing(rig, use)
        assert error.code == "cardreader.no_answer"
        await rig.until_state(DeviceState.OFFLINE)
        assert rig.reader.status.code == "cardreader.no_answer"
        assert rig.device.position is Position.INSIDE
        rig.device.silent(silent=False)
        await rig.until(lambda: rig.at_gate, seconds=10)


@on_virtual_time
async def test_an_unplugged_reader_hands_back_when_it_is_plugged_in() -> None:
    """T5, L5: seen at once, in the middle of a use; the block ends with the reason."""
    async with rig_running() as rig:

        async def use(reader: CardReaderDriver[Any]) -> None:
            rig.port.unplug()
            await rig.until_state(DeviceState.OFFLINE)
            rig.port.plug()
            await rig.until(lambda: rig.at_gate, seconds=5)
            await reader.read_tracks()

        error = await failing(rig, use)
        assert error.code == "cardreader.card_removed"
        rig.device.take_card()
        await pay(rig)


@on_virtual_time
async def test_a_reader_that_is_lost_for_a_moment_while_a_card_is_waited_for() -> None:
    """The next life has shut the entry: the wait ends at once, and the citizen is asked again."""
    rig = Rig()

    async def supervise() -> None:
        while True:
            with suppress(LinkLost, DeviceError):
                await rig.reader.run(rig.online.set)
            await asyncio.sleep(0.02)

    supervisor = asyncio.create_task(supervise(), name="supervisor")
    await rig.online.wait()
    waiting = asyncio.create_task(rig.refusal(wait_seconds=60), name="waiting")
    await rig.until(lambda: rig.device.entry)
    rig.port.unplug()
    rig.port.plug()
    async with asyncio.timeout(1):
        assert (await waiting).code == "cardreader.card_removed"
    assert not rig.device.entry
    supervisor.cancel()
    await asyncio.gather(supervisor, return_exceptions=True)


@on_virtual_time
async def test_a_reader_that_acknowledges_and_does_nothing_does_not_hold_up_a_shutdown() -> None:
    """The driver leaves within SAFE_SECONDS, its entry open or not."""
    rig = Rig()
    life = asyncio.create_task(rig.reader.run(rig.online.set), name="life")
    await rig.online.wait()
    waiting = asyncio.create_task(rig.refusal(wait_seconds=60), name="waiting")
    await rig.until(lambda: rig.device.entry)
    rig.device._execute = lambda: b""  # type: ignore[method-assign]
    start = asyncio.get_running_loop().time()
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)
    assert asyncio.get_running_loop().time() - start <= SAFE_SECONDS
    assert (await waiting).code == "cardreader.offline"


@pytest.mark.parametrize("nth", [0, 1])
@on_virtual_time
async def test_unplugged_in_the_middle_of_an_eject(nth: int) -> None:
    async with rig_running() as rig:

        async def use(reader: CardReaderDriver[Any]) -> None:
            fault_at(rig, wire.encode(wire.EJECT), Fault.UNPLUG, nth=nth)
            await reader.eject()

        error = await failing(rig, use)
        assert error.code == "cardreader.offline"
        rig.port.plug()
        await rig.until(lambda: rig.at_gate, seconds=5)


@on_virtual_time
async def test_a_power_failure_of_the_reader_leaves_no_entry_open() -> None:
    """protocols 5.1: it comes back with both entries open; a stray card is handed back by the next health check."""
    async with rig_running() as rig:
        rig.device.power_cycle()
        rig.device.insert_card()
        await rig.until(lambda: rig.at_gate, seconds=31)
        assert not rig.device.entry
        assert not rig.device.rear_entry


@pytest.mark.parametrize("kind", [Fault.SILENT, Fault.CORRUPT, Fault.LATE])
@on_virtual_time
async def test_a_card_retained_without_an_answer_is_not_told_as_taken(kind: Fault) -> None:
    async with rig_running() as rig, card_in(rig) as reader:
        happened = fault_at(rig, wire.encode(wire.CAPTURE), kind, nth=1)
        assert await reader.eject() is Ending.RETAINED
        assert happened()
        assert len(rig.device.bin) == 1


@on_virtual_time
async def test_a_card_taken_at_the_last_moment_is_not_told_as_retained() -> None:
    async with rig_running() as rig, card_in(rig) as reader:
        heard = rig.device.feed

        def feed(data: bytes) -> bytes:
            if wire.encode(wire.CAPTURE) in data:
                rig.device.take_card()
            return heard(data)

        rig.device.feed = feed  # type: ignore[method-assign]
        assert await reader.eject() is Ending.TAKEN
        assert not rig.reader.status.details.get("retained")


@on_virtual_time
async def test_a_card_that_could_not_be_retained_is_handed_back() -> None:
    """T5: the reader takes neither the order nor the question where the card is."""
    async with rig_running() as rig:

        async def use(reader: CardReaderDriver[Any]) -> None:
            rig.device.nak_next(times=4 * (wire.RESENDS + 1))
            await reader.retain()

        assert (await failing(rig, use)).code == "cardreader.garbled"
        assert rig.at_gate
        assert not rig.device.bin


@on_virtual_time
async def test_a_jammed_card_is_a_fault_until_it_is_free() -> None:
    async with rig_running() as rig:

        async def use(reader: CardReaderDriver[Any]) -> None:
            rig.device.jam()
            await reader.eject()

        error = await failing(rig, use)
        assert (error.code, error.retry) == ("cardreader.jammed", False)
        assert rig.reader.status.state is DeviceState.HARDWARE_ERROR
        assert rig.reader.status.details["media"] == "jammed"
        assert (await rig.refusal()).code == "cardreader.jammed"
        told = len(rig.statuses)
        await asyncio.sleep(300)
        assert len(rig.statuses) == told
        rig.device.jam(jammed=False)
        await rig.until_state(DeviceState.ONLINE)
        assert rig.at_gate


@on_virtual_time
async def test_a_card_that_jams_on_its_way_to_the_bin_is_not_told_as_taken() -> None:
    async with rig_running() as rig:

        async def use(reader: CardReaderDriver[Any]) -> None:
            heard = rig.device.feed

            def feed(data: bytes) -> bytes:
                if wire.encode(wire.CAPTURE) in data:
                    rig.device.position = Position.INSIDE
                    rig.device.jam()
                return heard(data)

            rig.device.feed = feed  # type: ignore[method-assign]
            await reader.eject()

        assert (await failing(rig, use)).code == "cardreader.jammed"
        assert rig.reader.status.code == "cardreader.jammed"


@on_virtual_time
async def test_a_block_that_ends_with_a_jam_tells_it_by_the_status() -> None:
    async with rig_running() as rig:
        async with card_in(rig):
            rig.device.jam()
        assert rig.reader.status.code == "cardreader.jammed"


@on_virtual_time
async def test_a_card_that_stays_although_the_reader_says_it_moved() -> None:
    async with rig_running() as rig:
        async with card_in(rig):
            rig.device.stick_card()
        assert rig.at_gate
        rig.device.stick_card(times=2)
        await rig.until(lambda: bool(rig.device.bin), seconds=100)


@on_virtual_time
async def test_a_card_pulled_out_while_it_is_read() -> None:
    async with rig_running() as rig:

        async def use(reader: CardReaderDriver[Any]) -> None:
            rig.device.pull_back_mid_read()
            await reader.read_tracks()

        error = await failing(rig, use)
        assert (error.code, error.retry) == ("cardreader.card_removed", True)
        await pay(rig)


@on_virtual_time
async def test_a_blank_stripe_is_told() -> None:
    async with rig_running() as rig, card_in(rig) as reader:
        rig.device.blank_tracks()
        tracks = await reader.read_tracks()
        assert tracks.number is None
        assert set(tracks.faults.values()) == {"blank"}


@on_virtual_time
async def test_a_mute_chip_is_told_and_the_stripe_still_read() -> None:
    async with rig_running() as rig, card_in(rig) as reader:
        rig.device.mute_chip()
        with pytest.raises(DeviceError) as caught:
            await reader.power(ChipPower.COLD)
        assert caught.value.code == "cardreader.chip_mute"
        assert (await reader.read_tracks()).number is not None


@on_virtual_time
async def test_a_reader_without_a_shutter_lets_cards_in_too() -> None:
    """protocols 5.1: it refuses entry by the magnetic signal, which the driver does not ask for."""
    async with rig_running(lambda rig: rig.device.no_shutter()) as rig:
        await pay(rig)


@pytest.mark.parametrize("position", [Position.TOO_LONG, Position.TOO_SHORT])
@on_virtual_time
async def test_what_is_no_bank_card_is_given_back(position: Position) -> None:
    async with rig_running() as rig:

        def insert() -> None:
            rig.device.insert_card()
            rig.device.position = position

        rig.soon(1, insert)
        assert (await rig.refusal()).code == "cardreader.invalid_card"
        assert rig.at_gate


@on_virtual_time
async def test_twenty_percent_of_the_answers_are_lost() -> None:
    async with rig_running() as rig:
        heard, count = rig.device.feed, 0

        def feed(data: bytes) -> bytes:
            nonlocal count
            count += 1
            return b"" if count % 5 == 0 and data[:1] == b"\x02" else heard(data)

        rig.device.feed = feed  # type: ignore[method-assign]
        async with card_in(rig) as reader:
            assert (await reader.read_tracks()).number is not None
        assert rig.at_gate
        assert rig.ends == []


@on_virtual_time
async def test_a_flood_of_garbage_is_bounded() -> None:
    async with rig_running() as rig:
        for _ in range(200):
            rig.port._link.deliver(b"\x02\x01\x00" + bytes(range(256)) * 8)  # type: ignore[union-attr]
            await asyncio.sleep(0)
        assert rig.reader._decoder.pending < wire.LONGEST + 5  # type: ignore[attr-defined]
        await pay(rig)
        assert rig.ends == []


@on_virtual_time
async def test_the_wire_is_opened_once_and_closed_between_lives() -> None:
    """L2."""
    rig = Rig()
    for _ in range(3):
        rig.online.clear()
        task = asyncio.create_task(rig.reader.run(rig.online.set), name="life")
        await rig.online.wait()
        with pytest.raises(LinkLost):
            await rig.reader.run(lambda: None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert rig.port.opened == 3
