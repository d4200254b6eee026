"""The metering ledger: one entry per use, written with the use's outcome (S6).

Every use is one call under an intent. Its entry carries the call's key, so that none is counted twice; a use whose
answer never came is settled with the platform, and then counted as the platform did.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from runtime.journal import Intent, JournalError
from runtime.messages import MessageError
from runtime.messages.sharing import Mode, UseRequest, UseStanding
from runtime.services.office import Office, Settlement
from runtime.services.payment_book import china
from runtime.services.steps import INTERRUPTED, Refused, Transaction, event
from transport.errors import TransportError

USE = "use_shared"
"""The kind of the intent that is open while a use is under way."""
AGAIN_SECONDS = 0.5
"""Before a use that the platform refused for the moment is tried once more."""
CLOCK_SECONDS = 86_400.0
"""No use is counted this far from the platform's time: whoever says so has a clock that is wrong."""
MOST_UNITS = 2**31
_LATEST = 253_000_000_000.0
"""A time in the last year that a date can have."""

M = TypeVar("M", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Taken:
    """What is to be counted of an answer, and its rows.

    `code` says why what it brought was refused, `also` what it changes in the journal's tables.
    """

    resource: str
    mode: Mode
    units: int
    counted_unix: int
    as_of_unix: int = 0
    code: str | None = None
    also: Callable[[sqlite3.Connection], object] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)


class LedgerLine(msgspec.Struct, frozen=True):
    """What was used of a resource in a mode in a month; the answers of `refused` uses were never of use."""

    resource: str
    mode: Mode
    uses: int
    units: int
    refused: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """Counts uses; `look` has the open intents settled.

    `now` is the platform's clock (UTC seconds), the terminal's own where it is not known yet.
    """

    office: Office
    look: Callable[[], None]
    now: Callable[[], float]

    async def ask(
        self,
        transaction: Transaction,
        message: Callable[[str], msgspec.Struct],
        answer: type[M],
        take: Callable[[M], Awaitable[Taken]],
    ) -> Taken:
        """Make one use and count it; `message` is given its name, `take` says what to count of the answer.

        A use that the platform refuses for the moment is tried again within the platform's deadline. Raises Refused
        with the platform's code, the line's or that of `take`; `platform.no_answer` leaves the intent open until it is
        settled.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.office.answer_seconds
        while True:
            try:
                return await self._once(transaction, message, answer, take, ends - loop.time())
            except Refused as refused:
                if refused.code != "sharing.busy" or loop.time() + AGAIN_SECONDS >= ends:
                    raise
            finally:
                self.look()  # whatever ended it, an intent may be open
            await asyncio.sleep(AGAIN_SECONDS)

    async def _once(
        self,
        transaction: Transaction,
        message: Callable[[str], msgspec.Struct],
        answer: type[M],
        take: Callable[[M], Awaitable[Taken]],
        seconds: float,
    ) -> Taken:
        async with self.office.effect(transaction, USE, transaction.id) as effect:
            taken = await take(
                await self.office.act(effect, message(effect.intent.key), answer, deadline_seconds=seconds)
            )
            taken = self._timely(taken, self.now())
            entry = _entry(effect.intent.key, taken)

            def write(db: sqlite3.Connection) -> None:
                _count(db, entry)
                if taken.also is not None:
                    taken.also(db)

            effect.also = write
            if taken.code is None:
                effect.done()
            else:
                effect.refused(taken.code)
        if taken.code is not None:
            raise Refused(taken.code, "what came was refused", retry=True)
        return taken

    async def settle(self, intent: Intent, settlement: Settlement) -> None:
        """Close the intent of a use whose answer never came, counted as the platform counted it (a Settler)."""
        entry = None
        if settlement == "acted":
            try:
                said = await self.office.ask(UseRequest(intent.key), UseStanding, key=secrets.token_bytes(16))
            except (MessageError, Refused) as error:
                raise _not_told(error.code) from None
            use = said.counted
            if said.use != intent.key or (use is not None and not 0 <= use.units <= MOST_UNITS):
                raise _not_told("message.unexpected")
            if use is not None:
                taken = Taken(use.resource, use.mode, use.units, use.counted_unix, code=INTERRUPTED)
                entry = _entry(intent.key, self._timely(taken, intent.opened_at))
        code = INTERRUPTED if entry is not None else "sharing.not_counted"
        told = event(self.office.origin, intent.transaction, USE, outcome="refused", code=code, seconds=0.0)
        also = None if entry is None else lambda db: _count(db, entry)
        try:
            await self.office.journal.close_intent(intent, "refused", code, told, also)
        except JournalError as error:
            if error.code != "journal.no_intent":  # it ended by itself meanwhile
                raise

    async def month(self, month: str) -> list[LedgerLine]:
        """Return what was used in a month; raises JournalError."""
        return await self.office.journal.read(lambda db: month_lines(db, month))

    def _timely(self, taken: Taken, since: float) -> Taken:
        """Return what is to be counted, at a time that may be: else now, and what came is of no use."""
        now = self.now()
        if min(since, now) - CLOCK_SECONDS <= taken.counted_unix <= now + CLOCK_SECONDS:
            return taken
        code, also = (taken.code, taken.also) if taken.code is not None else ("sharing.bad_time", None)
        return replace(taken, counted_unix=int(now), code=code, also=also, rows=[])


def month_lines(db: sqlite3.Connection, month: str) -> list[LedgerLine]:
    """Return what was used in a month."""
    statement = """
        SELECT resource, mode, count(*), sum(units), count(code) FROM metering WHERE month = ?
        GROUP BY resource, mode ORDER BY resource, mode"""
    return [LedgerLine(*row) for row in db.execute(statement, (month,))]


def month_of(unix: float) -> str:
    """Return the month of a time in China Standard Time, as `2027-01`."""
    return f"{china(max(0.0, min(unix, _LATEST))):%Y-%m}"


def _entry(use: str, taken: Taken) -> tuple[str, str, str, int, float, str, str | None]:
    month = month_of(taken.counted_unix)
    return (use, taken.resource, taken.mode, taken.units, float(taken.counted_unix), month, taken.code)


def _count(db: sqlite3.Connection, entry: tuple[str, str, str, int, float, str, str | None]) -> None:
    db.execute("INSERT OR IGNORE INTO metering VALUES (?, ?, ?, ?, ?, ?, ?)", entry)


def _not_told(code: str) -> TransportError:
    return TransportError(code, "the platform does not say what it counted", advice="try again", retry=True)
