"""The in-memory form of the seam to the broker: an Uplink and the broker behind it, on virtual time (rule 5)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from transport.uplink import Connection, Message, UplinkLost


class MemoryUplink:
    """An Uplink and its broker in one: every connection, the platform's too, comes from `connect`.

    It keeps retained messages, publishes the will of each connection however it ends, and forgets a message that
    nobody is subscribed to, as a clean MQTT session does. `lose_next` messages are acknowledged and dropped: a PUBACK
    proves nothing.
    """

    def __init__(self, *, latency_seconds: float = 0.0) -> None:
        self.latency_seconds = latency_seconds
        self.lose_next = 0
        self.running = True
        self._retained: dict[str, Message] = {}
        self._connections: list[MemoryConnection] = []

    def connect(
        self, subscriptions: Sequence[str], will: Message | None = None
    ) -> AbstractAsyncContextManager["MemoryConnection"]:
        """Connect and subscribe (exact topics, or a last level `#`); raise UplinkLost when the broker is stopped."""
        return self._connected(subscriptions, will)

    @asynccontextmanager
    async def _connected(self, subscriptions: Sequence[str], will: Message | None) -> AsyncIterator["MemoryConnection"]:
        await asyncio.sleep(self.latency_seconds)
        if not self.running:
            raise UplinkLost("the broker is stopped")
        connection = MemoryConnection(self, subscriptions, will)
        self._connections.append(connection)
        for message in self._retained.values():
            connection.offer(message)
        try:
            yield connection
        finally:
            if connection in self._connections:
                self._end([connection])

    def stop(self) -> None:
        """Stop the broker: every connection is lost; retained messages survive."""
        self.running = False
        self.drop()

    def start(self) -> None:
        """Start the broker again."""
        self.running = True

    def drop(self) -> None:
        """Cut every connection; the broker stays up and publishes their wills."""
        self._end(self._connections)

    def end(self, connection: Connection) -> None:
        """Cut one connection, whose will is published."""
        self._end([one for one in self._connections if one is connection])

    def _end(self, ended: Sequence["MemoryConnection"]) -> None:
        self._connections = [connection for connection in self._connections if connection not in ended]
        for connection in ended:
            connection.lose()
        for connection in ended:
            if connection.will is not None:
                self.spread(connection.will, retain=True)

    def spread(self, message: Message, *, retain: bool) -> None:
        """Deliver a message to every subscriber; keep it when retained (an empty body forgets)."""
        if retain and message.body:
            self._retained[message.topic] = message
        elif retain:
            self._retained.pop(message.topic, None)
        for connection in self._connections:
            connection.offer(message)


class MemoryConnection:
    """One connection to a MemoryUplink."""

    valid: tuple[float, float] | None = None

    def __init__(self, broker: MemoryUplink, subscriptions: Sequence[str], will: Message | None) -> None:
        self.will = will
        self._broker = broker
        self._subscriptions = tuple(subscriptions)
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._leaving: deque[tuple[Message, bool]] = deque()
        self._lost = False

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        """Publish and return after the broker's acknowledgement; raise UplinkLost when the connection is gone."""
        self._leaving.append((message, retain))
        await asyncio.sleep(self._broker.latency_seconds)
        if self._lost:
            raise UplinkLost("the connection is gone")
        message, retain = self._leaving.popleft()  # in the order of the calls, whoever wakes first
        if self._broker.lose_next > 0:
            self._broker.lose_next -= 1
        else:
            self._broker.spread(message, retain=retain)

    async def receive(self) -> Message:
        """Return the next message of the subscriptions; raise UplinkLost when the connection is gone."""
        message = await self._inbox.get()
        if message is None:
            self._inbox.put_nowait(None)
            raise UplinkLost("the connection is gone")
        return message

    def offer(self, message: Message) -> None:
        """Take a message when a subscription matches its topic."""
        if any(_matches(pattern, message.topic) for pattern in self._subscriptions):
            self._inbox.put_nowait(message)

    def lose(self) -> None:
        """End the connection; what arrived before can still be received."""
        if not self._lost:
            self._lost = True
            self._inbox.put_nowait(None)


def _matches(pattern: str, topic: str) -> bool:
    if pattern == "#":
        return True
    if pattern.endswith("/#"):
        return topic == pattern[:-2] or topic.startswith(pattern[:-1])
    return topic == pattern
