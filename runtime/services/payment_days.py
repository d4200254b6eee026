"""A day's payments, compared with the platform's list; what differs is journaled and shown (T10).

Nothing is moved by a comparison. Where the platform has an order as paid and the terminal has not, the money goes back
by a person's order alone: the citizen may have been given a receipt at the counter, which no machine knows.
"""

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from runtime.messages.payment import DayDifference, DayList, DayOrder, DayRequest
from runtime.services.payment_book import KEPT_DAYS, PaymentOrder, add, day_of, find, of_day, on_the_way_back
from runtime.services.payment_till import UNKNOWN, Till
from runtime.services.steps import Refused, Result, Transaction

DAY_SECONDS = 86_400.0
_UNSETTLED = {"open", "reversing"}
_NOTHING_PAID = {"refused", "expired"}


class PaymentDifference(msgspec.Struct, frozen=True):
    """What differs in an order; a side without it is null. A side reads as `paid unionpay_qr 8000` (fen)."""

    order: str
    terminal: str | None
    platform: str | None


class PaymentDay(Result, frozen=True, kw_only=True):
    """The answer of `payments.day` and `payments.reconcile`.

    `reconciled_at` is when the day was compared last (UTC seconds), null when it was not; `unsettled` orders had no end
    then: compare again later.
    """

    day: str
    orders: list[PaymentOrder] = msgspec.field(default_factory=list)
    reconciled_at: float | None = None
    unsettled: int = 0
    differences: list[PaymentDifference] = msgspec.field(default_factory=list)


class PaymentGivenBack(Result, frozen=True, kw_only=True):
    """The answer of `payments.reverse`; the reversal is said until the platform says how the order ended."""

    order: str | None = None


@dataclass(frozen=True, slots=True)
class DayBook:
    """Compares days, shows them, and gives back what a person orders.

    `on_count` is told how many orders differ, of all days, and how many are on their way back.
    """

    till: Till
    on_count: Callable[[int, int], None]

    async def show(self, day: str, actor: str) -> PaymentDay:
        """Return the orders of a day and what its last comparison found."""

        async def work(_transaction: Transaction) -> dict[str, Any]:
            return await self._day(day)

        return await self.till.office.serve(
            actor, "payments_shown", PaymentDay, work, done="payment.day_shown", about={"day": day}
        )

    async def reconcile(self, day: str, actor: str) -> PaymentDay:
        """Compare a day with the platform's list, and journal what differs."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            try:
                differences = await self._compare(transaction, day)
            except Refused as refused:
                return await self._day(day) | {
                    "outcome": "refused",
                    "code": refused.code,
                    "retry": refused.retry,
                }
            await self.count()
            shown = await self._day(day)
            if shown.get("unsettled"):  # a day older than KEPT_DAYS is forgotten as soon as it is compared
                return shown | {"outcome": "pending", "code": "payment.day_unsettled", "retry": True}
            return shown | ({"code": "payment.day_differs"} if differences else {})

        return await self.till.office.serve(
            actor, "payments_reconciled", PaymentDay, work, done="payment.day_equal", about={"day": day}
        )

    async def reverse(self, order: str, actor: str) -> PaymentGivenBack:
        """Give back an order that the platform has as paid and the terminal has not; a person orders it."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            async with transaction.step("order_reversal", deadline_seconds=2.0, no_answer="journal.write_failed"):
                await self._expect_difference(order)
                await self.till.take_back(order, "payment.ordered_back")
            return {"order": order, "outcome": "pending", "code": "payment.reversing"}

        await self.till.office.audit.append("payment_reversal_ordered", actor=actor, details={"order": order})
        return await self.till.office.serve(
            actor, "payment_reversal_begun", PaymentGivenBack, work, done="payment.reversing", about={"order": order}
        )

    async def count(self) -> None:
        """Tell how many orders differ and are on their way back; raises JournalError."""
        journal, statement = self.till.office.journal, "SELECT count(*) FROM payment_differences"
        differing = await journal.read(lambda db: int(db.execute(statement).fetchone()[0]))
        self.on_count(differing, await on_the_way_back(journal))

    async def owed(self) -> list[str]:
        """Return the days before today to be compared, oldest first; raises JournalError.

        Those are the ones that never were, and those of whose unsettled orders some have ended since.
        """
        today = day_of(self.till.office.origin.wall_clock())
        statement = """
            SELECT DISTINCT payments.day FROM payments LEFT JOIN payment_days ON payment_days.day = payments.day
            WHERE payments.day < ? AND (payment_days.day IS NULL OR payment_days.unsettled > (
                SELECT count(*) FROM payments AS one WHERE one.day = payments.day AND one.state IN ('open', 'reversing')
            )) ORDER BY 1"""
        rows = await self.till.office.journal.read(lambda db: db.execute(statement, (today,)).fetchall())
        return [str(row[0]) for row in rows]

    async def _compare(self, transaction: Transaction, day: str) -> list[PaymentDifference]:
        office = self.till.office
        deadline = office.answer_seconds + 1.0
        async with transaction.step("ask_day", deadline_seconds=deadline, no_answer="platform.no_answer"):
            said = await office.ask(DayRequest(day), DayList, key=secrets.token_bytes(16))
            theirs = {one.order: one for one in said.orders}
            if said.day != day or len(theirs) != len(said.orders):
                raise Refused("message.unexpected", "not the list asked for", retry=False)
        ours = {one.order: one for one in await of_day(office.journal, day)}
        for order in theirs.keys() - ours.keys():  # the platform's day may begin a moment earlier
            if (found := await find(office.journal, order)) is not None:
                ours[order] = found
        unsettled = {name for name, one in ours.items() if one.state in _UNSETTLED}
        for order in sorted(ours.keys() - theirs.keys() - unsettled):
            async with transaction.step("ask_order", deadline_seconds=deadline, no_answer="platform.no_answer"):
                if (standing := await self._known(order)) is not None:
                    theirs[order] = standing
        looked = sorted((ours.keys() | theirs.keys()) - unsettled)
        compared = (_difference(order, ours.get(order), theirs.get(order)) for order in looked)
        differences = [one for one in compared if one is not None]
        await self._keep(transaction, day, differences, orders=len(ours), unsettled=len(unsettled))
        return differences

    async def _known(self, order: str) -> DayOrder | None:
        """Ask for one order that is not on the list; None where the platform does not know it."""
        try:
            standing = await self.till.query(order)
        except Refused as refused:
            if refused.code != UNKNOWN:
                raise
            return None
        return DayOrder(order, standing.method, standing.amount_fen, standing.state)

    async def _keep(
        self, transaction: Transaction, day: str, found: list[PaymentDifference], *, orders: int, unsettled: int
    ) -> None:
        """Journal each new difference with a record of it, then that the day was compared."""
        journal, now = self.till.office.journal, self.till.office.origin.wall_clock()
        known = {one.order: one for one in await self._differences(day)}
        for one in found:
            if known.get(one.order) != one:
                row = (day, one.order, one.terminal, one.platform, now)
                await journal.write(partial(_enter, row), DayDifference(*row))
        gone = [(day, order) for order in known.keys() - {one.order for one in found}]
        oldest = day_of(now - KEPT_DAYS * DAY_SECONDS)

        def work(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM payment_differences WHERE day = ? AND order_id = ?", gone)
            db.execute("INSERT OR REPLACE INTO payment_days VALUES (?, ?, ?, ?)", (day, now, orders, unsettled))
            db.execute("DELETE FROM payments WHERE day < ? AND state NOT IN ('open', 'paid', 'reversing')", (oldest,))
            db.execute("DELETE FROM payment_days WHERE day < ?", (oldest,))

        code = "payment.day_differs" if found else "payment.day_unsettled" if unsettled else None
        told = transaction.event("reconcile_payments", "done" if code is None else "refused", code, 0.0)
        await journal.write(work, told)

    async def _day(self, day: str) -> dict[str, Any]:
        statement = "SELECT reconciled_at, unsettled FROM payment_days WHERE day = ?"
        journal = self.till.office.journal
        row = await journal.read(lambda db: db.execute(statement, (day,)).fetchone())
        shown = {"day": day, "orders": await of_day(journal, day), "differences": await self._differences(day)}
        return shown if row is None else shown | {"reconciled_at": row[0], "unsettled": row[1]}

    async def _differences(self, day: str) -> list[PaymentDifference]:
        statement = "SELECT order_id, terminal, platform FROM payment_differences WHERE day = ? ORDER BY 1"
        rows = await self.till.office.journal.read(lambda db: db.execute(statement, (day,)).fetchall())
        return [PaymentDifference(*row) for row in rows]

    async def _expect_difference(self, order: str) -> None:
        """See that a comparison found the order paid there and not here; one without a row here gets one."""
        journal = self.till.office.journal
        statement = "SELECT day, terminal, platform FROM payment_differences WHERE order_id = ?"
        row = await journal.read(lambda db: db.execute(statement, (order,)).fetchone())
        day, terminal, platform = row or ("", None, None)
        if platform is None or not platform.startswith("paid ") or (terminal or "").startswith("paid "):
            raise Refused("payment.not_different", "not paid at the platform alone", retry=False)
        known = await find(journal, order)
        if known is None:
            _, method, amount = platform.split(" ")
            now = self.till.office.origin.wall_clock()
            lost = PaymentOrder(order, method, int(amount), "", "refused", now, day, "payment.day_differs", now)
            await journal.write(add(lost))
        elif known.state not in _NOTHING_PAID:
            raise Refused("payment.not_different", "it is being given back already", retry=False)


def _enter(row: tuple[str, str, str | None, str | None, float], db: sqlite3.Connection) -> None:
    db.execute("INSERT OR REPLACE INTO payment_differences VALUES (?, ?, ?, ?, ?)", row)


def _difference(order: str, ours: PaymentOrder | None, theirs: DayOrder | None) -> PaymentDifference | None:
    """Return what differs; an order that nobody paid may be missing at the platform, which it never reached."""
    if theirs is None and ours is not None and ours.state in _NOTHING_PAID:
        return None
    terminal, platform = _side(ours), _side(theirs)
    if ours is not None and theirs is not None and {ours.state, theirs.state} <= _NOTHING_PAID:
        return None
    return None if terminal == platform else PaymentDifference(order, terminal, platform)


def _side(one: PaymentOrder | DayOrder | None) -> str | None:
    if one is None:
        return None
    return f"{'paid' if one.state == 'used' else one.state} {one.method} {one.amount_fen}"
