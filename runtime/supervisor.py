"""One state machine for everything that can die: drivers, the vision process, the line to the platform (rule 4).

A unit is one `run(ready)`: one life of a supervised thing. It calls `ready` when it serves, and returns or raises
when that life ends; the supervisor then starts the next life after a growing pause.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.2
"""The first respawn follows within 250 ms, jitter included: most breaks are short."""
PAUSE_FACTOR = 2.0
"""Each further pause is twice as long, so that what stays broken costs nothing."""
LONGEST_PAUSE_SECONDS = 30.0
"""What comes back is noticed within half a minute."""
JITTER = 0.1
"""Pauses vary by a tenth either way, so that a fleet does not knock all at once."""
GOOD_RUN_SECONDS = 10.0
"""A life that served this long has proved itself: the next pause is the first one again."""
STOP_SECONDS = 3.0
"""What one unit may take to leave its device safe when it is stopped."""

Life = Callable[[Callable[[], None]], Awaitable[None]]
"""One life of a supervised thing: calls the given `ready`, returns or raises when the life ends."""


class UnitState(StrEnum):
    """Where a supervised unit stands."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"


UnitListener = Callable[[str, UnitState, str | None], None]
"""Called with the unit's name, its new state and the code of why it broke."""


def error_code(error: BaseException) -> str:
    """Return the stable code of an expected error; `internal` for anything else, which is a bug.

    An error of the house has `code`, `retry` and `advice`. A plain OSError of a wire is `link.lost`,
    a plain TimeoutError `link.no_answer`. A group has the
    code of its first member unless any member is a bug.
    """
    if isinstance(error, BaseExceptionGroup):
        codes = [error_code(member) for member in error.exceptions]
        return "internal" if "internal" in codes else codes[0]
    code = getattr(error, "code", None)
    if isinstance(code, str) and hasattr(error, "retry") and hasattr(error, "advice"):
        return code
    if isinstance(error, TimeoutError):
        return "link.no_answer"
    return "link.lost" if isinstance(error, OSError) else "internal"


def error_types(error: BaseException) -> str:
    """Name the types in an error; a message or a traceback could carry data, a type cannot."""
    if isinstance(error, BaseExceptionGroup):
        return "+".join(error_types(member) for member in error.exceptions)
    return type(error).__name__


@dataclass(slots=True)
class _Unit:
    name: str
    life: Life
    state: UnitState = UnitState.STOPPED
    broken_code: str | None = None
    pause_seconds: float = FIRST_PAUSE_SECONDS
    running_since: float | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Keeps units alive as tasks of one TaskGroup, and stops them in the reverse of their order."""

    def __init__(self, jitter: random.Random, on_change: UnitListener) -> None:
        self._jitter = jitter
        self._on_change = on_change
        self._units: list[_Unit] = []

    def start(self, group: asyncio.TaskGroup, name: str, life: Life) -> None:
        """Keep `life` alive as the unit `name`, in a task of `group`."""
        unit = _Unit(name, life)
        self._units.append(unit)
        unit.task = group.create_task(self._keep(unit), name=f"unit-{name}")

    async def stop(self) -> None:
        """Stop the units, last started first, each within STOP_SECONDS."""
        for unit in reversed(self._units):
            if unit.task is None:
                continue
            unit.task.cancel()
            _, pending = await asyncio.wait([unit.task], timeout=STOP_SECONDS)
            if pending:
                log.error("unit_stuck", unit=unit.name, seconds=STOP_SECONDS)
        self._units.clear()

    async def _keep(self, unit: _Unit) -> None:
        try:
            while True:
                self._change(unit, UnitState.STARTING)
                self._broke(unit, await self._live(unit))
                spread = self._jitter.uniform(1 - JITTER, 1 + JITTER)
                pause = min(unit.pause_seconds * spread, LONGEST_PAUSE_SECONDS)
                unit.pause_seconds = min(unit.pause_seconds * PAUSE_FACTOR, LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(pause)
        finally:
            self._change(unit, UnitState.STOPPED)

    async def _live(self, unit: _Unit) -> BaseException | None:
        unit.running_since = None
        try:
            await unit.life(lambda: self._ready(unit))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return error
        except Exception as error:  # noqa: BLE001 - the supervised boundary: whatever ends a life is told and survived
            return error
        return None

    def _ready(self, unit: _Unit) -> None:
        if unit.state is not UnitState.STARTING:
            return
        unit.running_since = asyncio.get_running_loop().time()
        if unit.broken_code is not None:
            log.info("unit_healed", unit=unit.name)
            unit.broken_code = None
        self._change(unit, UnitState.RUNNING)

    def _broke(self, unit: _Unit, error: BaseException | None) -> None:
        since = unit.running_since
        if since is not None and asyncio.get_running_loop().time() - since >= GOOD_RUN_SECONDS:
            unit.pause_seconds = FIRST_PAUSE_SECONDS
        code = "unit.ended" if error is None else error_code(error)
        if code != unit.broken_code:
            if code == "internal" and error is not None:
                log.error("unit_broken", unit=unit.name, code=code, error=error_types(error))
            else:
                log.warning("unit_broken", unit=unit.name, code=code)
        unit.broken_code = code
        self._change(unit, UnitState.BACKING_OFF)

    def _change(self, unit: _Unit, state: UnitState) -> None:
        if unit.state is not state:
            unit.state = state
            self._on_change(unit.name, state, unit.broken_code)
