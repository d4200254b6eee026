"""One state machine for everything that can die: drivers, the vision process, the line to the platform (rule 4).

A unit is one `run(ready)`: one life of a supervised thing. It calls `ready` when it serves, and returns or raises
when that life ends; the supervisor then starts the next life after a growing pause.

| state | what it means | what ends it |
| --- | --- | --- |
| `starting` | a life has begun and does not serve yet | `ready`, or the end of the life |
| `running` | it serves | the end of the life |
| `backing_off` | the next life waits | the pause, a replug, an operator |
| `gave_up` | it was tried often enough: a person must look | a good life of its own, a replug, an operator |
| `stopped` | the daemon stops | |
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from devices.errors import WrongDevice

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
GIVE_UP_TRIES = 20
"""Lives in a row without a good one. Their pauses alone come to 381 s: a device that restarts, or a cable that is put
back within five minutes, never trips it; what stays away always does, within minutes of trying."""
GIVE_UP_BREAKS = 10
"""Lives that served and broke within GIVE_UP_WINDOW_SECONDS. An outage, however long, is one such break."""
GIVE_UP_WINDOW_SECONDS = 600.0
"""Sixty times GOOD_RUN_SECONDS: good lives too, when they are shorter than a minute, come ten to the window."""
PROBE_SECONDS = 900.0
"""What was given up is still tried this seldom, so that nothing is dead for ever (L13, L35)."""
REPEAT_SECONDS = 60.0
"""A unit that comes and goes says why it broke, and that it healed, once within this time (L9)."""
STOP_SECONDS = 3.0
"""What one unit may take to leave its device safe when it is stopped."""

Life = Callable[[Callable[[], None]], Awaitable[None]]
"""One life of a supervised thing: calls the given `ready`, returns or raises when the life ends."""


class UnitState(StrEnum):
    """Where a supervised unit stands."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    GAVE_UP = "gave_up"
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


class UnknownUnit(Exception):
    """There is no such unit (`unit.unknown`)."""

    code = "unit.unknown"
    retry = False
    advice = "`terminal.status` names the units of this terminal"


@dataclass(slots=True)
class _Unit:
    name: str
    life: Life
    gives_up: bool
    longest_pause_seconds: float
    state: UnitState = UnitState.STOPPED
    broken_code: str | None = None
    pause_seconds: float = FIRST_PAUSE_SECONDS
    running_since: float | None = None
    tries: int = 0
    breaks: deque[float] = field(default_factory=lambda: deque(maxlen=GIVE_UP_BREAKS))
    only_by_hand: bool = False
    said: dict[str, float] = field(default_factory=dict)
    """Codes that were logged, and when."""
    told: set[str] = field(default_factory=set)
    """Those of the present outage."""
    gave_up_at: float = -math.inf
    """When that was last logged."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Keeps units alive as tasks of one TaskGroup, and stops them in the reverse of their order."""

    def __init__(self, jitter: random.Random, on_change: UnitListener) -> None:
        self._jitter = jitter
        self._on_change = on_change
        self._units: dict[str, _Unit] = {}

    def start(
        self,
        group: asyncio.TaskGroup,
        name: str,
        life: Life,
        *,
        gives_up: bool = False,
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        """Keep `life` alive as the unit `name`, in a task of `group`; one that `gives_up` calls for a person."""
        unit = _Unit(name, life, gives_up, longest_pause_seconds)
        self._units[name] = unit
        unit.task = group.create_task(self._keep(unit), name=f"unit-{name}")

    def require(self, name: str) -> None:
        """Raise UnknownUnit when there is no such unit."""
        if name not in self._units:
            raise UnknownUnit(f"there is no unit {name}")

    def plugged(self, name: str) -> None:
        """Try a unit at once, with the first pauses again: its device was plugged in. One that runs is left alone."""
        unit = self._units.get(name)
        if unit is not None:
            unit.tries = 0
            unit.pause_seconds = FIRST_PAUSE_SECONDS
            unit.wake.set()

    def retry(self, name: str) -> None:
        """Try a unit at once, whatever was before: a person asks. Raises UnknownUnit."""
        self.require(name)
        self._units[name].breaks.clear()
        self.plugged(name)

    async def stop(self, *names: str) -> None:
        """Stop the units together, last started first, within STOP_SECONDS: those of these names, or all of them."""
        units = [self._units.pop(name) for name in reversed(list(self._units)) if not names or name in names]
        tasks = {unit.task: unit.name for unit in units if unit.task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in pending:
                log.error("unit_stuck", unit=tasks[task], seconds=STOP_SECONDS)

    async def _keep(self, unit: _Unit) -> None:
        try:
            self._change(unit, UnitState.STARTING)
            while True:
                unit.wake.clear()
                self._broke(unit, await self._live(unit))
                if await self._woken(unit) or unit.state is not UnitState.GAVE_UP:
                    self._change(unit, UnitState.STARTING)
        finally:
            self._change(unit, UnitState.STOPPED)

    async def _live(self, unit: _Unit) -> BaseException | None:
        """Return what ended a life. It has a task of its own, so that nothing in it can swallow the end of the unit."""
        unit.running_since = None

        async def live() -> BaseException | None:
            try:
                await unit.life(lambda: self._ready(unit))
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever ends a life is told and survived
                return error
            return None

        life = asyncio.create_task(live(), name=f"life-{unit.name}")
        is_cancelled = False
        while not life.done():
            try:
                await asyncio.wait([life])
            except asyncio.CancelledError:
                life.cancel()
                is_cancelled = True
        if is_cancelled:
            raise asyncio.CancelledError
        return life.result()

    def _ready(self, unit: _Unit) -> None:
        if unit.running_since is not None or unit.state not in {UnitState.STARTING, UnitState.GAVE_UP}:
            return
        unit.running_since = asyncio.get_running_loop().time()
        unit.wake.clear()
        if unit.told:
            log.info("unit_healed", unit=unit.name)
            unit.told.clear()
        unit.broken_code = None
        self._change(unit, UnitState.RUNNING)

    def _broke(self, unit: _Unit, error: BaseException | None) -> None:
        now, since = asyncio.get_running_loop().time(), unit.running_since
        if since is not None:
            unit.breaks.append(now)
            if now - since >= GOOD_RUN_SECONDS:
                unit.pause_seconds = FIRST_PAUSE_SECONDS
                unit.tries = 0
        unit.tries += 1
        code = "unit.ended" if error is None else error_code(error)
        self._tell(unit, code, error, now)
        unit.broken_code = code
        unit.only_by_hand = isinstance(error, WrongDevice)
        if unit.state is UnitState.GAVE_UP:
            self._on_change(unit.name, unit.state, code)
            return
        often = len(unit.breaks) == GIVE_UP_BREAKS and now - unit.breaks[0] <= GIVE_UP_WINDOW_SECONDS
        if unit.only_by_hand or (unit.gives_up and (often or unit.tries >= GIVE_UP_TRIES)):
            if now - unit.gave_up_at >= REPEAT_SECONDS:
                unit.gave_up_at = now
                log.error("unit_gave_up", unit=unit.name, code=code, tries=unit.tries, advice="devices.retry")
            self._change(unit, UnitState.GAVE_UP)
        else:
            self._change(unit, UnitState.BACKING_OFF)

    def _tell(self, unit: _Unit, code: str, error: BaseException | None, now: float) -> None:
        """Log why a unit broke: each reason once in an outage, and not again within REPEAT_SECONDS."""
        if code in unit.told or now - unit.said.get(code, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        unit.told.add(code)
        unit.said[code] = now
        if code == "internal" and error is not None:
            log.error("unit_broken", unit=unit.name, code=code, error=error_types(error))
        else:
            log.warning("unit_broken", unit=unit.name, code=code)

    async def _woken(self, unit: _Unit) -> bool:
        """Wait for the next life; say whether somebody asked for it before its time."""
        if unit.state is UnitState.GAVE_UP:
            pause = None if unit.only_by_hand else PROBE_SECONDS
        else:
            spread = self._jitter.uniform(1 - JITTER, 1 + JITTER)
            pause = min(unit.pause_seconds * spread, unit.longest_pause_seconds)
            unit.pause_seconds = min(unit.pause_seconds * PAUSE_FACTOR, unit.longest_pause_seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await unit.wake.wait()
                return True
        return False

    def _change(self, unit: _Unit, state: UnitState) -> None:
        if unit.state is not state:
            unit.state = state
            self._on_change(unit.name, state, unit.broken_code)
