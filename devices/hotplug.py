"""What is plugged in at USB, by the word of udev: the seam and its real form. The in-memory form lives in `sim.memory`.

udev tells of a port when its rules have run, so its links are there and its permissions are right (L8).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

SUBSYSTEMS = ("tty", "usbmisc", "video4linux", "usb")
"""Where the nodes of serial adapters, CDC-ACM devices, USB printers and cameras belong; and every USB device itself."""

_BY_INTERFACE = ("00", "ef")
"""Classes of a whole device that leave it to its interfaces what it is (USB-IF)."""
_HUB, _STORAGE, _KEYBOARD = "09", "08", "030101"


class HotplugError(Exception):
    """udev cannot be listened to (`hotplug.unavailable`) or told more than was taken (`hotplug.overrun`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = True
        self.advice = "devices are still tried again after growing pauses; check that udev runs"


@dataclass(frozen=True, slots=True)
class UsbPort:
    """A port at USB: its node, its other names (by-id, by-path), `VID:PID` in small letters, its serial number.

    `path` is its place in sysfs, which begins with that of its device.
    """

    node: str
    links: frozenset[str] = frozenset()
    usb: str | None = None
    serial: str | None = None
    path: str = ""

    def is_named(self, name: str) -> bool:
        """Say whether this is the port of that name."""
        return name == self.node or name in self.links


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """A USB device, whatever it is: its place in sysfs, `VID:PID` in small letters, what it says that it is.

    `classes` are class, subclass and protocol of the device and of each of its interfaces, two hexadecimal digits each.
    """

    path: str
    usb: str | None = None
    classes: frozenset[str] = frozenset()

    @property
    def is_hub(self) -> bool:
        """Whether it is a hub and nothing else."""
        return bool(self.classes) and all(one.startswith(_HUB) for one in self.classes)

    @property
    def is_storage(self) -> bool:
        """Whether it holds files, beside all that it may be too."""
        return any(one.startswith(_STORAGE) for one in self.classes)

    @property
    def is_keyboard(self) -> bool:
        """Whether it types, beside all that it may be too: a keyboard by the boot protocol, as every real one is."""
        return _KEYBOARD in self.classes

    def has(self, port: UsbPort) -> bool:
        """Whether a port is one of its own."""
        return port.path.startswith(f"{self.path}/")


@dataclass(frozen=True, slots=True)
class Plugged:
    """A port came, or was there when listening began, or has other names now."""

    port: UsbPort


@dataclass(frozen=True, slots=True)
class Unplugged:
    """A port went."""

    port: UsbPort


@dataclass(frozen=True, slots=True)
class Attached:
    """A USB device came, or was there when listening began, or says now that it is something else."""

    device: UsbDevice


@dataclass(frozen=True, slots=True)
class Detached:
    """A USB device went."""

    device: UsbDevice


HotplugEvent = Plugged | Unplugged | Attached | Detached
HotplugListener = Callable[[HotplugEvent], None]
"""Told of each change once; never raises."""


class Hotplug(Protocol):
    """Who says what is plugged in."""

    def find(self, name: str) -> UsbPort | None:
        """Return the port of that name; None when it is not plugged in, not at USB, or nobody listens."""

    async def run(self, ready: Callable[[], None], on_change: HotplugListener) -> None:
        """Tell what is plugged in already, call `ready`, then tell of each change; raise HotplugError, never return."""


class UdevHotplug:
    """`Hotplug` over the udev of this machine, on the event loop, without a thread."""

    def __init__(self) -> None:
        self._ports: dict[str, UsbPort] = {}
        self._devices: dict[str, UsbDevice] = {}

    def find(self, name: str) -> UsbPort | None:
        """Return the port of that name; None when it is not plugged in, not at USB, or nobody listens."""
        return next((port for port in self._ports.values() if port.is_named(name)), None)

    async def run(self, ready: Callable[[], None], on_change: HotplugListener) -> None:
        """Bind first, then list, so that nothing is lost in between; raise HotplugError when udev fails."""
        loop = asyncio.get_running_loop()
        try:
            import pyudev

            context = pyudev.Context()
            monitor = pyudev.Monitor.from_netlink(context)
            for subsystem in SUBSYSTEMS:
                monitor.filter_by(subsystem)
            monitor.start()
        except (ImportError, OSError) as error:
            raise HotplugError("hotplug.unavailable", f"udev: {type(error).__name__}") from None
        overrun = asyncio.Event()

        def drain() -> None:
            try:
                while (device := monitor.poll(timeout=0)) is not None:
                    self._take(device, on_change)
            except OSError:
                overrun.set()

        loop.add_reader(monitor.fileno(), drain)
        try:
            self._list(context, on_change)
            ready()
            await overrun.wait()
            raise HotplugError("hotplug.overrun", "the kernel dropped events; the ports are listed anew")
        finally:
            loop.remove_reader(monitor.fileno())  # pyudev closes the socket with the last reference to it

    def _list(self, context: Any, on_change: HotplugListener) -> None:
        """Tell what is there, and what has gone since an earlier life, whose last events may have been dropped."""
        there = set()
        for subsystem in SUBSYSTEMS:
            for device in context.list_devices(subsystem=subsystem):
                there.add(device.sys_path)
                self._take(device, on_change)
        for path in {*self._ports, *self._devices} - there:
            self._remove(path, on_change)

    def _take(self, device: Any, on_change: HotplugListener) -> None:
        path = device.sys_path
        if device.action == "remove":
            self._remove(path, on_change)
        elif device.properties.get("DEVTYPE") == "usb_device":
            found = _device(path, device.properties)
            if self._devices.get(path) != found:
                self._devices[path] = found
                on_change(Attached(found))
        else:
            port = _port(path, device.properties)
            if port is not None and self._ports.get(path) != port:
                self._ports[path] = port
                on_change(Plugged(port))

    def _remove(self, path: str, on_change: HotplugListener) -> None:
        if (gone := self._ports.pop(path, None)) is not None:
            on_change(Unplugged(gone))
        if (lost := self._devices.pop(path, None)) is not None:
            on_change(Detached(lost))


def _port(path: str, properties: Mapping[str, str]) -> UsbPort | None:
    """Return the port that udev's properties describe; None when it is not at USB."""
    node = properties.get("DEVNAME")
    if node is None or properties.get("ID_BUS") != "usb":
        return None
    return UsbPort(
        node=node,
        links=frozenset(properties.get("DEVLINKS", "").split()),
        usb=_vendor_and_product(properties),
        serial=properties.get("ID_SERIAL_SHORT"),
        path=path,
    )


def _device(path: str, properties: Mapping[str, str]) -> UsbDevice:
    """Return the USB device that properties describe: the kernel's TYPE (decimal), udev's ID_USB_INTERFACES."""
    whole = "".join(f"{int(number):02x}" for number in properties.get("TYPE", "0/0/0").split("/"))
    interfaces = properties.get("ID_USB_INTERFACES", "").lower().strip(":").split(":")
    classes = frozenset(one for one in (whole, *interfaces) if one and not one.startswith(_BY_INTERFACE))
    return UsbDevice(path, _vendor_and_product(properties), classes)


def _vendor_and_product(properties: Mapping[str, str]) -> str | None:
    vendor, product = properties.get("ID_VENDOR_ID"), properties.get("ID_MODEL_ID")
    if not (vendor and product):
        vendor, _, rest = properties.get("PRODUCT", "").partition("/")
        product = rest.partition("/")[0]
    return f"{vendor:0>4}:{product:0>4}".lower() if vendor and product else None
