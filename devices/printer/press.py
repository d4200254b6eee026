"""What is in the printer: one job at a time, and never anything of it for the next citizen (L14, L16)."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from devices.driver import finish
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.printer import job as jobs
from devices.printer import protocol
from devices.printer.job import Job, JobResult
from devices.printer.wire import Wire

log = structlog.get_logger(__name__)

_START_SECONDS = 10.0
_KNOCK_SECONDS = 1.0
_SILENCE_SECONDS = 4.0
"""A printer that prints from a full buffer hears a question late, on a link without a rate or with flow control."""
_ANSWER_SECONDS = 1.0
_TIDY_SECONDS = 5.0
_CLEAR_SECONDS = 2.0
_SETTLE_SECONDS = 2.0
_AHEAD_SECONDS = 0.25

_CLEAN = protocol.RECOVER_CLEAR + protocol.INIT + protocol.AUTOMATIC_STATUS_ON
_FILLER = protocol.RECOVER_CLEAR + bytes(jobs.BAND_ROWS * 104)
"""Ends a broken-off picture band on a printer that takes the first `10 05 02` for picture data."""


class Press:
    """The printer's memory and paper path, over all its lives; its caller lets one in at a time.

    Whatever goes wrong after a job's first byte, the printer's memory is cleared at once, and what hangs out of it is
    cut off before anything else is printed. `end_of_job` follows the cut of every receipt, `end_of_scrap` that of
    what was broken off.
    """

    def __init__(self, end_of_job: bytes = b"", end_of_scrap: bytes = b"") -> None:
        self.untidy = True
        """Who knows what the last process left in the printer."""
        self._end_of_job = end_of_job
        self._end_of_scrap = end_of_scrap
        self._fences_owed = 0

    async def start(self, wire: Wire) -> None:
        """Find out that a printer is there and what it can tell (L14); raise DeviceError `printer.no_answer`."""
        with answering():
            async with asyncio.timeout(_START_SECONDS):
                await wire.write((_FILLER if self.untidy else b"") + _CLEAN)
                await wire.poll()
                if not wire.heard:
                    await self._fence(wire, _ANSWER_SECONDS)
        await self.tidy(wire)

    async def leave(self, wire: Wire) -> None:
        """End a life: nothing of a running job may stay in the printer."""
        lost, wire.lost = wire.lost, True
        wire.notify()
        if self.untidy and not lost:
            await finish(self._clear(wire))

    async def refusal(self, wire: Wire) -> str | None:
        """Return why a job cannot begin; raise LinkLost."""
        if wire.answered and not await wire.poll():
            return "printer.no_answer"
        try:
            await self.tidy(wire)
        except DeviceError as error:
            return error.code
        return wire.condition.fault

    async def print(self, wire: Wire, job: Job, millimetres: float) -> JobResult:
        """Print `job`, which is `millimetres` long; cancelled, clear the printer first."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        self.untidy = True
        wire.fault = None
        wire.stopped = False  # a tidy printer has nothing in its memory: an XOFF that still stands missed its XON
        strays = wire.strays
        code: str | None
        try:
            async with asyncio.timeout(jobs.longest_seconds(job, millimetres, wire.bytes_per_second)):
                code = await self._send(wire, job) or await self._confirm(wire, strays)
                if code == "printer.not_ready" and await wire.poll():
                    code = wire.fault
            self.untidy = code is not None
        except LinkLost:
            code = "printer.lost"
        except TimeoutError:
            code = wire.fault or "printer.no_answer"
        finally:
            if self.untidy and not wire.lost:
                await finish(self._clear(wire))
            wire.notify()
        seconds = loop.time() - started
        if code is not None:
            log.warning("print_unknown", code=code)
            return JobResult("unknown", code, 0.0, seconds)
        speed = round(millimetres / seconds) if seconds > 0 else None
        log.info("printed", millimetres=round(millimetres), seconds=round(seconds, 2), millimetres_per_second=speed)
        return JobResult("printed", None, millimetres, seconds)

    async def tidy(self, wire: Wire) -> None:
        """Make an untidy printer fit for the next citizen, unless a fault forbids it: clear, cut, and wait for proof.

        An answer to an earlier GS r 1 may still be on its way and must not prove the next job. Raises DeviceError
        `printer.no_answer`, LinkLost.
        """
        if not self.untidy or wire.condition.fault is not None:
            return
        with answering():
            async with asyncio.timeout(_START_SECONDS):
                await wire.write(_CLEAN + protocol.cut(jobs.CUT_FEED_DOTS) + self._end_of_scrap)
                await self._fence(wire, _TIDY_SECONDS)
                if self._fences_owed:
                    await asyncio.sleep(_SETTLE_SECONDS)
                    self._fences_owed = 0
        self.untidy = wire.condition.fault is not None

    async def _send(self, wire: Wire, job: Job) -> str | None:
        """Send the job, never far ahead of the line; return the code of a fault seen meanwhile.

        A printer that was switched off and on does not know where it was, so each second it must show that it is on.
        """
        loop = asyncio.get_running_loop()
        knock_at = loop.time() + _KNOCK_SECONDS
        for chunk in jobs.chunks(job, self._end_of_job):
            await wire.until(lambda: wire.fault is not None, wire.lag_seconds - _AHEAD_SECONDS)
            if fault := await self._watch(wire, lambda: not wire.stopped):
                return fault
            if wire.answered and loop.time() >= knock_at:
                if not await self._knock(wire):
                    return "printer.no_answer"
                knock_at = loop.time() + _KNOCK_SECONDS
            await wire.send(chunk)
            await asyncio.sleep(0)
        return wire.fault

    async def _confirm(self, wire: Wire, strays: int) -> str | None:
        """Ask for proof that all was executed; return the code of what stands against it.

        GS r 1 is answered when its turn comes; the status is asked again after it (L16). A byte since the job's first,
        when there were `strays`, that answers nothing may be part of a damaged status, and the answer another part:
        then the proof is void.
        """
        self._fences_owed += 1
        await wire.ask_paper()
        if fault := await self._watch(wire, lambda: wire.paper is not None):
            return fault
        self._fences_owed -= 1
        if wire.answered:
            await wire.until(lambda: not wire.owes_answer, _SILENCE_SECONDS)
            if wire.owes_answer or not await wire.poll():
                return "printer.no_answer"
        if wire.paper is not None and wire.paper.paper_end:
            return "printer.paper_out"
        return wire.fault or ("printer.bad_answer" if wire.strays != strays else None)

    async def _watch(self, wire: Wire, happened: Callable[[], bool]) -> str | None:
        """Wait for `happened`, knocking every second; return the code of a fault that comes first."""
        while not await wire.until(lambda: happened() or wire.fault is not None, _KNOCK_SECONDS):
            if wire.answered and not await self._knock(wire):
                return "printer.no_answer"
        return wire.fault

    async def _knock(self, wire: Wire) -> bool:
        """See that the last knock was answered and knock again; return whether the printer is there."""
        if not await wire.until(lambda: not wire.owes_answer or wire.fault is not None, _SILENCE_SECONDS):
            return False
        await wire.knock()
        return True

    async def _fence(self, wire: Wire, seconds: float) -> None:
        """Ask GS r 1; raise TimeoutError when it is not answered."""
        self._fences_owed += 1
        await wire.ask_paper()
        if not await wire.until(lambda: wire.paper is not None, wire.lag_seconds + seconds):
            raise TimeoutError
        self._fences_owed -= 1

    async def _clear(self, wire: Wire) -> None:
        """Throw away what the printer holds (protocols 3.6).

        A printer that does not take even that is given up, and on a link without a rate one that does not answer
        behind it: what it has not taken yet ends with the link, and its next life begins with the same.
        """
        try:
            async with asyncio.timeout(_CLEAR_SECONDS):
                await wire.write((_FILLER if wire.torn else b"") + _CLEAN)
                taken = wire.bytes_per_second is not None or not wire.answered or await wire.ask(1)
        except (LinkLost, TimeoutError):
            taken = False
        if taken:
            await asyncio.sleep(min(wire.lag_seconds, _CLEAR_SECONDS))
        else:
            wire.lost = True
            wire.notify()


def no_answer() -> DeviceError:
    """Return the error of a printer that does not answer."""
    return DeviceError(
        "printer.no_answer", "the printer does not answer", advice="Look at its power, cable and baud rate.", retry=True
    )


@contextmanager
def answering() -> Iterator[None]:
    """Turn a deadline that passes inside into DeviceError `printer.no_answer`."""
    try:
        yield
    except TimeoutError as error:
        raise no_answer() from error
