"""Where local clients come in: what the API needs of it, and the form on Unix sockets."""

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 65_536
CLOSE_SECONDS = 1.0
"""What a client may take to read what was written before its connection is cut."""

_CREDENTIALS = struct.Struct("3i")


class Client(Protocol):
    """One client's byte stream and the user the kernel says it is (SO_PEERCRED)."""

    @property
    def uid(self) -> int:
        """The user id of the process that connected."""

    async def read(self) -> bytes:
        """Return at least one byte, or nothing at the end; raise OSError when the client is gone."""

    async def write(self, data: bytes) -> None:
        """Return when the client can take more; raise OSError when it is gone."""

    async def close(self) -> None:
        """End the stream, within CLOSE_SECONDS. Never raises; closing twice is nothing."""


class ClientListener(Protocol):
    """Where API clients come in."""

    async def accept(self) -> Client:
        """Return the next client; raise OSError when that one could not be had."""


class PreviewListener(Protocol):
    """Where preview clients come in."""

    async def accept(self) -> tuple[socket.socket, int]:
        """Return the next connected socket, non-blocking, and its user id; raise OSError when it could not be had."""


class UnixClient:
    """A Client on a connected Unix socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, uid: int) -> None:
        self._reader = reader
        self._writer = writer
        self.uid = uid

    async def read(self) -> bytes:
        """Return what came, nothing at the end."""
        return await self._reader.read(CHUNK_BYTES)

    async def write(self, data: bytes) -> None:
        """Write, waiting for the client when the buffer is full."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Flush for at most CLOSE_SECONDS, then cut."""
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()
        except TimeoutError:
            self._writer.transport.abort()
        except OSError:
            pass


class UnixClients:
    """A ClientListener on a listening Unix socket."""

    def __init__(self, listening: socket.socket) -> None:
        self._previews = UnixPreviews(listening)

    async def accept(self) -> UnixClient:
        """Accept one client."""
        connected, uid = await self._previews.accept()
        try:
            reader, writer = await asyncio.open_unix_connection(sock=connected, limit=CHUNK_BYTES)
        except BaseException:
            connected.close()
            raise
        return UnixClient(reader, writer, uid)


class UnixPreviews:
    """A PreviewListener on a listening Unix socket."""

    def __init__(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        self._listening = listening

    async def accept(self) -> tuple[socket.socket, int]:
        """Accept one connection."""
        connected, _ = await asyncio.get_running_loop().sock_accept(self._listening)
        try:
            credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except BaseException:
            connected.close()
            raise
        return connected, _CREDENTIALS.unpack(credentials)[1]


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where local clients come in."""

    api: ClientListener
    previews: PreviewListener
