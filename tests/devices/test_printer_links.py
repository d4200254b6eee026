"""The printer on every link: fast enough, never held for ever, nothing left for the next citizen (T4, L16)."""

import asyncio
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from devices.config import Printer
from devices.link import LinkLost
from devices.printer.driver import ReceiptPrinter
from devices.printer.job import needed_bytes_per_second
from devices.status import DeviceState
from runtime import board
from runtime import probe as tester
from runtime.config import ConfigError, parse
from runtime.probe_steps import probe_steps
from runtime.reference import EXAMPLE
from sim import virtual_time
from sim.memory import MemoryLinks, MemoryPort
from sim.tcp import TcpHost
from tests.devices.printer_rig import Bench, FullPrinter, marks, receipt, serving

every_link = pytest.mark.parametrize("kind", ["usb", "tcp", "xon_xoff", "rts_cts"])
FIRST, SECOND = 0x55, 0xAA


@every_link
async def test_it_prints_at_the_speed_of_the_agreement(kind: str, tmp_path: Path) -> None:
    """T4: 100 mm/s; a link without a rate is not held back to one."""
    async with serving(kind, tmp_path) as bench:
        result = await bench.driver.print_job([receipt(FIRST)])
        assert (result.outcome, result.code) == ("printed", None)
        assert result.millimetres_per_second is not None
        assert result.millimetres_per_second >= 100
        assert marks(bench.printer.papers[0].rows) == {FIRST}
        assert bench.driver.status.identity == "VIRTUAL"
        assert "link_limit" not in bench.driver.status.details
        flow = kind if kind in ("xon_xoff", "rts_cts") else "none"
        assert {how for _, _, how in bench.opened} == {flow}


@every_link
async def test_paper_out_in_the_middle_leaves_nothing_for_the_next_citizen(kind: str, tmp_path: Path) -> None:
    """The printer holds the line with its memory full; the fault it tells ends the wait at once."""
    async with serving(kind, tmp_path) as bench:
        bench.printer.paper_out(after_millimetres=30)
        result = await bench.driver.print_job([receipt(FIRST)])
        assert (result.outcome, result.code) == ("unknown", "printer.paper_out")
        assert result.seconds < 5
        bench.do("refill")
        await bench.until(DeviceState.ONLINE)
        while (await bench.driver.print_job([receipt(SECOND, 100)])).outcome != "printed":
            await bench.until(DeviceState.ONLINE)
        *before, last = bench.printer.papers
        assert marks(last.rows) == {SECOND}
        assert last.rows.count(SECOND) == 72 * 100
        assert all(marks(paper.rows) == {FIRST} for paper in before)
        assert sum(paper.rows.count(FIRST) for paper in before) < 72 * 1_200, "most of it never came"


@pytest.mark.parametrize("kind", ["usb", "xon_xoff", "rts_cts"])
async def test_a_fault_ends_a_write_that_the_printer_holds(kind: str, tmp_path: Path) -> None:
    """Its memory is full, so it takes nothing, and then the paper ends: nobody waits for the job's deadline."""
    async with serving(kind, tmp_path) as bench:
        loop = asyncio.get_running_loop()
        job = asyncio.create_task(bench.driver.print_job([receipt(FIRST)]), name="job")
        await bench.printer.begun.wait()
        bench.printer.busy = True
        loop.call_later(0.4, bench.do, "paper_out")
        result = await job
        assert (result.outcome, result.code) == ("unknown", "printer.paper_out")
        assert result.seconds < 5
        bench.printer.busy = False
        bench.do("refill")
        await bench.until(DeviceState.ONLINE)


@every_link
async def test_cancelled_while_the_printer_holds_the_line(kind: str, tmp_path: Path) -> None:
    async with serving(kind, tmp_path) as bench:
        bench.printer.verbs["silent"]()
        bench.printer.paper_out(after_millimetres=30)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await bench.driver.print_job([receipt(FIRST)])
        bench.do("heal")
        await bench.until(DeviceState.ONLINE)
        while (await bench.driver.print_job([receipt(SECOND, 100)])).outcome != "printed":
            await bench.until(DeviceState.ONLINE)
        assert marks(bench.printer.papers[-1].rows) == {SECOND}


@every_link
async def test_unplugged_idle_and_in_the_middle(kind: str, tmp_path: Path) -> None:
    """One event each; plugged again it serves, and the half receipt is cut off (L5, L16)."""
    async with serving(kind, tmp_path) as bench:
        await bench.host.unplug()
        await bench.until(DeviceState.OFFLINE, "printer.offline")
        assert isinstance(bench.ends[0], LinkLost)
        await bench.host.plug()
        await bench.until(DeviceState.ONLINE)
        bench.printer.paper_out(after_millimetres=100)
        job = asyncio.create_task(bench.driver.print_job([receipt(FIRST)]), name="job")
        await bench.printer.begun.wait()
        await bench.host.unplug()
        assert (await job).code in ("printer.lost", "printer.paper_out")
        await bench.until(DeviceState.OFFLINE, "printer.offline")
        bench.printer.heal()
        await bench.host.plug()
        await bench.until(DeviceState.ONLINE)
        assert (await bench.driver.print_job([receipt(SECOND, 100)])).outcome == "printed"
        assert marks(bench.printer.papers[-1].rows) == {SECOND}


@pytest.mark.parametrize(
    ("baud", "told"), [(9_600, "2 mm/s"), (115_200, "20 mm/s"), (460_800, "80 mm/s"), (921_600, None)]
)
def test_a_line_that_is_too_slow_is_named_once(baud: int, told: str | None) -> None:
    """T4: 57,543 bytes a second are needed at 576 dots and 203 dpi; which line cannot is said in log and status."""

    async def story() -> None:
        links = MemoryLinks({"receipt": MemoryPort(FullPrinter())})
        driver = ReceiptPrinter(Printer(port="receipt", baud=baud), links, lambda _: None)
        for _ in range(2):
            ready = asyncio.Event()
            life = asyncio.create_task(driver.run(ready.set), name="life")
            await ready.wait()
            assert driver.status.details.get("link_limit") == told
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)

    with capture_logs() as lines:
        virtual_time.run(story())
    warned = [line for line in lines if line["event"] == "printer_link_slow"]
    assert len(warned) == (told is not None)
    for line in warned:
        assert (line["bytes_per_second"], line["needed_bytes_per_second"]) == (baud / 10, 57_543)
    assert needed_bytes_per_second(576, 203) == pytest.approx(72 * 203 / 25.4 * 100)


@pytest.mark.parametrize("kind", ["usb", "tcp", "xon_xoff"])
async def test_the_conformance_steps_of_a_tester(kind: str, tmp_path: Path) -> None:
    """`govterm probe printer`: opened twice, a byte at a time, noise, reopened, and a slip that is really printed."""
    bench = Bench(kind, tmp_path)
    async with asyncio.timeout(60):
        await bench.host.plug()
        try:
            report = await tester.probe(
                tester.Bench("printer", bench.settings, bench.open_link), probe_steps("printer")
            )
        finally:
            await bench.host.unplug()
    assert report.passed, report
    assert report.identity == "VIRTUAL"
    skipped = [step.name for step in report.steps if step.outcome == "skipped"]
    assert skipped == (["second open is refused"] if kind == "tcp" else [])
    assert len(bench.printer.papers) >= 1


@pytest.mark.parametrize("kind", ["usb", "tcp"])
async def test_the_board_opens_every_medium(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's own opener: which link a port has is in its name."""
    bench = Bench(kind, tmp_path)
    await bench.host.plug()
    if isinstance(bench.host, TcpHost):
        port = f"tcp://127.0.0.1:{bench.host.port}"
    else:
        port = str(bench.host.path)
        monkeypatch.setattr(board, "medium", lambda _: "usb")
    link = await board.open_link(port, 115_200)
    assert type(link).__name__ == {"usb": "UsbLink", "tcp": "TcpLink"}[kind]
    await link.close()
    await bench.host.unplug()


@pytest.mark.parametrize(
    ("line", "key", "told"),
    [
        ('port = "tcp://192.168.8.20"', "printer", "tcp://HOST:PORT"),
        ('port = "tcp://192.168.8.20:9100"\nflow_control = "xon_xoff"', "printer", "flow_control xon_xoff"),
        ('port = "/dev/usb/lp0"\nflow_control = "rts_cts"', "printer", "flow_control rts_cts"),
        ('port = "/dev/ttyS1"\nflow_control = "dtr"', "printer.flow_control", "rts_cts"),
        ('port = "/dev/ttyS1"\npresenter = "gs_z"', "printer.presenter", "gs_e"),
    ],
)
def test_a_wrong_link_names_device_and_key(line: str, key: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(re.sub(r"(?<=\[printer\]\n)port = .*", lambda _: line, EXAMPLE).encode())
    (mistake,) = refused.value.mistakes
    assert mistake.key == key
    assert told in str(mistake)


@pytest.mark.parametrize("port", ["tcp://192.168.8.20:9100", "/dev/usb/lp0", "/dev/usb/receipt-printer"])
def test_every_medium_may_be_configured(port: str) -> None:
    settings = parse(re.sub(r"(?<=\[printer\]\n)port = .*", f'port = "{port}"', EXAMPLE).encode())
    assert settings.printer is not None
    assert settings.printer.port == port
