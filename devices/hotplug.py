"""What is plugged in at USB, by the word of udev: the seam and its real form. The in-memory form lives in `sim.memory`.

udev tells of a port when its rules have run, so its links are there and its permissions are right (L8).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

SUBSYSTEMS = ("tty", "usbmisc")
"""Where the nodes of serial adapters, CDC-ACM devices and USB printers belong."""


class HotplugError(Exception):
    """udev cannot be listened to (`hotplug.unavailable`) or told more than was taken (`hotplug.overrun`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = True
        self.advice = "devices are still tried again after growing pauses; check that udev runs"


@dataclass(frozen=True, slots=True)
class UsbPort:
    """A port at USB: its node, its other names (by-id, by-path), `VID:PID` in small letters and its serial number."""

    node: str
    links: frozenset[str] = frozenset()
    usb: str | None = None
    serial: str | None = None

    def is_named(self, name: str) -> bool:
        """Say whether this is the port of that name."""
        return name == self.node or name in self.links


@dataclass(frozen=True, slots=True)
class Plugged:
    """A port came, or was there when listening began, or has other names now."""

    port: UsbPort


@dataclass(frozen=True, slots=True)
class Unplugged:
    """A port went."""

    port: UsbPort


HotplugListener = Callable[[Plugged | Unplugged], None]
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
            loop.remove_reader(monitor.fileno())
            self._ports.clear()  # pyudev closes the socket with the last reference, when this frame goes

    def _list(self, context: Any, on_change: HotplugListener) -> None:
        for subsystem in SUBSYSTEMS:
            for device in context.list_devices(subsystem=subsystem):
                self._take(device, on_change)

    def _take(self, device: Any, on_change: HotplugListener) -> None:
        if device.action == "remove":
            port = self._ports.pop(device.sys_path, None)
            if port is not None:
                on_change(Unplugged(port))
            return
        port = _port(device.properties)
        if port is not None and self._ports.get(device.sys_path) != port:
            self._ports[device.sys_path] = port
            on_change(Plugged(port))


def _port(properties: Mapping[str, str]) -> UsbPort | None:
    """Return the port that udev's properties describe; None when it is not at USB."""
    node = properties.get("DEVNAME")
    if node is None or properties.get("ID_BUS") != "usb":
        return None
    vendor, model = properties.get("ID_VENDOR_ID"), properties.get("ID_MODEL_ID")
    return UsbPort(
        node=node,
        links=frozenset(properties.get("DEVLINKS", "").split()),
        usb=f"{vendor}:{model}".lower() if vendor and model else None,
        serial=properties.get("ID_SERIAL_SHORT"),
    )
