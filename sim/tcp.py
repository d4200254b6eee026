"""Hosts a virtual device on a TCP port of loopback; `sim.pty.PtyHost` is the same on a serial port."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from sim.wire import Arrival, Faults, Verbs, VirtualDevice

_CHUNK_BYTES = 4096


class TcpHost:
    """One virtual device on `port` (0 is any free one, then known in `port`), for one client at a time: the last."""

    def __init__(self, device: VirtualDevice, port: int = 0) -> None:
        self.device = device
        self.port = port
        self.faults = Faults()
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    @property
    def verbs(self) -> Verbs:
        """What can be done to the connection by hand, for the rig's control socket."""
        return {"plug": self.plug, "unplug": self.unplug, "fault": self.faults.add, "mend": self.mend}

    async def __aenter__(self) -> Self:
        await self.plug()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.unplug()

    async def plug(self) -> None:
        """Listen; raise OSError when the port is taken. Twice is nothing."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def unplug(self) -> None:
        """Stop listening and drop the client. Twice is nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await self._drop()
            await server.wait_closed()

    def mend(self) -> None:
        """End all faults of the connection."""
        self.faults.clear()

    def nudge(self) -> None:
        """Let the device say what it wants to say by itself; call it after a verb of the device."""
        self._answer(b"", *self._clients)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for other in self._clients:
            other.transport.abort()
        self._clients[writer] = asyncio.create_task(self._serve(reader, writer), name="rig tcp client")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                self._answer(data, writer)
        self._clients.pop(writer, None)
        writer.close()

    def _answer(self, data: bytes, *writers: asyncio.StreamWriter) -> None:
        if reply := self.device.feed(data):
            arrival = self.faults.apply(reply)
            for writer in writers:
                asyncio.get_running_loop().call_later(arrival.late_seconds, self._say, writer, arrival)

    @staticmethod
    def _say(writer: asyncio.StreamWriter, arrival: Arrival) -> None:
        if not writer.is_closing():
            writer.write(arrival.data)
            if arrival.cut:
                writer.close()

    async def _drop(self) -> None:
        tasks = tuple(self._clients.values())
        for writer in self._clients:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
