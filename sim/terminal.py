"""The terminal as its UI sees it: the daemon as a process of its own, and a connection to its API."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from runtime.cli import ALLOCATOR
from runtime.client import ClientError, connect
from runtime.client import Terminal as Client
from sim.settings import RigError, RigFiles

COMPONENTS = ("vision", "idcard", "printer", "platform")
"""What must be online before a citizen can be served."""

_START_SECONDS = 20.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.05


class Terminal:
    """A connection to the daemon that keeps its state up to date; made by `connected`."""

    def __init__(self, client: Client, on_guidance: Callable[[str], None]) -> None:
        self.client = client
        self.state: dict[str, dict[str, Any]] = {}
        self._on_guidance = on_guidance
        self._changed = asyncio.Event()

    async def call(self, method: str, *, seconds: float = 30.0, **params: Any) -> dict[str, Any]:
        """Call a method; raise RpcError or ClientError."""
        result: dict[str, Any] = await self.client.call(method, params, seconds=seconds)
        return result

    async def wait_until(self, component: str, *states: str, seconds: float = 30.0) -> None:
        """Wait until a component is in one of these states; raise RigError when it is not in time."""
        try:
            async with asyncio.timeout(seconds):
                while self.state.get(component, {}).get("state") not in states:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            now = self.state.get(component)
            raise RigError(f"{component} is not {' or '.join(states)} within {seconds:g} s, it is {now}") from None

    async def listen(self) -> None:
        """Take notifications until the connection ends; `connected` runs this as a task."""
        async for notification in self.client.notifications():
            match notification.method:
                case "events.change":
                    self.state[notification.params["component"]] = notification.params["state"]
                    self._changed.set()
                case "session.guidance":
                    self._on_guidance(notification.params["text"])


@asynccontextmanager
async def connected(files: RigFiles, on_guidance: Callable[[str], None] = lambda _: None) -> AsyncIterator[Terminal]:
    """Connect to the daemon and subscribe to its state while the context lasts; ClientError when it is not there."""
    async with connect(files.api) as client:
        terminal = Terminal(client, on_guidance)
        terminal.state |= (await terminal.call("events.subscribe"))["state"]
        listening = asyncio.create_task(terminal.listen(), name="terminal state")
        try:
            yield terminal
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening


@asynccontextmanager
async def daemon(files: RigFiles, *, python: str | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the daemon, with its log in `files.daemon_log`, and stop it at the end; RigError when it does not serve.

    `python` is the interpreter, this process's by default.
    """
    with files.daemon_log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(python or sys.executable, "-m", "runtime", "--rig", "--config", str(files.daemon_settings)),
            env=os.environ | ALLOCATOR,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        await _serving(process, files)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _serving(process: asyncio.subprocess.Process, files: RigFiles) -> None:
    """Wait until the daemon answers."""
    why = ""
    try:
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:
                try:
                    async with connect(files.api) as client:
                        await client.call("terminal.status")
                        return
                except ClientError as error:
                    why = str(error)
                    await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise RigError(f"the daemon does not serve in time: {why}; see {files.daemon_log}") from None
    raise RigError(f"the daemon ended with code {process.returncode}; {files.daemon_log} says why")
