"""Printing under an intent: what became of the paper is journaled, and never a guess (rule 2, T4, L16)."""

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from devices.errors import DeviceError
from devices.printer.job import Job, JobResult, length_dots, longest_seconds, millimetres
from runtime.journal import Intent, Journal, JournalError, Outcome
from runtime.messages import SupervisionEvent
from runtime.services.steps import INTERRUPTED, Origin, Refused, Transaction, event

log = structlog.get_logger(__name__)

AROUND_PRINT_SECONDS = 45.0
"""What a driver may need before a job's first byte and after its end, beside the time that the job may take."""
SLOWEST_BYTES_PER_SECOND = 960.0
"""A line of 9,600 bit/s, the slowest that the configuration takes: a page needs a minute there."""
PRINT = "print"
"""The kind of the intent that is open while paper moves."""

Paper = Literal["printed", "not_printed", "unknown"]
"""What became of a paper; `unknown` when nobody can know."""


class Printer(Protocol):
    """The receipt printer as services see it."""

    async def print_job(self, job: Job) -> JobResult:
        """Print and say what became of it; raises DeviceError when nothing was printed."""


@dataclass(frozen=True, slots=True)
class Printed:
    """A paper that came out, or may have; the speed (T4) is known when it did."""

    paper: Paper
    millimetres_per_second: float | None


@dataclass(frozen=True, slots=True)
class Press:
    """Prints on the terminal's paper."""

    journal: Journal
    printer: Printer
    width_dots: int
    dots_per_inch: int

    async def print_out(self, transaction: Transaction, name: str, job: Job) -> Printed:
        """Print under an intent that is found by `name`; raise Refused when surely nothing was printed.

        Nobody can be asked later what became of paper, so an intent is closed as `unknown` where an office's effect
        would be left to the settlement.
        """
        try:
            intent = await self.journal.open_intent(PRINT, name, transaction.id)
        except JournalError as error:
            raise Refused(error.code, str(error), retry=error.retry) from None
        began = transaction.seconds
        outcome: Outcome = "unknown"
        code: str | None = INTERRUPTED
        retry = True
        speed: float | None = None
        try:
            async with asyncio.timeout(self._longest_seconds(job)):
                result = await self.printer.print_job(job)
            outcome, code = _OUTCOMES[result.outcome], result.code
            speed = result.millimetres_per_second and round(result.millimetres_per_second, 1)
        except TimeoutError:
            code = "printer.no_answer"
        except DeviceError as error:
            outcome, code, retry = "refused", error.code, error.retry
        finally:
            told = transaction.event(PRINT, outcome, code, transaction.seconds - began)
            await self._settle(intent, told)
        if outcome == "refused":
            raise Refused(code or "printer.not_printed", "nothing was printed", retry=retry)
        return Printed("printed", speed) if outcome == "done" else Printed("unknown", None)

    def _longest_seconds(self, job: Job) -> float:
        """Return within what the driver ends a job by itself; raise DeviceError when the job is none."""
        length = millimetres(length_dots(job, self.width_dots), self.dots_per_inch)
        return AROUND_PRINT_SECONDS + longest_seconds(job, length, SLOWEST_BYTES_PER_SECOND)

    async def _settle(self, intent: Intent, told: SupervisionEvent) -> None:
        """Journal what became of the paper. When that fails the citizen is still told the truth of the paper;

        the intent stays open, and the next start settles it as unknown.
        """
        try:
            await self.journal.close_intent(intent, told.outcome, told.code, told)
        except JournalError as error:
            log.error("outcome_not_journaled", code=error.code)


_OUTCOMES: dict[str, Outcome] = {"printed": "done", "not_printed": "refused", "unknown": "unknown"}


async def settle_prints(journal: Journal, origin: Origin) -> int:
    """On start, settle what a power cut left open: whether the paper came out is unknown. Returns how many."""
    intents = await journal.open_intents(PRINT)
    for intent in intents:
        told = event(origin, intent.transaction, PRINT, outcome="unknown", code=INTERRUPTED, seconds=0.0)
        await journal.close_intent(intent, "unknown", INTERRUPTED, told)
    return len(intents)
