"""A system bus with a logind on it that only notes the order to power off."""

import asyncio
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, method

from sim.settings import RigError

BUS = "dbus-daemon"
_CONFIGURATION = """<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/><allow user="*"/>
</policy></busconfig>"""
_STOP_SECONDS = 5.0


class Logind(ServiceInterface):
    """`org.freedesktop.login1.Manager`, as far as the daemon uses it; `ordered` is set by the order."""

    def __init__(self) -> None:
        super().__init__("org.freedesktop.login1.Manager")
        self.ordered = asyncio.Event()

    @method()
    def PowerOff(self, _interactive: "b") -> None:  # type: ignore[name-defined] # noqa: N802, F821 - D-Bus's name and type
        """Note the order."""
        self.ordered.set()


@asynccontextmanager
async def system_bus(directory: Path) -> AsyncIterator[tuple[str, Logind]]:
    """Run a bus while the context lasts; give its address and the logind on it. RigError when it does not start."""
    configuration = directory / "bus.conf"
    configuration.write_text(_CONFIGURATION.format(path=directory / "bus.sock"), encoding="utf-8")
    command = (shutil.which(BUS) or BUS, f"--config-file={configuration}", "--nofork", "--print-address")
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True
    )
    try:
        line = await process.stdout.readline() if process.stdout is not None else b""
        if not line:
            raise RigError(f"{BUS} does not start")
        address = line.decode().strip()
        bus = await MessageBus(address).connect()
        logind = Logind()
        bus.export("/org/freedesktop/login1", logind)
        await bus.request_name("org.freedesktop.login1")
        try:
            yield address, logind
        finally:
            bus.disconnect()
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(_STOP_SECONDS):
            await process.communicate()
