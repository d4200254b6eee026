"""The seams on a board: real ports, broker, vision process, SQLite thread, logind and clock."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from devices.hotplug import UdevHotplug
from devices.link import FlowControl, Link, OpenLink, medium
from devices.serial import open_serial_link
from devices.tcp import open_tcp_link
from devices.usb import open_usb_link
from runtime.config import Settings, secret_file
from runtime.power import LogindPower
from runtime.seams import Seams
from transport.mqtt import MqttUplink
from vision.process import VisionProcess

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BUSY_SECONDS = 5.0

T = TypeVar("T")


class ThreadExecutor:
    """`JournalExecutor` on one thread with one connection: WAL, every commit on the disk, no temporary files."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the thread; raises what it raises, and sqlite3.Error when the file cannot be opened."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(self._open()))

    async def close(self) -> None:
        """Finish what was asked, close the connection and end the thread; closing twice is nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._pool, self._close)
            self._pool.shutdown()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._database, timeout=_BUSY_SECONDS, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL").close()
            connection.execute("PRAGMA synchronous = FULL").close()
            connection.execute("PRAGMA temp_store = MEMORY").close()
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return _BOOT_ID.read_text().strip()


async def open_link(port: str, baud: int, flow_control: FlowControl = "none") -> Link:
    """Open a device's port (an OpenLink): `tcp://HOST:PORT`, a USB character device, or a serial port by its path."""
    opened: dict[str, OpenLink] = {"tcp": open_tcp_link, "usb": open_usb_link, "serial": open_serial_link}
    return await opened[medium(port)](port, baud, flow_control)


def assemble(settings: Settings) -> Seams:
    """Build the real seams; raise TransportError (`line.bad_credentials`) when the broker's files do not fit."""
    platform = settings.platform
    vision = VisionProcess(settings.vision, rig=settings.rig)
    return Seams(
        open_link=open_link,
        hotplug=UdevHotplug(),
        uplink=MqttUplink(
            platform.host,
            platform.port,
            platform.terminal_id,
            ca_file=secret_file(platform.ca_file),
            certificate_file=secret_file(platform.certificate_file),
            private_key_file=secret_file(platform.private_key_file),
        ),
        verifier=vision,
        cameras=vision,
        journal=ThreadExecutor(settings.journal_file),
        power=LogindPower(),
        wall_clock=time.time,
        jitter=random.Random(),  # noqa: S311 - back-off only, never a key
    )
