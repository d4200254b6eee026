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
from devices.hotplug import Attached, Detached, HotplugError, Plugged, UdevHotplug, Unplugged, UsbDevice, UsbPort

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

    async def heard(self):
        assert self._process.stdout is not None
        async with asyncio.timeout(10):
            return json.loads(await self._process.stdout.readline())

    async def told(self):
        """What is said next of a port."""
        while (told := await self.heard())["change"] not in {"Plugged", "Unplugged"}:
            pass
        return told

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
        assert await one.heard() == "ready"
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


async def test_every_usb_device_is_told_with_what_it_is_and_whose_a_port_is():
    """T23: a stick, a keyboard that is a stick too, a hub; and an adapter, by the port that it gives."""
    async with bus() as usb:
        usb.order(attach="1-7", usb="0951:1666", type="0/0/0", interfaces=":080650:")
        stick = {"usb": "0951:1666", "hub": False, "storage": True, "keyboard": False}
        assert await usb.heard() == {"change": "Attached", **stick}
        usb.order(attach="1-8", usb="1d6b:0002", type="9/0/1", interfaces=":090000:")
        assert (await usb.heard())["hub"]
        usb.order(attach="1-9", usb="046d:0001", type="239/2/1", interfaces=":030101:080650:")
        assert await usb.heard() == {"change": "Attached", "usb": "046d:0001"} | {
            "hub": False,
            "storage": True,
            "keyboard": True,
        }
        usb.order(remove="1-7")
        assert await usb.heard() == {"change": "Detached", **stick}
        usb.order(add="ttyUSB0", **READER)
        assert (await usb.heard())["usb"] == "0403:6001"
        assert (await usb.heard())["owners"] == ["0403:6001"]


def test_a_hub_that_is_more_than_a_hub_is_none():
    mixed = UsbDevice("/sys/devices/x", classes=frozenset({"090001", "030101"}))
    assert (mixed.is_hub, UsbDevice("/sys/devices/x").is_hub) == (False, False)


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
    port = UsbPort("/dev/ttyUSB0", path="/sys/devices/x")
    assert told == [Plugged(port)]
    one._take(Device("remove"), told.append)
    assert told[1:] == [Unplugged(port)]
    assert one.find("/dev/ttyUSB0") is None


class Machine:
    """Lists devices as a pyudev Context does."""

    def __init__(self, *paths: str) -> None:
        self.devices = [Device(None, DEVTYPE="usb_device", TYPE="0/0/0") for _ in paths]
        for device, path in zip(self.devices, paths, strict=True):
            device.sys_path = path

    def list_devices(self, subsystem: str) -> list["Device"]:
        return self.devices if subsystem == "usb" else []


def test_what_went_while_events_were_dropped_is_told_by_the_next_list():
    """H8: a stick that was pulled out then must not hold its lock for ever; what stayed is no news."""
    told: list[object] = []
    one = UdevHotplug()
    one._list(Machine("/sys/a", "/sys/b"), told.append)
    assert [type(change) for change in told] == [Attached, Attached]
    one._list(Machine("/sys/b"), told.append)
    assert told[2:] == [Detached(UsbDevice("/sys/a", None, frozenset()))]


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
