"""The printer's pipeline, from a certificate's PDF and text to paper, beside T4's 100 mm/s and the link's limit."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import fpdf
import pytest

from benchmarks.conftest import Figures
from devices.config import Printer
from devices.link import FlowControl, Link
from devices.printer.driver import ReceiptPrinter
from devices.printer.job import GOAL_MILLIMETRES_PER_SECOND, Item, Picture, Qr, Text, chunks, needed_bytes_per_second
from devices.serial import open_serial_link
from devices.tcp import open_tcp_link
from devices.usb import open_usb_link
from sim.devices.printer import VirtualPrinter
from sim.pty import PtyHost
from sim.tcp import TcpHost
from vision.raster import rasterise

WIDTH_DOTS, DOTS_PER_INCH = 576, 203
FULL_SPEED = 100_000_000
"""A line rate that is none: the stand-in of a USB device takes bytes as fast as this machine moves them."""


@dataclass(frozen=True)
class Page:
    """What is printed: `make` renders and lays it out, which counts."""

    name: str
    make: Callable[[], list[Item]]


def certificate() -> bytes:
    """Return a page of text, as wide as the paper and 200 mm long."""
    pdf = fpdf.FPDF(unit="mm", format=(72, 200))
    pdf.set_auto_page_break(auto=False)
    pdf.add_page()
    pdf.set_font("helvetica", size=9)
    for line in range(42):
        pdf.text(3, 6 + line * 4.5, f"{line:02d} Social insurance, paid without a gap, month {line % 12 + 1:02d}")
    return bytes(pdf.output())


PDF = certificate()


def receipt() -> list[Item]:
    """Render the certificate and lay out its receipt, as the certificate service does."""
    pictures = [Picture(page.width_dots, page.height_dots, page.rows) for page in rasterise(PDF, WIDTH_DOTS, 4)]
    return [Text("政务服务自助终端", double=True), *pictures, Qr("https://a.gov.cn/v/202611220001"), Text("No. 1")]


def black() -> list[Item]:
    """Return 300 mm without a white margin, which would be left out on the wire: the worst page there is."""
    return [Picture(WIDTH_DOTS, 2_400, bytes(range(1, 73)) * 2_400)]


PAGES = (Page("certificate from its PDF", receipt), Page("full black page", black))
LINKS = ("usb", "tcp", "921600", "115200")


@asynccontextmanager
async def printer_at(link: str, path: Path) -> AsyncIterator[ReceiptPrinter]:
    """Serve a virtual printer on a link: a USB stand-in, TCP, or a serial line of that rate."""
    async with AsyncExitStack() as stack:
        port, baud = str(path), 921_600
        if link == "tcp":
            host = await stack.enter_async_context(TcpHost(VirtualPrinter()))
            port = f"tcp://127.0.0.1:{host.port}"
        else:
            baud = baud if link == "usb" else int(link)
            stack.enter_context(PtyHost(VirtualPrinter(), path, baud=FULL_SPEED if link == "usb" else baud))

        async def opened(port: str, baud: int, flow_control: FlowControl = "none") -> Link:
            if link == "tcp":
                return await open_tcp_link(port, baud)
            return await (open_usb_link if link == "usb" else open_serial_link)(str(path), baud, flow_control)

        settings = Printer(port="/dev/usb/lp0" if link == "usb" else port, baud=baud)
        driver = ReceiptPrinter(settings, opened, lambda _: None)
        serving = asyncio.Event()
        life = asyncio.create_task(driver.run(serving.set))
        try:
            async with asyncio.timeout(20):
                await serving.wait()
            yield driver
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)


async def pipeline(page: Page, link: str, path: Path) -> tuple[float, float, int]:
    """Return the mm/s from PDF to proof, those that the job tells of itself, and the bytes of the job."""
    async with printer_at(link, path) as driver:
        started = time.perf_counter()
        job = page.make()
        result = await driver.print_job(job)
        seconds = time.perf_counter() - started
    assert result.outcome == "printed"
    told = result.millimetres_per_second
    assert told is not None
    return result.millimetres / seconds, told, sum(map(len, chunks(job)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("link", LINKS)
def test_printer_pipeline(link: str, page: Page, figures: Figures, tmp_path: Path) -> None:
    """T4: a full-width picture at 100 mm/s and 203 dpi is 57,543 bytes a second, more than 460,800 bit/s carry."""
    speed, told, size = asyncio.run(pipeline(page, link, tmp_path / "printer"))
    needed = needed_bytes_per_second(WIDTH_DOTS, DOTS_PER_INCH)
    limit = int(link) / 10 / needed * GOAL_MILLIMETRES_PER_SECOND if link.isdecimal() else None
    enough = speed >= GOAL_MILLIMETRES_PER_SECOND
    figures.add(
        f"{page.name}, {link}",
        f"{speed:.0f} mm/s ({told:.0f} in the job's result; {size:,} bytes)",
        beside=f"the line's limit, full width: {limit:.0f} mm/s" if limit else "the link has no rate of its own",
        verdict=f"T4 {GOAL_MILLIMETRES_PER_SECOND:.0f} mm/s: {'within' if enough else 'the line is too slow'}",
    )
    assert speed >= 0.9 * min(limit or GOAL_MILLIMETRES_PER_SECOND, GOAL_MILLIMETRES_PER_SECOND)


def test_rendering_alone(figures: Figures) -> None:
    """What the pipeline could do without a link: PDF to commands."""
    started = time.perf_counter()
    job = receipt()
    rendered = time.perf_counter()
    size = sum(map(len, chunks(job)))
    done = time.perf_counter()
    length = sum(item.height_dots for item in job if isinstance(item, Picture)) / DOTS_PER_INCH * 25.4
    figures.add(
        "certificate, PDF to commands",
        f"{length / (done - started):.0f} mm/s",
        beside=f"rendering {length / (rendered - started):.0f} mm/s, encoding {length / (done - rendered):.0f} mm/s",
        verdict=f"{size:,} bytes for {length:.0f} mm",
    )
    assert length / (done - started) >= GOAL_MILLIMETRES_PER_SECOND
