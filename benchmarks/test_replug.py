"""From the udev event of a replugged device until it is online: real ports and drivers, under real supervision."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from benchmarks.conftest import Figures, percentile, within
from devices.hotplug import UsbPort
from devices.status import DeviceState, DeviceStatus
from runtime.audit import Audit
from runtime.board import open_link
from runtime.drivers import KINDS
from runtime.journal import Journal
from runtime.peripherals import Peripherals
from runtime.probe import SECTIONS
from runtime.supervisor import Supervisor
from sim.memory import InlineExecutor
from sim.pty import PtyHost
from sim.settings import BAUD
from sim.usb import MemoryHotplug
from tests.runtime.tester_rig import MAKE

ROUNDS = 50
GOAL_SECONDS = 1.0


class Online:
    """Whether the device is online, and who waits for a change of it."""

    def __init__(self) -> None:
        self.now = False
        self._changed = asyncio.Event()

    def heard(self, _device: str, status: DeviceStatus) -> None:
        self.now = status.state is DeviceState.ONLINE
        self._changed.set()

    async def until(self, online: bool) -> None:  # noqa: FBT001 - reads as a sentence
        async with asyncio.timeout(30):
            while self.now is not online:
                self._changed.clear()
                await self._changed.wait()


def supervised(kind: str, port: Path, hotplug: MemoryHotplug, on_status: Callable[[str, DeviceStatus], None]) -> Any:
    """Return the daemon's peripherals and supervisor with one device, everything real but udev."""
    section = msgspec.convert({"port": str(port), "baud": BAUD[kind]}, SECTIONS[kind])
    executor = InlineExecutor(sqlite3.connect(":memory:"))
    journal = Journal(executor, time.time)
    supervisor = Supervisor(random.Random(1), lambda *_: None)  # noqa: S311 - back-off only
    settings: Any = SimpleNamespace(devices={kind: section})
    seams: Any = SimpleNamespace(hotplug=hotplug, open_link=open_link)
    audit = Audit(executor, port.with_name("audit.jsonl"), time.time)
    peripherals = Peripherals(
        settings, seams, supervisor, journal=journal, audit=audit, on_status=on_status, on_usb=lambda _: None
    )
    return peripherals, supervisor, journal, executor


async def replugs(kind: str, port: Path) -> list[float]:
    """Replug a device ROUNDS times, each time as another node; return the seconds from the event until it is online.

    From the tenth time on it was given up, so that nothing but the event can bring it back.
    """
    hotplug, online = MemoryHotplug(), Online()
    peripherals, supervisor, journal, executor = supervised(kind, port, hotplug, online.heard)
    await journal.open()
    taken = []
    with PtyHost(MAKE[kind](), port, baud=BAUD[kind]) as host:
        async with asyncio.TaskGroup() as group:
            await peripherals.start(group)
            await online.until(online=True)
            for number in range(ROUNDS):
                host.unplug()
                hotplug.unplug(str(port))
                await online.until(online=False)
                host.plug()
                started = time.perf_counter()
                hotplug.plug(UsbPort(f"/dev/ttyUSB{number}", frozenset({str(port)})))
                await online.until(online=True)
                taken.append(time.perf_counter() - started)
            await supervisor.stop()
    await executor.close()
    return taken


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_from_the_event_to_online(kind: str, figures: Figures, tmp_path: Path) -> None:
    taken = asyncio.run(replugs(kind, tmp_path / "port"))
    p95 = percentile(taken, 95)
    figures.add(
        f"{kind} replugged to online",
        f"p50 {percentile(taken, 50):.3f} s, p95 {p95:.3f} s",
        beside=f"{ROUNDS} replugs at {BAUD[kind]} baud, from the udev event",
        verdict=f"goal p95 {GOAL_SECONDS:g} s: {within(p95, GOAL_SECONDS)}",
    )
    assert len(taken) == ROUNDS
    assert min(taken) > 0
