"""The in-memory forms of the six seams: links, hot-plug, uplink, verifier, journal executor and power (rule 5).

None of them owns a socket, a thread, a process or a clock of its own: they run on virtual time.
"""

import asyncio
import socket
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from devices.hotplug import HotplugListener, Plugged, Unplugged, UsbPort
from devices.link import LinkLost
from sim.wire import Faults, Verbs, VirtualDevice
from transport.uplink import Message, UplinkLost
from vision.errors import VisionError
from vision.verifier import GuidanceListener, Raster, Verification

T = TypeVar("T")


class MemoryPort:
    """A virtual device on an in-memory wire; `sim.pty.PtyHost` is the same on a real one.

    `chunk_bytes` splits what the device says (1: a byte at a time); `latency_seconds` pass on the loop's clock
    before each reply. Once `set_baud` gave the device a line rate, it hears only a terminal at that rate.
    """

    def __init__(self, device: VirtualDevice, *, latency_seconds: float = 0.0, chunk_bytes: int | None = None) -> None:
        self.device = device
        self.faults = Faults()
        self.latency_seconds = latency_seconds
        self.chunk_bytes = chunk_bytes
        self.plugged = True
        self.opened = 0
        self._baud: int | None = None
        self._link: MemoryLink | None = None

    @property
    def verbs(self) -> Verbs:
        """What can be done to the wire by hand, for the rig's control socket."""
        return {
            "plug": self.plug,
            "unplug": self.unplug,
            "fault": self.faults.add,
            "mend": self.faults.clear,
            "set_baud": self.set_baud,
        }

    def plug(self) -> None:
        """Put the device on its wire; plugging twice is nothing."""
        self.plugged = True

    def unplug(self) -> None:
        """Take the device away: the open link is lost. Twice is nothing."""
        self.plugged = False
        if self._link is not None:
            self._link.lose()
            self._link = None

    def set_baud(self, baud: int) -> None:
        """Let the device speak at this rate from now on, and hear nothing at any other."""
        self._baud = baud

    def open(self, baud: int) -> "MemoryLink":
        """Return the only link to the device; raise LinkLost when it is unplugged or open already."""
        if not self.plugged:
            raise LinkLost("no such device")
        if self._link is not None:
            raise LinkLost("the port is open already")
        self.opened += 1
        self._link = MemoryLink(self, baud)
        return self._link

    def release(self, link: "MemoryLink") -> None:
        """Take back a closed link."""
        if self._link is link:
            self._link = None

    def nudge(self) -> None:
        """Let the device say what it wants to say by itself; call it after a verb of the device."""
        self.hear(b"")

    def hear(self, data: bytes) -> None:
        """Give the terminal's bytes to the device and send its answer on the way."""
        link = self._link
        if link is not None and self._baud not in {None, link.baud}:
            return
        reply = self.device.feed(data)
        if not reply or link is None:
            return
        arrival = self.faults.apply(reply)
        size = self.chunk_bytes or max(1, len(arrival.data))

        def deliver() -> None:
            for start in range(0, len(arrival.data), size):
                link.deliver(arrival.data[start : start + size])
            if arrival.cut and self._link is link:
                self.unplug()

        asyncio.get_running_loop().call_later(self.latency_seconds + arrival.late_seconds, deliver)


class MemoryLink:
    """A Link to a virtual device."""

    def __init__(self, port: MemoryPort, baud: int) -> None:
        self.baud = baud
        self._port = port
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._lost = False

    async def read(self) -> bytes:
        """Return the next chunk the device said; raise LinkLost when the wire is gone."""
        chunk = await self._chunks.get()
        if chunk is None:
            self._chunks.put_nowait(None)
            raise LinkLost("unplugged")
        return chunk

    async def write(self, data: bytes) -> None:
        """Give bytes to the device; raise LinkLost when the wire is gone."""
        if self._lost:
            raise LinkLost("unplugged")
        self._port.hear(data)

    async def close(self) -> None:
        """Free the port."""
        self.lose()
        self._port.release(self)

    def deliver(self, chunk: bytes) -> None:
        """Let a chunk arrive, unless the wire is gone."""
        if not self._lost:
            self._chunks.put_nowait(chunk)

    def lose(self) -> None:
        """Cut the wire; what arrived before can still be read."""
        if not self._lost:
            self._lost = True
            self._chunks.put_nowait(None)


class MemoryLinks:
    """OpenLink over named ports."""

    def __init__(self, ports: Mapping[str, MemoryPort]) -> None:
        self.ports = dict(ports)

    async def __call__(self, port: str, baud: int) -> MemoryLink:
        """Open `port`; raise LinkLost when there is none, when it is unplugged or open already."""
        if port not in self.ports:
            raise LinkLost(f"no port {port}")
        return self.ports[port].open(baud)


class MemoryHotplug:
    """A Hotplug without udev: ports are plugged in and out by hand."""

    def __init__(self) -> None:
        self.ports: dict[str, UsbPort] = {}
        self._on_change: HotplugListener | None = None

    def find(self, name: str) -> UsbPort | None:
        """Return the port of that name, None when it is not plugged in."""
        return next((port for port in self.ports.values() if port.is_named(name)), None)

    def plug(self, port: UsbPort) -> None:
        """Let a port come; the same one twice is nothing."""
        if self.ports.get(port.node) != port:
            self.ports[port.node] = port
            if self._on_change is not None:
                self._on_change(Plugged(port))

    def unplug(self, name: str) -> None:
        """Let a port go; one that is not there is nothing."""
        port = self.find(name)
        if port is not None:
            del self.ports[port.node]
            if self._on_change is not None:
                self._on_change(Unplugged(port))

    async def run(self, ready: Callable[[], None], on_change: HotplugListener) -> None:
        """Tell what is plugged in, then each change, until cancelled."""
        for port in self.ports.values():
            on_change(Plugged(port))
        self._on_change = on_change
        ready()
        try:
            await asyncio.Event().wait()
        finally:
            self._on_change = None


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

    def __init__(self, broker: MemoryUplink, subscriptions: Sequence[str], will: Message | None) -> None:
        self.will = will
        self._broker = broker
        self._subscriptions = tuple(subscriptions)
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._lost = False

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        """Publish and return after the broker's acknowledgement; raise UplinkLost when the connection is gone."""
        await asyncio.sleep(self._broker.latency_seconds)
        if self._lost:
            raise UplinkLost("the connection is gone")
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


class InlineExecutor:
    """A JournalExecutor on the event loop itself."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` now and return its result."""
        return work(self._connection)

    async def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class RecordedPower:
    """A HostPower that counts what it was asked."""

    def __init__(self) -> None:
        self.requests = 0

    async def power_off(self) -> None:
        """Note the request."""
        self.requests += 1


MATCH = Verification(
    outcome="match",
    score=0.71,
    threshold=0.5064,
    operating_point="scripted",
    frames=3,
    model="scripted",
    presentation_attack="not_checked",
    seconds=0.9,
    stages={"capture": 0.3, "detect": 0.2, "embed": 0.4},
)
NO_MATCH = replace(MATCH, outcome="no_match", score=0.08)


class ScriptedVerifier:
    """A Verifier that answers `verify` from a script, in order, and MATCH when the script is over.

    A Verification in the script passes its `seconds` on the loop's clock; a VisionError is raised. `kill` ends
    the life of the process.
    """

    def __init__(self, script: Iterable[Verification | VisionError] = ()) -> None:
        self.script: deque[Verification | VisionError] = deque(script)
        self.wiped = 0
        self._died: asyncio.Event | None = None
        self._previews: list[socket.socket] = []

    async def run(self, ready: Callable[[], None]) -> None:
        """Live until killed, then raise VisionError (`vision.unavailable`)."""
        self._died = asyncio.Event()
        try:
            ready()
            await self._died.wait()
            raise _unavailable()
        finally:
            self._died = None
            await self.wipe()

    def kill(self) -> None:
        """Kill the process, if it lives."""
        if self._died is not None:
            self._died.set()

    async def verify(self, photo: memoryview, guidance: GuidanceListener, *, deadline_seconds: float) -> Verification:
        """Return or raise what the script says next, within the deadline (VisionError `face.timeout`)."""
        died = self._living()
        if len(photo) != 1024:
            raise VisionError("photo.undecodable", f"{len(photo)} bytes", advice="read the card again", retry=True)
        answer = self.script.popleft() if self.script else MATCH
        if isinstance(answer, VisionError):
            raise answer
        guidance("face.look_at_camera")
        try:
            async with asyncio.timeout(min(deadline_seconds, answer.seconds)):
                await died.wait()
        except TimeoutError:
            if answer.seconds <= deadline_seconds:
                return answer
            raise VisionError("face.timeout", "no decision in time", advice="try again", retry=True) from None
        raise _unavailable()

    async def rasterise(self, pdf: bytes, *, width_dots: int, max_pages: int) -> list[Raster]:
        """Return one A4 page with a black top edge; raise VisionError (`pdf.undecodable`) when it is no PDF."""
        self._living()
        if not pdf.startswith(b"%PDF-") or max_pages < 1:
            raise VisionError("pdf.undecodable", "not a PDF", advice="ask for the certificate again", retry=False)
        height, row_bytes = width_dots * 297 // 210, (width_dots + 7) // 8
        rows = b"\xff" * (8 * row_bytes) + bytes((height - 8) * row_bytes)
        return [Raster(width_dots, height, rows)]

    async def preview(self, client: socket.socket) -> None:
        """Take the socket, send the shortest JPEG there is as its only frame, and hold it until `wipe`."""
        self._living()
        self._previews.append(client)
        frame = b"\xff\xd8\xff\xd9"
        with suppress(OSError):
            client.send(len(frame).to_bytes(4, "big") + frame)

    async def wipe(self) -> None:
        """End previews."""
        self.wiped += 1
        for client in self._previews:
            client.close()
        self._previews.clear()

    def _living(self) -> asyncio.Event:
        if self._died is None:
            raise _unavailable()
        return self._died


def _unavailable() -> VisionError:
    return VisionError(
        "vision.unavailable", "the vision process is down", advice="wait for its restart; see the log", retry=True
    )
