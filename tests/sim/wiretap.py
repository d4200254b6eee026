"""Attackers between daemon and broker: one who hears the wire, and one who owns the broker and may change anything.

`recorded` is a TCP proxy that keeps every byte. `Meddler` ends the terminal's TLS with the broker's own key and speaks
on in the terminal's name, so that it sees and can hold back or change each MQTT packet.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sim.trust import Trust
from transport.uplink import Message

HOST = "127.0.0.1"
_PUBLISH = 3

Hook = Callable[[Message], bytes | None]
"""Given a message on its way, gives what is to arrive instead; None holds it back."""


@asynccontextmanager
async def _serving(carry, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve each client by `carry` and give the port; every connection is cut at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await carry(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer), name="wiretap")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with await asyncio.start_server(accept, HOST, port, ssl=tls) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.05)  # the transports close in the loop


@asynccontextmanager
async def _connected(port: int, tls: ssl.SSLContext | None = None):
    reader, writer = await asyncio.open_connection(HOST, port, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _either(*pumps) -> None:
    """Run until one of them ends."""
    tasks = [asyncio.create_task(pump, name="wiretap pump") for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def recorded(listening: int, port: int, heard: bytearray) -> AsyncIterator[None]:
    """Carry TCP from the port `listening` to `port`, and keep every byte of both directions in `heard`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            heard.extend(data)
            writer.write(data)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _connected(port) as (inner_reader, inner_writer):
            await _either(pump(reader, inner_writer), pump(inner_reader, writer))

    async with _serving(carry, listening):
        yield


class Meddler:
    """Owns the way between the terminal and its broker."""

    def __init__(self) -> None:
        self.seen: list[Message] = []
        """Every message, as it was sent, both ways."""
        self.plain = bytearray()
        """Every byte inside TLS."""
        self.hook: Hook | None = None
        self._terminal: asyncio.StreamWriter | None = None
        self._broker: asyncio.StreamWriter | None = None

    def inject(self, message: Message) -> None:
        """Publish to whom the topic's direction says, at QoS 0."""
        writer = self._terminal if "/down/" in message.topic else self._broker
        assert writer is not None
        writer.write(_packet(_PUBLISH << 4, _text(message.topic) + message.body))

    @asynccontextmanager
    async def between(self, trust: Trust, port: int) -> AsyncIterator[int]:
        """Stand before the broker on `port`, and give the port that terminals connect to."""
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(trust.broker_certificate, trust.broker_key)
        client = ssl.create_default_context(cafile=trust.ca)
        client.load_cert_chain(trust.terminal_certificate, trust.terminal_key)

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with _connected(port, client) as (inner_reader, inner_writer):
                self._terminal, self._broker = writer, inner_writer
                await _either(self._pump(reader, inner_writer, writer), self._pump(inner_reader, writer, inner_writer))

        async with _serving(carry, tls=server) as listening:
            yield listening

    async def _pump(
        self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        while True:
            first, body = await _read_packet(reader)
            self.plain.extend(_packet(first, body))
            if first >> 4 == _PUBLISH:
                length = 2 + int.from_bytes(body[:2], "big")
                head = length + (2 if first & 0x06 else 0)
                message = Message(body[2:length].decode(), body[head:])
                self.seen.append(message)
                arriving = self.hook(message) if self.hook is not None else message.body
                if arriving is None:
                    if first & 0x06:
                        back.write(_packet(0x40, body[length:head]))
                    continue
                body = body[:head] + arriving
            onward.write(_packet(first, body))


async def stay_subscribed(trust: Trust, port: int, identifier: str) -> None:
    """Leave a lasting subscription to everything at the broker, so that it keeps every message on its disk."""
    tls = ssl.create_default_context(cafile=trust.ca)
    tls.load_cert_chain(trust.platform_certificate, trust.platform_key)
    async with _connected(port, tls) as (reader, writer):
        writer.write(_packet(0x10, _text("MQTT") + b"\x04\x00\x00\x3c" + _text(identifier)))
        assert (await _read_packet(reader))[0] == 0x20
        writer.write(_packet(0x82, b"\x00\x01" + _text("#") + b"\x01"))
        while (await _read_packet(reader))[0] != 0x90:
            continue
        writer.write(_packet(0xE0, b""))
        await writer.drain()
        with contextlib.suppress(OSError):
            await reader.read()


async def _read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length, shift, byte = (await reader.readexactly(1))[0], 0, 0, 0x80
    while byte & 0x80:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
    return first, await reader.readexactly(length)


def _packet(first: int, body: bytes) -> bytes:
    length, head = len(body), bytearray([first])
    while True:
        length, low = divmod(length, 0x80)
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2, "big") + text.encode()
