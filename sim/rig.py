"""The rig: everything a terminal is connected to, in one process tree, with one control socket."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import structlog

from sim.assets import Assets, chip_photo
from sim.broker import broker_process
from sim.camera import CameraServer, DocumentCameraServer
from sim.control import Command, ask, perform, serve_control
from sim.devices.cardreader import VirtualCardReader
from sim.devices.environment import VirtualEnvironmentUnit
from sim.devices.fingerprint import VirtualFingerprintSensor
from sim.devices.idcard import VirtualIdCardReader
from sim.devices.nut import VirtualNutServer
from sim.devices.paper import Paper
from sim.devices.pinpad import VirtualPinPad
from sim.devices.printer import VirtualPrinter
from sim.devices.ups import VirtualMegatecUps
from sim.people import Citizen, Population
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.process import platform_process
from sim.platform.store import Store
from sim.pty import PtyHost
from sim.scene import load_people
from sim.settings import BAUD, RigError, RigFiles, RigSettings
from sim.tcp import TcpHost
from sim.wire import Verbs, VirtualDevice
from transport import sm2

log = structlog.get_logger(__name__)

_Running = AbstractAsyncContextManager[asyncio.subprocess.Process]


@dataclass(frozen=True, slots=True)
class Rig:
    """A running rig."""

    files: RigFiles
    settings: RigSettings
    people: Population
    photos: Mapping[str, bytes]
    devices: Mapping[str, Verbs]
    _failed: "asyncio.Future[str]"

    async def do(self, device: str, verb: str, **args: Any) -> Any:
        """Do a verb, as the control socket does; raise ControlError when it cannot be done."""
        return await perform(self.devices, Command(device, verb, args))

    def papers(self) -> list[Path]:
        """Return the pieces of paper printed so far, oldest first."""
        return sorted(self.files.paper.glob("*.png"))

    async def watch(self) -> NoReturn:
        """Wait for ever; raise RigError when the broker or the platform dies by itself."""
        raise RigError(await asyncio.shield(self._failed))


@asynccontextmanager
async def open_rig(
    files: RigFiles, settings: RigSettings, assets: Assets, *, devices_only: bool = False
) -> AsyncIterator[Rig]:
    """Start everything of the rig and stop it at the end; raise RigError when something does not start.

    With `devices_only` broker and platform are somebody else's.
    """
    people = Population(settings.seed)
    photos = {name: chip_photo(assets, name) for name in assets.portraits}
    camera = CameraServer(load_people(assets), seed=settings.seed)
    document = DocumentCameraServer(seed=settings.seed)
    if settings.person != "nobody":
        camera.show(settings.person)
    reader = VirtualIdCardReader()
    peripherals: dict[str, VirtualDevice] = {
        "idcard": reader,
        "printer": VirtualPrinter(font=assets.font, on_paper=_Shelf(files.paper).keep),
        "fingerprint": VirtualFingerprintSensor(),
        "cardreader": VirtualCardReader(),
        "pinpad": VirtualPinPad(),
        "ups": VirtualMegatecUps(asyncio.get_running_loop().time),
        "environment": VirtualEnvironmentUnit(),
    }
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with AsyncExitStack() as stack:
        stack.callback(failed.cancel)
        broker = _Part("broker", lambda: _broker(files.trust_directory, settings.broker_port), failed)
        platform = _Part("platform", lambda: platform_process(files, settings, assets.font), failed)
        for part in () if devices_only else (broker, platform):
            stack.push_async_callback(part.stop)
            await part.start()
        await stack.enter_async_context(camera.serve(files.camera))
        await stack.enter_async_context(document.serve(files.document_camera))
        devices: dict[str, Verbs] = {
            kind: hosted(stack.enter_context(PtyHost(device, files.port(kind), baud=BAUD[kind])))
            for kind, device in peripherals.items()
        }
        try:
            nut = await stack.enter_async_context(TcpHost(VirtualNutServer(), settings.nut_port))
        except OSError as error:
            raise RigError(f"nut: {error.strerror} (port {settings.nut_port})") from error
        cards = _Cards(reader, people, photos)
        devices |= {
            "nut": hosted(nut),
            "idcard": {**devices["idcard"], "place_card": cards.place_card, "place_permit": cards.place_permit},
            "camera": camera.verbs,
            "document": document.verbs,
        }
        if not devices_only:
            devices |= {
                "broker": {"start": broker.start, "stop": broker.stop},
                "platform": {**_forwarded(files.platform_control), "start": platform.start, "stop": platform.stop},
            }
        await stack.enter_async_context(serve_control(files.control, devices))
        log.info("rig_ready", directory=str(files.directory))
        yield Rig(files, settings, people, photos, devices, failed)


class _Cards:
    """Lays cards of synthetic citizens on the reader."""

    def __init__(self, reader: VirtualIdCardReader, people: Population, photos: Mapping[str, bytes]) -> None:
        self._reader = reader
        self._people = people
        self._photos = photos

    def place_card(self, *, citizen: int = 0, photo: str = "grace_hopper", **fields: str) -> None:
        """Lay down the card of a citizen by number, with a portrait's photo; any field can be given instead."""
        card: Citizen = self._people.citizen(citizen)
        self._reader.place_card(**{**asdict(card), "photo": self._photos.get(photo, photo), **fields})

    def place_permit(self, *, variant: str, holder: int = 0, photo: str = "grace_hopper", **fields: str) -> None:
        """Lay down the permit of a made-up holder, with a portrait's photo; any field can be given instead."""
        self._reader.place_permit(variant=variant, holder=holder, photo=self._photos.get(photo, photo), **fields)


class _Shelf:
    """Keeps each printed piece of paper as a PNG."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, paper: Paper) -> None:
        number = len(list(self._directory.glob("*.png"))) + 1
        (self._directory / f"{number:04d}.png").write_bytes(paper.png())


class _Part:
    """The broker or the platform: a process that can be stopped and started again."""

    def __init__(self, name: str, run: Callable[[], _Running], failed: "asyncio.Future[str]") -> None:
        self._name = name
        self._run = run
        self._failed = failed
        self._running: AsyncExitStack | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Start it; when it runs already it is nothing."""
        async with self._lock, AsyncExitStack() as stack:
            if self._running is None:
                process = await stack.enter_async_context(self._run())
                await stack.enter_async_context(_watched(self._name, process, self._failed))
                self._running = stack.pop_all()

    async def stop(self) -> None:
        """Stop it: the broker loses every connection, the platform forgets the keys it granted."""
        async with self._lock:
            stack, self._running = self._running, None
            if stack is not None:
                await stack.aclose()


@asynccontextmanager
async def _watched(
    name: str, process: asyncio.subprocess.Process, failed: "asyncio.Future[str]"
) -> AsyncIterator[None]:
    """While the context lasts, the end of the process fails the rig."""

    async def watch() -> None:
        code = await process.wait()
        if not failed.done():
            failed.set_result(f"{name}: it ended by itself with code {code}")

    watching = asyncio.create_task(watch(), name=f"rig {name} watch")
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


@asynccontextmanager
async def _broker(trust: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the broker's process while the context lasts."""
    async with AsyncExitStack() as stack:
        try:
            process, _ = await stack.enter_async_context(broker_process(trust, port))
        except (RuntimeError, OSError) as error:
            raise RigError(f"broker: {error} (port {port})") from error
        yield process


def hosted(port: PtyHost | TcpHost) -> dict[str, Callable[..., Any]]:
    """Return the verbs of a device and of its wire. A device says by itself what its verb makes it say."""

    def nudged(verb: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(verb)
        def act(**args: Any) -> Any:
            result = verb(**args)
            port.nudge()
            return result

        return act

    verbs = {name: nudged(verb) for name, verb in port.device.verbs.items()}
    mend = verbs.get("mend", port.nudge)

    def mend_all() -> None:
        """End all faults of the device and of its wire."""
        port.mend()
        mend()

    return {**verbs, **port.verbs, "mend": mend_all}


def _forwarded(control: Path) -> dict[str, Callable[..., Any]]:
    """Return the platform's verbs, done in its own process; one that serves nobody says which there are."""

    def forwarded(name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(verb)
        async def act(**args: Any) -> Any:
            return await ask(control, "platform", name, args)

        return act

    keys = PlatformKeys(signing=sm2.generate(), seal=sm2.generate(), terminals={})
    with closing(Store(":memory:")) as store:
        verbs = Platform(store, keys, Population(1), Path(), time.time).verbs
    return {name: forwarded(name, verb) for name, verb in verbs.items()}
