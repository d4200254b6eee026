"""What the tests of shared information use: the platform's real service at the end of a line that can be cut."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.journal import Journal
from runtime.messages import SupervisionEvent, from_payload
from runtime.services.datasets import DataSets
from runtime.services.grants import GrantBook
from runtime.services.metering import USE, Ledger
from runtime.services.office import Office
from runtime.services.sharing import Sharing, Wanted
from runtime.services.steps import Origin
from runtime.state import StateBoard
from sim.memory import InlineExecutor
from sim.platform.faults import Faults
from sim.platform.services import Services
from sim.platform.services import sharing as served
from sim.platform.services.desk import Desk
from sim.platform.store import Store
from tests.runtime.house import EPOCH, PEOPLE, SEAL, SIGNING, TERMINAL, UI_UID, Noted
from transport.errors import TransportError
from transport.payload import Payload

SET, PURPOSE = "service_matters", "public_display"
ACTOR = f"uid {UI_UID}"
ANSWER_SECONDS = 4.0


@contextmanager
def small_sets(rows: int = 30, part_bytes: int = 2_000) -> Iterator[None]:
    """Data sets of some parts that are quick to make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(served.DATASETS, SET, rows)
        patch.setattr(served, "PART_BYTES", part_bytes)
        yield


class Died(BaseException):
    """The daemon is gone: nothing of it runs any further."""


class World:
    """What outlives the daemon: the platform, the journal, the wall clock."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.store = Store(":memory:")
        self.orders: list[object] = []
        self.skew = 0.0
        self.loop: asyncio.AbstractEventLoop | None = None
        desk = Desk(
            self.store,
            SIGNING,
            SEAL,
            PEOPLE,
            Path("no-font"),
            self.wall_clock,
            self.faults,
            self.orders.append,
            lambda _terminal, order: self.orders.append(order),
        )
        self.services = Services(desk)
        self.sharing = next(one for one in self.services.all if isinstance(one, served.Sharing))
        self.journal = sqlite3.connect(":memory:", isolation_level=None)
        self.answers: dict[bytes, Payload | None] = {}
        self.asked: list[str] = []
        """The schema of every call that the platform had."""

    def wall_clock(self) -> float:
        return EPOCH + (self.loop.time() if self.loop is not None else 0.0) + self.skew

    def act(self, key: bytes, request: Payload) -> Payload:
        """Answer a call once, as the platform does."""
        if key not in self.answers:
            self.asked.append(request.schema)
            self.answers[key] = self.services.serve(TERMINAL, request)
        answer = self.answers[key]
        assert answer is not None, "a void call came"
        return answer

    def uses(self) -> set[tuple[object, ...]]:
        return set(self.store.database.execute("SELECT use, resource, mode, units, month FROM sharing_uses"))

    def metered(self) -> set[tuple[object, ...]]:
        return set(self.journal.execute("SELECT id, resource, mode, units, month FROM metering"))

    def content(self, version: int) -> bytes:
        rows = self.journal.execute(
            "SELECT body FROM datasets WHERE resource = ? AND version = ? ORDER BY position", (SET, version)
        )
        return b"".join(body for (body,) in rows)

    def close(self) -> None:
        self.store.close()
        self.journal.close()


class Line:
    """The line of one life; `before` and `after` the platform acts somebody may cut it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.before: Callable[[Payload], None] = lambda _request: None
        self.after: Callable[[Payload], None] = lambda _request: None
        self.is_down = False

    async def call(self, request: Payload, *, key: bytes, deadline_seconds: float, on_progress=None) -> Payload:
        await asyncio.sleep(0.002)
        if self.is_down:
            raise TransportError("line.down", "cut", advice="none", retry=True)
        self.before(request)
        answer = self.world.act(key, request)
        await asyncio.sleep(0.002)
        self.after(request)
        return answer

    async def settle(self, key: bytes, *, deadline_seconds: float):
        await asyncio.sleep(0.002)
        if self.is_down:
            raise TransportError("line.down", "cut", advice="none", retry=True)
        return "acted" if self.world.answers.setdefault(key, None) is not None else "void"


class Disk(InlineExecutor):
    """A disk that a dead daemon does not reach."""

    is_dead = False

    async def run(self, work):
        if self.is_dead:
            raise Died
        return await super().run(work)


class Life:
    """One life of the daemon's part that shares."""

    def __init__(self, world: World, terminal: str = TERMINAL) -> None:
        self.world = world
        world.loop = asyncio.get_running_loop()
        self.line = Line(world)
        self.disk = Disk(world.journal)
        self.audit = Noted()
        self.board = StateBoard()
        self.journal = Journal(self.disk, world.wall_clock)
        origin = Origin("boot", rig=False, wall_clock=world.wall_clock)
        self.office = Office(self.line, self.journal, self.audit, origin, ANSWER_SECONDS)
        self.grants = GrantBook(self.office, SIGNING.public, terminal, self.board, world.wall_clock)
        self.looks = 0
        self.ledger = Ledger(self.office, self._look, world.wall_clock)
        self.datasets = DataSets(self.grants, self.ledger)
        self.sharing = Sharing(self.grants, self.ledger, self.datasets, TERMINAL)
        self._running: asyncio.Task[None] | None = None

    def _look(self) -> None:
        self.looks += 1

    def die(self) -> None:
        self.disk.is_dead = True
        raise Died

    async def open(self) -> "Life":
        """Start as the daemon does: open the journal, load the grants, settle what is open."""
        await self.journal.open()
        await self.grants.open()
        await self.settle()
        return self

    async def settle(self) -> None:
        for intent in await self.journal.open_intents(USE):
            key = bytes.fromhex(intent.key)
            await self.ledger.settle(intent, await self.line.settle(key, deadline_seconds=ANSWER_SECONDS))

    async def fetch(self) -> "Life":
        """Ask for the grants once."""
        await self.grants._fetch()
        self.grants._show()
        return self

    async def query(self, resource: str = "open_government", purpose: str = PURPOSE, mode="query", **parameters):
        return await self.sharing.ask(Wanted(ACTOR, None, resource, purpose), mode, parameters)

    async def pull(self, resource: str = SET, purpose: str = PURPOSE, **how):
        how = {"pull": True, "first": 0, "most": 0, "on_progress": lambda *_: None} | how
        return await self.sharing.dataset(Wanted(ACTOR, None, resource, purpose), **how)

    async def kept(self):
        return (await self.datasets.kept(SET))[0]

    async def told(self) -> list[tuple[str, str, str | None]]:
        records = await self.journal.unacknowledged(self.journal.streams["supervision"], 0, 999)
        events = [from_payload(record.payload, SupervisionEvent) for record in records]
        return [(event.step, event.outcome, event.code) for event in events]


async def begun(world: World) -> Life:
    """A life that has its grants."""
    return await (await Life(world).open()).fetch()


def is_right(world: World, kept) -> bool:
    """Whether the current version is there byte by byte as the platform published it; nothing is right, too."""
    current = kept.current
    return current is None or world.content(current.version) == world.sharing.content(SET, current.version)
