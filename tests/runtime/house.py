"""The whole daemon on a virtual clock, with in-memory seams, the rig's devices and the reference platform."""

import asyncio
import datetime
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from devices.config import IdCard, Printer
from devices.idcard.record import CardRecord
from devices.personal import Kind, PersonalBytes, PersonalText
from runtime.config import Api, Session, Settings
from runtime.daemon import Listeners, run_daemon
from runtime.enrolment import Enrolment
from runtime.notify import Notifier
from runtime.seams import Seams, Usage
from sim.devices.idcard import VirtualIdCardReader
from sim.devices.printer import VirtualPrinter
from sim.memory import (
    InlineExecutor,
    MemoryHotplug,
    MemoryLinks,
    MemoryPort,
    RecordedPower,
)
from sim.people import Citizen, Population
from sim.platform.logic import Platform as ReferencePlatform
from sim.platform.logic import PlatformKeys
from sim.platform.service import serve
from sim.platform.services import certificates
from sim.platform.store import Store
from sim.scripted import ScriptedVision
from sim.uplink import MemoryUplink
from sim.virtual_time import run
from transport import sm2
from transport.config import Platform
from transport.keys import IdentityKey
from transport.line_keys import ChannelKeys
from vision.config import Vision
from vision.verifier import CameraName

EPOCH = 1_800_000_000.0
TERMINAL = "GT-0001"
UI_UID, OPERATOR_UID, STRANGER_UID = 1001, 1002, 1003
IDENTITY, SIGNING, SEAL = (sm2.generate() for _ in range(3))
PEOPLE = Population()
CITIZEN = PEOPLE.citizen(0)
PHOTO = bytes(range(256)) * 4
PDF = b"%PDF-1.7\n" + b"certificate of a synthetic citizen " * 50
CERTIFICATE = "social_insurance_enrolment"

T = TypeVar("T")


def record() -> CardRecord:
    return CardRecord(
        name=PersonalText("张三丰", Kind.NAME),
        sex="男",
        nation="汉",
        birth=PersonalText("19900101", Kind.DATE),
        address=PersonalText("示例省样本市", Kind.ADDRESS),
        id_number=PersonalText("990101199001011230", Kind.IDENTIFIER),
        issuer=PersonalText("样本市公安局", Kind.ADDRESS),
        valid_from=datetime.date(2020, 1, 1),
        valid_to=None,
        photo=PersonalBytes(bytes(range(256)) * 4),
    )


def values(card: CardRecord) -> list[PersonalText | PersonalBytes]:
    return [card.name, card.birth, card.address, card.id_number, card.issuer, card.photo]


class Owner:
    uid = UI_UID

    def __init__(self) -> None:
        self.notices = []

    def notify(self, method, params) -> None:
        self.notices.append((method, params))


class Noted:
    """An audit log that remembers what it was told, without a file."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    async def note(self, event, *, actor, details=None) -> None:
        self.lines.append((event, actor, {key: value for key, value in (details or {}).items() if value is not None}))


class MemoryClient:
    """One connection to the API, both ends; the daemon holds it as a `runtime.api.listen.Client`."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.closed = asyncio.Event()
        self.taking = asyncio.Event()
        self.taking.set()
        self.said = asyncio.Queue[bytes]()
        self.heard = bytearray()
        self.arrived = asyncio.Event()

    async def read(self) -> bytes:
        return await self.said.get()

    async def write(self, data: bytes) -> None:
        await self.taking.wait()
        if self.closed.is_set():
            raise BrokenPipeError
        self.heard += data
        self.arrived.set()

    async def close(self) -> None:
        self.closed.set()
        self.arrived.set()


class Entrance:
    """Where memory clients, or anything else, come in."""

    def __init__(self) -> None:
        self.waiting = asyncio.Queue[Any]()

    async def accept(self) -> Any:
        return await self.waiting.get()


class Refusal(Exception):
    """A JSON-RPC error."""

    def __init__(self, number: int, code: str) -> None:
        super().__init__(code)
        self.number = number
        self.code = code


class Caller:
    """A client program: calls methods and keeps the notifications."""

    def __init__(self, client: MemoryClient) -> None:
        self.client = client
        self.notices: list[tuple[str, dict[str, Any]]] = []
        self._answers: dict[int | None, dict[str, Any]] = {}
        self._last = 0

    def raw(self, data: bytes) -> None:
        self.client.said.put_nowait(data)

    def ask(self, method: str, **params: Any) -> int:
        self._last += 1
        self.raw(msgspec.json.encode({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}) + b"\n")
        return self._last

    async def answer(self, number: int | None, *, seconds: float = 60.0) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while number not in self._answers:
                await self._listen()
        message = self._answers.pop(number)
        if "error" in message:
            raise Refusal(message["error"]["code"], message["error"]["data"]["code"])
        return message["result"]

    async def call(self, method: str, *, seconds: float = 60.0, **params: Any) -> dict[str, Any]:
        return await self.answer(self.ask(method, **params), seconds=seconds)

    async def notice(self, name: str, *, seconds: float = 60.0) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                for index, (method, params) in enumerate(self.notices):
                    if method == name:
                        del self.notices[index]
                        return params
                await self._listen()

    async def component(self, name: str, state: str) -> None:
        """Wait until a component is in a state; subscribe first."""
        while True:
            change = await self.notice("events.change")
            if change["component"] == name and change["state"]["state"] == state:
                return

    def hang_up(self) -> None:
        self.raw(b"")

    async def _listen(self) -> None:
        while b"\n" not in self.client.heard:
            if self.client.closed.is_set():
                raise ConnectionError("the daemon closed the connection")
            self.client.arrived.clear()
            await self.client.arrived.wait()
        line, _, rest = bytes(self.client.heard).partition(b"\n")
        self.client.heard[:] = rest
        message = msgspec.json.decode(line)
        if "method" in message:
            self.notices.append((message["method"], message["params"]))
        else:
            self._answers[message["id"]] = message


class Told(Notifier):
    """A notifier that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[str] = []

    def ready(self) -> None:
        self.states.append("READY")

    def status(self, text: str) -> None:
        self.states.append(f"STATUS {text}")

    def stopping(self) -> None:
        self.states.append("STOPPING")


class House:
    """The daemon and everything around it."""

    def __init__(
        self,
        directory: Path,
        *,
        journal: sqlite3.Connection | None = None,
        cameras: tuple[CameraName, ...] = ("face", "document"),
        **session: float,
    ) -> None:
        self.settings = Settings(
            api=Api(ui_users=(str(UI_UID),), operator_users=(str(OPERATOR_UID),), line_limit_bytes=65_536),
            idcard=IdCard(port="/dev/idcard", card_wait_seconds=20.0),
            printer=Printer(port="/dev/printer"),
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
        self.loop = asyncio.get_running_loop()
        self.reader = VirtualIdCardReader()
        self.printer = VirtualPrinter()
        self.reader_port = MemoryPort(self.reader, latency_seconds=0.01)
        self.printer_port = MemoryPort(self.printer, latency_seconds=0.01)
        self.links = MemoryLinks({"/dev/idcard": self.reader_port, "/dev/printer": self.printer_port})
        self.hotplug = MemoryHotplug()
        self.uplink = MemoryUplink(latency_seconds=0.002)
        self.vision = ScriptedVision(cameras=cameras)
        self.power = RecordedPower()
        self.egress: list[Callable[[str], None]] = []
        self.journal = journal or sqlite3.connect(":memory:")
        keys = PlatformKeys(signing=SIGNING, seal=SEAL, terminals={TERMINAL: IDENTITY.public})
        self.store = Store(":memory:")
        self.platform = ReferencePlatform(self.store, keys, PEOPLE, Path("no-font"), self.wall_clock)
        self.entrance, self.preview_entrance = Entrance(), Entrance()
        self.stop = asyncio.Event()
        self.told = Told()
        self.enrolment = Enrolment("0.0", "boot", ChannelKeys(IdentityKey(IDENTITY), SIGNING.public), SEAL.public)

    def wall_clock(self) -> float:
        return EPOCH + self.loop.time()

    async def daemon(self) -> None:
        seams = Seams(
            open_link=self.links,
            hotplug=self.hotplug,
            uplink=self.uplink,
            verifier=self.vision,
            cameras=self.vision,
            journal=InlineExecutor(self.journal),
            power=self.power,
            usage=lambda: Usage(46 * 2**20, 20),
            watch_egress=self.egress.append,
            wall_clock=self.wall_clock,
            jitter=random.Random(1),  # noqa: S311 - back-off only
        )
        await run_daemon(
            self.settings,
            seams,
            enrolment=self.enrolment,
            listeners=Listeners(self.entrance, self.preview_entrance),
            notifier=self.told,
            stop=self.stop,
        )

    def caller(self, uid: int = UI_UID) -> Caller:
        client = MemoryClient(uid)
        self.entrance.waiting.put_nowait(client)
        return Caller(client)

    def place_card(self, citizen: Citizen = CITIZEN) -> None:
        names = ("name", "sex", "nation", "birth", "address", "id_number", "issuer", "valid_from", "valid_to")
        self.reader.place_card(**dict(zip(names, astuple(citizen), strict=True)), photo=PHOTO)

    async def settled(self, caller: Caller) -> None:
        """Wait until every device, the vision process and the line are up."""
        subscribed = await caller.call("events.subscribe")
        state = {name: component["state"] for name, component in subscribed["state"].items()}
        while any(state[name] != "online" for name in ("idcard", "printer", "vision", "platform")):
            change = await caller.notice("events.change")
            state[change["component"]] = change["state"]["state"]

    async def verified(self, caller: Caller) -> str:
        """Return a session whose citizen is verified."""
        self.place_card()
        session = (await caller.call("session.open"))["session"]
        answer = await caller.call("session.verify_identity", session=session)
        assert answer["outcome"] == "done", answer
        self.reader.remove_card()
        return session

    async def until(self, condition: Callable[[], Any], *, seconds: float = 30.0) -> None:
        """Look at a condition every 10 ms of virtual time until it holds."""
        for _ in range(int(seconds * 100)):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the condition never held")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.journal.execute(statement).fetchall()


@asynccontextmanager
async def living(house: House) -> AsyncIterator[House]:
    """The daemon and the platform, running; both are stopped in order at the end."""
    platform = asyncio.create_task(serve(house.platform, house.uplink, lambda: None), name="platform")
    daemon = asyncio.create_task(house.daemon(), name="daemon")
    try:
        yield house
        house.stop.set()
        async with asyncio.timeout(30):
            await daemon
    finally:
        for task in (daemon, platform):
            task.cancel()
        await asyncio.gather(daemon, platform, return_exceptions=True)
        house.store.close()
        house.journal.close()


def tell(directory: Path, story: Callable[[House, Caller], Awaitable[T]], monkeypatch: Any, **session: float) -> T:
    """Run a story against a settled house on virtual time and return what it returns."""
    monkeypatch.setattr(certificates, "write_certificate", lambda *_args, **_kwargs: PDF)

    async def main() -> T:
        async with living(House(directory, **session)) as house:
            caller = house.caller()
            await house.settled(caller)
            return await story(house, caller)

    coroutine: Coroutine[Any, Any, T] = main()
    return run(coroutine)
