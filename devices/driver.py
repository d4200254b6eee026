"""What every driver of a device that is asked one thing at a time has in common (rule 4, NUT's dated driver contract).

| when | what a driver may do |
| --- | --- |
| made | nothing with the outside |
| `_open` of a life | prove who the device is; the last moment to refuse it |
| serving | one command at a time, each with a deadline; a health check every 30 s when idle |
| a life ends | leave the device safe; the link is closed before the next life begins |
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from devices.errors import DeviceError
from devices.link import Link, LinkLost, OpenLink
from devices.status import DeviceState, DeviceStatus, StatusListener, StatusLog

OPEN_SECONDS = 5.0
"""Opening the port; a driver of the kernel can hang in it."""
HEALTH_SECONDS = 30.0
"""Between two health checks of an idle device: a dead one is told within this, and a day of checks costs nothing."""
WRITE_SECONDS = 5.0
"""For bytes that have no answer to be taken by the wire."""
SAFE_SECONDS = 3.0
"""Leaving the device safe when a life ends; under the supervisor's deadline for stopping a unit."""

_CHECK_IT = "check the device's power and cable; it is tried again by itself"


class Damage(Exception):
    """Bytes that were a frame once: the checksum, the length or the end is wrong. Given by decoders, not raised."""


F_co = TypeVar("F_co", covariant=True)
F = TypeVar("F")
T = TypeVar("T")


class Decoder(Protocol[F_co]):
    """A sans-IO decoder: total on any bytes, in any chunks, in bounded memory."""

    def feed(self, data: bytes) -> Sequence[F_co | Damage]:
        """Return the frames that `data` completes."""

    def reset(self) -> None:
        """Forget a half frame."""


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Finish `work`, which has its own deadline, however often the caller is cancelled meanwhile; then be cancelled."""
    task = asyncio.create_task(work, name="finish")
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        task.exception()  # seen: the caller is gone
        raise asyncio.CancelledError
    return task.result()


class Driver(ABC, Generic[F]):
    """A supervised device on a link, speaking in frames `F`.

    A subclass says `kind`, makes a decoder, and gives `_open` and `_check`. `status` is always the last word.
    """

    kind: str
    health_seconds = HEALTH_SECONDS
    """Between two checks of the idle device; a device that is watched says its own."""

    def __init__(self, port: str, baud: int, open_link: OpenLink, on_status: StatusListener) -> None:
        self.status = DeviceStatus(DeviceState.STARTING)
        self._port = port
        self._baud = baud
        self._open_link = open_link
        self._on_status = on_status
        self._log = StatusLog(self.kind)
        self._lock = asyncio.Lock()
        self._check_now = asyncio.Event()
        self._link: Link | None = None
        self._decoder = self._make_decoder()
        self._answers: Callable[[F], bool] | None = None
        self._answer: asyncio.Future[F | Damage] | None = None
        self._fault = self.error("offline", "the device is not there", advice=_CHECK_IT, retry=True)

    @abstractmethod
    def _make_decoder(self) -> Decoder[F]:
        """Return a new decoder of what the device says."""

    @abstractmethod
    async def _open(self) -> DeviceStatus:
        """Find out who and how the device is; raise DeviceError when it is not to be trusted."""

    @abstractmethod
    async def _check(self) -> DeviceStatus:
        """Ask an idle device how it is; raise DeviceError when it does not answer."""

    async def _leave(self) -> None:
        """Leave the device safe; called with the lock when a life ends, even when the link is lost already."""

    def _unasked(self, frame: F) -> None:
        """Take what the device says by itself, or too late."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Live until the link or the device fails; raise LinkLost or DeviceError with the reason, never return."""
        fault = self._fault_of(LinkLost())
        try:
            await self._live(ready)
        except (LinkLost, DeviceError) as error:
            fault = self._fault_of(error)
            raise
        finally:
            self._fault = fault
            state = DeviceState.OFFLINE if fault.retry else DeviceState.HARDWARE_ERROR
            self._report(DeviceStatus(state, fault.code, self.status.identity))

    def error(self, code: str, message: str, *, advice: str, retry: bool) -> DeviceError:
        """Return an error of this device; `code` is told as `kind.code`."""
        return DeviceError(f"{self.kind}.{code}", message, advice=advice, retry=retry)

    def require_online(self) -> None:
        """Raise DeviceError with the reason when the device does not serve."""
        if self._link is None:
            fault = self._fault
            raise DeviceError(fault.code, str(fault), advice=fault.advice, retry=fault.retry)

    async def ask(self, request: bytes, answers: Callable[[F], bool], *, seconds: float) -> F:
        """Send a request and return the frame that `answers` it; the caller holds the lock.

        Any other frame goes to `_unasked`, so a late answer is never taken for a new one as long as `answers` can
        tell them apart. Raises DeviceError: `kind.no_answer`, `kind.garbled`, `kind.offline`.
        """
        self.require_online()
        link, self._answers = self._link, answers
        answer: asyncio.Future[F | Damage] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            async with asyncio.timeout(seconds):
                if link is not None:
                    await link.write(request)
                found = await self._claim(answer)
        except TimeoutError:
            self._check_now.set()
            raise self.error("no_answer", "the device does not answer", advice=_CHECK_IT, retry=True) from None
        except LinkLost:
            raise self.error("offline", "the device is not there", advice=_CHECK_IT, retry=True) from None
        finally:
            self._answers = self._answer = None
        if isinstance(found, Damage):
            raise self.error("garbled", f"the wire damages frames: {found}", advice="check the cable", retry=True)
        return found

    async def _claim(self, answer: "asyncio.Future[F | Damage]") -> F | Damage:
        """Return the answer; one that came as its asker was cancelled is for nobody (T20)."""
        try:
            return await answer
        except BaseException:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                late = answer.result()
                if not isinstance(late, Damage):
                    self._unasked(late)
            raise

    async def tell(self, data: bytes) -> None:
        """Send bytes that have no answer; raise DeviceError: `kind.no_answer`, `kind.offline`."""
        self.require_online()
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                if self._link is not None:
                    await self._link.write(data)
        except TimeoutError:
            raise self.error("no_answer", "the device takes no bytes", advice=_CHECK_IT, retry=True) from None
        except LinkLost:
            raise self.error("offline", "the device is not there", advice=_CHECK_IT, retry=True) from None

    def _report(self, status: DeviceStatus) -> None:
        """Tell a change of status; a repeat is nothing. A change of details alone is not logged (L9)."""
        if status == self.status:
            return
        before, self.status = self.status, status
        self._log.note(before, status)
        self._on_status(status)

    async def _live(self, ready: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                link = await self._open_link(self._port, self._baud)
        except TimeoutError:
            raise LinkLost("the port does not open") from None
        self._decoder = self._make_decoder()
        self._link = link
        try:
            async with asyncio.TaskGroup() as tasks:
                listener = tasks.create_task(self._listen(link), name=f"{self.kind}-listen")
                try:
                    await self._serve(ready)
                finally:
                    await self._end_safely()
                    listener.cancel()
        except* (LinkLost, DeviceError) as ended:
            reason = ended.exceptions[0]
        finally:
            self._link = None
            self._decoder.reset()
            await link.close()
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # Python before 3.13 loses a cancellation while a group ends
            raise asyncio.CancelledError
        raise reason

    async def _serve(self, ready: Callable[[], None]) -> None:
        async with self._lock:
            status = await self._open()
        self._report(status)
        ready()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.health_seconds):
                    await self._check_now.wait()
            async with self._lock:
                self._check_now.clear()
                status = await self._check()
            self._report(status)

    async def _end_safely(self) -> None:
        """Leave the device safe within its deadline, whatever ended the life; a command under way fails first."""
        self._lose_answer()
        with suppress(TimeoutError, LinkLost, DeviceError):
            async with asyncio.timeout(SAFE_SECONDS), self._lock:
                try:
                    await self._leave()
                finally:
                    self._link = None  # who waited for the lock comes too late: what was left safe stays so

    def _lose_answer(self) -> None:
        """Let the command under way fail: there will be no answer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LinkLost("the life of the link ended"))

    async def _listen(self, link: Link) -> None:
        """Read the link for as long as it lives, so that its loss is seen at once."""
        try:
            while True:
                self._hear(await link.read())
        finally:
            self._lose_answer()

    def _hear(self, data: bytes) -> None:
        """Take what arrived; nothing of it is kept while the next is waited for, which may come much later (T20)."""
        for found in self._decoder.feed(data):
            self._take(found)

    def _take(self, found: F | Damage) -> None:
        waiting = self._answer is not None and not self._answer.done()
        if waiting and self._answer is not None and (isinstance(found, Damage) or self._accepts(found)):
            self._answer.set_result(found)
        elif not isinstance(found, Damage):
            self._unasked(found)

    def _accepts(self, frame: F) -> bool:
        return self._answers is not None and self._answers(frame)

    def _fault_of(self, error: LinkLost | DeviceError) -> DeviceError:
        if isinstance(error, DeviceError):
            return error
        return self.error("offline", "the device is not there", advice=_CHECK_IT, retry=True)
