"""What goes in and out of the daemon, watched: the broker, the devices and the local API."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from devices.link import FlowControl, Link, OpenLink
from sim.caller import MemoryClient
from sim.crash.points import Kind, Points
from sim.crash.transcript import Transcript
from transport.uplink import Connection, Message, Uplink


class WatchedUplink:
    """The daemon's Uplink: a point before and after each message out, and before it has one in.

    `on_way` is what the broker has and the platform has not taken yet.
    """

    def __init__(self, uplink: Uplink, points: Points, on_way: deque[Message] | None = None) -> None:
        self._uplink = uplink
        self._points = points
        self._on_way = on_way

    def connect(self, subscriptions: Sequence[str], will: Message) -> AbstractAsyncContextManager[Connection]:
        """Connect anew."""
        return self._connected(subscriptions, will)

    @asynccontextmanager
    async def _connected(self, subscriptions: Sequence[str], will: Message) -> AsyncIterator[Connection]:
        async with self._uplink.connect(subscriptions, will) as connection:
            yield _DaemonConnection(connection, self._points, self._on_way)


class _DaemonConnection:
    def __init__(self, connection: Connection, points: Points, on_way: deque[Message] | None) -> None:
        self._connection = connection
        self._points = points
        self._on_way = on_way
        self._leaving: deque[Message] = deque()

    @property
    def valid(self) -> tuple[float, float] | None:
        return self._connection.valid

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        self._points.reach(Kind.SENT, f"before {_stream(message)}")
        self._leaving.append(message)
        await self._connection.publish(message, retain=retain)
        message = self._leaving.popleft()  # in the order of the calls, whoever wakes first, as the broker takes them
        if self._on_way is not None:
            self._on_way.append(message)
        self._points.moved()
        self._points.reach(Kind.SENT, f"after {_stream(message)}")

    async def receive(self) -> Message:
        message = await self._connection.receive()
        self._points.reach(Kind.RECEIVED, _stream(message))
        return message


class PlatformUplink:
    """The platform's Uplink: what it takes is no longer on its way, and may change it."""

    def __init__(self, uplink: Uplink, points: Points, on_way: deque[Message]) -> None:
        self._uplink = uplink
        self._points = points
        self._on_way = on_way

    def connect(self, subscriptions: Sequence[str], will: Message) -> AbstractAsyncContextManager[Connection]:
        """Connect anew."""
        return self._connected(subscriptions, will)

    @asynccontextmanager
    async def _connected(self, subscriptions: Sequence[str], will: Message) -> AsyncIterator[Connection]:
        async with self._uplink.connect(subscriptions, will) as connection:
            yield _PlatformConnection(connection, self._points, self._on_way)


class _PlatformConnection:
    def __init__(self, connection: Connection, points: Points, on_way: deque[Message]) -> None:
        self._connection = connection
        self._points = points
        self._on_way = on_way
        self.publish = connection.publish

    @property
    def valid(self) -> tuple[float, float] | None:
        return self._connection.valid

    async def receive(self) -> Message:
        message = await self._connection.receive()
        if message in self._on_way:
            self._on_way.remove(message)
        self._points.moved()
        return message


def watch_links(open_link: OpenLink, points: Points, effects: Callable[[], Hashable]) -> OpenLink:
    """Return an OpenLink whose links pass a point after each write that changed the `effects` in the world."""

    async def opened(port: str, baud: int, flow_control: FlowControl = "none") -> Link:
        return WatchedLink(await open_link(port, baud, flow_control), port.rpartition("/")[2], points, effects)

    return opened


class WatchedLink:
    """A link that passes a point after each write that changed the `effects` in the world."""

    def __init__(self, link: Link, name: str, points: Points, effects: Callable[[], Hashable]) -> None:
        self._link = link
        self._name = name
        self._points = points
        self._effects = effects
        self.read = link.read
        self.close = link.close

    async def write(self, data: bytes) -> None:
        """Write to the device."""
        before = self._effects()
        await self._link.write(data)
        if self._effects() != before:
            self._points.moved()
            self._points.reach(Kind.DEVICE, self._name)


UI_SECONDS = 0.01
"""What the daemon's bytes need to the client program: longer than a message needs to the platform."""


class WatchedClient(MemoryClient):
    """A slow client program's connection: points around what it is told, which its transcript has once it was told."""

    def __init__(self, uid: int, points: Points) -> None:
        super().__init__(uid)
        self.transcript = Transcript()
        self._points = points

    async def read(self) -> bytes:
        """Return what the program said next."""
        data = await super().read()
        self.transcript.says(data)
        return data

    async def write(self, data: bytes) -> None:
        """Give the daemon's bytes to the program."""
        self._points.reach(Kind.TOLD, "before")
        await asyncio.sleep(UI_SECONDS)
        await super().write(data)
        what = self.transcript.hears(data)
        self._points.moved()
        self._points.reach(Kind.TOLD, f"after {what}")


def _stream(message: Message) -> str:
    """Return the kind of a message: the last level of its topic."""
    return message.topic.rpartition("/")[2]
