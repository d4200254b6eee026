"""A terminal and everything around it in memory, on virtual time: the daemon, its seams, and what outlives it."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from devices.config import CardReader, IdCard, PinPad, Printer
from runtime.api.listen import Listeners
from runtime.config import Api, Session, Settings
from runtime.enrolment import Enrolment
from runtime.life import run_daemon
from runtime.notify import Notifier
from runtime.seams import Seams, Usage
from sim.caller import Caller, Entrance, MemoryClient
from sim.devices.cardreader import VirtualCardReader
from sim.devices.idcard import VirtualIdCardReader
from sim.devices.pinpad import VirtualPinPad
from sim.devices.printer import VirtualPrinter
from sim.memory import InlineExecutor, MemoryLinks, MemoryPort, MemoryRoutes, RecordedPower
from sim.people import Citizen, Population
from sim.platform.logic import Platform as ReferencePlatform
from sim.platform.logic import PlatformKeys
from sim.platform.service import serve
from sim.platform.store import Store
from sim.scripted import ScriptedVision
from sim.uplink import MemoryUplink
from sim.usb import MemoryHotplug
from transport import sm2
from transport.config import Platform
from transport.keys import IdentityKey
from transport.line_keys import ChannelKeys
from vision.config import Vision
from vision.verifier import CameraName

EPOCH = 1_800_000_000.0
TERMINAL = "GT-0001"
UI_UID, OPERATOR_UID, STRANGER_UID = 1001, 1002, 1003
PEOPLE = Population()
CITIZEN = PEOPLE.citizen(0)
PHOTO = bytes(range(256)) * 4


def wall_clock() -> float:
    """Return the seconds since 1970 that the running loop's virtual time stands for."""
    return EPOCH + asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Keys:
    """The private keys of everybody."""

    identity: sm2.PrivateKey = field(default_factory=sm2.generate)
    signing: sm2.PrivateKey = field(default_factory=sm2.generate)
    seal: sm2.PrivateKey = field(default_factory=sm2.generate)


class Outside:
    """What does not end with the daemon: the platform with its database, and the devices with what lies in them."""

    def __init__(self, keys: Keys, font: Path, people: Population = PEOPLE) -> None:
        self.keys = keys
        self.reader = VirtualIdCardReader()
        self.printer = VirtualPrinter()
        self.cardreader = VirtualCardReader()
        self.pinpad = VirtualPinPad()
        self.store = Store(":memory:")
        known = PlatformKeys(keys.signing, keys.seal, {TERMINAL: keys.identity.public})
        self.platform = ReferencePlatform(self.store, known, people, font, wall_clock)


class Told(Notifier):
    """A notifier that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[str] = []

    def ready(self) -> None:
        """Note that the daemon is ready."""
        self.states.append("READY")

    def status(self, text: str) -> None:
        """Note a status."""
        self.states.append(f"STATUS {text}")

    def stopping(self) -> None:
        """Note that the daemon stops."""
        self.states.append("STOPPING")


class World:
    """One life of the daemon and everything around it; make it in a running loop.

    With `bank` the terminal has a bank-card reader and a PIN pad.
    """

    def __init__(
        self,
        directory: Path,
        outside: Outside,
        *,
        journal: sqlite3.Connection | None = None,
        cameras: tuple[CameraName, ...] = ("face", "document"),
        bank: bool = False,
        **session: float,
    ) -> None:
        self.outside = outside
        self.settings = Settings(
            api=Api(ui_users=(str(UI_UID),), operator_users=(str(OPERATOR_UID),), staff="listed"),
            idcard=IdCard(port="/dev/idcard", card_wait_seconds=20.0),
            printer=Printer(port="/dev/printer"),
            cardreader=CardReader(port="/dev/cardreader") if bank else None,
            pinpad=PinPad(port="/dev/pinpad") if bank else None,
            vision=Vision(
                camera="/dev/face",
                document_camera="/dev/document" if "document" in cameras else None,
                photo_library="/usr/lib/decoder.so",
            ),
            platform=Platform(
                host="platform.example",
                terminal_id=TERMINAL,
                ca_file="ca",
                certificate_file="certificate",
                private_key_file="key",
                identity_key_file="identity",
                signing_key_file="signing",
                seal_key_file="seal",
            ),
            session=Session(**session),
            state_directory=str(directory),
        )
        self.reader, self.printer = outside.reader, outside.printer
        self.store, self.platform = outside.store, outside.platform
        self.reader_port = MemoryPort(self.reader, latency_seconds=0.01)
        self.printer_port = MemoryPort(self.printer, latency_seconds=0.01)
        self.cardreader_port = MemoryPort(outside.cardreader, latency_seconds=0.01)
        self.pinpad_port = MemoryPort(outside.pinpad, latency_seconds=0.01)
        self.links = MemoryLinks(
            {
                "/dev/idcard": self.reader_port,
                "/dev/printer": self.printer_port,
                "/dev/cardreader": self.cardreader_port,
                "/dev/pinpad": self.pinpad_port,
            }
        )
        self.hotplug = MemoryHotplug()
        self.routes = MemoryRoutes()
        self.uplink = MemoryUplink(latency_seconds=0.002)
        self.vision = ScriptedVision(cameras=cameras)
        self.power = RecordedPower()
        self.egress: list[Callable[[str], None]] = []
        self.journal = journal or sqlite3.connect(":memory:", isolation_level=None)
        self.entrance, self.preview_entrance = Entrance(), Entrance()
        self.stop = asyncio.Event()
        self.told = Told()
        keys = outside.keys
        self.enrolment = Enrolment(
            "0.0",
            "boot",
            ChannelKeys(IdentityKey(sm2.PrivateKey.from_der(keys.identity.to_der())), keys.signing.public),
            keys.seal.public,
        )

    def seams(self) -> Seams:
        """Return the daemon's seams."""
        return Seams(
            open_link=self.links,
            hotplug=self.hotplug,
            routes=self.routes,
            uplink=self.uplink,
            verifier=self.vision,
            cameras=self.vision,
            journal=InlineExecutor(self.journal),
            power=self.power,
            usage=lambda: Usage(46 * 2**20, 20),
            watch_egress=self.egress.append,
            wall_clock=wall_clock,
            jitter=random.Random(1),
        )

    async def daemon(self) -> None:
        """Run the daemon until `stop` is set."""
        await run_daemon(
            self.settings,
            self.seams(),
            enrolment=self.enrolment,
            listeners=Listeners(self.entrance, self.preview_entrance),
            notifier=self.told,
            stop=self.stop,
        )

    async def serve_platform(self) -> None:
        """Keep the platform on the broker until cancelled."""
        await serve(self.platform, self.uplink, lambda: None)

    def caller(self, uid: int = UI_UID) -> Caller:
        """Return a client program that comes in."""
        client = MemoryClient(uid)
        self.entrance.waiting.put_nowait(client)
        return Caller(client)

    def place_card(self, citizen: Citizen = CITIZEN) -> None:
        """Lay the ID card of a citizen on the reader."""
        names = ("name", "sex", "nation", "birth", "address", "id_number", "issuer", "valid_from", "valid_to")
        self.reader.place_card(**dict(zip(names, astuple(citizen), strict=True)), photo=PHOTO)

    async def settled(self, caller: Caller) -> None:
        """Wait until every device, the vision process and the line are up."""
        subscribed = await caller.call("events.subscribe")
        state = {name: component["state"] for name, component in subscribed["state"].items()}
        wanted = {"vision", "platform", *self.settings.devices}
        while any(state[name] != "online" for name in wanted):
            change = await caller.notice("events.change")
            state[change["component"]] = change["state"]["state"]

    async def consenting(self, caller: Caller) -> str:
        """Return a session whose citizen has consented to the face check."""
        session: str = (await caller.call("session.open"))["session"]
        expect(await caller.call("session.consent", session=session, agreed=True, version="1"))
        return session

    async def verified(self, caller: Caller) -> str:
        """Return a session whose citizen is verified."""
        session = await self.consenting(caller)
        self.place_card()
        expect(await caller.call("session.verify_identity", session=session))
        self.reader.remove_card()
        return session

    async def until(self, condition: Callable[[], Any], *, seconds: float = 30.0) -> None:
        """Look at a condition every 10 ms of virtual time until it holds; raise AssertionError when it never does."""
        for _ in range(int(seconds * 100)):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the condition never held")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what a statement finds in the journal."""
        return self.journal.execute(statement).fetchall()


def expect(answer: dict[str, Any], outcome: str = "done") -> dict[str, Any]:
    """Return an operation's answer; raise AssertionError when it ended otherwise."""
    if answer["outcome"] != outcome:
        raise AssertionError(answer)
    return answer


W = TypeVar("W", bound=World)


@asynccontextmanager
async def living(world: W) -> AsyncIterator[W]:
    """The daemon and the platform, running; both are stopped in order at the end, and their databases closed."""
    platform = asyncio.create_task(world.serve_platform(), name="platform")
    daemon = asyncio.create_task(world.daemon(), name="daemon")
    try:
        yield world
        world.stop.set()
        async with asyncio.timeout(30):
            await daemon
    finally:
        for task in (daemon, platform):
            task.cancel()
        await asyncio.gather(daemon, platform, return_exceptions=True)
        world.store.close()
        world.journal.close()
