"""The way down when the power goes: the order of its steps, each with its own budget and measured (T14, T5, T20).

No step holds up the next one beyond its budget: one that takes longer, or fails, is told and passed over. What is not
settled by then is an open intent in the journal, for the next start (rule 2).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from runtime.alarms import Alarms
from runtime.journal import Journal
from runtime.power_settings import BUDGETS, HOST_SECONDS, LAST_SECONDS, Power
from runtime.seams import HostPower
from runtime.services.printing import PRINT
from runtime.session import EndReason
from runtime.supervisor import error_code

log = structlog.get_logger(__name__)

REFUSAL = "session.power"
LOOK_SECONDS = 0.2
"""Between two looks whether something is done."""
AGAIN_SECONDS = 5.0
"""Between two orders to power off, where the host did not take the first."""
TOO_SLOW = "power.step_too_slow"
"""The code of a step that took its whole budget and is not done."""
_SETTLE_CARDS_SECONDS = 1.0
"""Of the budget for cards, what is left for a device to take paper in and for the audit log."""


class Cutter(Protocol):
    """A UPS that can be told to cut."""

    async def shutdown_return(self, delay_seconds: float) -> None:
        """Cut after the delay, and give power again with the mains; raises DeviceError."""


class Hall(Protocol):
    """The place for the one session, as far as a power failure concerns it."""

    def refuse(self, code: str) -> None:
        """Open no other session from now on."""

    def admit(self, code: str) -> None:
        """Take back what was refused by this code."""

    def limit(self, seconds: float | None) -> None:
        """Let the open session end for want of power after so many seconds."""

    def hurry(self, seconds: float | None) -> None:
        """Wait at most so long for the devices to be clear."""

    def end(self, reason: EndReason) -> None:
        """End the session that is open, if there is one."""

    async def over(self) -> None:
        """Return when no session is open any more."""

    async def clear(self) -> None:
        """Return when the devices are clear."""

    def wipe(self) -> None:
        """Overwrite what the open session holds."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the plan works with. `forget` wipes every key and stops what uses them; `is_up` tells of the line."""

    journal: Journal
    alarms: Alarms
    is_up: Callable[[], bool]
    forget: Callable[[], Coroutine[Any, Any, None]]
    host: HostPower
    ups: Cutter | None


class NoUps(Exception):
    """There is no UPS that could be told to cut (`power.no_ups`)."""

    code = "power.no_ups"
    retry = False
    advice = "configure [ups]"


@dataclass(frozen=True, slots=True)
class Done:
    """How a step ended: None is done; and the seconds it took."""

    step: str
    code: str | None
    seconds: float
    budget: float


class Plan:
    """One way down. `run` ends with the order to power off; cancelled before `on_no_return`, it undoes itself."""

    def __init__(
        self,
        settings: Power,
        means: Means,
        hall: Hall,
        *,
        look: Callable[[], Coroutine[Any, Any, None]],
        until_sure: Callable[[], Awaitable[None]],
        on_no_return: Callable[[], None],
        on_done: Callable[[Done], None],
        flush: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """`look` has the UPS asked once more; `until_sure` returns when the mains are not just coming back; `flush`
        when what `on_done` heard is noted.
        """
        self._settings = settings
        self._means = means
        self._hall = hall
        self._look = look
        self._until_sure = until_sure
        self._on_no_return = on_no_return
        self._on_done = on_done
        self._flush = flush
        self._late: set[asyncio.Task[None]] = set()
        self._has_no_return = False

    async def run(self) -> None:
        """Go down. What the host does not take is asked for again without end, for the caller to end."""
        hall, means, seconds = self._hall, self._means, self._settings.deliver_seconds
        hall.refuse(REFUSAL)
        hall.hurry(BUDGETS["cards"] - _SETTLE_CARDS_SECONDS)
        hall.limit(LAST_SECONDS)
        try:
            await self._step("session", hall.over(), is_deadline=True)
            hall.end("power")
            await self._step("end", hall.over())
            await self._step("cards", hall.clear())
            await self._step("print", self._until(self._is_print_over))
            await self._step("settle", self._until(self._is_settled))
            await self._step("tell", self._flush())
            spent = await self._step("alarms", self._deliver(self._are_alarms_out), seconds)
            await self._step("records", self._deliver(self._are_records_out), max(0.0, seconds - spent))
            await self._step("checkpoint", means.journal.checkpoint())
            await self._step("look", self._look())
            await self._until_sure()
            self._has_no_return = True
            self._on_no_return()
            hall.wipe()
            await self._step("wipe", means.forget())
            await self._step("ups", self._cut())
            await self._step("results", self._flush())
            await self._off()
        finally:
            if not self._has_no_return:
                hall.limit(None)
                hall.hurry(None)
            for task in self._late:
                task.cancel()

    async def _step(
        self, name: str, work: Coroutine[Any, Any, None], budget: float | None = None, *, is_deadline: bool = False
    ) -> float:
        """Do a step within its budget, tell how it went, and return the seconds that it took; it never raises.

        A step that `is_deadline` is done when its budget is over.
        """
        loop = asyncio.get_running_loop()
        budget = BUDGETS[name] if budget is None else budget
        began = loop.time()
        task = asyncio.create_task(work, name=f"power-{name}")
        self._late.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=budget)
        code = None
        if not task.done():
            code = None if is_deadline else TOO_SLOW
            task.cancel()
        elif not task.cancelled() and (error := task.exception()) is not None:
            code = error_code(error)
        done = Done(name, code, round(loop.time() - began, 3), budget)
        (log.info if code is None else log.error)(
            "power_step", step=name, code=code, seconds=done.seconds, budget_seconds=budget
        )
        self._on_done(done)
        return done.seconds

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also of a step that was too slow

    async def _until(self, look: Callable[[], Awaitable[bool]]) -> None:
        while True:
            if await look():
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _is_print_over(self) -> bool:
        return not await self._means.journal.open_intents(PRINT)

    async def _is_settled(self) -> bool:
        """Whether no intent is open; with the line down the open ones stay so."""
        if not self._means.is_up():
            return True
        statement = "SELECT count(*) FROM intents WHERE state = 'open'"
        return await self._means.journal.read(lambda db: int(db.execute(statement).fetchone()[0])) == 0

    async def _deliver(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Wait for receipts while the line is up; without it what waits stays in the journal (T12)."""
        while self._means.is_up():
            if await look():
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _are_alarms_out(self) -> bool:
        return all(alarm.receipted for alarm in await self._means.alarms.list())

    async def _are_records_out(self) -> bool:
        return not (await self._means.journal.waiting())["supervision"]

    async def _cut(self) -> None:
        if self._means.ups is None:
            raise NoUps("there is no UPS")
        await self._means.ups.shutdown_return(self._settings.cut_seconds)

    async def _off(self) -> None:
        """Order the host to power off until it takes the order; then wait for the end that it brings."""
        loop = asyncio.get_running_loop()
        until = loop.time() + max(self._settings.cut_seconds, HOST_SECONDS)
        is_taken = False

        async def order() -> None:
            nonlocal is_taken
            await self._means.host.power_off()
            is_taken = True

        while not is_taken and loop.time() < until:
            await self._step("off", order())
            if not is_taken:
                await asyncio.sleep(AGAIN_SECONDS)
        await asyncio.sleep(max(0.0, until - loop.time()))
        log.error("board_not_off", advice="the daemon is started again; see the log of systemd-logind")
