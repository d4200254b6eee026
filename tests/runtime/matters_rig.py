"""Matters, applications and progress against the reference platform on virtual time, without devices and API."""

import asyncio
import datetime
import random
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from devices.idcard.record import CardRecord
from devices.personal import Kind, PersonalBytes, PersonalText
from runtime.journal import Journal
from runtime.messages import CatalogueAnnouncement, SupervisionEvent, from_payload
from runtime.messages.identity import AssertionIssue, AssertionRequest
from runtime.services.applications import Applications
from runtime.services.filing import FILE, Filing
from runtime.services.matters import Matters
from runtime.services.office import Office
from runtime.services.progress import ProgressService
from runtime.services.settlement import SettlementDesk, Settler
from runtime.services.steps import Origin
from runtime.session import Session
from runtime.state import Component, StateBoard
from runtime.supervisor import Supervisor
from sim.memory import InlineExecutor
from sim.people import Citizen, Population
from sim.platform.logic import Platform as ReferencePlatform
from sim.platform.logic import PlatformKeys
from sim.platform.service import serve
from sim.platform.services import applications as filed
from sim.platform.services import matters as published
from sim.platform.store import Store
from sim.uplink import MemoryUplink
from sim.virtual_time import run
from transport import sm2
from transport.channel import Channel, LineState
from transport.config import Platform
from transport.gate import Urgency
from transport.keys import IdentityKey
from transport.line_keys import ChannelKeys

EPOCH = 1_800_000_000.0
TERMINAL = "GT-0001"
IDENTITY, SIGNING, SEAL = (sm2.generate() for _ in range(3))
PEOPLE = Population()
CITIZEN, NEXT_CITIZEN = PEOPLE.citizen(0), PEOPLE.citizen(1)
DEVICES = ("idcard", "printer", "document_camera", "camera", "cardreader", "pinpad")
PDF = b"%PDF-1.7\n" + b"pages of a synthetic document " * 50

PLAIN = "residence_permit_renewal"
"""Accepted at once: a form and two materials, no fee."""
EXAMINED = "subsistence_allowance"
"""Stays pending."""
PAID = "property_search"
"""Costs a fee, another one in the next quarter."""
WITHDRAWN = "parking_permit"
"""Is not in the next quarter's catalogue."""
BARE = "unemployment_registration"
"""A form only; another one in the next quarter."""

CONSENT = "fingerprint-1"
ADDRESS = "示例省样本市样本区测试路1号"
FORMS: dict[str, dict[str, Any]] = {
    PLAIN: {
        "permit_number": "99010119900101123X",
        "address": ADDRESS,
        "telephone": "13900000001",
        "reason": "务工",
    },
    EXAMINED: {
        "members": 3,
        "income_fen": 120_000,
        "address": ADDRESS,
        "telephone": "13900000001",
        "hardship": "家庭成员患病，暂无固定收入。",
    },
    PAID: {"purpose": "交易", "certificate_number": "样本不动产权第0000001号"},
    WITHDRAWN: {"plate": "样A12345", "address": ADDRESS},
    BARE: {"left_work": "2026-10-01", "reason": "合同到期", "skills": "焊接", "telephone": "13900000001"},
}
MATERIALS: dict[str, tuple[str, ...]] = {
    PLAIN: ("id_card", "residence_proof"),
    EXAMINED: ("household_book", "income_proof"),
    PAID: ("id_card",),
    WITHDRAWN: ("vehicle_licence",),
    BARE: (),
}

T = TypeVar("T")


class Noted:
    """An audit log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    async def note(self, event, *, actor, details=None) -> None:
        self.lines.append((event, actor, dict(details or {})))


class Owner:
    uid = 1001

    def notify(self, method, params) -> None:
        pass


class World:
    """What outlives a terminal's daemon: the platform and the broker between them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = Store(":memory:")
        keys = PlatformKeys(signing=SIGNING, seal=SEAL, terminals={TERMINAL: IDENTITY.public})
        self.platform = ReferencePlatform(self.store, keys, PEOPLE, Path("no-font"), self.wall_clock)
        self.uplink = MemoryUplink(latency_seconds=0.002)

    def wall_clock(self) -> float:
        return EPOCH + self.loop.time()

    @property
    def matters(self) -> published.Matters:
        return next(one for one in self.platform.services.all if isinstance(one, published.Matters))

    @property
    def applications(self) -> filed.Applications:
        return next(one for one in self.platform.services.all if isinstance(one, filed.Applications))

    def filings(self) -> list[str]:
        return [row[0] for row in self.store.database.execute("SELECT receipt FROM filings ORDER BY rowid")]

    def events(self) -> list[tuple[str, str, str | None]]:
        """The supervision events that arrived: step, outcome, code."""
        rows = self.store.database.execute("SELECT event FROM records WHERE schema = 'supervision.event' ORDER BY id")
        events = [msgspec.json.decode(row[0], type=SupervisionEvent) for row in rows]
        return [(event.step, event.outcome, event.code) for event in events]


class Terminal:
    """One life of the daemon's parts that matter here, on a journal that stays."""

    def __init__(self, world: World, database: sqlite3.Connection, *, uplink: Any = None, executor: Any = None) -> None:
        self.world = world
        self.database = database
        self.journal = Journal(executor or InlineExecutor(database), world.wall_clock)
        self.audit = Noted()
        self.marks: dict[str, int] = {}
        self.refusals: list[tuple[str, str]] = []
        self.origin = Origin("boot", rig=True, wall_clock=world.wall_clock)
        self.board = StateBoard()
        self.uplink = uplink or world.uplink
        for device in DEVICES:
            self.board.set(device, Component("online"))

    async def open(self, platform_key: sm2.PublicKey | None = None) -> None:
        await self.journal.open()
        settings = Platform(
            host="platform.example",
            terminal_id=TERMINAL,
            ca_file="ca",
            certificate_file="certificate",
            private_key_file="key",
            identity_key_file="identity",
            signing_key_file="signing",
            seal_key_file="seal",
        )
        self.channel = Channel(
            settings,
            self.uplink,
            ChannelKeys(IdentityKey(IDENTITY), SIGNING.public),
            self.journal,
            streams={self.journal.streams["supervision"]: Urgency.RECORD},
            commands=self,
            boot_id="boot",
            software_version="0.0",
            wall_clock=self.world.wall_clock,
            on_state=self._on_line,
            on_dropped=lambda _code: None,
        )
        self.office = Office(self.channel, self.journal, self.audit, self.origin, settings.answer_seconds)
        self.matters = Matters(self.office, platform_key or SIGNING.public, self.board, self.refused)
        settlers: dict[str, Settler] = {}
        self.settlements = SettlementDesk(self.office, settlers)
        filing = Filing(self.office)
        settlers[FILE] = filing.settle
        self.applications = Applications(self.office, self.matters, filing)
        self.progress = ProgressService(self.office)
        await self.matters.open()

    def refused(self, code: str, found: str) -> None:
        """A catalogue was refused."""
        self.refusals.append((code, found))

    def high_water(self) -> dict[str, int]:
        """The channel's handler of commands."""
        return self.marks

    async def take(self, stream, sequence, command, *, expired) -> None:
        self.marks[stream] = sequence
        if command.schema == "catalogue.announcement" and not expired:
            self.matters.announced(from_payload(command, CatalogueAnnouncement))

    def _on_line(self, line: LineState) -> None:
        self.board.set("platform", Component("online" if line.connected else "offline", line.code))

    async def citizen(self, citizen: Citizen = CITIZEN) -> Session:
        """A session with a verified citizen, whom the platform asserted."""
        session = Session(Owner(), lambda _state: None)
        session.keep(card(citizen))
        session.verified()
        request = AssertionRequest(session.reference, citizen.name, citizen.id_number, "fingerprint", CONSENT)
        issue = await self.office.ask(request, AssertionIssue, key=secrets.token_bytes(16))
        session.keep_assertion(msgspec.msgpack.encode(issue), 900.0)
        return session

    async def begun(self, matter: str = PLAIN) -> Session:
        """A citizen who began an application."""
        session = await self.citizen()
        answer = await self.applications.begin(session, matter)
        assert answer.outcome == "done", answer
        return session

    async def complete(self, matter: str = PLAIN, pdf: bytes = PDF) -> Session:
        """A citizen whose application lacks nothing but a fee."""
        session = await self.begun(matter)
        answer = await self.applications.form(session, FORMS[matter])
        assert answer.outcome == "done", answer
        for material in MATERIALS[matter]:
            session.keep_document(pdf, 1)
            taken = await self.applications.material(session, material)
            assert taken.outcome == "done", taken
        return session

    async def file(self, session: Session) -> Any:
        return await self.applications.file(session, lambda _sent, _total: None)

    async def asked(self, receipt: str) -> tuple[str | None, str | None]:
        """What a number says: state and code."""
        answer = await self.progress.by_receipt(receipt, "uid 1001")
        return (answer.receipts[0].state if answer.receipts else None), answer.code

    async def until(self, condition: Callable[[], Any], *, seconds: float = 60.0) -> None:
        for _ in range(int(seconds * 100)):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the condition never held")

    async def settled(self) -> None:
        """Wait until no intent is open and every record is delivered."""
        await self.until(lambda: not self.rows("SELECT 1 FROM intents WHERE state = 'open'"))
        async with asyncio.timeout(60):
            await self.journal.delivered()

    def order(self, order: str, receipt: str, state: str) -> None:
        """Put an order into the journal, as the payment service does."""
        row = (order, "unionpay_qr", 8000, receipt, state, 0.0, "2027-01-15")
        self.database.execute("INSERT OR REPLACE INTO payments VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)", row)
        self.database.commit()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.database.execute(statement).fetchall()

    @property
    def version(self) -> int:
        return self.matters.catalogue.version


def receipt_of(session: Session) -> str:
    assert session.application is not None
    return session.application.receipt


def card(citizen: Citizen) -> CardRecord:
    return CardRecord(
        name=PersonalText(citizen.name, Kind.NAME),
        sex="男",
        nation="汉",
        birth=PersonalText(citizen.birth, Kind.DATE),
        address=PersonalText(citizen.address, Kind.ADDRESS),
        id_number=PersonalText(citizen.id_number, Kind.IDENTIFIER),
        issuer=PersonalText(citizen.issuer, Kind.ADDRESS),
        valid_from=datetime.date(2020, 1, 1),
        valid_to=None,
        photo=PersonalBytes(bytes(1024)),
    )


@asynccontextmanager
async def living(terminal: Terminal, **opening: Any) -> AsyncIterator[Terminal]:
    """A terminal whose line, catalogue and settlements run."""
    await terminal.open(**opening)
    supervisor = Supervisor(random.Random(1), lambda *_: None)  # noqa: S311 - back-off only
    async with asyncio.TaskGroup() as group:
        supervisor.start(group, "platform", terminal.channel.run)
        supervisor.start(group, "matters", terminal.matters.run)
        supervisor.start(group, "settlement", terminal.settlements.run)
        try:
            yield terminal
        finally:
            await supervisor.stop()


@asynccontextmanager
async def served() -> AsyncIterator[World]:
    """A world whose platform runs."""
    world = World()
    serving = asyncio.create_task(serve(world.platform, world.uplink, lambda: None), name="platform")
    try:
        yield world
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        world.store.close()


def tell(story: Callable[[World, Terminal], Awaitable[T]]) -> T:
    """Run a story of a terminal that has its catalogue, on virtual time."""

    async def main() -> T:
        async with served() as world:
            database = sqlite3.connect(":memory:")
            try:
                async with living(Terminal(world, database)) as terminal:
                    await terminal.until(lambda: has_catalogue(terminal))
                    return await story(world, terminal)
            finally:
                database.close()

    coroutine: Coroutine[Any, Any, T] = main()
    return run(coroutine)


def has_catalogue(terminal: Terminal) -> bool:
    shown = terminal.board.get("catalogue")
    return shown is not None and shown.state == "current"
