"""Seeded fault schedules: no paper ever carries two citizens, and printed is only said of a paper that is there."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from devices.config import Printer
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.printer.driver import ReceiptPrinter
from devices.printer.job import Picture
from devices.serial import open_serial_link
from devices.status import DeviceState
from sim import virtual_time
from sim.devices.printer import VirtualPrinter
from sim.memory import MemoryLink, MemoryLinks, MemoryPort
from sim.pty import PtyHost

CITIZENS = 12
HEIGHT = 200
MARKS = [mark for mark in range(1, 256) if mark != 0x10][:CITIZENS]


def receipt(citizen: int) -> Picture:
    return Picture(576, HEIGHT, bytes((MARKS[citizen],)) * 72 * HEIGHT)


def marks(paper: bytes) -> set[int]:
    return set(paper) - {0}


class Rig:
    """A printer on a bad day, with a simple supervisor."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a schedule of faults, no secret
        self.printer = VirtualPrinter()
        self.port = MemoryPort(self.printer, latency_seconds=0.002)
        self.driver = ReceiptPrinter(Printer(port="receipt"), MemoryLinks({"receipt": self.port}), lambda _: None)

    async def supervise(self) -> None:
        while True:
            with suppress(LinkLost, DeviceError):
                await self.driver.run(lambda: None)
            await asyncio.sleep(1)

    async def trouble(self) -> None:
        """Something happens, and some seconds later it is mended."""
        verbs: list[Callable[[], None]] = [
            *(
                lambda verb=verb: verb(after_millimetres=self.random.uniform(0, 30))
                for verb in (self.printer.paper_out, self.printer.open_cover, self.printer.cutter_jam)
            ),
            self.printer.silent,
            self.port.unplug,
            lambda: self.port.faults.add(self.random.choice(["garbage", "half", "corrupt", "silent", "late"]), 3),
        ]
        while True:
            await asyncio.sleep(self.random.uniform(0, 8))
            self.random.choice(verbs)()
            self.port.nudge()
            await asyncio.sleep(self.random.uniform(0, 6))
            self.printer.heal()
            self.port.faults.clear()
            self.port.plug()
            self.port.nudge()

    async def serve(self, citizen: int) -> str:
        try:
            async with asyncio.timeout(self.random.uniform(0.5, 30)):
                return (await self.driver.print_job([receipt(citizen)])).outcome
        except TimeoutError:
            return "cancelled"
        except DeviceError as error:
            return error.code


@pytest.mark.parametrize("seed", range(25))
def test_a_bad_day(seed: int) -> None:
    async def day() -> None:
        rig = Rig(seed)
        tasks = [asyncio.create_task(work, name="rig") for work in (rig.supervise(), rig.trouble())]
        outcomes = []
        for citizen in range(CITIZENS):
            await asyncio.sleep(rig.random.uniform(0, 4))
            outcomes.append(await rig.serve(citizen))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        papers = [paper.rows for paper in (*rig.printer.papers, rig.printer.hanging)]
        assert all(len(marks(paper)) <= 1 for paper in papers), "two citizens on one paper"
        for citizen, outcome in enumerate(outcomes):
            whole = [paper for paper in papers if paper.count(MARKS[citizen]) == 72 * HEIGHT]
            if outcome == "printed":
                assert len(whole) == 1, (citizen, outcomes)
            if outcome in ("not_printed", "printer.offline"):
                assert not any(MARKS[citizen] in paper for paper in papers), (citizen, outcomes)

    virtual_time.run(day())


class StuckLink:
    """A link whose `bad` write takes half the bytes and blocks; with `mends`, later writes go through again."""

    def __init__(self, link: MemoryLink, *, bad: int, mends: bool) -> None:
        self._link = link
        self._left = bad
        self._mends = mends
        self.stuck = False

    async def read(self) -> bytes:
        return await self._link.read()

    async def write(self, data: bytes) -> None:
        self._left -= 1
        if self._left == 0:
            self.stuck = True
            await self._link.write(data[: len(data) // 2])
        if self._left == 0 or (self.stuck and not self._mends):
            await asyncio.Event().wait()
        await self._link.write(data)

    async def close(self) -> None:
        await self._link.close()


@pytest.mark.parametrize("mends", [True, False])
def test_a_write_that_never_returns(mends: bool) -> None:
    """Hardware flow control can block for ever: the deadline ends it, and the broken-off band spoils nothing."""

    async def story() -> None:
        rig = Rig(0)
        open_link = MemoryLinks({"receipt": rig.port})

        async def stuck(port: str, baud: int, flow_control: str = "none") -> StuckLink:
            return StuckLink(await open_link(port, baud), bad=20, mends=mends)

        driver = ReceiptPrinter(Printer(port="receipt"), stuck, lambda _: None)
        ready = asyncio.Event()
        life = asyncio.create_task(driver.run(ready.set), name="life")
        async with asyncio.timeout(10):
            await ready.wait()
        result = await driver.print_job([receipt(0)])
        assert (result.outcome, result.code) == ("unknown", "printer.no_answer")
        assert result.seconds < 20.0
        if mends:
            assert (await driver.print_job([receipt(1)])).outcome == "printed"
            assert [marks(paper.rows) for paper in rig.printer.papers][-1] == {MARKS[1]}
            life.cancel()
            with pytest.raises(asyncio.CancelledError):
                await life
        else:
            with pytest.raises(LinkLost):
                await life

    virtual_time.run(story())


def test_on_a_real_pseudo_terminal(tmp_path: Path) -> None:
    """The same over the kernel: printed, unplugged in the middle, plugged again (L5, L6)."""
    printer = VirtualPrinter()
    port = tmp_path / "receipt"
    settings = Printer(port=str(port), baud=460_800)
    driver = ReceiptPrinter(settings, open_serial_link, lambda _: None)

    async def story() -> None:
        with PtyHost(printer, port, baud=settings.baud) as host:
            for _ in range(2):
                ready = asyncio.Event()
                life = asyncio.create_task(driver.run(ready.set), name="life")
                await ready.wait()
                assert (await driver.print_job([receipt(0)])).outcome == "printed"
                asyncio.get_running_loop().call_later(0.1, host.unplug)
                lost = await driver.print_job([receipt(1)])
                assert (lost.outcome, lost.code) == ("unknown", "printer.lost")
                with pytest.raises(LinkLost):
                    await life
                assert driver.status.state is DeviceState.OFFLINE
                host.plug()

    asyncio.run(asyncio.wait_for(story(), 30))
    first, half, last = (marks(paper.rows) for paper in printer.papers)
    assert first == last == {MARKS[0]}
    assert MARKS[1] in half
    assert MARKS[0] not in half
