"""The receipt printer: a job is printed, not printed or unknown, and never left for the next citizen (L14, L16)."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from devices.config import Printer
from devices.errors import DeviceError
from devices.link import Link, LinkLost, OpenLink
from devices.printer import job as jobs
from devices.printer import protocol
from devices.printer.job import Job, JobResult
from devices.printer.protocol import Condition
from devices.printer.wire import Wire
from devices.status import DeviceState, DeviceStatus, StatusListener, StatusLog

log = structlog.get_logger(__name__)

_OPEN_SECONDS = 5.0
_IDLE_POLL_SECONDS = 30.0
_WATCH_SECONDS = 1.0
_ANSWER_SECONDS = 1.0
_TIDY_SECONDS = 5.0
_CLEAR_SECONDS = 2.0
_SETTLE_SECONDS = 2.0
_AHEAD_SECONDS = 0.25
_MARGIN_SECONDS = 10.0
_SLOWEST_MILLIMETRES_PER_SECOND = 40.0
_MILLIMETRES_PER_INCH = 25.4

_CLEAN = protocol.RECOVER_CLEAR + protocol.INIT + protocol.AUTOMATIC_STATUS_ON
_FILLER = protocol.RECOVER_CLEAR + bytes(jobs.BAND_ROWS * 104)
"""Ends a broken-off picture band on a printer that takes the first `10 05 02` for picture data."""

_STATES = {
    None: DeviceState.ONLINE,
    "printer.cover_open": DeviceState.USER_ERROR,
    "printer.paper_out": DeviceState.OFFLINE,
    "printer.not_ready": DeviceState.OFFLINE,
    "printer.head_hot": DeviceState.DEVICE_BUSY,
    "printer.cutter_jam": DeviceState.HARDWARE_ERROR,
    "printer.hardware_error": DeviceState.HARDWARE_ERROR,
}


class ReceiptPrinter:
    """A receipt printer on a serial line.

    Whatever goes wrong after a job's first byte, the printer's memory is cleared at once, and what hangs out of it
    is cut off before anything else is printed.
    """

    def __init__(self, settings: Printer, open_link: OpenLink, on_status: StatusListener) -> None:
        self.status = DeviceStatus(DeviceState.STARTING)
        self._settings = settings
        self._open_link = open_link
        self._on_status = on_status
        self._log = StatusLog("printer")
        self._lock = asyncio.Lock()
        self._wire: Wire | None = None
        self._untidy = True  # who knows what the last process left in the printer
        self._fences_owed = 0

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve the printer for one life.

        Raises LinkLost when the line is lost or cannot be opened, DeviceError `printer.no_answer` when the printer
        does not answer any more: three ways of asking at the start, DLE EOT 1 to 4 every 30 s later.
        """
        code = "printer.offline"
        try:
            link = await self._open()
            wire = Wire(link, self._settings.baud, self._publish)
            try:
                await self._serve(wire, ready)
            finally:
                await link.close()
        except DeviceError as error:
            code = error.code
            raise
        finally:
            self._set_status(DeviceStatus(DeviceState.OFFLINE, code))

    async def print_job(self, job: Job) -> JobResult:
        """Print a receipt and say what became of it.

        Raises DeviceError: `printer.offline` when the printer is not served, `printer.unprintable_text` and
        `printer.bad_job` before anything is sent. Cancelled, it clears the printer first, within 4 s.
        """
        millimetres = jobs.length_dots(job, self._settings.width_dots) / self._settings.dots_per_inch
        millimetres *= _MILLIMETRES_PER_INCH
        async with self._lock:
            wire = self._wire
            if wire is None or wire.lost:
                raise DeviceError(
                    "printer.offline", "the printer is not served", advice="Look at its cable and power.", retry=True
                )
            try:
                fault = await self._refusal(wire)
            except LinkLost:
                fault = "printer.lost"
            if fault is not None:
                log.warning("print_refused", code=fault)
                return JobResult("not_printed", fault)
            return await self._print(wire, job, millimetres)

    async def _open(self) -> Link:
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                return await self._open_link(self._settings.port, self._settings.baud)
        except TimeoutError:
            raise LinkLost("the port does not open") from None

    async def _serve(self, wire: Wire, ready: Callable[[], None]) -> None:
        """Serve until the line or the printer fails; raise LinkLost or DeviceError with the reason."""
        async with asyncio.TaskGroup() as tasks:
            listener = tasks.create_task(wire.listen(), name="printer-listen")
            try:
                await self._live(wire, ready)
            except (LinkLost, DeviceError) as error:
                end = error
            finally:
                await self._leave(wire)
                listener.cancel()
        raise end

    async def _live(self, wire: Wire, ready: Callable[[], None]) -> None:
        await self._start(wire)
        self._wire = wire
        self._publish(wire.condition)
        ready()
        while True:
            quiet = not await wire.until(lambda: self._untidy and wire.condition.fault is None, _IDLE_POLL_SECONDS)
            async with self._lock:
                if wire.lost:
                    raise LinkLost("the printer's line is gone")
                if quiet and wire.answered and not await wire.poll():
                    raise _no_answer()
                await self._tidy(wire)

    async def _start(self, wire: Wire) -> None:
        """Find out that a printer is there and what it can tell (L14)."""
        with _answering():
            async with asyncio.timeout(_MARGIN_SECONDS):
                await wire.write((_FILLER if self._untidy else b"") + _CLEAN)
                await wire.poll()
                if not wire.heard:
                    await self._fence(wire, _ANSWER_SECONDS)
        await self._tidy(wire)

    async def _leave(self, wire: Wire) -> None:
        """End a life: nothing of a running job may stay in the printer."""
        self._wire = None
        lost, wire.lost = wire.lost, True
        wire.notify()
        if self._untidy and not lost:
            await _shielded(self._clear(wire))

    async def _refusal(self, wire: Wire) -> str | None:
        """Return why a job cannot begin."""
        if wire.answered and not await wire.poll():
            return "printer.no_answer"
        try:
            await self._tidy(wire)
        except DeviceError as error:
            return error.code
        return wire.condition.fault

    async def _print(self, wire: Wire, job: Job, millimetres: float) -> JobResult:
        loop = asyncio.get_running_loop()
        started = loop.time()
        limit = _MARGIN_SECONDS + millimetres / _SLOWEST_MILLIMETRES_PER_SECOND
        self._untidy = True
        wire.fault = None
        code: str | None
        try:
            async with asyncio.timeout(limit + jobs.line_bytes(job) * 10 / self._settings.baud):
                code = await self._send(wire, job) or await self._confirm(wire)
            self._untidy = code is not None
        except LinkLost:
            code = "printer.lost"
        except TimeoutError:
            code = wire.fault or "printer.no_answer"
        finally:
            if self._untidy and not wire.lost:
                await _shielded(self._clear(wire))
            wire.notify()
        seconds = loop.time() - started
        if code is None:
            log.info("printed", millimetres=round(millimetres), seconds=round(seconds, 2))
            return JobResult("printed", None, millimetres, seconds)
        log.warning("print_unknown", code=code)
        return JobResult("unknown", code, 0.0, seconds)

    async def _send(self, wire: Wire, job: Job) -> str | None:
        """Send the job, never far ahead of the line; return the code of a fault seen meanwhile."""
        for chunk in jobs.chunks(job):
            await wire.until(lambda: wire.fault is not None, wire.lag_seconds - _AHEAD_SECONDS)
            if fault := await self._watch(wire, lambda: not wire.stopped):
                return fault
            await wire.write(chunk)
            await asyncio.sleep(0)
        return None

    async def _confirm(self, wire: Wire) -> str | None:
        """Ask for proof that all was executed; return the code of what stands against it.

        GS r 1 is answered when its turn comes; the status is asked again after it (L16). A byte that answers
        nothing may be part of a damaged status, and the answer another part: then the proof is void.
        """
        strays = wire.strays
        self._fences_owed += 1
        await wire.ask_paper()
        if fault := await self._watch(wire, lambda: wire.paper is not None):
            return fault
        self._fences_owed -= 1
        if wire.answered and not await wire.poll():
            return "printer.no_answer"
        if wire.paper is not None and wire.paper.paper_end:
            return "printer.paper_out"
        return wire.fault or ("printer.bad_answer" if wire.strays != strays else None)

    async def _watch(self, wire: Wire, happened: Callable[[], bool]) -> str | None:
        """Wait for `happened`, asking for the status every second; return the code of a fault that comes first."""
        while not await wire.until(lambda: happened() or wire.fault is not None, _WATCH_SECONDS):
            if wire.answered and not await wire.poll():
                return "printer.no_answer"
        return wire.fault

    async def _fence(self, wire: Wire, seconds: float) -> None:
        """Ask GS r 1; raise TimeoutError when it is not answered."""
        self._fences_owed += 1
        await wire.ask_paper()
        if not await wire.until(lambda: wire.paper is not None, wire.lag_seconds + seconds):
            raise TimeoutError
        self._fences_owed -= 1

    async def _tidy(self, wire: Wire) -> None:
        """Make an untidy printer fit for the next citizen, unless a fault forbids it: clear, cut, and wait for proof.

        An answer to an earlier GS r 1 may still be on its way and must not prove the next job.
        """
        if not self._untidy or wire.condition.fault is not None:
            return
        with _answering():
            async with asyncio.timeout(_MARGIN_SECONDS):
                await wire.write(_CLEAN + protocol.cut(jobs.CUT_FEED_DOTS))
                await self._fence(wire, _TIDY_SECONDS)
                if self._fences_owed:
                    await asyncio.sleep(_SETTLE_SECONDS)
                    self._fences_owed = 0
        wire.stopped = False
        self._untidy = wire.condition.fault is not None

    async def _clear(self, wire: Wire) -> None:
        """Throw away what the printer holds (protocols 3.6); a printer that does not take even that is given up."""
        try:
            async with asyncio.timeout(_CLEAR_SECONDS):
                await wire.write((_FILLER if wire.torn else b"") + _CLEAN)
        except (LinkLost, TimeoutError):
            wire.lost = True
            wire.notify()
        else:
            await asyncio.sleep(min(wire.lag_seconds, _CLEAR_SECONDS))

    def _publish(self, condition: Condition) -> None:
        """Tell how the printer is that serves; before that, and without an answer, nothing is known of it."""
        if self._wire is None:
            return
        code = condition.fault
        details: dict[str, str | bool] = {}
        if condition.cover_open is not None:
            details["cover_open"] = condition.cover_open
        if condition.paper_end or condition.paper_stop:
            details["paper"] = "out"
        elif condition.near_end is not None:
            details["paper"] = "low" if condition.near_end else "full"
        self._set_status(DeviceStatus(_STATES[code], code, None, details))

    def _set_status(self, status: DeviceStatus) -> None:
        if status == self.status:
            return
        self._log.note(self.status, status)
        self.status = status
        self._on_status(status)


def _no_answer() -> DeviceError:
    return DeviceError(
        "printer.no_answer", "the printer does not answer", advice="Look at its power, cable and baud rate.", retry=True
    )


@contextmanager
def _answering() -> Iterator[None]:
    """Turn a deadline that passes inside into DeviceError `printer.no_answer`."""
    try:
        yield
    except TimeoutError as error:
        raise _no_answer() from error


async def _shielded(work: Coroutine[Any, Any, None]) -> None:
    """Finish `work`, which has its own deadline, however often the caller is cancelled meanwhile; then be cancelled."""
    task = asyncio.create_task(work, name="printer-clear")
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    await task
    if cancelled:
        raise asyncio.CancelledError
