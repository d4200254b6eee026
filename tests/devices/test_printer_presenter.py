"""The presenter (GS e): a receipt is held out, taken, or taken back; nobody else gets it (T4, L16)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from devices.config import Printer
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.printer.driver import ReceiptPrinter
from devices.printer.job import Picture
from devices.status import DeviceState
from sim.devices.printer import VirtualPrinter
from sim.memory import MemoryLinks, MemoryPort
from tests.devices.test_printer_driver import on_virtual_time

TAKE_SECONDS = 20.0


def receipt(mark: int, rows: int = 100) -> Picture:
    return Picture(576, rows, bytes((mark,)) * 72 * rows)


class Rig:
    def __init__(self, *, presenter: bool = True) -> None:
        self.printer = VirtualPrinter(presenter=presenter)
        self.port = MemoryPort(self.printer, latency_seconds=0.001)
        settings = Printer(port="receipt", baud=921_600, presenter="gs_e", take_seconds=TAKE_SECONDS)
        self.said: list[str] = []
        self.driver = ReceiptPrinter(settings, MemoryLinks({"receipt": self.port}), lambda _: self._note())
        self.life: asyncio.Task[None] | None = None

    def _note(self) -> None:
        outlet = str(self.outlet)
        if not self.said or self.said[-1] != outlet:
            self.said.append(outlet)

    @property
    def outlet(self) -> str | bool | None:
        return self.driver.status.details.get("presenter")

    async def start(self) -> None:
        ready = asyncio.Event()
        self.life = asyncio.create_task(self.driver.run(ready.set), name="life")
        async with asyncio.timeout(20):
            await ready.wait()

    async def stop(self) -> None:
        assert self.life is not None
        self.life.cancel()
        await asyncio.gather(self.life, return_exceptions=True)


@asynccontextmanager
async def serving(rig: Rig) -> AsyncIterator[Rig]:
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


@on_virtual_time
async def test_a_receipt_is_held_out_and_taken() -> None:
    async with serving(Rig()) as rig:
        assert rig.outlet == "empty"
        assert (await rig.driver.print_job([receipt(1)])).outcome == "printed"
        assert rig.outlet == "presented"
        assert rig.printer.outlet == rig.printer.papers[-1]
        await asyncio.sleep(5)
        rig.printer.take_receipt()
        await asyncio.sleep(2)
        assert rig.outlet == "taken"
        await asyncio.sleep(3 * TAKE_SECONDS)
        assert not rig.printer.retracted
        assert rig.said == ["empty", "presented", "taken"]


@on_virtual_time
async def test_a_receipt_that_nobody_takes_is_taken_back() -> None:
    async with serving(Rig()) as rig:
        await rig.driver.print_job([receipt(1)])
        await asyncio.sleep(TAKE_SECONDS - 2)
        assert (rig.outlet, rig.printer.outlet is None) == ("presented", False)
        await asyncio.sleep(5)
        assert (rig.outlet, rig.printer.outlet) == ("retracted", None)
        assert list(rig.printer.retracted) == [rig.printer.papers[-1]]


@on_virtual_time
async def test_the_next_job_takes_the_last_receipt_back_first() -> None:
    async with serving(Rig()) as rig:
        await rig.driver.print_job([receipt(1)])
        await rig.driver.print_job([receipt(2)])
        first, second = rig.printer.papers
        assert list(rig.printer.retracted) == [first]
        assert rig.printer.outlet == second


@on_virtual_time
async def test_a_half_receipt_is_never_held_out() -> None:
    """What is cut off after a fault goes where nobody takes it."""
    async with serving(Rig()) as rig:
        rig.printer.paper_out(after_millimetres=10)
        assert (await rig.driver.print_job([receipt(1, 800)])).outcome == "unknown"
        assert rig.printer.outlet is None
        rig.printer.refill()
        rig.port.nudge()
        await asyncio.sleep(5)
        assert rig.printer.outlet is None
        assert rig.printer.retracted[-1].rows.count(1) > 0
        assert (await rig.driver.print_job([receipt(2)])).outcome == "printed"
        assert rig.printer.outlet == rig.printer.papers[-1]


@on_virtual_time
async def test_a_stop_takes_the_receipt_back() -> None:
    rig = Rig()
    await rig.start()
    await rig.driver.print_job([receipt(1)])
    await rig.stop()
    assert (rig.printer.outlet, len(rig.printer.retracted)) == (None, 1)


@on_virtual_time
async def test_what_a_lost_line_left_at_the_outlet_is_taken_back_at_the_start() -> None:
    rig = Rig()
    await rig.start()
    await rig.driver.print_job([receipt(1)])
    rig.port.unplug()
    assert rig.life is not None
    with pytest.raises(LinkLost):
        await rig.life
    assert rig.printer.outlet is not None
    rig.port.plug()
    async with serving(rig):
        assert rig.outlet in ("empty", "retracted")
        assert (rig.printer.outlet, len(rig.printer.retracted)) == (None, 1)


@on_virtual_time
async def test_a_jam_is_a_state_that_heals() -> None:
    async with serving(Rig()) as rig:
        await rig.driver.print_job([receipt(1)])
        rig.printer.presenter_jam()
        await asyncio.sleep(TAKE_SECONDS + 10)
        assert (rig.driver.status.state, rig.driver.status.code) == (
            DeviceState.HARDWARE_ERROR,
            "printer.presenter_jam",
        )
        refused = await rig.driver.print_job([receipt(2)])
        assert (refused.outcome, refused.code) == ("not_printed", "printer.presenter_jam")
        rig.printer.heal()
        await asyncio.sleep(70)
        assert rig.driver.status.state is DeviceState.ONLINE
        assert (await rig.driver.print_job([receipt(2)])).outcome == "printed"
        assert rig.printer.outlet == rig.printer.papers[-1]


@on_virtual_time
async def test_a_presenter_that_says_nothing_is_unknown_and_takes_back_all_the_same() -> None:
    """L14: no answer is never `taken`."""
    async with serving(Rig(presenter=False)) as rig:
        assert rig.outlet == "unknown"
        assert (await rig.driver.print_job([receipt(1)])).outcome == "printed"
        await asyncio.sleep(TAKE_SECONDS + 10)
        assert rig.outlet == "unknown"
        assert "taken" not in rig.said
        assert rig.driver.status.state is DeviceState.ONLINE


@on_virtual_time
async def test_a_damaged_answer_is_not_taken() -> None:
    """One byte without a checksum: taken is said only when it was seen twice."""
    async with serving(Rig()) as rig:
        await rig.driver.print_job([receipt(1)])
        for _ in range(10):
            rig.port.faults.add("silent", 1)
            await asyncio.sleep(0.6)
        assert rig.outlet == "presented"


@pytest.mark.parametrize("serial_number", ["SN-20026", None])
def test_who_the_printer_is(serial_number: str | None) -> None:
    """GS I 68; a printer that does not answer is unknown, and stays what it was when its line is lost (H8, L14)."""

    @on_virtual_time
    async def test() -> None:
        rig = Rig()
        rig.printer._serial_number = serial_number
        async with serving(rig):
            assert rig.driver.status.identity == serial_number
            rig.port.unplug()
            assert rig.life is not None
            with pytest.raises((LinkLost, DeviceError)):
                await rig.life
            assert rig.driver.status.identity == serial_number

    test()


@on_virtual_time
async def test_a_printer_without_paper_says_who_it_is_after_the_refill() -> None:
    """GS I waits in the print queue."""
    rig = Rig()
    rig.printer.paper_out()
    async with serving(rig):
        assert (rig.driver.status.code, rig.driver.status.identity) == ("printer.paper_out", None)
        rig.printer.refill()
        rig.port.nudge()
        await asyncio.sleep(5)
        assert (rig.driver.status.state, rig.driver.status.identity) == (DeviceState.ONLINE, "VIRTUAL")
