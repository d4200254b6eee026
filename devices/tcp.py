"""The Link over TCP, for a device behind a network address: a NUT server, a printer on port 9100."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import structlog

from devices.link import LinkLost

log = structlog.get_logger(__name__)

BUFFER_LIMIT = 64 * 1024
"""Bytes kept of a device that nobody reads; above it the connection is not read either."""

CLOSE_SECONDS = 5.0
"""How long a connection that was aborted may take to be gone."""


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


async def open_tcp_link(port: str, baud: int) -> TcpLink:  # noqa: ARG001 - a network has no line rate
    """Connect to `tcp://HOST:PORT` (an OpenLink). Unlike a serial port, a server may serve others too.

    Raises LinkLost when the address is none, refused or not reachable; nothing is left open then (L2).
    """
    try:
        address = urlsplit(port)
        host, number = address.hostname, address.port
    except ValueError as error:
        raise LinkLost(f"{port} is not an address: {error}") from error
    if address.scheme != "tcp" or not host or not number:
        raise LinkLost(f"{port} is not tcp://HOST:PORT")
    try:
        reader, writer = await asyncio.open_connection(host, number, limit=BUFFER_LIMIT)
    except OSError as error:
        raise LinkLost(f"{port} cannot be opened: {error}") from error
    writer.transport.set_write_buffer_limits(high=0)
    return TcpLink(reader, writer)
