"""Seals the audit log each day with the identity key, tells the platform, and keeps the log within its budget (H7)."""

import asyncio
from collections.abc import Callable
from typing import Literal

import structlog

from runtime.audit import Audit
from runtime.audit_chain import KEPT_SECONDS, AuditError, Seal
from runtime.journal import Journal, JournalError
from runtime.messages.audit import AuditSeal
from runtime.services.payment_book import day_of
from runtime.services.steps import Origin
from transport.errors import TransportError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1_800.0
"""Between two looks whether a day has ended, or a file is full."""
FILE_BYTES = 4 * 2**20
"""A file that is this long is sealed and closed."""
BUDGET_BYTES = 256 * 2**20
"""What the log may take: 180 days of a busy terminal are 65 MB (docs/audit.md)."""
OVER_BUDGET = "audit.over_budget"
"""The alarm of a log that is too long and of which nothing is old enough to go."""


class Seals:
    """The seals of the audit log. `run` is one supervised life.

    A day (in China, by the terminal's own clock) is sealed when it is over; one that was not over when the terminal
    went off, at the next start. What a seal says of the time is the platform's clock, where it is known.
    """

    def __init__(
        self,
        audit: Audit,
        journal: Journal,
        *,
        sign: Callable[[bytes], bytes],
        terminal: str,
        origin: Origin,
        platform_time: Callable[[], float | None],
        sound: Callable[[str, str], None],
    ) -> None:
        """`sign` signs by the identity key; `sound` raises an alarm (`runtime.alarms.Alarms.sound`)."""
        self._audit = audit
        self._journal = journal
        self._sign = sign
        self._terminal = terminal
        self._origin = origin
        self._platform_time = platform_time
        self._sound = sound
        self._said: set[str] = set()
        self.known_time = 0.0
        """The platform's time (UTC seconds) of the last seal that has it: it is not earlier now."""

    async def open(self) -> None:
        """See what the platform's time was at least; raise AuditError."""
        self.known_time = await self._audit.known_time()

    async def run(self, ready: Callable[[], None]) -> None:
        """Look after the log until cancelled; what cannot be done now is tried at the next look."""
        ready()
        while True:
            try:
                await self.look()
                self._said &= {OVER_BUDGET}
            except (AuditError, JournalError, TransportError) as error:
                if error.code not in self._said:
                    self._said.add(error.code)
                    log.error("audit_not_sealed", code=error.code, reason=str(error), advice=error.advice)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Seal a day that is over or a file that is full, and see to the budget.

        Raises AuditError, JournalError, TransportError.
        """
        standing = await self._audit.standing()
        is_full = standing.bytes >= FILE_BYTES
        since = standing.unsealed_since
        if since is not None and (is_full or _day(since) != day_of(self._origin.wall_clock())):
            await self._seal(ends_file=is_full)
        await self._bound(standing.bytes)

    async def _seal(self, *, ends_file: bool) -> None:
        now = self._platform_time()
        at = int(self._origin.wall_clock() if now is None else now)
        clock: Literal["platform", "own"] = "own" if now is None else "platform"
        seal = await self._audit.seal(self._sign, self._terminal, at, clock, ends_file=ends_file)
        if seal.clock == "platform":
            self.known_time = max(self.known_time, float(seal.at))
        log.info("audit_sealed", lines=seal.lines, clock=seal.clock)
        head, signature = bytes.fromhex(seal.head), bytes.fromhex(seal.signature)
        origin = self._origin
        told = AuditSeal(seal.at, seal.clock, seal.lines, head, signature, origin.boot_id, origin.rig)
        await self._journal.append(told)

    async def _bound(self, present_bytes: int) -> None:
        """Remove the oldest files of a log that is too long, as far as they are old enough by the last seal."""
        closed = await self._audit.closed()
        total = present_bytes + sum(size for size, _ in closed)
        old = min(self._old(closed), len(closed) - 1)  # the present file's first line follows from the last closed one
        drop = 0
        while total > BUDGET_BYTES and drop < old:
            total -= closed[drop][0]
            drop += 1
        if drop:
            log.info("audit_removed", files=drop)
            await self._audit.remove(drop)
        if total > BUDGET_BYTES and OVER_BUDGET not in self._said:
            self._said.add(OVER_BUDGET)
            self._sound(OVER_BUDGET, "audit")

    def _old(self, closed: list[tuple[int, Seal | None]]) -> int:
        """Return how many of the oldest files seals by the platform's clock prove to be older than KEPT_SECONDS.

        The last one dates them, so who verifies by the seals finds the same.
        """
        old = [
            number
            for number, (_, seal) in enumerate(closed, start=1)
            if seal is not None and seal.clock == "platform" and seal.at <= self.known_time - KEPT_SECONDS
        ]
        return max(old, default=0)


def _day(unix: float) -> str | None:
    """Return the day of a line's time; None for one that no calendar has."""
    try:
        return day_of(unix)
    except (OverflowError, ValueError, OSError):
        return None
