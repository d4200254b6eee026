"""Looks after payments that no citizen waits for: taken back, heard of late, compared at day's end (T10)."""

import asyncio
from collections.abc import Callable

import structlog

from runtime.services.payment_book import china, day_of, ended, forget_end
from runtime.services.payment_days import DAY_SECONDS, DayBook
from runtime.services.payment_till import Till
from runtime.services.steps import Refused

log = structlog.get_logger(__name__)

LOOK_SECONDS = 600.0
"""Between two looks at the clock, which may be set meanwhile, and two tries of a day's comparison."""
AGAIN_SECONDS = 60.0
"""Before an order is asked for again of which the platform did not say how it stands."""
ACTOR = "daemon"


class PaymentKeeper:
    """A supervised unit."""

    def __init__(self, till: Till, days: DayBook, hour: int) -> None:
        """Compare the day before at `hour` in China, and every day that was missed."""
        self._till = till
        self._days = days
        self._hour = hour
        self._done_for = ""

    def look(self) -> None:
        """Look now whether something is to be taken back: a session ended, or something was settled."""
        self._till.changed.set()

    def ended(self, order: str) -> None:
        """Look at an order that has come to an end, as the platform says and the journal notes."""
        held = self._till.held.get(order)
        if held is not None and held.state == "open":
            held.news.set()
        else:
            self._till.changed.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Look at the start, whenever something happened, and at the clock; raises JournalError."""
        self._done_for = self._yesterday()
        ready()
        while True:
            self._till.changed.clear()
            await self._till.tidy()
            is_heard = await self._hear()
            await self._compare()
            await self._days.count()
            try:
                async with asyncio.timeout(LOOK_SECONDS if is_heard else AGAIN_SECONDS):
                    await self._till.changed.wait()
            except TimeoutError:
                continue

    async def _hear(self) -> bool:
        """Take back what the bank charged after it was given up; False when that cannot be told of all orders yet."""
        journal, is_heard = self._till.office.journal, True
        for order in await ended(journal):
            if order.state in ("open", "reversing"):
                is_heard = False  # it is being settled: look again then
                continue
            if order.state in ("refused", "expired"):
                try:
                    standing = await self._till.query(order.order)
                except Refused as refused:
                    log.info("payment_not_asked", code=refused.code)
                    is_heard = False
                    continue
                if standing.state == "paid":
                    await self._till.take_back(order.order, "payment.charged_late")
            await journal.write(forget_end(order.order))
        return is_heard

    async def _compare(self) -> None:
        """Compare the days that are due; those that could not be compared stay so, and hold up no other."""
        yesterday = self._yesterday()
        owed = [day for day in await self._days.owed() if day <= yesterday]
        if yesterday > self._done_for and yesterday not in owed:
            owed.append(yesterday)
        refused = [day for day in owed if (await self._days.reconcile(day, ACTOR)).outcome == "refused"]
        if yesterday not in refused:
            self._done_for = yesterday

    def _yesterday(self) -> str:
        """Return the last day whose time to be compared has come."""
        now = self._till.office.origin.wall_clock()
        is_time = china(now).hour >= self._hour
        return day_of(now - DAY_SECONDS * (1 if is_time else 2))
