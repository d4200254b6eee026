"""The bank-card reader over a good wire on virtual time: a card comes in, is read, and always goes out (T5, T20)."""

import asyncio
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from devices.cardreader import emv
from devices.cardreader.chip import ChipPower, ChipProtocol
from devices.cardreader.driver import Crt310
from devices.cardreader.mechanism import Ending
from devices.cardreader.protocol import Position
from devices.errors import DeviceError
from devices.status import DeviceState, DeviceStatus
from sim.devices.bankcard import ATR, NUMBER
from sim.devices.cardreader import SERIAL_NUMBER
from tests.devices.cardreader_rig import Rig, card_in, on_virtual_time, rig_running


@pytest.mark.parametrize(
    "case",
    [{}, {"chunk_bytes": 1}, {"latency_seconds": 0.08}, {"early": True}, {"early": True, "chunk_bytes": 1}],
    ids=["normal", "a byte at a time", "slow", "executes without ENQ", "without ENQ, a byte at a time"],
)
@on_virtual_time
async def test_a_card_is_read_both_ways_and_handed_back(case: dict[str, Any]) -> None:
    """T5: stripe and chip, in, read, out, taken."""
    async with rig_running(**case) as rig, card_in(rig) as reader:
        assert not rig.device.entry, "no second card gets in"
        tracks = await reader.read_tracks()
        assert tracks.number is not None
        assert tracks.expiry is not None
        assert (tracks.number.reveal(), tracks.expiry.reveal()) == (NUMBER, "3012")
        assert tracks.faults == {1: "blank"}
        atr = await reader.power(ChipPower.COLD)
        assert atr is not None
        assert (atr.data, atr.protocol) == (ATR, ChipProtocol.T0)
        card = await emv.read_payment_card(reader)
        assert (card.number.reveal(), card.expiry.reveal(), card.label) == (NUMBER, "3012", "UnionPay Debit")
        assert await reader.power(ChipPower.OFF) is None
        rig.soon(5, rig.device.take_card)
        assert await reader.eject() is Ending.TAKEN
        assert rig.device.position is Position.NONE
        assert rig.ends == []


@on_virtual_time
async def test_a_t1_chip_is_read() -> None:
    async with rig_running() as rig, card_in(rig, t1=True) as reader:
        atr = await reader.power(ChipPower.COLD)
        assert atr is not None
        assert atr.protocol is ChipProtocol.T1
        assert (await emv.read_payment_card(reader)).number.reveal() == NUMBER
        atr = await reader.power(ChipPower.WARM)
        assert atr is not None


@on_virtual_time
async def test_the_entry_is_shut_unless_a_card_is_waited_for() -> None:
    """protocols 5.1: after power-on the real reader lets cards in at both sides."""
    async with rig_running() as rig:
        assert not rig.device.entry
        assert not rig.device.rear_entry
        assert rig.reader.status == DeviceStatus(
            DeviceState.ONLINE, identity=SERIAL_NUMBER.decode(), details={"media": "notPresent"}
        )
        waiting = asyncio.create_task(rig.refusal(wait_seconds=5), name="waiting")
        await rig.until(lambda: rig.device.entry)
        assert not rig.device.rear_entry
        assert (await waiting).code == "cardreader.no_card"
        assert not rig.device.entry


@pytest.mark.parametrize("way", ["end", "error", "cancel", "time-out"])
@on_virtual_time
async def test_the_card_is_at_the_gate_however_the_block_ends(way: str) -> None:
    """T5: the caller goes on only when the card is out."""
    async with rig_running() as rig:

        async def use() -> None:
            async with card_in(rig) as reader:
                await reader.read_tracks()
                if way == "error":
                    raise DeviceError("pinpad.offline", "something else broke", advice="", retry=True)
                if way != "end":
                    await asyncio.sleep(3600)

        task = asyncio.create_task(use(), name="use")
        await rig.until(lambda: rig.device.position is Position.INSIDE)
        if way == "cancel":
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
        if way == "time-out":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await task
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        assert rig.at_gate
        assert {"end": type(None), "error": DeviceError}.get(way, asyncio.CancelledError) is type(result)
        rig.device.take_card()
        await rig.until(lambda: rig.reader.status.details["media"] == "notPresent", seconds=1)
        async with card_in(rig) as reader:
            assert (await reader.read_tracks()).number is not None


@pytest.mark.parametrize("moment", ["in use", "in the middle of a command", "while one is waited for"])
@on_virtual_time
async def test_the_card_is_handed_back_at_shutdown(moment: str) -> None:
    """T5: the end of the driver's life ends the use of the card."""
    rig = Rig(latency_seconds=0.1)
    life = asyncio.create_task(rig.reader.run(rig.online.set), name="life")
    await rig.online.wait()
    codes: list[str] = []

    async def use() -> None:
        try:
            async with rig.reader.card() as _:
                if moment == "in the middle of a command":
                    await rig.reader.read_tracks()
                await asyncio.sleep(10)
                await rig.reader.read_tracks()
        except DeviceError as error:
            codes.append(error.code)

    task = asyncio.create_task(use(), name="use")
    if moment != "while one is waited for":
        rig.soon(1, rig.device.insert_card)
        await rig.until(lambda: rig.reader.status.details.get("media") == "present")
        await asyncio.sleep(0.05)
    else:
        await rig.until(lambda: rig.device.entry)
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)
    assert not rig.device.entry
    assert rig.at_gate == (moment != "while one is waited for")
    await task
    assert codes == ["cardreader.offline"]
    assert rig.reader.status.state is DeviceState.OFFLINE


@on_virtual_time
async def test_a_card_left_inside_is_handed_back_at_the_start() -> None:
    """T5, power loss: what a dead daemon left in the reader comes out when the next one starts."""
    async with rig_running(lambda rig: rig.device.insert_card()) as rig:
        assert rig.at_gate
        await rig.until(lambda: bool(rig.device.bin), seconds=40)
        assert rig.reader.status.details == {"media": "notPresent", "retained": "1"}


@on_virtual_time
async def test_a_card_that_is_not_taken_is_retained() -> None:
    async with rig_running() as rig, card_in(rig) as reader:
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await reader.eject() is Ending.RETAINED
        assert 30 <= loop.time() - start < 32
        assert len(rig.device.bin) == 1
        with pytest.raises(DeviceError) as caught:
            await reader.read_tracks()
        assert caught.value.code == "cardreader.card_removed"


@on_virtual_time
async def test_a_forgotten_card_is_retained_without_anybody_waiting() -> None:
    """T20: it is not there for the next citizen, who waits for the gate to be clear."""
    async with rig_running() as rig:
        async with card_in(rig):
            pass
        assert rig.at_gate
        assert (await rig.refusal(wait_seconds=5)).code == "cardreader.not_taken"
        async with asyncio.timeout(60):
            waiting = asyncio.create_task(rig.refusal(wait_seconds=40), name="next")
            await rig.until(lambda: bool(rig.device.bin))
            assert (await waiting).code == "cardreader.no_card"
        assert rig.reader.status.details["retained"] == "1"


@on_virtual_time
async def test_a_card_can_be_retained() -> None:
    async with rig_running() as rig:
        async with card_in(rig) as reader:
            await reader.retain()
        assert len(rig.device.bin) == 1
        assert rig.device.position is Position.NONE


@on_virtual_time
async def test_one_citizen_at_a_time() -> None:
    async with rig_running() as rig, card_in(rig):
        assert (await rig.refusal(wait_seconds=2)).code == "cardreader.busy"


@on_virtual_time
async def test_contactless_is_sought_where_it_is_declared() -> None:
    async with rig_running() as rig, card_in(rig) as reader:
        assert await reader.seek_contactless()

    class Without(Crt310):
        CAPABILITIES: ClassVar = {name: what for name, what in Crt310.CAPABILITIES.items() if name != "contactless"}

    rig = Rig()
    with pytest.raises(DeviceError) as caught:
        await Without(rig.reader._settings, rig.reader._open_link, rig.note).seek_contactless()
    assert caught.value.code == "cardreader.unsupported"


@on_virtual_time
async def test_the_chip_needs_its_reset() -> None:
    async with rig_running() as rig, card_in(rig) as reader:
        with pytest.raises(DeviceError) as caught:
            await reader.transmit(bytes.fromhex("00A40400023F00"))
        assert caught.value.code == "cardreader.chip_off"


@on_virtual_time
async def test_an_idle_day_is_quiet() -> None:
    async with rig_running() as rig:
        await asyncio.sleep(86_400)
        assert len(rig.statuses) == 1


@on_virtual_time
async def test_nothing_personal_is_logged_or_printed() -> None:
    """T20, T22."""
    with capture_logs() as logs:
        async with rig_running() as rig:
            async with card_in(rig) as reader:
                tracks = await reader.read_tracks()
                await reader.power(ChipPower.COLD)
                card = await emv.read_payment_card(reader)
                said = f"{tracks} {tracks.number} {tracks.track2} {card} {card.number} {card.expiry} {card.track2}"
            rig.port.unplug()
            await rig.until_state(DeviceState.OFFLINE)
            said += f"{logs} {rig.statuses}"
            assert "622***********94" in said
            assert not any(part in said for part in (NUMBER, NUMBER[:4], NUMBER[-4:], "3012"))
            for held in (tracks, card):
                held.wipe()
            assert tracks.number is not None
            assert tracks.number.wiped
            assert card.track2 is not None
            assert card.track2.wiped
