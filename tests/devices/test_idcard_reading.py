"""What the driver reads beside the text and photo, of every kind of card and reader (T1, T3, T13; protocols 1.9)."""

import asyncio
from typing import Any

import pytest

from devices.fingerprint.finger import TemplateFormat
from devices.idcard.driver import READ_SECONDS, IdCardReader
from devices.idcard.fingers import FingerPosition
from devices.idcard.layout import Variant
from devices.idcard.protocol import Command, Status, encode_reply, encode_request
from devices.idcard.rates import RATES
from devices.status import DeviceState
from sim.devices.idcard import MANAGEMENT
from sim.devices.permits import make_permit
from sim.memory import MemoryLinks
from sim.wire import Fault
from tests.devices.idcard_rig import (
    CITIZEN,
    SETTINGS,
    Rig,
    asked,
    check_read,
    fault_at,
    rig_running,
)
from tests.devices.supervised import on_virtual_time, seconds

PERMITS = [variant for variant in Variant if variant is not Variant.CITIZEN]
NEW = "样本市新模拟路8号"


@pytest.mark.parametrize("case", PERMITS)
@on_virtual_time
async def test_a_permit_of_every_kind_is_read(case: Variant) -> None:
    """T1."""
    async with rig_running(chunk_bytes=3) as rig:
        rig.device.place_permit(variant=case, holder=5)
        record = await rig.reader.read_card(wait_seconds=5)
        assert record.variant is case
        assert record.id_number.reveal() == make_permit(case, 5).id_number
        record.wipe()


@on_virtual_time
async def test_a_permit_with_a_wrong_check_digit_is_refused() -> None:
    async with rig_running() as rig:
        for case in (Variant.HK_MACAO_TAIWAN, Variant.FOREIGNER_2023):
            rig.device.place_permit(variant=case)
            rig.device.bad_check_digit()
            assert (await rig.refusal()).code == "idcard.bad_check_digit"
        rig.device.place_permit(variant=Variant.FOREIGNER_2017)
        with pytest.raises(ValueError, match="no check digit"):
            rig.device.bad_check_digit()


@on_virtual_time
async def test_the_newest_address_is_asked_before_the_card_and_replaces_the_printed_one() -> None:
    async with rig_running() as rig:
        rig.lay_down()
        rig.device.new_address(NEW, older=["样本市旧路7号"])
        commands = asked(rig)
        record = await rig.reader.read_card(wait_seconds=5)
        assert record.address is not None
        assert (record.address.reveal(), record.address_is_new) == (NEW, True)
        assert commands == [Command.FIND, Command.SELECT, Command.ADDRESS, Command.READ]


@on_virtual_time
async def test_a_card_without_a_newer_address_keeps_the_printed_one() -> None:
    """SW3 91."""
    async with rig_running() as rig:
        rig.lay_down()
        record = await rig.reader.read_card(wait_seconds=5)
        assert record.address is not None
        assert (record.address.reveal(), record.address_is_new) == (CITIZEN.address, False)
        assert (record.fingerprints, record.management) == (None, None), "not asked for"


@on_virtual_time
async def test_fingerprints_and_management_record_are_read_when_asked_for() -> None:
    """T3: tagged with their format, which no ZFM sensor compares."""
    async with rig_running() as rig:
        rig.lay_down()
        rig.device.store_fingers([FingerPosition.RIGHT_INDEX, FingerPosition.LEFT_THUMB])
        commands = asked(rig)
        record = await rig.reader.read_card(wait_seconds=5, fingerprints=True, management=True)
        assert commands[2:] == [Command.ADDRESS, Command.MANAGEMENT, Command.READ_FINGERS]
        assert record.fingerprints is not None
        assert record.management is not None
        assert [finger.position for finger in record.fingerprints] == [12, 16]
        assert {finger.template.format for finger in record.fingerprints} == {TemplateFormat.GAT_1012}
        assert bytes(record.management.view()) == MANAGEMENT
        record.wipe()
        rig.lay_down()
        record = await rig.reader.read_card(wait_seconds=5, fingerprints=True)
        assert record.fingerprints == ()


@on_virtual_time
async def test_a_reader_that_knows_less_says_less() -> None:
    """What a reader cannot tell is unknown, and no reason to refuse the card."""
    async with rig_running() as rig:
        rig.device.old_firmware()
        rig.lay_down()
        rig.device.store_fingers()
        record = await rig.reader.read_card(wait_seconds=5, fingerprints=True, management=True)
        assert record.id_number.reveal() == CITIZEN.id_number
        assert (record.address_is_new, record.fingerprints, record.management) == (None, None, None)
        assert rig.ends == []


@pytest.mark.parametrize("case", [None, Status.READ_FAILED, Status.UNKNOWN_ERROR], ids=str)
@on_virtual_time
async def test_a_reader_that_always_fails_at_the_address_reads_the_rest(case: Status | None) -> None:
    async with rig_running() as rig:
        rig.lay_down()
        heard = rig.device.feed
        failing = encode_reply(case) if case is not None else b""
        address = encode_request(Command.ADDRESS)
        rig.device.feed = lambda data: failing if data == address else heard(data)  # type: ignore[method-assign]
        assert await seconds(check_read(rig)) < 1 + READ_SECONDS


@pytest.mark.parametrize(
    "case",
    [
        {"kind": kind, "command": command}
        for kind in (Fault.GARBAGE, Fault.CORRUPT, Fault.DUPLICATE, Fault.HALF, Fault.SILENT, Fault.LATE)
        for command in (Command.ADDRESS, Command.MANAGEMENT, Command.READ_FINGERS)
    ],
    ids=str,
)
@on_virtual_time
async def test_one_fault_costs_time_and_nothing_else(case: dict[str, Any]) -> None:
    """T13, L15: what comes late or twice answers nothing else."""
    async with rig_running() as rig:
        rig.lay_down()
        rig.device.new_address(NEW)
        rig.device.store_fingers()
        fault_at(rig, case["command"], case["kind"])
        start = asyncio.get_running_loop().time()
        record = await rig.reader.read_card(wait_seconds=5, fingerprints=True, management=True)
        assert asyncio.get_running_loop().time() - start < 1 + READ_SECONDS
        assert record.address is not None
        assert record.fingerprints is not None
        assert record.management is not None
        assert record.address.reveal() == NEW
        assert len(record.fingerprints) == 2
        assert bytes(record.management.view()) == MANAGEMENT
        assert rig.ends == []


@on_virtual_time
async def test_another_reader_behind_the_same_port_is_told() -> None:
    """L7: a health check asks who it is."""
    async with rig_running() as rig:
        heard = rig.device.feed
        other = encode_reply(Status.OK, bytes(16))
        request = encode_request(Command.SAM_ID)
        rig.device.feed = lambda data: other if data == request else heard(data)  # type: ignore[method-assign]
        await asyncio.sleep(60)
        assert rig.reader.status.identity == "00.00-00000000-0000000000-0000000000"


@pytest.mark.parametrize("case", RATES)
@on_virtual_time
async def test_a_reader_at_any_rate_is_found(case: int) -> None:
    """protocols 1.1: in the protocol's order, and bounded in time."""
    async with rig_running() as rig:
        rig.port.set_baud(case)
        rig.port.unplug()
        await rig.until(DeviceState.OFFLINE)
        rig.port.plug()
        assert await seconds(rig.until(DeviceState.ONLINE)) < 0.5 + 0.6 * RATES.index(case) + 0.1
        assert rig.reader.status.details == {"baud": str(case)}
        rig.lay_down()
        await check_read(rig)
        opened = rig.port.opened
        rig.port.unplug()
        rig.port.plug()
        await rig.until(DeviceState.OFFLINE)
        await rig.until(DeviceState.ONLINE)
        assert rig.port.opened == opened + 1, "the rate found is the first one tried"


@on_virtual_time
async def test_rates_are_tried_in_the_protocols_order_and_every_link_is_closed() -> None:
    rig = Rig()
    rig.device.feed = lambda data: b""  # type: ignore[method-assign]
    rates: list[int] = []
    links = MemoryLinks({"idcard": rig.port})

    async def open_link(port: str, baud: int) -> Any:
        rates.append(baud)
        return await links(port, baud)

    reader = IdCardReader(SETTINGS, open_link, lambda _: None)
    run = asyncio.create_task(reader.run(lambda: None), name="life")
    assert await seconds(asyncio.wait([run])) < 6
    assert "does not answer" in str(run.exception())
    assert rates == [*RATES, RATES[0]]
    assert rig.port.opened == len(rates)
    await rig.port.open(RATES[0]).close()


@on_virtual_time
async def test_a_life_cancelled_while_rates_are_tried_leaves_the_port_free() -> None:
    async with rig_running() as rig:
        rig.port.set_baud(9600)
        rig.port.unplug()
        rig.port.plug()
        await asyncio.sleep(1.6)
    await rig.port.open(9600).close()


@on_virtual_time
async def test_a_life_that_ends_does_not_wait_for_a_card() -> None:
    """The driver's stop ends a wait at its next command, long before the deadline for leaving."""
    async with rig_running() as rig:
        reading = asyncio.create_task(rig.refusal(wait_seconds=60), name="read")
        await asyncio.sleep(5)
        start = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start < 0.5
    assert (await reading).code == "idcard.offline"


@on_virtual_time
async def test_no_card_is_looked_for_while_nobody_waits() -> None:
    """T20: a card laid down between sessions is not touched."""
    async with rig_running() as rig:
        rig.lay_down()
        commands = asked(rig)
        await asyncio.sleep(600)
        assert set(commands) == {Command.STATUS, Command.SAM_ID}
