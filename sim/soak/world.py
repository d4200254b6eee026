"""Everything that a soak runs: broker, proxy, platform, terminal, disk and load generator, each on its own."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.credentials import platform_section
from sim.control import ask
from sim.mosquitto import broker_process
from sim.platform.process import platform_process
from sim.settings import RigError, RigFiles, RigSettings, free_port
from sim.soak.disk import Disk, mounted
from sim.soak.parts import Part
from sim.soak.proxy import Proxy
from sim.terminal import daemon
from sim.trust import make_trust
from vision.store import cache_directory

_LOAD_STOP_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class World:
    """A terminal and its platform, and what breaks them. `files.state` lies on `disk`."""

    files: RigFiles
    settings: RigSettings
    disk: Disk
    proxy: Proxy
    broker: Part
    platform: Part
    terminal: Part
    load: Part

    @property
    def ledger(self) -> Path:
        """What the load generator notes."""
        return self.files.directory / "ledger.jsonl"

    @property
    def parts(self) -> tuple[Part, ...]:
        """The processes, in the order in which they start."""
        return (self.broker, self.platform, self.terminal, self.load)

    async def tell_platform(self, verb: str, **args: Any) -> None:
        """Do a verb of the platform; raise ControlError when it cannot be done."""
        await ask(self.files.platform_control, "platform", verb, args)

    def set_clock(self, off_seconds: float) -> None:
        """Let the terminal's wall clock be ahead by so much."""
        _write_clock(self.files, off_seconds)


@asynccontextmanager
async def open_world(files: RigFiles, seed: int) -> AsyncIterator[World]:
    """Start everything and stop it at the end; `files.state` is mounted anew meanwhile.

    Raises DiskError where no tmpfs can be mounted, RigError when something does not start.
    """
    settings = RigSettings(seed=seed, broker_port=free_port())
    line_port = free_port()
    files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_trust(files.trust_directory, settings.terminal_id, line_port)
    files.daemon_settings.write_text(_daemon_toml(files), encoding="utf-8")
    _write_clock(files, 0.0)
    os.environ["GOVTERM_RIG_CLOCK_FILE"] = str(_clock_file(files))
    font = cache_directory() / "assets" / "wqy-microhei.ttc"
    async with AsyncExitStack() as stack:
        disk = await stack.enter_async_context(mounted(files.state))
        proxy = Proxy(settings.broker_port)
        await stack.enter_async_context(proxy.serve(line_port))
        world = World(
            files,
            settings,
            disk,
            proxy,
            broker=Part("broker", lambda: _broker(files, settings.broker_port)),
            platform=Part("platform", lambda: platform_process(files, settings, font)),
            terminal=Part("terminal", lambda: daemon(files)),
            load=Part("load", lambda: _load(world)),
        )
        for part in world.parts:
            stack.push_async_callback(part.stop)
            await part.start()
        yield world


@asynccontextmanager
async def _broker(files: RigFiles, port: int) -> AsyncIterator[Process]:
    """Run mosquitto, with what it says in a log."""
    async with broker_process(files.trust_directory, port) as (process, _):
        logging = asyncio.create_task(_log(process, files.directory / "broker.log"), name="soak broker log")
        try:
            yield process
        finally:
            logging.cancel()
            with suppress(asyncio.CancelledError):
                await logging


async def _log(process: Process, path: Path) -> None:
    with path.open("ab") as file:
        while process.stdout is not None and (line := await process.stdout.readline()):
            file.write(line)


@asynccontextmanager
async def _load(world: World) -> AsyncIterator[Process]:
    """Run the load generator; at the end it waits for what is under way."""
    arguments = ("--api", world.files.api, "--ledger", world.ledger, "--seed", world.settings.seed)
    with (world.files.directory / "load.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sim.soak.load", *map(str, arguments)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        if process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise RigError("load: it does not start; load.log says why")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_LOAD_STOP_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


def _write_clock(files: RigFiles, off_seconds: float) -> None:
    new = files.directory / "clock.new"
    new.write_text(f"{off_seconds}\n", encoding="ascii")
    new.replace(_clock_file(files))


def _clock_file(files: RigFiles) -> Path:
    return files.directory / "clock"


def _daemon_toml(files: RigFiles) -> str:
    """Write a terminal whose devices are all unplugged; its tester is who runs the soak."""
    sections: dict[str, Mapping[str, Any]] = {
        "api": {
            "socket": str(files.api),
            "preview_socket": str(files.previews),
            "ui_users": [str(os.getuid() + 1)],
            "tester_users": [str(os.getuid())],
            "staff": "listed",
        },
        "idcard": {"port": str(files.port("idcard"))},
        "printer": {"port": str(files.port("printer"))},
        "vision": {
            "camera": f"rig:{files.camera}",
            "model_directory": str(cache_directory() / "models"),
            "photo_decoder": "rig",
            "challenge": 0,
        },
        "platform": platform_section(files.trust.terminal),
    }
    top = f"rig = true\nstate_directory = {json.dumps(str(files.state))}\n"
    return top + "".join(
        f"\n[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    )
