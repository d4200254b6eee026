"""What every business operation has: an id, steps with a deadline, an event in the journal for each (T12, T13)."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec
import structlog

from runtime.journal import Journal, JournalError, Outcome
from runtime.messages import FaceEvidence, SupervisionEvent
from runtime.messages.supervision import ConsentEvidence
from runtime.supervisor import error_code

log = structlog.get_logger(__name__)

INTERRUPTED = "operation.interrupted"
"""The code of a step that the end of the session cut short."""


class Step(msgspec.Struct, frozen=True):
    """One step of an operation as the UI is told of it."""

    step: str
    outcome: Outcome
    code: str | None
    seconds: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How an operation ended. `text` is for the citizen; `retry` says whether trying again may help."""

    outcome: Literal["done", "refused", "pending"]
    code: str | None
    text: str
    retry: bool
    steps: list[Step]
    seconds: float


class Refused(Exception):
    """An operation goes no further, for a reason with a code."""

    def __init__(self, code: str, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = "tell the citizen the text of the code"


@dataclass(slots=True)
class Found:
    """What a step found out, for its event."""

    face: FaceEvidence | None = None
    consent: ConsentEvidence | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Which daemon an event comes from, and its wall clock."""

    boot_id: str
    rig: bool
    wall_clock: Callable[[], float]


class Transaction:
    """One business operation under a random id; every event of it names the operation.

    From these events alone response time and success are derived (T12): it lasted from the first's begin to the last's
    end, and succeeded when none of them is refused or unknown.
    """

    def __init__(self, journal: Journal, origin: Origin, operation: str) -> None:
        self.id = secrets.token_hex(8)
        self._operation = operation
        self.steps: list[Step] = []
        self._journal = journal
        self._origin = origin
        self._began = asyncio.get_running_loop().time()

    @property
    def seconds(self) -> float:
        """How long the operation has taken."""
        return round(asyncio.get_running_loop().time() - self._began, 6)

    @asynccontextmanager
    async def step(self, name: str, *, deadline_seconds: float, no_answer: str) -> AsyncIterator[Found]:
        """Do one step and journal its event, whatever happens, with what was found until then.

        An expected error becomes Refused with its code; the deadline becomes Refused with the code `no_answer`. What
        was not answered is journaled as unknown: nobody can say that it was not done.
        """
        started = asyncio.get_running_loop().time()
        outcome: Outcome = "unknown"
        code: str | None = INTERRUPTED
        found = Found()
        try:
            async with asyncio.timeout(deadline_seconds):
                yield found
            outcome, code = "done", None
        except Exception as error:
            timed_out = isinstance(error, TimeoutError)
            code = no_answer if timed_out else error_code(error)
            if code == "internal":
                raise
            outcome = "unknown" if timed_out or code.endswith(".no_answer") else "refused"
            retry = timed_out or bool(getattr(error, "retry", False))
            raise Refused(code, str(error), retry=retry) from None
        finally:
            event = self.event(name, outcome, code, asyncio.get_running_loop().time() - started)
            await self._record(msgspec.structs.replace(event, face=found.face, consent=found.consent))

    def event(self, step: str, outcome: Outcome, code: str | None, seconds: float) -> SupervisionEvent:
        """Note a step of this operation and return its event, for a journal entry of the caller's own."""
        seconds = round(seconds, 6)
        self.steps.append(Step(step, outcome, code, seconds))
        told = event(self._origin, self.id, step, outcome=outcome, code=code, seconds=seconds)
        return msgspec.structs.replace(told, operation=self._operation)

    async def _record(self, told: SupervisionEvent) -> None:
        try:
            await self._journal.append(told)
        except JournalError as error:
            if told.outcome == "unknown":  # a cancellation, a bug or a silence is on its way up and goes on
                log.error("outcome_not_journaled", code=error.code)
                return
            raise Refused(error.code, str(error), retry=error.retry) from None


def event(
    origin: Origin,
    transaction: str,
    step: str,
    *,
    outcome: Outcome,
    code: str | None,
    seconds: float,
    device: str | None = None,
) -> SupervisionEvent:
    """Return the event of one step, stamped with the wall clock and the daemon's origin."""
    return SupervisionEvent(
        transaction=transaction,
        step=step,
        outcome=outcome,
        code=code,
        at=origin.wall_clock(),
        seconds=seconds,
        boot_id=origin.boot_id,
        rig=origin.rig,
        device=device,
    )
