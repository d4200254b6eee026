"""The seams on a board: real ports, broker, vision process, SQLite thread, logind and clock."""

import asyncio
import os
import random
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

import structlog

from devices import tcp
from devices.hotplug import UdevHotplug
from devices.link import FlowControl, Link, OpenLink, medium
from devices.serial import open_serial_link
from devices.usb import open_usb_link
from runtime.config import Settings, secret_file
from runtime.egress import Egress
from runtime.journal.files import Files
from runtime.journal.schema import look
from runtime.logind import LogindPower
from runtime.seams import HostPower, Seams, Usage
from transport.mqtt import MqttUplink
from transport.routes import NetlinkRoutes
from vision.memory_lock import is_locked
from vision.process import VisionProcess

log = structlog.get_logger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BUSY_SECONDS = 5.0

T = TypeVar("T")


class ThreadExecutor:
    """`JournalExecutor` on one thread with one connection."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="backup")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the thread; raises what it raises, and what forbids to open the file.

        That is sqlite3.Error, OSError and JournalError (`journal.newer`, `journal.damaged`).
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(self._open()))

    async def replace(self, work: Callable[[Path], object]) -> bool:
        """Close the connection and run `work` on the thread; raises what it raises."""

        def replaced() -> bool:
            self._close()
            work(self._database)
            return True

        return await asyncio.get_running_loop().run_in_executor(self._pool, replaced)

    async def beside(self, work: Callable[[Path], bool]) -> bool:
        """Run `work` on a thread of its own, which ends with it or with this executor; raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._beside, work, self._database)

    async def close(self) -> None:
        """Finish what was asked, close the connection and end the thread; closing twice is nothing."""
        if not self._closed:
            self._closed = True
            self._beside.shutdown()
            await asyncio.get_running_loop().run_in_executor(self._pool, self._close)
            self._pool.shutdown()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            look(Files(self._database))
            self._connection = sqlite3.connect(self._database, timeout=_BUSY_SECONDS, isolation_level=None)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return _BOOT_ID.read_text().strip()


async def open_link(
    port: str, baud: int, flow_control: FlowControl = "none", *, look_up: tcp.LookUp = tcp.look_up
) -> Link:
    """Open a device's port (an OpenLink): `tcp://HOST:PORT`, a USB character device, or a serial port by its path."""
    open_tcp = partial(tcp.open_tcp_link, look_up=look_up)
    opened: dict[str, OpenLink] = {"tcp": open_tcp, "usb": open_usb_link, "serial": open_serial_link}
    return await opened[medium(port)](port, baud, flow_control)


def usage() -> Usage:
    """Return what this process uses, by its own entries in /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Usage(pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc/self/fd").iterdir())), is_locked())


def _wall_clock(settings: Settings) -> Callable[[], float]:
    """Return the system's clock; a rig's is wrong by the seconds in the file that GOVTERM_RIG_CLOCK_FILE names."""
    name = os.environ.get("GOVTERM_RIG_CLOCK_FILE")
    if not settings.rig or name is None:
        return time.time
    off, seconds = Path(name), 0.0

    def wrong() -> float:
        nonlocal seconds
        with suppress(OSError):  # a process without descriptors still knows how wrong its clock was
            seconds = float(off.read_text())
        return time.time() + seconds

    return wrong


def assemble(settings: Settings, egress: Egress) -> Seams:
    """Build the real seams, where `egress` looks names up and hears of what the vision process tried.

    Raises TransportError (`line.bad_credentials`) when the broker's files do not fit.
    """
    platform = settings.platform
    vision = VisionProcess(
        settings.vision,
        rig=settings.rig,
        on_egress=lambda: egress.note("connect", operation="vision", caller="vision"),
    )
    seams = Seams(
        open_link=partial(open_link, look_up=egress.look_up),
        hotplug=UdevHotplug(),
        routes=NetlinkRoutes(),
        uplink=MqttUplink(
            platform.host,
            platform.port,
            platform.terminal_id,
            ca_file=secret_file(platform.ca_file),
            certificate_file=secret_file(platform.certificate_file),
            private_key_file=secret_file(platform.private_key_file),
            username=platform.username,
            password_file=secret_file(platform.password_file) if platform.password_file is not None else None,
            look_up=egress.look_up,
        ),
        verifier=vision,
        cameras=vision,
        journal=ThreadExecutor(settings.journal_file),
        power=_host_power(settings),
        usage=usage,
        watch_egress=egress.watch,
        wall_clock=_wall_clock(settings),
        jitter=random.Random(),  # noqa: S311 - back-off only, never a key
    )
    return _watched(settings, seams)


class _NoSwitch:
    """The power switch of a rig, which runs on somebody's desk: that machine stays on."""

    async def power_off(self) -> None:
        """Say that a terminal would be powered off now."""
        log.warning("rig_stays_on", advice="a terminal would be off now; end the rig and start it again")


def _host_power(settings: Settings) -> HostPower:
    """Return the machine's own switch; a rig has one only where DBUS_SYSTEM_BUS_ADDRESS names a bus for it."""
    return _NoSwitch() if settings.rig and "DBUS_SYSTEM_BUS_ADDRESS" not in os.environ else LogindPower()


def _watched(settings: Settings, seams: Seams) -> Seams:
    """Return the seams; a rig's, where GOVTERM_RIG_CRASH_FILE is set, may kill this process at a point of its work."""
    if not settings.rig or "GOVTERM_RIG_CRASH_FILE" not in os.environ:
        return seams
    watch: Callable[[Seams], Seams] = next(iter(entry_points(group="govterm.rig", name="seams"))).load()
    return watch(seams)
