"""What is left at a device after a citizen: seen where the device can see it, taken in where it can (rule 1, T20)."""

import asyncio

import pytest

from devices.driver import HEALTH_SECONDS
from devices.errors import DeviceError
from devices.idcard.protocol import Command
from runtime.clearance import Place
from sim.devices.printer import VirtualPrinter
from sim.wire import Fault
from tests.devices import cardreader_rig, fingerprint_rig, idcard_rig, test_printer_presenter
from tests.devices.supervised import on_virtual_time


@on_virtual_time
async def test_an_id_card_is_seen_until_it_is_lifted() -> None:
    """The field is cycled: a card that was read is not found otherwise (protocols 1.9)."""
    async with idcard_rig.rig_running() as rig:
        assert isinstance(rig.reader, Place)
        assert await rig.reader.is_clear()
        rig.lay_down()
        assert await rig.reader.is_clear(), "nobody has read it: it is the next citizen's"
        await idcard_rig.check_read(rig)
        for _ in range(3):
            assert not await rig.reader.is_clear()
        rig.device.remove_card()
        assert await rig.reader.is_clear()
        rig.lay_down()
        await idcard_rig.check_read(rig)


@on_virtual_time
async def test_an_id_card_that_was_left_is_read_for_nobody_until_it_is_lifted() -> None:
    async with idcard_rig.rig_running() as rig:
        rig.lay_down()
        await idcard_rig.check_read(rig)
        assert not await rig.reader.is_clear()
        await rig.reader.take_back()
        assert (await rig.refusal(wait_seconds=5)).code == "idcard.no_card"
        assert rig.device.reads == 1
        reading = asyncio.create_task(rig.reader.read_card(wait_seconds=30))
        await asyncio.sleep(2)
        rig.device.remove_card()
        await asyncio.sleep(2)
        rig.lay_down()
        (await reading).wipe()
        assert rig.device.reads == 2


@on_virtual_time
async def test_an_id_card_that_is_lifted_while_nobody_waits_is_seen_to_be_lifted() -> None:
    """The next citizen who lays the card down before being asked is served."""
    async with idcard_rig.rig_running() as rig:
        rig.lay_down()
        await idcard_rig.check_read(rig)
        assert not await rig.reader.is_clear()
        await rig.reader.take_back()
        await asyncio.sleep(HEALTH_SECONDS + 5)
        assert (await rig.refusal(wait_seconds=1)).code == "idcard.no_card"
        rig.device.remove_card()
        await asyncio.sleep(HEALTH_SECONDS + 5)
        rig.lay_down()
        await idcard_rig.check_read(rig)


@on_virtual_time
async def test_a_reader_that_does_not_say_is_an_error() -> None:
    async with idcard_rig.rig_running() as rig:
        rig.lay_down()
        await idcard_rig.check_read(rig)
        idcard_rig.fault_at(rig, Command.RESET, Fault("silent"), times=9)
        with pytest.raises(DeviceError):
            await rig.reader.is_clear()
        rig.port.unplug()
        await asyncio.sleep(1)
        with pytest.raises(DeviceError, match="not there"):
            await rig.reader.is_clear()


@cardreader_rig.on_virtual_time
async def test_a_bank_card_is_seen_at_the_gate_and_retained_when_told() -> None:
    async with cardreader_rig.rig_running() as rig:
        assert isinstance(rig.reader, Place)
        assert await rig.reader.is_clear()
        async with cardreader_rig.card_in(rig) as reader:
            assert not await reader.is_clear()
        assert not await rig.reader.is_clear()
        await rig.reader.take_back()
        assert await rig.reader.is_clear()
        assert rig.reader.status.details["retained"] == "1"
        async with cardreader_rig.card_in(rig):
            pass
        rig.device.take_card()
        await asyncio.sleep(1)
        assert await rig.reader.is_clear()
        await rig.reader.take_back()
        assert rig.reader.status.details["retained"] == "1", "there was none to retain"


@cardreader_rig.on_virtual_time
async def test_a_bank_card_that_is_stuck_cannot_be_taken_in() -> None:
    async with cardreader_rig.rig_running() as rig:
        async with cardreader_rig.card_in(rig):
            rig.device.jam()
        assert not await rig.reader.is_clear()
        with pytest.raises(DeviceError, match="does not move"):
            await rig.reader.take_back()


@on_virtual_time
async def test_a_receipt_is_seen_at_the_presenter_and_retracted_when_told() -> None:
    async with test_printer_presenter.serving(test_printer_presenter.Rig()) as rig:
        assert isinstance(rig.driver, Place)
        assert await rig.driver.is_clear()
        await rig.driver.print_job([test_printer_presenter.receipt(1)])
        assert not await rig.driver.is_clear()
        await rig.driver.take_back()
        assert await rig.driver.is_clear()
        assert list(rig.printer.retracted) == [rig.printer.papers[-1]]
        await rig.driver.print_job([test_printer_presenter.receipt(2)])
        rig.printer.take_receipt()
        await asyncio.sleep(2)
        assert await rig.driver.is_clear()


@on_virtual_time
async def test_a_receipt_that_jams_is_told() -> None:
    async with test_printer_presenter.serving(test_printer_presenter.Rig()) as rig:
        await rig.driver.print_job([test_printer_presenter.receipt(1)])
        assert isinstance(rig.printer, VirtualPrinter)
        rig.printer.presenter_jam()
        with pytest.raises(DeviceError) as jammed:
            await rig.driver.take_back()
        assert jammed.value.code == "printer.presenter_jam"


@on_virtual_time
async def test_a_finger_is_seen_until_it_is_lifted() -> None:
    async with fingerprint_rig.rig_running() as rig:
        assert isinstance(rig.sensor, Place)
        assert await rig.sensor.is_clear()
        (await rig.capture("thumb")).wipe()
        assert not await rig.sensor.is_clear()
        await rig.sensor.take_back()
        assert not await rig.sensor.is_clear()
        rig.device.lift_finger()
        assert await rig.sensor.is_clear()
