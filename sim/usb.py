"""The in-memory form of the seam to udev: what is plugged in at USB, by hand and on virtual time (rule 5)."""

import asyncio
from collections.abc import Callable

from devices.hotplug import Attached, Detached, HotplugError, HotplugListener, Plugged, Unplugged, UsbDevice, UsbPort


class MemoryHotplug:
    """A Hotplug without udev: ports and USB devices are plugged in and out by hand.

    `ports` and `devices` are there. What it told is another thing: after an overrun it tells what changed meanwhile.
    """

    def __init__(self) -> None:
        self.ports: dict[str, UsbPort] = {}
        self.devices: dict[str, UsbDevice] = {}
        self._told_ports: dict[str, UsbPort] = {}
        self._told_devices: dict[str, UsbDevice] = {}
        self._overrun = asyncio.Event()
        self._on_change: HotplugListener | None = None

    def find(self, name: str) -> UsbPort | None:
        """Return the port of that name as far as it was told; None when it was not, or nobody listens."""
        return next((port for port in self._told_ports.values() if port.is_named(name)), None)

    def plug(self, port: UsbPort) -> None:
        """Let a port come; the same one twice is nothing."""
        self.ports[port.node] = port
        self._tell()

    def unplug(self, name: str) -> None:
        """Let a port go; one that is not there is nothing."""
        self.ports = {node: port for node, port in self.ports.items() if not port.is_named(name)}
        self._tell()

    def attach(self, device: UsbDevice) -> None:
        """Let a USB device come; the same one twice is nothing."""
        self.devices[device.path] = device
        self._tell()

    def detach(self, path: str) -> None:
        """Let a USB device go; one that is not there is nothing."""
        self.devices.pop(path, None)
        self._tell()

    def overrun(self) -> None:
        """Let the kernel drop what happens from now on until whoever listens finds out and listens anew."""
        if self._on_change is not None:
            self._overrun.set()

    def lose(self) -> None:
        """Forget who listened, who is gone without a word, and all that they were told."""
        self._on_change = None
        self._told_ports.clear()
        self._told_devices.clear()
        self._overrun.clear()

    async def run(self, ready: Callable[[], None], on_change: HotplugListener) -> None:
        """Tell what is plugged in, then each change; raise HotplugError after an overrun."""
        self._overrun.clear()
        self._on_change = on_change
        self._tell()
        ready()
        try:
            await self._overrun.wait()
            raise HotplugError("hotplug.overrun", "events were dropped; the ports are listed anew")
        finally:
            self._on_change = None

    def _tell(self) -> None:
        """Tell what was not told yet: as udev lists, what is there first, ports before devices, then what has gone."""
        if self._on_change is None or self._overrun.is_set():
            return
        for node, port in self.ports.items():
            if self._told_ports.get(node) != port:
                self._told_ports[node] = port
                self._on_change(Plugged(port))
        for path, device in self.devices.items():
            if self._told_devices.get(path) != device:
                self._told_devices[path] = device
                self._on_change(Attached(device))
        for node in [one for one in self._told_ports if one not in self.ports]:
            self._on_change(Unplugged(self._told_ports.pop(node)))
        for path in [one for one in self._told_devices if one not in self.devices]:
            self._on_change(Detached(self._told_devices.pop(path)))
