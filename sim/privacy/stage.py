"""A rig with a real broker, the real daemon and its vision process, and a citizen with planted values before them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.client import connect
from sim import assets
from sim.citizens.hand import Ears, Hand
from sim.platform.process import platform_process
from sim.privacy import planted
from sim.privacy.broker import keeping_broker
from sim.privacy.exits import OPERATOR, Exits, heard_by_systemd, watched
from sim.privacy.finder import Finder, Likeness
from sim.privacy.tap import tapped
from sim.privacy.visit import CITIZEN, FACE, WholeVisit
from sim.rig import Rig, open_rig
from sim.settings import RigFiles, RigSettings, free_port, make_rig
from sim.terminal import COMPONENTS, connected, daemon
from vision import store
from vision.models import Models, load
from vision.store import cache_directory

NEEDED = (*COMPONENTS, "camera", "document_camera", "cardreader", "pinpad", "fingerprint")
SEED = 77_123
_ONLINE_SECONDS = 60.0
_UNSETTLED = (
    "import runpy, sys, vision.child\n"
    "for name in ('PYTHONMALLOC', 'GLIBC_TUNABLES'): vision.child.ENVIRONMENT.pop(name)\n"
    "sys.argv[0] = 'runtime'\n"
    "runpy.run_module('runtime', run_name='__main__', alter_sys=True)\n"
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything running; `faces` and `documents` are the JPEGs that went through the cameras' cables."""

    rig: Rig
    models: Models
    process: asyncio.subprocess.Process
    visit: WholeVisit
    faces: list[bytes]
    documents: list[bytes]
    exits: Exits

    @property
    def pids(self) -> dict[str, int]:
        """The daemon's and its vision process's."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return {"daemon": self.process.pid, "vision": int(children.split()[0])}

    async def finder(self) -> Finder:
        """Return what is searched for by now; made in a thread, for the cameras go on meanwhile."""
        return await asyncio.to_thread(self._finder)

    def _finder(self) -> Finder:
        photo = self.rig.photos[FACE]
        of_face, template = planted.of_face(photo, self.models)
        wanted = [
            *planted.known_before(self.rig.people.citizen(CITIZEN), photo),
            *of_face,
            *planted.of_cameras(self.faces, self.documents),
            *planted.of_previews(self.visit.shown),
            *planted.of_papers(self.rig.papers()),
            *planted.of_bank(self.rig.files.platform_database),
        ]
        return Finder(wanted, Likeness(template))


@asynccontextmanager
async def staged(directory: Path, *, settled: bool = True) -> AsyncIterator[Stage]:
    """Run everything in a new directory, with every device online and a citizen connected.

    `settled` False runs the daemon and its vision process on the allocators that they have when nobody says which.
    Raises RigError when something does not start, VisionError without models.
    """
    models = await asyncio.to_thread(_models)
    async with AsyncExitStack() as stack:
        files = RigFiles(directory, directory)
        settings = RigSettings(seed=SEED, broker_port=free_port(), nut_port=free_port(), person="nobody")
        make_rig(files, settings)
        _list_operator(files)
        prepared = assets.prepare(cache_directory() / "assets")
        await stack.enter_async_context(keeping_broker(files.trust_directory, settings.broker_port))
        await stack.enter_async_context(platform_process(files, settings, prepared.font))
        rig = await stack.enter_async_context(open_rig(files, settings, prepared, devices_only=True))
        faces = await stack.enter_async_context(tapped(files.camera))
        documents = await stack.enter_async_context(tapped(files.document_camera))
        python = sys.executable if settled else str(_unsettled_python(directory))
        await stack.enter_async_context(heard_by_systemd(files))
        process = await stack.enter_async_context(daemon(files, python=python))
        async with connected(files) as watcher:
            for component in NEEDED:
                await watcher.wait_until(component, "online", seconds=_ONLINE_SECONDS)
        exits = await stack.enter_async_context(watched(files))
        terminal = await stack.enter_async_context(connect(files.api))
        ears = Ears(terminal)
        listening = asyncio.create_task(ears.listen(), name="citizen's ears")
        try:
            yield Stage(rig, models, process, WholeVisit(terminal, Hand(files), ears), faces, documents, exits)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def _list_operator(files: RigFiles) -> None:
    text = files.daemon_settings.read_text(encoding="utf-8")
    text = text.replace("[api]\n", f'[api]\noperator_users = ["{OPERATOR}"]\n', 1)
    files.daemon_settings.write_text(text, encoding="utf-8")


def _models() -> Models:
    directory = cache_directory() / "models"
    store.prepare(directory)
    return load(directory)


def _unsettled_python(directory: Path) -> Path:
    """Return a program that runs `python -m runtime` without what the unit says of allocators."""
    wrapper, program = directory / "unsettled-python", directory / "unsettled.py"
    program.write_text(_UNSETTLED)
    command = f'env -u PYTHONMALLOC -u GLIBC_TUNABLES {sys.executable} {program} "$@"'
    wrapper.write_text(f"#!/bin/sh\nshift 2\nexec {command}\n")
    wrapper.chmod(0o755)
    return wrapper
