"""Printers behind links that hold the writer: a printer whose memory is full takes no more bytes."""

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from devices.config import Printer
from devices.errors import DeviceError
from devices.link import Link, LinkLost
from devices.printer.driver import ReceiptPrinter
from devices.printer.job import Picture
from devices.serial import open_serial_link
from devices.status import DeviceState
from devices.tcp import open_tcp_link
from devices.usb import open_usb_link
from sim.devices.printer import VirtualPrinter
from sim.tcp import TcpHost

MEMORY_BYTES = 4_096
WIDTH_BYTES = 72


def receipt(mark: int, rows: int = 2_400) -> Picture:
    """Return a picture of `mark` bytes, full width: 300 mm."""
    return Picture(576, rows, bytes((mark,)) * WIDTH_BYTES * rows)


def marks(paper: bytes) -> set[int]:
    return set(paper) - {0}


class FullPrinter(VirtualPrinter):
    """Says when its memory is full, which is much earlier than it loses anything, and when it begins a receipt."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.busy = False

    def feed(self, data: bytes) -> bytes:
        said = super().feed(data)
        if self.hanging.height_dots:
            self.begun.set()
        return said

    @property
    def full(self) -> bool:
        return self.busy or (bool(self.condition.offline) and len(self._buffer) > MEMORY_BYTES)


class HeldPty:
    """A printer at a pseudo-terminal, as fast as the machine; it reads nothing while its memory is full."""

    def __init__(self, printer: FullPrinter, path: Path) -> None:
        self.printer = printer
        self.path = path
        self._master = self._slave = -1
        self._reading = False

    async def plug(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))
        self._read_on()

    async def unplug(self) -> None:
        if self._master >= 0:
            self._read_on(no_more=True)
            self.path.unlink(missing_ok=True)
            os.close(self._master)
            os.close(self._slave)
            self._master = -1

    def nudge(self) -> None:
        """Let the printer say what a verb made it say, and go on reading."""
        if self._master >= 0:
            self._take(b"")

    def _read_on(self, *, no_more: bool = False) -> None:
        loop, wanted = asyncio.get_running_loop(), not no_more and not self.printer.full
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                loop.add_reader(self._master, lambda: self._take(os.read(self._master, 1_024)))
            else:
                loop.remove_reader(self._master)

    def _take(self, data: bytes) -> None:
        reply = self.printer.feed(data)
        if reply:
            os.write(self._master, reply)
        self._read_on()


class Bench:
    """A printer on a link, its driver, and a simple supervisor."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.printer = FullPrinter()
        path = directory / "printer"
        self.host: HeldPty | TcpHost = TcpHost(self.printer) if kind == "tcp" else HeldPty(self.printer, path)
        opener, flow = {
            "usb": (lambda: open_usb_link(str(path), 0), "none"),
            "tcp": (lambda: open_tcp_link(f"tcp://127.0.0.1:{self.host.port}", 0), "none"),
            "xon_xoff": (lambda: open_serial_link(str(path), 460_800, "xon_xoff"), "xon_xoff"),
            "rts_cts": (lambda: open_serial_link(str(path), 460_800, "rts_cts"), "rts_cts"),
        }[kind]
        self._opener: Callable[[], Awaitable[Link]] = opener
        port = {"usb": "/dev/usb/lp0", "tcp": "tcp://printer:9100"}.get(kind, str(path))
        self.settings = Printer(port=port, baud=921_600, flow_control=flow)
        self.opened: list[tuple[str, int, str]] = []
        self.driver = ReceiptPrinter(self.settings, self.open_link, lambda _: self.changed.set())
        self.changed = asyncio.Event()
        self.ends: list[Exception] = []

    async def open_link(self, port: str, baud: int, flow_control: str = "none") -> Link:
        self.opened.append((port, baud, flow_control))
        return await self._opener()

    def do(self, verb: str, **arguments: float) -> None:
        self.printer.verbs[verb](**arguments)
        self.host.nudge()

    async def supervise(self) -> None:
        while True:
            try:
                await self.driver.run(lambda: None)
            except (LinkLost, DeviceError) as end:
                self.ends.append(end)
            await asyncio.sleep(0.05)

    async def until(self, state: DeviceState, code: str | None = None) -> None:
        while (self.driver.status.state, self.driver.status.code) != (state, code):
            self.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), 0.2)


@asynccontextmanager
async def serving(kind: str, directory: Path) -> AsyncIterator[Bench]:
    bench = Bench(kind, directory)
    async with asyncio.timeout(60):
        await bench.host.plug()
        life = asyncio.create_task(bench.supervise(), name="supervisor")
        try:
            await bench.until(DeviceState.ONLINE)
            yield bench
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            await bench.host.unplug()
