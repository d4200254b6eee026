"""A device's wire: the seam that drivers read and write. The in-memory form lives in `sim.memory`."""

from typing import Protocol


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

    async def __call__(self, port: str, baud: int) -> Link:
        """Open `port` exclusively at `baud`; raise LinkLost when it cannot be opened, leaving it closed (L2)."""
