"""Hot-plug against the real libudev on a mocked USB bus (umockdev), and what udev's words mean (T1-T6, L7)."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pyudev

from devices import hotplug
from devices.hotplug import HotplugError, Plugged, UdevHotplug, Unplugged, UsbPort

HERE = Path(__file__).parent
READER = {"serial": "A1", "usb": "0403:6001", "link": "usb-Reader_A1"}
PRINTER = {"serial": "B2", "usb": "067B:2303", "link": "usb-Printer_B2"}


class Bus:
    """A mocked USB bus and what a watcher on it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def order(self, **order: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def told(self):
        assert self._process.stdout is not None
        async with asyncio.timeout(10):
            return json.loads(await self._process.stdout.readline())

    async def names(self) -> tuple[str, str, str]:
        told = await self.told()
        return told["change"], told["node"], told["serial"]


@asynccontextmanager
async def bus(*plugged: dict[str, str]) -> AsyncIterator[Bus]:
    """A bus with a watcher that is ready, and the events of what was plugged in before."""
    process = await asyncio.create_subprocess_exec(
        "umockdev-wrapper",
        "/usr/bin/python3",
        str(HERE / "usb_bed.py"),
        sys.executable,
        "-m",
        "tests.devices.usb_watch",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=HERE.parent.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
    )
    try:
        one = Bus(process)
        assert await one.told() == "ready"
        yield one
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def test_add_and_remove_are_told_once_with_every_name():
    async with bus() as usb:
        usb.order(add="ttyUSB0", **PRINTER)
        told = await usb.told()
        assert (told["change"], told["node"], told["usb"]) == ("Plugged", "/dev/ttyUSB0", "067b:2303")
        assert told["serial"] == "B2"
        assert "/dev/serial/by-id/usb-Printer_B2" in told["links"]
        assert told["found"] == sorted([told["node"], *told["links"]])
        usb.order(change="ttyUSB0")
        usb.order(remove="ttyUSB0")
        gone = await usb.told()
        assert (gone["change"], gone["node"], gone["found"]) == ("Unplugged", "/dev/ttyUSB0", [])


async def test_a_replug_under_another_name_keeps_its_link():
    """L7: ttyUSB numbers move, by-id does not."""
    async with bus() as usb:
        usb.order(add="ttyUSB0", **READER)
        await usb.told()
        usb.order(remove="ttyUSB0")
        await usb.told()
        usb.order(add="ttyUSB3", **READER)
        told = await usb.told()
        assert told["node"] == "/dev/ttyUSB3"
        assert "/dev/serial/by-id/usb-Reader_A1" in told["found"]


async def test_two_devices_that_swap_their_nodes_are_told_apart():
    """L7."""
    async with bus() as usb:
        usb.order(add="ttyUSB0", **READER)
        usb.order(add="ttyUSB1", **PRINTER)
        assert [await usb.names() for _ in range(2)] == [
            ("Plugged", "/dev/ttyUSB0", "A1"),
            ("Plugged", "/dev/ttyUSB1", "B2"),
        ]
        usb.order(remove="ttyUSB0")
        usb.order(remove="ttyUSB1")
        usb.order(add="ttyUSB0", **PRINTER)
        usb.order(add="ttyUSB1", **READER)
        assert [await usb.names() for _ in range(4)] == [
            ("Unplugged", "/dev/ttyUSB0", "A1"),
            ("Unplugged", "/dev/ttyUSB1", "B2"),
            ("Plugged", "/dev/ttyUSB0", "B2"),
            ("Plugged", "/dev/ttyUSB1", "A1"),
        ]


class Device:
    def __init__(self, action: str | None = None, **properties: str) -> None:
        self.action = action
        self.sys_path = "/sys/devices/x"
        self.properties = properties


def test_a_port_that_is_not_at_usb_is_nothing_and_a_repeat_is_told_once():
    told: list[Plugged | Unplugged] = []
    one = UdevHotplug()
    one._take(Device("add", DEVNAME="/dev/ttyS0"), told.append)
    one._take(Device("add", ID_BUS="usb"), told.append)
    one._take(Device("remove", DEVNAME="/dev/ttyUSB0", ID_BUS="usb"), told.append)
    assert told == []
    for action in (None, "add", "bind"):
        one._take(Device(action, DEVNAME="/dev/ttyUSB0", ID_BUS="usb"), told.append)
    assert told == [Plugged(UsbPort("/dev/ttyUSB0"))]
    one._take(Device("remove"), told.append)
    assert told[1:] == [Unplugged(UsbPort("/dev/ttyUSB0"))]
    assert one.find("/dev/ttyUSB0") is None


async def test_on_this_machine_it_listens_and_leaves_nothing_behind():
    """A closed life leaves no descriptor: tests fail on one."""
    listening = asyncio.Event()
    task = asyncio.create_task(UdevHotplug().run(listening.set, lambda _: None))
    async with asyncio.timeout(10):
        await listening.wait()
    task.cancel()
    await asyncio.wait([task])


async def test_without_libudev_it_is_unavailable(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyudev", None)
    with pytest.raises(HotplugError) as refused:
        await UdevHotplug().run(lambda: None, lambda _: None)
    assert refused.value.code == "hotplug.unavailable"


async def test_dropped_events_end_the_life_so_that_the_ports_are_listed_anew(monkeypatch):
    """ENOBUFS of the netlink socket: what it dropped nobody knows."""
    reader, writer = os.pipe()
    try:

        class Overrun:
            def filter_by(self, subsystem: str) -> None:
                assert subsystem in hotplug.SUBSYSTEMS

            def start(self) -> None:
                os.write(writer, b"x")

            def fileno(self) -> int:
                return reader

            def poll(self, timeout: int) -> None:
                raise OSError(105, "no buffer space")

        monkeypatch.setattr(pyudev.Monitor, "from_netlink", lambda _context: Overrun())
        async with asyncio.timeout(10):
            with pytest.raises(HotplugError) as overrun:
                await UdevHotplug().run(lambda: None, lambda _: None)
        assert overrun.value.code == "hotplug.overrun"
    finally:
        os.close(reader)
        os.close(writer)
