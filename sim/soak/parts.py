"""A process of the soak that faults stop, kill, hang and start again."""

import signal
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from sim.settings import RigError


class Part:
    """The broker, the platform, the terminal or the load generator."""

    def __init__(self, name: str, run: Callable[[], AbstractAsyncContextManager[Process]]) -> None:
        """Run the process by entering what `run` returns; leaving it ends the process in order."""
        self.name = name
        self._run = run
        self._stack = AsyncExitStack()
        self._process: Process | None = None
        self._hangs = False

    async def start(self) -> None:
        """Start the process and wait until it serves; raise RigError or RuntimeError when it does not."""
        self._process = await self._stack.enter_async_context(self._run())

    async def stop(self) -> None:
        """End the process in order (SIGTERM); one that hangs goes on first. Stopping twice is nothing."""
        if self._hangs:
            self.go_on()
        self._process = None
        await self._stack.aclose()

    async def kill(self) -> None:
        """End the process with SIGKILL."""
        process = self._running()
        process.kill()
        await process.wait()
        await self.stop()

    def hang(self) -> None:
        """Let the process stand still (SIGSTOP)."""
        self._running().send_signal(signal.SIGSTOP)
        self._hangs = True

    def go_on(self) -> None:
        """Let a process that stands still go on (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)
        self._hangs = False

    def check(self) -> None:
        """Raise RigError when the process ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise RigError(f"{self.name}: it ended by itself with code {self._process.returncode}")

    def _running(self) -> Process:
        self.check()
        if self._process is None:
            raise RigError(f"{self.name}: it does not run")
        return self._process
