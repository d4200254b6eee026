"""The real link over pseudo-terminals: opened once, lost as one event, free again after close (L2, L5, L6)."""

import asyncio
import logging
import os
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, get_args

import pytest

from devices.link import FlowControl, LinkLost
from devices.serial import BUFFER_LIMIT, SerialLink, open_serial_link
from sim.pty import PtyHost
from sim.wire import Verbs

DEADLINE = 10


class Echo:
    """A device that says what it hears, and remembers it."""

    verbs: ClassVar[Verbs] = {}

    def __init__(self) -> None:
        self.heard = bytearray()

    def feed(self, data: bytes) -> bytes:
        self.heard += data
        return data


@asynccontextmanager
async def echo_link(directory: Path) -> AsyncIterator[tuple[PtyHost, SerialLink]]:
    async with asyncio.timeout(DEADLINE):
        with PtyHost(Echo(), directory / "tty", baud=921_600) as host:
            link = await open_serial_link(str(host.path), 115_200)
            try:
                yield host, link
            finally:
                await link.close()


async def read_exactly(link: SerialLink, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await link.read()
    return data


async def test_bytes_go_there_and_back(tmp_path: Path) -> None:
    async with echo_link(tmp_path) as (_, link):
        sent = bytes(range(256)) * 8
        await link.write(sent)
        assert await read_exactly(link, len(sent)) == sent


async def test_open_twice_is_refused_and_free_after_close(tmp_path: Path) -> None:
    async with echo_link(tmp_path) as (host, link):
        with pytest.raises(LinkLost, match="cannot be opened"):
            await open_serial_link(str(host.path), 115_200)
        await link.close()
        again = await open_serial_link(str(host.path), 115_200)
        await again.close()


async def test_closing_twice_is_nothing_and_a_closed_link_is_lost(tmp_path: Path) -> None:
    async with echo_link(tmp_path) as (_, link):
        await link.close()
        await link.close()
        with pytest.raises(LinkLost):
            await link.read()
        with pytest.raises(LinkLost):
            await link.write(b"x")


async def test_a_hang_up_reaches_a_waiting_reader(tmp_path: Path) -> None:
    async with echo_link(tmp_path) as (host, link):
        waiting = asyncio.create_task(link.read(), name="reader")
        await asyncio.sleep(0)
        host.unplug()
        with pytest.raises(LinkLost):
            await waiting
        with pytest.raises(LinkLost):
            await link.write(b"x")
        await link.close()
        host.plug()
        again = await open_serial_link(str(host.path), 115_200)
        await again.write(b"again")
        assert await read_exactly(again, 5) == b"again"
        await again.close()


async def test_what_came_before_the_hang_up_is_still_read(tmp_path: Path) -> None:
    async with echo_link(tmp_path) as (host, link):
        await link.write(b"last words")
        await link._arrived.wait()
        host.unplug()
        await link._closed.wait()
        assert (await link.read())[:4] == b"last"
        with pytest.raises(LinkLost):
            await link.read()


@pytest.mark.parametrize(
    "port", ["", "/nonexistent/tty", "/dev/null", "tcp://127.0.0.1:9", "socket://127.0.0.1:9", "\0"]
)
async def test_what_is_no_serial_port_is_refused_and_left_closed(port: str) -> None:
    """L2; a network address is no port (T20)."""
    for _ in range(3):
        with pytest.raises(LinkLost, match="cannot be opened"):
            await open_serial_link(port, 115_200)


async def test_a_cancelled_open_leaves_the_port_free(tmp_path: Path) -> None:
    with PtyHost(Echo(), tmp_path / "tty") as host:
        for steps in range(1, 12):
            opening = asyncio.create_task(open_serial_link(str(host.path), 115_200), name="opening")
            for _ in range(steps):
                await asyncio.sleep(0.001)
            opening.cancel()
            (outcome,) = await asyncio.gather(opening, return_exceptions=True)
            if isinstance(outcome, SerialLink):
                await outcome.close()
        async with asyncio.timeout(DEADLINE):
            link = await open_serial_link(str(host.path), 115_200)
        await link.close()


async def test_a_slow_reader_of_the_wire_holds_the_writer(tmp_path: Path) -> None:
    """A write returns when the kernel has it all: a printer that stops taking bytes stops the driver."""
    async with asyncio.timeout(DEADLINE):
        device = Echo()
        device.feed = lambda data: device.heard.extend(data) or b""  # type: ignore[method-assign, func-returns-value]
        with PtyHost(device, tmp_path / "tty", baud=921_600) as host:
            link = await open_serial_link(str(host.path), 115_200)
            await link.write(bytes(60_000))
            assert len(device.heard) > 40_000
            await link.close()


async def test_a_hang_up_ends_a_waiting_write(tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE):
        with PtyHost(Echo(), tmp_path / "tty", baud=9600) as host:
            link = await open_serial_link(str(host.path), 9600)
            writing = asyncio.create_task(link.write(bytes(200_000)), name="writer")
            await asyncio.sleep(0.05)
            assert not writing.done()
            host.unplug()
            with pytest.raises(LinkLost):
                await writing
            await link.close()


async def test_what_nobody_reads_is_kept_within_bounds() -> None:
    """The port itself is not read above the limit; what arrives in the kernel then is the kernel's."""
    link = SerialLink()
    transport = _CountingTransport()
    link._transport = transport  # type: ignore[assignment]
    while not transport.paused:
        link.data_received(bytes(4096))
    assert BUFFER_LIMIT < len(link._received) <= BUFFER_LIMIT + 4096
    assert len(await link.read()) > BUFFER_LIMIT
    assert not transport.paused


class _CountingTransport:
    paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def test_t20_the_librarys_byte_log_stays_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """serialx logs every byte at DEBUG; a root logger at DEBUG must not bring it back."""
    caplog.set_level(logging.DEBUG)
    async with echo_link(tmp_path) as (_, link):
        await link.write(b"personal")
        await read_exactly(link, 8)
    assert "personal" not in caplog.text


async def test_no_descriptor_is_left_after_many_lives(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with echo_link(tmp_path) as (host, link):
            await link.write(b"x")
            host.unplug()
    assert len(os.listdir("/proc/self/fd")) == before


class Line:
    """A bare pseudo-terminal: the kernel's line discipline, and nobody who reads by itself."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self.master)
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)

    def drain(self) -> bytes:
        """Take what the terminal's side has sent."""
        taken = b""
        while True:
            try:
                taken += os.read(self.master, 65_536)
            except BlockingIOError:
                return taken

    def flags(self) -> tuple[int, int]:
        attributes = termios.tcgetattr(self._slave)
        return attributes[0], attributes[2]

    def close(self) -> None:
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


@pytest.mark.parametrize("flow_control", get_args(FlowControl))
async def test_flow_control_is_really_set_on_the_port(line: Line, flow_control: FlowControl) -> None:
    """Only the printer may stop the line: with IXOFF the terminal would put XOFF into its own pictures."""
    link = await open_serial_link(line.path, 115_200, flow_control)
    iflag, cflag = line.flags()
    assert bool(iflag & termios.IXON) == (flow_control == "xon_xoff")
    assert not iflag & (termios.IXOFF | termios.IXANY)
    assert bool(cflag & termios.CRTSCTS) == (flow_control == "rts_cts")
    await link.close()


async def test_a_port_that_does_not_take_flow_control_is_refused(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termios, "tcsetattr", lambda *_: None)
    with pytest.raises(LinkLost, match="does not take flow control xon_xoff"):
        await open_serial_link(line.path, 115_200, "xon_xoff")
    monkeypatch.undo()
    await (await open_serial_link(line.path, 115_200)).close()


async def test_xoff_stops_the_line_and_xon_alone_lets_it_go_on(line: Line) -> None:
    """The kernel obeys; neither byte reaches the reader, and a status does not end the stop."""
    async with asyncio.timeout(DEADLINE):
        link = await open_serial_link(line.path, 115_200, "xon_xoff")
        os.write(line.master, b"\x13\x10\x00\x00\x0f")
        assert await link.read() == b"\x10\x00\x00\x0f"
        picture = bytes(range(256)) * 8
        writing = asyncio.create_task(link.write(picture), name="writer")
        await asyncio.sleep(0.02)
        assert not writing.done()
        assert line.drain() == b""
        os.write(line.master, b"\x11")
        await writing
        assert line.drain() == picture, "11 and 13 in a picture are dots"
        await link.close()


@pytest.mark.parametrize("held", [True, False])
async def test_a_held_line_closes_at_once_and_keeps_nothing(
    line: Line, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in the kernel would hold the close for 30 s, and then be printed for the next citizen (L16).

    A line that flows keeps its last words: they make the device safe. A pseudo-terminal's close does not wait, so it
    is the order to the kernel that is seen here.
    """
    flushed: list[int] = []
    monkeypatch.setattr(termios, "tcflush", lambda _, queue: flushed.append(queue))
    async with asyncio.timeout(DEADLINE):
        link = await open_serial_link(line.path, 115_200, "rts_cts")
        flushed.clear()
        writing = asyncio.create_task(link.write(bytes(200_000 if held else 16)), name="writer")
        await asyncio.sleep(0.02)
        assert writing.done() is not held
        await link.close()
        assert flushed == [termios.TCOFLUSH] * held
        (outcome,) = await asyncio.gather(writing, return_exceptions=True)
        assert isinstance(outcome, LinkLost) is held
