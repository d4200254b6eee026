"""Which USB devices have no business at this terminal (T23): neither a peripheral nor on the list of the board's own.

A peripheral is known by its port, which `[KIND] port` or a camera names. What brings a keyboard or storage has to be on
the list even then: no peripheral needs it, and it is how terminals are broken into. Hubs are nobody.
"""

from collections.abc import Callable, Collection
from functools import partial

from devices.hotplug import Attached, Detached, HotplugEvent, UsbDevice, UsbPort
from runtime.settling import Settling

SETTLE_SECONDS = 5.0
"""What the kernel and udev may take to give a device the port by which a peripheral is known."""


class UsbWatch:
    """Tells strangers, by code and `VID:PID`."""

    def __init__(
        self,
        names: Collection[str],
        allowed: Collection[str],
        find: Callable[[str], UsbPort | None],
        settling: Settling,
        *,
        on_found: Callable[[str, str], None],
        on_over: Callable[[str, str], None],
    ) -> None:
        """`names` are the configured ports, `allowed` the `VID:PID` of the board's own; `find` is Hotplug's."""
        self._names = names
        self._allowed = frozenset(one.lower() for one in allowed)
        self._find = find
        self._settling = settling
        self._on_found = on_found
        self._on_over = on_over
        self._strangers: dict[str, tuple[str, str]] = {}

    def heard(self, change: HotplugEvent) -> None:
        """Look at what came or went: what types or holds files at once, other things when they have settled."""
        if isinstance(change, Attached):
            device = change.device
            self._settling.forget(device.path)
            if self._judge(device) == "usb.unknown":
                self._settling.begin(device.path, SETTLE_SECONDS, partial(self._look, device))
            else:
                self._look(device)
        elif isinstance(change, Detached):
            self._settling.forget(change.device.path)
            self._place(change.device.path, None)

    def _look(self, device: UsbDevice) -> None:
        code = self._judge(device)
        self._place(device.path, None if code is None else (code, device.usb or "unknown"))

    def _judge(self, device: UsbDevice) -> str | None:
        """Return the code of a stranger, None for what belongs here."""
        if device.is_hub or device.usb in self._allowed:
            return None
        if device.is_keyboard:
            return "usb.keyboard"
        if device.is_storage:
            return "usb.storage"
        ports = (self._find(name) for name in self._names)
        return None if any(port is not None and device.has(port) for port in ports) else "usb.unknown"

    def _place(self, path: str, told: tuple[str, str] | None) -> None:
        """Note who is at a place now; of two of the same, both have to go before it is over."""
        before = self._strangers.pop(path, None)
        if told is not None:
            self._strangers[path] = told
            self._on_found(*told)
        if before is not None and before not in self._strangers.values():
            self._on_over(*before)
