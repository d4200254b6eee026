"""Watches the UPS and acts on it: who is told, who is refused, and the way down and back (T14).

A unit of the daemon. It does nothing on a terminal without a UPS but say that nobody knows.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import structlog

from devices.ups.status import STALE, UpsStatus
from runtime.audit import Audit
from runtime.journal import Journal, JournalError, Outcome
from runtime.power_plan import REFUSAL, TOO_SLOW, Done, Hall, Means, Plan
from runtime.power_settings import Power
from runtime.power_state import PowerMachine, PowerState
from runtime.services.steps import Origin, event
from runtime.state import Component, StateBoard

log = structlog.get_logger(__name__)

COMPONENT = "power"
ASK_SECONDS = 0.1
"""Between two looks whether the UPS has answered."""
LOOK_SECONDS = 1.0
"""Between two looks while something is amiss; otherwise the UPS's driver says when to look."""
SURE_SECONDS = 5.0
"""For the last reading of mains that stayed, over the time that they have to stay."""
END_SECONDS = 1.0
"""What the last lines may take to reach the disk when the daemon stops."""
_QUIET = {PowerState.UNKNOWN, PowerState.ON_MAINS, PowerState.NO_RETURN}
_REFUSING = {PowerState.LOW, PowerState.GOING_DOWN}


class Readable(Protocol):
    """A UPS's driver, as far as the states need it."""

    def reading(self) -> UpsStatus:
        """Return what is known now."""

    def ask_now(self) -> None:
        """Have the UPS asked at once."""


@runtime_checkable
class Watched(Protocol):
    """A device that is asked all the time, seldom or often (devices.sensor)."""

    def watch(self, *, closely: bool) -> None:
        """Say whether it matters now how the device is."""


@dataclass(frozen=True, slots=True)
class _Note:
    """A line for the audit log and a supervision event."""

    line: str
    step: str
    outage: str
    code: str | None = None
    seconds: float = 0.0
    of: str | None = None


class PowerKeeper:
    """The terminal's power. `heard` and `served` take what happens; `run` is one supervised life."""

    def __init__(
        self,
        settings: Power,
        drivers: Iterable[object],
        ups: Readable | None,
        *,
        audit: Audit,
        origin: Origin,
        board: StateBoard,
        means: Means,
    ) -> None:
        self._settings = settings
        self._watched = [driver for driver in drivers if isinstance(driver, Watched)]
        self._ups = ups
        self._audit = audit
        self._journal: Journal = means.journal
        self._origin = origin
        self._board = board
        self._means = means
        self._machine = PowerMachine(settings)
        self._hall: Hall | None = None
        self._give_up: Callable[[], None] = lambda: None
        self._heard = asyncio.Event()
        self._sure = asyncio.Event()
        self._is_served = False
        self._outage = ""
        self._step = ""
        self._notes: asyncio.Queue[_Note] = asyncio.Queue()
        self._plan: asyncio.Task[None] | None = None

    def guard(self, hall: Hall, give_up: Callable[[], None]) -> None:
        """Act on this place for sessions; `give_up` ends a daemon whose board does not go off."""
        self._hall = hall
        self._give_up = give_up

    def heard(self) -> None:
        """Look now: the UPS's driver says something new."""
        self._heard.set()

    def served(self, *, occupied: bool) -> None:
        """Take note whether a citizen is served."""
        self._is_served = occupied
        self._watch()

    async def run(self, ready: Callable[[], None]) -> None:
        """Watch until cancelled, or until the board should be off and is not."""
        writing = asyncio.create_task(self._write(), name="power-notes")
        self._watch()
        ready()
        try:
            while True:
                self._heard.clear()
                self._look()
                seconds = None if self._is_quiet() else LOOK_SECONDS
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._heard.wait()
                if self._plan is not None and self._plan.done():
                    if self._machine.state is not PowerState.NO_RETURN:
                        self._plan.result()  # raises the fault of the program that ended it
                    self._give_up()
                    await asyncio.Event().wait()
        finally:
            await self._stop_plan()
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._notes.join()
            writing.cancel()
            await asyncio.wait({writing})

    def _is_quiet(self) -> bool:
        """Whether nothing changes before the driver says something: a reading that is good, or none at all."""
        if self._machine.state not in _QUIET:
            return False
        return self._ups is None or self._ups.reading().code is not None or self._is_online()

    def _is_online(self) -> bool:
        component = self._board.get("ups")
        return component is not None and component.state == "online"

    def _look(self) -> None:
        reading = STALE if self._ups is None else self._ups.reading()
        before = self._machine.state
        state = self._machine.look(reading, asyncio.get_running_loop().time())
        if state is not before:
            self._changed(before, state)
        if self._machine.is_returning and self._ups is not None:
            self._ups.ask_now()
        if state is PowerState.GOING_DOWN and self._plan is None and self._hall is not None:
            self._begin_plan(self._hall)
        (self._sure.clear if self._machine.is_returning else self._sure.set)()
        self._show(reading)

    def _changed(self, before: PowerState, state: PowerState) -> None:
        log.info("power_changed", before=before, state=state)
        if state in (PowerState.ON_BATTERY, *_REFUSING) and not self._outage:
            self._outage = secrets.token_hex(8)
        hall = self._hall
        if hall is not None and state is PowerState.LOW:
            hall.refuse(REFUSAL)
            hall.limit(self._settings.session_seconds)
        elif hall is not None and before in _REFUSING and state not in (*_REFUSING, PowerState.NO_RETURN):
            self._undo(hall)
        if self._outage:
            self._note(f"power_{state}", f"power.{state}")
        if state is PowerState.ON_MAINS:
            self._outage = ""
        self._watch()

    def _watch(self) -> None:
        closely = self._is_served or self._machine.state not in _QUIET
        for device in self._watched:
            device.watch(closely=closely)

    def _begin_plan(self, hall: Hall) -> None:
        plan = Plan(
            self._settings,
            self._means,
            hall,
            look=self._ask_ups,
            until_sure=self._until_sure,
            on_no_return=self._pass_no_return,
            on_done=self._done,
            flush=self._notes.join,
        )
        self._plan = asyncio.create_task(plan.run(), name="power-plan")
        self._plan.add_done_callback(lambda _: self._heard.set())

    def _undo(self, hall: Hall) -> None:
        """Serve again: nothing was done that cannot be undone."""
        if self._plan is not None:
            log.info("power_plan_cancelled", step=self._step)
            self._note("power_plan_cancelled", "power.plan_cancelled", of=self._step)
            self._plan.cancel()
            self._plan = None
            self._step = ""
        hall.limit(None)
        hall.hurry(None)
        hall.admit(REFUSAL)

    async def _stop_plan(self) -> None:
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.cancel()
            await asyncio.wait({plan})

    async def _ask_ups(self) -> None:
        """Have the UPS say once more how it is, and look at that."""
        if self._ups is None:
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._ups.ask_now()
        while True:
            await asyncio.sleep(ASK_SECONDS)
            age = self._ups.reading().age_seconds
            if age is None or age < loop.time() - began:
                break
        self._look()

    async def _until_sure(self) -> None:
        """While the mains are back, wait whether they stay: nothing that cannot be undone is done meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.mains_back_seconds + SURE_SECONDS):
                await self._sure.wait()

    def _pass_no_return(self) -> None:
        before = self._machine.state
        self._machine.pass_no_return()
        self._changed(before, self._machine.state)

    def _done(self, done: Done) -> None:
        self._step = done.step
        self._note("power_step", f"power.{done.step}", code=done.code, seconds=done.seconds, of=done.step)
        self._heard.set()

    def _note(
        self, line: str, step: str, *, code: str | None = None, seconds: float = 0.0, of: str | None = None
    ) -> None:
        self._notes.put_nowait(_Note(line, step, self._outage, code, seconds, of))

    async def _write(self) -> None:
        """Write what was noted, in order; what the disk does not take is in the log."""
        while True:
            note = await self._notes.get()
            outcome: Outcome = "done" if note.code is None else "unknown" if note.code == TOO_SLOW else "refused"
            told = event(
                self._origin, note.outage, note.step, outcome=outcome, code=note.code, seconds=round(note.seconds, 3)
            )
            about = {
                "outage": note.outage,
                "step": note.of,
                "code": note.code,
                "milliseconds": round(note.seconds * 1000) if note.line == "power_step" else None,
            }
            try:
                await self._audit.note(note.line, actor="daemon", details=about)
                await self._journal.append(told)
            except JournalError as error:
                log.error("outcome_not_journaled", code=error.code)
            finally:
                self._notes.task_done()

    def _show(self, reading: UpsStatus) -> None:
        state, details = self._machine.state, dict[str, Any]()
        if state not in (PowerState.UNKNOWN, PowerState.ON_MAINS):
            if reading.runtime_seconds is not None:
                details["runtime_minutes"] = str(round(reading.runtime_seconds / 60))
            if self._machine.is_returning:
                details["returning"] = True
            if self._step:
                details["step"] = self._step
        self._board.set(COMPONENT, Component(state, details=details))
