"""The real Link: a serial port on the event loop, over serialx.

serialx opens, configures and closes a port on the event loop's default thread pool, because those system calls
may block; reading and writing are non-blocking on the loop itself.
"""

import asyncio
import logging
import termios
from contextlib import suppress
from typing import cast

import serialx
import structlog

from devices.link import FlowControl, LinkLost

log = structlog.get_logger(__name__)

# At DEBUG, serialx logs every byte of the wire: personal data must not reach a log (T20).
logging.getLogger("serialx").setLevel(logging.WARNING)

BUFFER_LIMIT = 64 * 1024
"""Bytes kept of a device that nobody reads; above it the port is not read either."""

CLOSE_SECONDS = 5.0
"""How long a port may take to be free again. A driver that drains may need more; the next open then fails (L6)."""


class SerialLink(asyncio.Protocol):
    """An open serial port; made by `open_serial_link`."""

    def __init__(self) -> None:
        self._transport: serialx.BaseSerialTransport | None = None
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()
        self._paused = False
        self._reason = ""

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; raise LinkLost when the port is gone."""
        await self._arrived.wait()
        if not self._received:
            raise LinkLost(f"the port is gone: {self._reason}")
        data = bytes(self._received)
        self._received[:] = bytes(len(data))
        self._received.clear()
        if not self._closed.is_set():
            self._arrived.clear()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Return when the kernel has taken all bytes; raise LinkLost when the port is gone."""
        if self._transport is None or self._transport.is_closing():
            raise LinkLost(f"the port is gone: {self._reason}")
        try:
            self._transport.write(data)
        except OSError as error:
            raise LinkLost(str(error)) from error
        await self._writable.wait()
        if self._transport.is_closing():
            raise LinkLost(f"the port is gone: {self._reason}")

    async def close(self) -> None:
        """Close the port and wait until it can be opened again. Never raises.

        What the kernel did not take is dropped. While the device holds the line (XOFF, CTS) so is what the kernel
        has: its close would wait for the device, and a printer would print it when it goes on.
        """
        if self._transport is None:
            return
        if not self._writable.is_set() and not self._closed.is_set():
            with suppress(OSError, termios.error):
                termios.tcflush(self._transport.serial.fileno(), termios.TCOFLUSH)
        self._transport.abort()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            log.warning("serial_close_slow", seconds=CLOSE_SECONDS)

    def set_flow_control(self, flow_control: FlowControl) -> None:
        """Set XON/XOFF and see that the port has what was asked; raise OSError when it has not.

        XON/XOFF works one way only. The other way (IXOFF) the terminal would put XOFF into the middle of a picture;
        and no other byte than XON lets the line go on (IXANY), or each status would.
        """
        if self._transport is None:
            raise OSError("the port is closed")
        port = self._transport.serial.fileno()
        attributes = termios.tcgetattr(port)
        attributes[0] &= ~(termios.IXON | termios.IXOFF | termios.IXANY)
        if flow_control == "xon_xoff":
            attributes[0] |= termios.IXON
            attributes[6][termios.VSTART], attributes[6][termios.VSTOP] = b"\x11", b"\x13"
        termios.tcsetattr(port, termios.TCSANOW, attributes)
        flags = termios.tcgetattr(port)
        found = bool(flags[0] & termios.IXON), bool(flags[2] & termios.CRTSCTS)
        if found != (flow_control == "xon_xoff", flow_control == "rts_cts"):
            raise OSError(f"it does not take flow control {flow_control}")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the opened port (asyncio)."""
        self._transport = cast("serialx.BaseSerialTransport", transport)
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Keep what arrived (asyncio)."""
        self._received += data
        self._arrived.set()
        if len(self._received) > BUFFER_LIMIT and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The kernel takes no more bytes (asyncio)."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The kernel has taken all bytes (asyncio)."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The port is closed and free; end of file, EIO, ENODEV and ENXIO come here alike (asyncio, L5)."""
        self._reason = str(exc or "closed")
        self._closed.set()
        self._arrived.set()
        self._writable.set()


async def open_serial_link(port: str, baud: int, flow_control: FlowControl = "none") -> SerialLink:
    """Open `port` exclusively at `baud`, 8N1 (an OpenLink).

    Raises LinkLost when the port is missing, busy or refuses the settings; it is closed then (L2). `port` is a
    device's path, never an address: a `tcp://` URL is a file that does not exist. Modem lines are left alone, so
    a pseudo-terminal, which has none, will do.
    """
    link = SerialLink()
    loop = asyncio.get_running_loop()
    try:
        await serialx.create_serial_connection(
            loop,
            lambda: link,
            port,
            baud,
            exclusive=True,
            rtscts=flow_control == "rts_cts",
            transport_cls=serialx.SerialTransport,
        )
        if flow_control != "none":
            await loop.run_in_executor(None, link.set_flow_control, flow_control)
    except (OSError, ValueError, termios.error, serialx.SerialException) as error:
        await link.close()
        raise LinkLost(f"{port} cannot be opened: {error}") from error
    except asyncio.CancelledError:
        await link.close()
        raise
    return link
