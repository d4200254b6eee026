"""The same with real processes: a daemon that kills itself at a point, its rig, and a daemon started after it."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sim.assets import Assets
from sim.caller import Caller, MemoryClient
from sim.control import ControlError, ask
from sim.crash.afterlife import left
from sim.crash.explore import Outcome
from sim.crash.fuse import VARIABLE, passed
from sim.crash.points import Point
from sim.crash.service import Remains, Service
from sim.crash.transcript import Transcript
from sim.rig import Rig, open_rig
from sim.settings import RigFiles, RigSettings, free_port, make_rig
from sim.terminal import COMPONENTS, daemon
from sim.world import UI_UID, expect

__all__ = ["VARIABLE", "kill", "share", "survey"]

FACE = "grace_hopper"
VISIT_SECONDS = 120.0
SETTLED_SECONDS = 60.0
LOOK_SECONDS = 0.2
REST_SECONDS = 1.0


class RigStage:
    """A citizen before the rig."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    async def verified(self, ui: Caller) -> str:
        """Return a session whose citizen is verified, and whose card is in their hand again."""
        await self._rig.do("camera", "show", person=FACE)
        session: str = (await ui.call("session.open"))["session"]
        expect(await ui.call("session.consent", session=session, agreed=True, version="1"))
        await self.lay_card()
        expect(await ui.call("session.verify_identity", session=session))
        await self.lift_card()
        return session

    async def lay_card(self) -> None:
        """Lay the citizen's ID card on the reader."""
        await self._rig.do("idcard", "place_card", photo=FACE)

    async def lift_card(self) -> None:
        """Take it away."""
        await self._rig.do("idcard", "remove_card")

    async def insert_bank_card(self) -> None:
        """Put the citizen's bank card into the reader."""
        await self._rig.do("cardreader", "insert_card")

    async def enter_pin(self, digits: str) -> None:
        """Press digits on the PIN pad, and enter."""
        await self._rig.do("pinpad", "press", digits=digits)
        await self._rig.do("pinpad", "enter")

    async def take_bank_card(self) -> None:
        """Take the bank card, if it is held out."""
        with suppress(ControlError):
            await self._rig.do("cardreader", "take_card")

    async def order(self, verb: str, **args: Any) -> Any:
        """Have the reference platform do something."""
        return await ask(self._rig.files.platform_control, "platform", verb, args)


async def survey(service: Service, assets: Assets, fuse: Path) -> list[Point]:
    """Return the points that a real daemon passes while it serves the citizen; raise RunFailed."""
    try:
        async with _rig(assets) as rig, daemon(rig.files), _client(rig.files) as (ui, _):
            await _online(ui)
            _write(fuse, 0)
            await service.serve(RigStage(rig), ui)
            await asyncio.sleep(REST_SECONDS)
            return passed(rig.files.daemon_log.read_bytes().splitlines())
    finally:
        fuse.unlink(missing_ok=True)


async def kill(service: Service, assets: Assets, fuse: Path, point: Point) -> Outcome:
    """Serve the citizen until the daemon kills itself at the point, start it again and look at what is left.

    Raises RunFailed when the citizen is refused before that.
    """
    began = asyncio.get_running_loop().time()
    async with _rig(assets) as rig:
        files = rig.files
        async with daemon(files) as process, _client(files) as (ui, told):
            await _online(ui)
            _write(fuse, point.number)
            try:
                async with asyncio.timeout(VISIT_SECONDS):
                    await service.serve(RigStage(rig), ui)
            except ConnectionError:
                await process.wait()
            finally:
                fuse.unlink()
            view = "killed" if process.returncode == -signal.SIGKILL else "at rest"
            if process.returncode is None:  # a shorter run than the surveyed one
                process.kill()
        before = _journal(files)
        await rig.do("idcard", "remove_card")
        if service.meanwhile is not None:
            await service.meanwhile(RigStage(rig))
        async with daemon(files), _client(files) as (ui, _):
            await _online(ui)
            failures = await _settled(files)
            journal, platform = _open(files.state / "journal.db"), _open(files.platform_database)
            with closing(before), closing(journal), closing(platform):
                remains = Remains(ui, told, before, journal, platform, len(rig.papers()))
                failures += await service.check(remains)
        seconds = asyncio.get_running_loop().time() - began
    return Outcome(point, view, round(seconds, 1), failures)


@asynccontextmanager
async def _rig(assets: Assets) -> AsyncIterator[Rig]:
    with TemporaryDirectory(prefix="govterm-crash-") as directory:
        files = RigFiles(Path(directory, "rig"), Path(directory, "rig"))
        settings = RigSettings(broker_port=free_port(), nut_port=free_port(), person="nobody")
        make_rig(files, settings)
        async with open_rig(files, settings, assets) as rig:
            yield rig


@asynccontextmanager
async def _client(files: RigFiles) -> AsyncIterator[tuple[Caller, Transcript]]:
    """Connect to the daemon as its UI, and read along."""
    reader, writer = await asyncio.open_unix_connection(files.api)
    client, transcript = MemoryClient(UI_UID), Transcript()

    async def say() -> None:
        while data := await client.read():
            transcript.says(data)
            writer.write(data)
            await writer.drain()

    async def hear() -> None:
        try:
            while data := await reader.read(65_536):
                transcript.hears(data)
                await client.write(data)
        except ConnectionError:
            pass
        await client.close()

    tasks = [asyncio.create_task(say(), name="crash says"), asyncio.create_task(hear(), name="crash hears")]
    try:
        yield Caller(client), transcript
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()


async def _online(ui: Caller) -> None:
    """Wait until a citizen can be served."""
    state = (await ui.call("events.subscribe"))["state"]
    while any(state[name]["state"] != "online" for name in COMPONENTS) or "version" not in _details(state):
        change = await ui.notice("events.change")
        state[change["component"]] = change["state"]


def _details(state: dict[str, dict[str, Any]]) -> dict[str, Any]:
    details: dict[str, Any] = state.get("catalogue", {}).get("details", {})
    return details


async def _settled(files: RigFiles) -> list[str]:
    """Wait until nothing is open and everything is delivered; return what is not, after SETTLED_SECONDS."""
    with closing(_open(files.state / "journal.db")) as journal:
        for _ in range(int(SETTLED_SECONDS / LOOK_SECONDS)):
            if not (still := left(journal)):
                return []
            await asyncio.sleep(LOOK_SECONDS)
    return still


def _journal(files: RigFiles) -> sqlite3.Connection:
    """Return the journal as it is now, in memory."""
    copy = sqlite3.connect(":memory:")
    with closing(sqlite3.connect(files.state / "journal.db")) as journal:
        journal.backup(copy)
    return copy


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)


def _write(fuse: Path, number: int) -> None:
    """Let the file be there whole or not at all."""
    new = fuse.with_suffix(".new")
    new.write_text(str(number))
    new.rename(fuse)


def share(points: Sequence[int], total: int) -> list[int]:
    """Divide `total` over services by their points: whole numbers, at least one each."""
    ends = [round(total * sum(points[: place + 1]) / sum(points)) for place in range(len(points))]
    return [max(1, end - begin) for begin, end in pairwise([0, *ends])]
