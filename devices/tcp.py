"""The Link over TCP, for a device behind a network address: a NUT server, a printer on port 9100."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import structlog

from devices.link import FlowControl, LinkLost

log = structlog.get_logger(__name__)

LookUp = Callable[[str, int], Awaitable[Sequence[tuple[Any, ...]]]]
"""Returns where a host's port is; the last part of each answer is (HOST, PORT, ...), as socket.getaddrinfo has it.

Raises OSError or UnicodeError when it is nowhere.
"""

BUFFER_LIMIT = 64 * 1024
"""Bytes kept of a device that nobody reads; above it the connection is not read either."""

CLOSE_SECONDS = 5.0
"""How long a connection that was aborted may take to be gone."""

DEAD_SECONDS = 20
"""A peer that acknowledges nothing for this long, or whose window stays shut, is gone: its cable may be out."""

_SEND_BUFFER_BYTES = 16 * 1024
"""What the kernel may hold unsent: enough for a network of one room, little enough that a write tells the truth."""
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_SECONDS // 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD_SECONDS // 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_SECONDS * 1000),
    (socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES),
)


class TcpLink:
    """An open connection; made by `open_tcp_link`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; raise LinkLost when the connection is gone."""
        try:
            data = await self._reader.read(BUFFER_LIMIT)
        except OSError as error:
            raise LinkLost(str(error)) from error
        if not data:
            raise LinkLost("the other end closed the connection")
        return data

    async def write(self, data: bytes) -> None:
        """Return when the kernel has taken all bytes; raise LinkLost when the connection is gone."""
        if self._writer.is_closing():
            raise LinkLost("the connection is closed")
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise LinkLost(str(error)) from error

    async def close(self) -> None:
        """Drop the connection and what is unsent, and wait until it is gone. Never raises; twice is nothing."""
        self._writer.transport.abort()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                with suppress(OSError):
                    await self._writer.wait_closed()
        except TimeoutError:
            log.warning("tcp_close_slow", seconds=CLOSE_SECONDS)


def parse_address(port: str) -> tuple[str, int]:
    """Return host and number of `tcp://HOST:PORT`; raise ValueError when it is none."""
    address = urlsplit(port)
    if address.scheme != "tcp" or not address.hostname or not address.port or address.path.strip("/"):
        raise ValueError(f"{port} is not tcp://HOST:PORT")
    return address.hostname, address.port


async def look_up(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """Return the host as it is (a LookUp): asyncio looks a name up."""
    return [((host, port),)]


async def open_tcp_link(
    port: str,
    baud: int,  # noqa: ARG001 - no serial line
    flow_control: FlowControl = "none",  # noqa: ARG001
    *,
    look_up: LookUp = look_up,
) -> TcpLink:
    """Connect to `tcp://HOST:PORT` (an OpenLink). Unlike a serial port, a server may serve others too.

    Raises LinkLost when the address is none, refused or not reachable; nothing is left open then (L2).
    """
    try:
        host, number = parse_address(port)
    except ValueError as error:
        raise LinkLost(f"{port} is not an address: {error}") from error
    try:
        reader, writer = await _connect(host, number, look_up)
    except (OSError, UnicodeError) as error:
        raise LinkLost(f"{port} cannot be opened: {error}") from error
    made: socket.socket = writer.get_extra_info("socket")
    for level, option, value in _OPTIONS:
        made.setsockopt(level, option, value)
    writer.transport.set_write_buffer_limits(high=0)
    return TcpLink(reader, writer)


async def _connect(host: str, number: int, look_up: LookUp) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address of `host` that answers."""
    failure = OSError(f"{host} has no address")
    for *_, place in await look_up(host, number):
        try:
            return await asyncio.open_connection(*place[:2], limit=BUFFER_LIMIT)
        except OSError as error:
            failure = error
    raise failure
