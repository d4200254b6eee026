"""The whole terminal on its rig: daemon, devices, broker, platform and hall, each a process that is kept alive."""

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.client import ClientError, RpcError
from sim.control import ControlError, ask
from sim.mosquitto import broker_process
from sim.platform.process import platform_process
from sim.settings import RigError, RigFiles, RigSettings, free_port, make_rig
from sim.soak import hall
from sim.soak.disk import Disk, mounted
from sim.soak.keeper import Keeper, Watchdog, started
from sim.soak.logind import Logind, system_bus
from sim.soak.visitors import Visitors
from sim.terminal import COMPONENTS, connected, daemon
from vision.store import cache_directory

EVERYTHING = (*COMPONENTS, "camera", "document_camera", "cardreader", "pinpad", "fingerprint", "ups", "environment")
UI_SILENCE_SECONDS = 4.0
"""Configured, so that a UI that hangs is found out soon."""
_ONLINE_SECONDS = 120.0
_VISION_SECONDS = 60.0
_ASK_SECONDS = 30.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything running. `files.state` lies on `disk`; `complaints` are what faults found amiss."""

    files: RigFiles
    settings: RigSettings
    disk: Disk
    broker: Keeper
    platform: Keeper
    rig: Keeper
    daemon: Keeper
    hall: Keeper
    watchdog: Watchdog
    logind: Logind
    visitors: Visitors
    complaints: list[str] = field(default_factory=list)

    @property
    def keepers(self) -> tuple[Keeper, ...]:
        """The processes, in the order in which they start."""
        return (self.broker, self.platform, self.rig, self.daemon, self.hall)

    async def do(self, device: str, verb: str, **args: Any) -> None:
        """Do a verb of the rig as soon as it runs; raise ControlError when it cannot be done."""
        await _soon(self.rig, self.files.control, device, verb, args)

    async def do_now(self, device: str, verb: str) -> None:
        """Do a verb of the rig now; raise ControlError when it cannot be done."""
        await ask(self.files.control, device, verb)

    async def order(self, verb: str, **args: Any) -> None:
        """Do a verb of the platform as soon as it runs; raise ControlError when it cannot be done."""
        await _soon(self.platform, self.files.platform_control, "platform", verb, args)

    def vision(self) -> int | None:
        """Return the vision process's id; None while there is none."""
        process = self.daemon.process
        below = [] if process is None else children(process.pid)
        return below[0] if below else None

    async def vision_running(self) -> int:
        """Wait for the vision process and return its id; raise ControlError when there is none in 60 s."""
        for _ in range(int(_VISION_SECONDS / _POLL_SECONDS)):
            if (pid := self.vision()) is not None:
                return pid
            await asyncio.sleep(_POLL_SECONDS)
        raise ControlError("vision", f"it does not run within {_VISION_SECONDS:g} s")

    def set_clock(self, off_seconds: float) -> None:
        """Let the terminal's wall clock be ahead by so much."""
        _write_clock(self.files, off_seconds)

    async def online(self) -> str | None:
        """Wait until every component is well; return what is not, within 120 s in all."""
        until = time.monotonic() + _ONLINE_SECONDS
        wanted = dict.fromkeys(EVERYTHING, "online") | {"catalogue": "current", "sharing": "active"}
        try:
            async with connected(self.files) as terminal:
                for component, state in wanted.items():
                    await terminal.wait_until(component, state, seconds=max(0.1, until - time.monotonic()))
        except (RigError, ClientError, RpcError) as error:
            return str(error)
        return None


def children(pid: int) -> list[int]:
    """Return the processes that a process started; none when it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


@asynccontextmanager
async def staged(files: RigFiles, seed: int, *, restarts: bool) -> AsyncIterator[Stage]:
    """Start everything and stop it at the end in order; without `restarts` nobody starts again what ended.

    Raises DiskError where no tmpfs can be mounted, RigError when something does not start.
    """
    settings = RigSettings(seed=seed, broker_port=free_port(), nut_port=free_port(), person="nobody")
    make_rig(files, settings)
    _configure(files)
    _write_clock(files, 0.0)
    files.state.rmdir()
    font = cache_directory() / "assets" / "wqy-microhei.ttc"
    config, log = files.sockets / files.settings.name, files.directory
    watchdog = Watchdog(files.sockets / "notify.sock")
    async with AsyncExitStack() as stack:
        disk = await stack.enter_async_context(mounted(files.state))
        address, logind = await stack.enter_async_context(system_bus(files.sockets))
        os.environ.update(watchdog.environment)
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = address
        os.environ["GOVTERM_RIG_CLOCK_FILE"] = str(_clock(files))
        stage = Stage(
            files,
            settings,
            disk,
            broker=Keeper("broker", lambda: _broker(files, settings.broker_port), restarts=restarts),
            platform=Keeper("platform", lambda: platform_process(files, settings, font), restarts=restarts),
            rig=Keeper(
                "rig", lambda: started("sim.soak.rig", "--config", config, log=log / "rig.log"), restarts=restarts
            ),
            daemon=Keeper("daemon", lambda: daemon(files), restarts=restarts),
            hall=Keeper("hall", lambda: started("sim.soak.hall", "--config", config, log=log / "hall.log")),
            watchdog=watchdog,
            logind=logind,
            visitors=Visitors(files.directory / hall.VISITORS, files.directory / hall.WANTED),
        )
        for keeper in stage.keepers:
            if keeper is stage.hall and (amiss := await stage.online()) is not None:
                raise RigError(amiss)
            await stack.enter_async_context(_kept(keeper))
        await stack.enter_async_context(_task(watchdog.watch(stage.daemon), "watchdog"))
        yield stage


async def _soon(keeper: Keeper, control: Path, device: str, verb: str, args: dict[str, Any]) -> None:
    until = time.monotonic() + _ASK_SECONDS
    while True:
        await keeper.running()
        try:
            await ask(control, device, verb, args)
            return
        except ControlError:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(_POLL_SECONDS)


async def stop(keeper: Keeper, *, seconds: float = 60.0) -> int | None:
    """Let a process end in order, not to be started again; return its code, None when it did not run or end."""
    keeper.may_start.clear()
    process: Process | None = keeper.process
    if process is None:
        return None
    await keeper.send(signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await process.wait()
    return None


@asynccontextmanager
async def _kept(keeper: Keeper) -> AsyncIterator[None]:
    async with _task(keeper.keep(), f"soak {keeper.name}"):
        try:
            await keeper.running()
        except ControlError as error:
            raise RigError("; ".join([str(error), *keeper.unasked])) from error
        yield


@asynccontextmanager
async def _task(work: Any, name: str) -> AsyncIterator[None]:
    task = asyncio.create_task(work, name=name)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _broker(files: RigFiles, port: int) -> AsyncIterator[Process]:
    async with broker_process(files.trust_directory, port) as (process, _):
        yield process


def _configure(files: RigFiles) -> None:
    """Let the terminal notice soon what the soak would otherwise wait for."""
    text = files.daemon_settings.read_text(encoding="utf-8")
    silence = f"[api]\nui_silence_seconds = {UI_SILENCE_SECONDS}\n"
    text = text.replace("[api]\n", silence, 1) + "\n[session]\nclear_seconds = 5.0\n"
    files.daemon_settings.write_text(text, encoding="utf-8")


def _write_clock(files: RigFiles, off_seconds: float) -> None:
    new = files.directory / "clock.new"
    new.write_text(f"{off_seconds}\n", encoding="ascii")
    new.replace(_clock(files))


def _clock(files: RigFiles) -> Path:
    return files.directory / "clock"
