"""The Link over a USB character device of the kernel's usblp driver, /dev/usb/lp*: a printer's two bulk pipes.

Reading and writing are non-blocking on the event loop; the one blocking system call is the open.
"""

import asyncio
import errno
import fcntl
import os
import select
import stat
from collections.abc import Callable

from devices.link import FlowControl, LinkLost

_READ_BYTES = 8_192
"""The kernel's own buffer for each direction."""
_PACKET_SECONDS = 0.05
"""After a packet without bytes, which many printers send when they have nothing to say, the device is left alone."""
_AGAIN = (errno.EAGAIN, errno.EINTR)


class UsbLink:
    """An open USB character device; made by `open_usb_link`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        self._writing = asyncio.Lock()
        self._reason = "closed"

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; raise LinkLost when the device is gone."""
        while True:
            try:
                data = os.read(self._living(), _READ_BYTES)
            except OSError as error:
                if error.errno not in _AGAIN:
                    raise self._lose(error) from error
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
                continue
            if data:
                return data
            if self._hung_up():
                raise self._lose(OSError(errno.ENODEV, os.strerror(errno.ENODEV)))
            await asyncio.sleep(_PACKET_SECONDS)

    async def write(self, data: bytes) -> None:
        """Return when the kernel has taken all bytes; raise LinkLost when the device is gone."""
        async with self._writing:
            left = memoryview(data)
            while left:
                try:
                    left = left[os.write(self._living(), left) :]
                except OSError as error:
                    if error.errno not in _AGAIN:
                        raise self._lose(error) from error
                    await self._ready(self._loop.add_writer, self._loop.remove_writer)

    async def close(self) -> None:
        """Close the device, dropping what the printer has not taken. Never raises; twice is nothing."""
        self._free()

    def _living(self) -> int:
        if self._descriptor is None:
            raise LinkLost(f"the device is gone: {self._reason}")
        return self._descriptor

    async def _ready(self, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
        """Wait until the device can be read or written; raise LinkLost when it is closed meanwhile."""
        descriptor, waiting = self._living(), self._loop.create_future()
        self._waiting.add(waiting)
        add(descriptor, _wake, waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)
            if self._descriptor is not None:
                remove(descriptor)
        self._living()

    def _hung_up(self) -> bool:
        """Whether the device was unplugged, which a read of no bytes alone does not say."""
        poll = select.poll()
        poll.register(self._living(), select.POLLIN)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    def _lose(self, error: OSError) -> LinkLost:
        """Close the device after ENODEV, EIO or ENXIO: the loss is one event, to reader and writer alike (L5)."""
        self._reason = str(error)
        self._free()
        return LinkLost(f"the device is gone: {self._reason}")

    def _free(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        self._loop.remove_reader(descriptor)
        self._loop.remove_writer(descriptor)
        for waiting in self._waiting:
            _wake(waiting)
        os.close(descriptor)


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


async def open_usb_link(port: str, baud: int, flow_control: FlowControl = "none") -> UsbLink:  # noqa: ARG001 - no line
    """Open `port` exclusively (an OpenLink); raise LinkLost when it is missing, busy or not a character device (L2)."""
    opening = asyncio.get_running_loop().run_in_executor(None, _open, port)
    try:
        return UsbLink(await asyncio.shield(opening))
    except (OSError, ValueError) as error:
        raise LinkLost(f"{port} cannot be opened: {error}") from error
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise


def _open(port: str) -> int:
    descriptor = os.open(port, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENODEV, "not a character device")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _close_late(opening: "asyncio.Future[int]") -> None:
    """Close what was opened after nobody waited for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())
