"""Both ends of the broker connection, and brokers that say what a test wants."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sim.trust import Trust
from tests.transport.line_rig import TERMINAL
from transport import wire
from transport.mqtt import MqttUplink
from transport.uplink import Connection, Message, UplinkLost

WILL = Message(wire.topic(TERMINAL, "up", "presence"), b"gone")
PLATFORM_WILL = Message("govterm/v1/platform", b"offline")
UP = wire.topic(TERMINAL, "up", "record")
DOWN = wire.topic(TERMINAL, "down", "answer")
CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x03\x00\x01\x01"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def terminal_uplink(
    trust: Trust, port: int, host: str = "127.0.0.1", identifier: str = TERMINAL, **others
) -> MqttUplink:
    files = {"certificate_file": trust.terminal_certificate, "private_key_file": trust.terminal_key}
    return MqttUplink(host, port, identifier, **({"ca_file": trust.ca} | files | others))


def platform_uplink(trust: Trust, port: int, identifier: str = "platform", **others) -> MqttUplink:
    files = {"certificate_file": trust.platform_certificate, "private_key_file": trust.platform_key}
    return MqttUplink("127.0.0.1", port, identifier, **({"ca_file": trust.ca} | files | others))


@asynccontextmanager
async def terminal(trust: Trust, port: int, topic: str = DOWN, **others) -> AsyncIterator[Connection]:
    async with terminal_uplink(trust, port, **others).connect([topic], WILL) as connection:
        yield connection


@asynccontextmanager
async def platform(trust: Trust, port: int, topic: str = UP, **others) -> AsyncIterator[Connection]:
    async with platform_uplink(trust, port, **others).connect([topic], PLATFORM_WILL) as connection:
        yield connection


async def lost(uplink: MqttUplink) -> UplinkLost:
    """How a connection ends that cannot be made."""
    with pytest.raises(UplinkLost) as caught:
        async with asyncio.timeout(30), uplink.connect([DOWN], WILL):
            pass
    return caught.value


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that treats each connection so; gives its port. At the end every connection is cut."""
    tasks: list[asyncio.Task[None]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(accept(reader, writer), name="test-server"))

    async with await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.02)  # the transports close in the loop


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    return tls


def scripted(trust: Trust, *said: bytes, then: Serve | None = None) -> contextlib.AbstractAsyncContextManager[int]:
    """A broker that answers each packet of the terminal with the next of these, then goes on with `then`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in said:
            await read_packet(reader)
            writer.write(reply)
        if then is not None:
            await then(reader, writer)

    return serving(serve, server_tls(trust.broker_certificate, trust.broker_key))


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """An MQTT packet: its first byte and what follows its length."""
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first, await reader.readexactly(length)
