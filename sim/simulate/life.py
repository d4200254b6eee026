"""One life of the daemon: its seams, at each of which it may die in the middle of an instruction."""

import asyncio
import dataclasses
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from devices.config import Environment, Fingerprint, Ups
from devices.link import FlowControl, Link
from runtime.config import Session
from runtime.enrolment import Enrolment
from runtime.seams import Seams
from sim.caller import MemoryClient
from sim.memory import MemoryLinks, SlowExecutor
from sim.scripted import ScriptedVision
from sim.simulate.disk import Disk, open_disk
from sim.simulate.loop import PROCESS, MortalLoop, Process
from sim.simulate.outside import Surroundings
from sim.uplink import MemoryUplink
from sim.world import World
from transport.errors import TransportError
from transport.uplink import Connection, Message, Uplink
from vision.verifier import Raster

T = TypeVar("T")

DISK_SECONDS = (0.0, 0.001, 0.02)
"""What a piece of work at the journal takes: one of these for each life, since what overlaps depends on it."""

SESSION = Session(idle_seconds=60.0, longest_seconds=900.0, warn_seconds=15.0, clear_seconds=20.0)


class PlainVision(ScriptedVision):
    """A scripted vision process that prints what a PDF says as it is: so paper tells whose it is."""

    async def rasterise(self, pdf: bytes, *, width_dots: int, max_pages: int) -> list[Raster]:
        """Return one short page whose dots are the PDF's bytes; raises as ScriptedVision."""
        await super().rasterise(pdf, width_dots=8, max_pages=max_pages)
        row = width_dots // 8
        return [Raster(width_dots, -(-len(pdf) // row), pdf.ljust(-(-len(pdf) // row) * row, b" "))]

    def follow(self, before: "PlainVision") -> None:
        """Stand where the process of another life stood: its cameras are as they were, and what broke it still does."""
        self.broken, self.document = before.broken, before.document
        self._cameras.update(before._cameras)  # noqa: SLF001 - another of this class


class Life(World):
    """A life on a journal of some content. `ended` says how it ended: `killed`, `cut`, `stopped`, `broken`."""

    def __init__(
        self,
        directory: Path,
        outside: Surroundings,
        content: bytes,
        *,
        boot_id: str,
        chance: random.Random,
        skips_fsync: bool = False,
    ) -> None:
        self.disk: Disk = open_disk(content, skips_fsync=skips_fsync)
        super().__init__(directory, outside, journal=self.disk, bank=True)
        self.around = outside
        self.process = Process()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.fuse: tuple[int, str] | None = None
        self.settings = msgspec.structs.replace(
            self.settings,
            printer=msgspec.structs.replace(self.settings.printer, width_dots=384),
            fingerprint=Fingerprint(port="/dev/fingerprint"),
            ups=Ups(port="/dev/ups"),
            environment=Environment(port="/dev/environment"),
            session=SESSION,
        )
        self.links = MemoryLinks({f"/dev/{kind}": port for kind, port in outside.ports.items()})
        self.uplink = outside.uplink
        self.hotplug, self.routes = outside.hotplug, outside.routes
        self.vision: PlainVision = PlainVision()
        self.enrolment = Enrolment("0.0", boot_id, self.enrolment.keys, self.enrolment.seal_key)
        self._jitter = random.Random(chance.random())
        self._disk_seconds = chance.choice(DISK_SECONDS)
        self._clients: list[MemoryClient] = []
        self.daemon_task: asyncio.Task[None]
        self._line: Connection | None = None

    def seams(self) -> Seams:
        """Return the daemon's seams, at each of which it may die."""
        return dataclasses.replace(
            super().seams(),
            journal=_Executor(self.disk, self._disk_seconds, self),
            uplink=_Uplink(self.uplink, self),
            open_link=self._open_link,
            wall_clock=self.around.terminal_clock,
            jitter=self._jitter,
        )

    def begin(self) -> None:
        """Start the daemon, to which nothing was told yet."""
        self.around.lose_wires()
        token = PROCESS.set(self.process)
        try:
            self.daemon_task = asyncio.create_task(self.daemon(), name="daemon")
        finally:
            PROCESS.reset(token)
        self.daemon_task.add_done_callback(self._stopped)

    def enter(self, client: MemoryClient) -> None:
        """Let a client program come in."""
        self._clients.append(client)
        self.entrance.waiting.put_nowait(client)

    def arm(self, points: int, how: str) -> None:
        """Let it die (`killed`, `cut`) at the so-many-th thing it does from now on."""
        self.fuse = (points, how)

    def die(self, how: str) -> None:
        """Die now: nothing of the daemon runs any more, its wires and connections are gone."""
        if self.ended.done():
            return
        loop = asyncio.get_running_loop()
        if not isinstance(loop, MortalLoop):
            raise TypeError("a life ends on a MortalLoop only")
        loop.bury(self.process)
        self.around.lose_wires()
        if self._line is not None:
            self.uplink.end(self._line)
        for client in self._clients:
            client.closed.set()
            client.arrived.set()
        self.ended.set_result(how)

    async def passes(self) -> None:
        """Pass a point at which the daemon may die; then it never returns."""
        if self.fuse is None:
            return
        points, how = self.fuse
        self.fuse = (points - 1, how)
        if points <= 1:
            self.die(how)
            await asyncio.Event().wait()

    def left(self, how: str) -> bytes:
        """Return the journal's file as this end leaves it."""
        return self.disk.synced() if how == "cut" else self.disk.written()

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if not self.ended.done():
            self.ended.set_result("broken" if task.cancelled() or task.exception() is not None else "stopped")

    def connected(self, connection: Connection | None) -> None:
        """Take note of the connection to the broker."""
        self._line = connection

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._line is not None

    @property
    def is_signing(self) -> bool:
        """Whether the identity key is there."""
        try:
            self.enrolment.keys.identity.sign(b"")
        except TransportError:
            return False
        return True

    async def _open_link(self, port: str, baud: int, flow_control: FlowControl = "none") -> Link:
        return _Link(await self.links(port, baud, flow_control), self)


class Client(MemoryClient):
    """A client program's connection, at which the daemon may die before and after it is told something."""

    def __init__(self, uid: int, life: Life, on_told: Callable[[bytes], None]) -> None:
        super().__init__(uid)
        self._life = life
        self._on_told = on_told
        life.enter(self)

    async def write(self, data: bytes) -> None:
        """Give the daemon's bytes to the program."""
        await self._life.passes()
        await super().write(data)
        self._on_told(data)
        await self._life.passes()


class _Executor(SlowExecutor):
    def __init__(self, disk: sqlite3.Connection, seconds: float, life: Life) -> None:
        super().__init__(disk, seconds)
        self._life = life

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._life.passes()
        result = await super().run(work)
        await self._life.passes()
        return result

    async def close(self) -> None:
        """Leave the connection open: what is left of the journal is read when the life is over."""


class _Link:
    def __init__(self, link: Link, life: Life) -> None:
        self._link = link
        self._life = life
        self.read = link.read
        self.close = link.close

    async def write(self, data: bytes) -> None:
        await self._life.passes()
        await self._link.write(data)
        await self._life.passes()


class _Uplink:
    def __init__(self, uplink: MemoryUplink, life: Life) -> None:
        self._uplink: Uplink = uplink
        self._life = life

    def connect(self, subscriptions: Sequence[str], will: Message) -> AbstractAsyncContextManager[Connection]:
        """Connect anew."""
        return self._connected(subscriptions, will)

    @asynccontextmanager
    async def _connected(self, subscriptions: Sequence[str], will: Message) -> AsyncIterator[Connection]:
        async with self._uplink.connect(subscriptions, will) as connection:
            self._life.connected(connection)
            try:
                yield _Connection(connection, self._life)
            finally:
                self._life.connected(None)


class _Connection:
    def __init__(self, connection: Connection, life: Life) -> None:
        self._connection = connection
        self._life = life
        self.receive = connection.receive

    @property
    def valid(self) -> tuple[float, float] | None:
        return self._connection.valid

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        await self._life.passes()
        await self._connection.publish(message, retain=retain)
        await self._life.passes()
