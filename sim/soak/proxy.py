"""Carries TCP between the terminal and its broker, and breaks it as it is told."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto

HOST = "127.0.0.1"
_CHUNK_BYTES = 65_536
_RST = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close sends RST


class Mode(Enum):
    """What becomes of the bytes."""

    CARRY = auto()
    STALL = auto()
    SWALLOW = auto()
    REFUSE = auto()


class Proxy:
    """One listening port before the broker's."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._mode = Mode.CARRY
        self._changed = asyncio.Event()
        self._is_cutting = False
        self._links: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serve(self, port: int) -> AsyncIterator[None]:
        """Listen on loopback while the context lasts."""
        server = await asyncio.start_server(self._accept, HOST, port)
        try:
            yield
        finally:
            server.close()
            links = list(self._links)
            self.reset()
            await asyncio.gather(*links, return_exceptions=True)
            await server.wait_closed()

    def reset(self) -> None:
        """Reset every connection (RST) on both sides."""
        for link in self._links:
            link.cancel()

    def cut(self) -> None:
        """Carry half of the next bytes that the terminal sends, then reset its connection."""
        self._is_cutting = True

    def set_mode(self, mode: Mode) -> None:
        """Carry bytes; or let them wait; or swallow them; or refuse connections, those that are open too.

        Connections that lost bytes are reset.
        """
        if self._mode is Mode.SWALLOW or mode is Mode.REFUSE:
            self.reset()
        self._mode = mode
        self._changed.set()
        self._changed.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._link(reader, writer), name="soak proxy")
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker: asyncio.StreamWriter | None = None
        try:
            if self._mode is Mode.REFUSE:
                return
            broker_reader, broker = await asyncio.open_connection(HOST, self._broker_port)
            pumps = [
                asyncio.create_task(self._pump(reader, broker, is_up=True), name="soak proxy up"),
                asyncio.create_task(self._pump(broker_reader, writer, is_up=False), name="soak proxy down"),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            for side in (writer, broker):
                if side is not None:
                    _reset(side)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                while self._mode is Mode.STALL:
                    await self._changed.wait()
                if self._mode is Mode.SWALLOW:
                    continue
                if self._is_cutting and is_up:
                    self._is_cutting = False
                    writer.write(chunk[: len(chunk) // 2])
                    await writer.drain()
                    return
                writer.write(chunk)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()
