"""In-memory forms of seams: links, routes, journal executor and power (rule 5).

None of them owns a socket, a thread, a process or a clock of its own: they run on virtual time. Neither do the
broker of `sim.uplink` and the vision process of `sim.scripted`.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from devices.link import FlowControl, LinkLost
from sim.wire import Faults, Verbs, VirtualDevice
from transport.routes import DefaultRoute, RoutesListener

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
        self.free()

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

    def free(self) -> None:
        """Take the link from whoever has it: the process is gone, the device stays. Without a link it is nothing."""
        if self._link is not None:
            self._link.lose()
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

    async def __call__(self, port: str, baud: int, flow_control: FlowControl = "none") -> MemoryLink:  # noqa: ARG002
        """Open `port`; raise LinkLost when there is none, when it is unplugged or open already."""
        if port not in self.ports:
            raise LinkLost(f"no port {port}")
        return self.ports[port].open(baud)


class MemoryRoutes:
    """A Routes without a kernel: `set` says which ways out there are; one at the beginning."""

    def __init__(self) -> None:
        self.routes = frozenset({DefaultRoute("eth0", 4, "192.0.2.1")})
        self._on_change: RoutesListener | None = None

    def set(self, *routes: DefaultRoute) -> None:
        """Let there be these default routes and no other."""
        self.routes = frozenset(routes)
        if self._on_change is not None:
            self._on_change(self.routes)

    def lose(self) -> None:
        """Forget who listened, who is gone without a word."""
        self._on_change = None

    async def run(self, ready: Callable[[], None], on_change: RoutesListener) -> None:
        """Tell the routes, then each change, until cancelled."""
        on_change(self.routes)
        self._on_change = on_change
        ready()
        try:
            await asyncio.Event().wait()
        finally:
            self._on_change = None


class InlineExecutor:
    """A JournalExecutor on the event loop itself."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` now and return its result."""
        return work(self._connection)

    async def replace(self, work: Callable[[Path], object]) -> bool:
        """Run `work` where the journal is a file."""
        file = self._file()
        if file is None:
            return False
        self._connection.close()
        work(file)
        self._connection = sqlite3.connect(file, isolation_level=None)
        return True

    async def beside(self, work: Callable[[Path], bool]) -> bool:
        """Run `work` now where the journal is a file."""
        file = self._file()
        return False if file is None else work(file)

    def _file(self) -> Path | None:
        file = Path(self._connection.execute("PRAGMA database_list").fetchone()[2])
        return file if file.is_absolute() else None

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


class SlowExecutor(InlineExecutor):
    """A journal executor whose disk takes its time: work waits its turn, and who asked hears of it later."""

    def __init__(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Take so many seconds for each piece of work, on the loop's clock."""
        super().__init__(connection)
        self._seconds = seconds
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it when its turn comes."""
        async with self._turn:
            result = await super().run(work)
            await asyncio.sleep(self._seconds)
            return result
