"""A device's wire: the seam that drivers read and write. The in-memory form lives in `sim.memory`."""

from typing import Literal, Protocol

FlowControl = Literal["none", "xon_xoff", "rts_cts"]
"""Who may stop the terminal's bytes on a serial line: nobody, the device by XOFF and XON, or the device by CTS."""


def medium(port: str) -> Literal["serial", "usb", "tcp"]:
    """Return what a port's name stands for: `tcp://HOST:PORT`, a USB character device under /dev/usb, a serial port."""
    if port.startswith("tcp://"):
        return "tcp"
    return "usb" if port.startswith("/dev/usb/") else "serial"


class LinkLost(OSError):
    """The other end is gone: end of file, EIO, ENODEV and ENXIO are this one event (L5)."""


class Link(Protocol):
    """An open wire to one device."""

    async def read(self) -> bytes:
        """Return at least one byte as soon as there is one; raise LinkLost when the wire is gone."""

    async def write(self, data: bytes) -> None:
        """Return when the bytes were handed to the wire; raise LinkLost when it is gone."""

    async def close(self) -> None:
        """Free the port, waiting until it can be opened again (L6). Never raises; closing twice is nothing."""


class OpenLink(Protocol):
    """How a driver gets its wire."""

    async def __call__(self, port: str, baud: int, flow_control: FlowControl = "none") -> Link:
        """Open `port` exclusively; raise LinkLost when it cannot be opened, leaving it closed (L2).

        `baud` (bit/s) and `flow_control` are for a serial line; another medium has neither.
        """
