"""Keeps a process alive as its service manager would: started again when it ends, killed when it hangs."""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from pathlib import Path

from sim.control import ControlError
from sim.settings import RigError

RESTART_SECONDS = 1.0
"""From a process's end to its next start; the unit's RestartSec is 2."""
WATCHDOG_SECONDS = 10.0
"""Without a word for so long the daemon is killed; the unit's WatchdogSec is 30."""
_START_SECONDS = 30.0
_ABORT_SECONDS = 2.0
_LOOK_SECONDS = 0.25
_UP_SECONDS = 120.0

_Running = AbstractAsyncContextManager[Process]


class Keeper:
    """One process: the daemon, the rig, the broker, the platform or the hall."""

    def __init__(self, name: str, run: Callable[[], _Running], *, restarts: bool = True) -> None:
        """Run the process by entering what `run` returns; without `restarts` it lives once."""
        self.name = name
        self.process: Process | None = None
        """The process while it serves."""
        self.may_start = asyncio.Event()
        """Cleared, the process is not started again."""
        self.may_start.set()
        self.since = 0.0
        self.starts = 0
        self.unasked: list[str] = []
        """Ends, and starts that failed, that no fault asked for."""
        self._run = run
        self._restarts = restarts
        self._up = asyncio.Event()
        self._is_asked = False

    async def keep(self) -> None:
        """Start the process, and again whenever it ends, until cancelled; then it is ended in order."""
        while True:
            await self.may_start.wait()
            try:
                async with self._run() as process:
                    await self._live(process)
            except (RigError, RuntimeError, OSError) as error:
                self._note(f"{self.name} did not start: {error}")
            if not self._restarts:
                self.may_start.clear()
            await asyncio.sleep(RESTART_SECONDS)

    async def _live(self, process: Process) -> None:
        self.process, self.since = process, time.monotonic()
        self.starts += 1
        self._is_asked = False
        self._up.set()
        try:
            code = await process.wait()
            self._note(f"{self.name} ended with code {code}")
        finally:
            self.process = None
            self._up.clear()
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            if process.returncode is not None:
                _bury(process.pid)

    def _note(self, what: str) -> None:
        if not self._is_asked:
            self.unasked.append(what)

    async def running(self) -> Process:
        """Wait until the process serves and return it; raise ControlError when it does not in 120 s."""
        try:
            async with asyncio.timeout(_UP_SECONDS):
                while self.process is None:
                    await self._up.wait()
                return self.process
        except TimeoutError:
            raise ControlError(self.name, f"it does not run within {_UP_SECONDS:g} s") from None

    async def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, once it serves; raise ControlError."""
        process = await self.running()
        self._is_asked = number is not signal.SIGCONT
        with suppress(ProcessLookupError):
            process.send_signal(number)


class Watchdog:
    """Hears the daemon as systemd does (sd_notify(3)) and kills it when it says nothing any more."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`, which `environment` names."""
        self._path = path
        self._heard_at = 0.0
        self.bites = 0

    @property
    def environment(self) -> dict[str, str]:
        """What the daemon must find in its environment."""
        return {"NOTIFY_SOCKET": str(self._path), "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6))}

    async def watch(self, daemon: Keeper) -> None:
        """Listen, and kill the daemon when it hangs, until cancelled."""
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as listener:
            listener.bind(str(self._path))
            asyncio.get_running_loop().add_reader(listener, self._hear, listener)
            try:
                while True:
                    await asyncio.sleep(_LOOK_SECONDS)
                    process = daemon.process
                    silent = time.monotonic() - max(self._heard_at, daemon.since)
                    if process is not None and silent > WATCHDOG_SECONDS:
                        self.bites += 1
                        await _abort(process)
            finally:
                asyncio.get_running_loop().remove_reader(listener)

    def _hear(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                if b"WATCHDOG=1" in listener.recv(4096):
                    self._heard_at = time.monotonic()


async def _abort(process: Process) -> None:
    """End a process that hangs: SIGABRT, which one that is stopped gets when it goes on, then SIGKILL."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGABRT)
        process.send_signal(signal.SIGCONT)
    with suppress(TimeoutError):
        async with asyncio.timeout(_ABORT_SECONDS):
            await process.wait()
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


@asynccontextmanager
async def started(module: str, *arguments: object, log: Path, stop_seconds: float = 20.0) -> AsyncIterator[Process]:
    """Run a module of the soak until it says `ready`, and stop it at the end; RigError when it does not start."""
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *map(str, arguments)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=file,
            start_new_session=True,
        )
    try:
        line = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                line = await process.stdout.readline() if process.stdout is not None else b""
        if line != b"ready\n":
            raise RigError(f"{module} does not start; {log.name} says why")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(stop_seconds):
                await process.communicate()
        except TimeoutError:
            process.kill()
            with suppress(TimeoutError):  # a child of its own may hold its output open
                async with asyncio.timeout(_ABORT_SECONDS):
                    await process.communicate()


def _bury(session: int) -> None:
    """Kill what a dead process left running in its session, as a service manager kills a unit's control group."""
    for entry in Path("/proc").iterdir():
        with suppress(ProcessLookupError, ValueError):
            if os.getsid(pid := int(entry.name)) == session:
                os.kill(pid, signal.SIGKILL)
