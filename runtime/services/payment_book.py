"""The journal's table of payments: one row an order, moved along the states that an order can have (T10).

A row holds no word of the card and nothing of the citizen.
"""

import datetime
import sqlite3
from collections.abc import Callable
from typing import Literal

import msgspec

from runtime.journal import Journal
from runtime.messages.payment import Method

State = Literal["open", "paid", "used", "reversing", "reversed", "refused", "expired"]
"""`used` is paid, and what it paid for was filed; `reversing` is on its way back, if it was paid at all."""

NEXT: dict[State, frozenset[State]] = {
    "open": frozenset({"paid", "reversing", "reversed", "refused", "expired"}),
    "paid": frozenset({"used", "reversing", "reversed"}),
    "reversing": frozenset({"reversed", "refused", "expired", "used"}),
    "refused": frozenset({"reversing"}),
    "expired": frozenset({"reversing"}),
    "used": frozenset(),
    "reversed": frozenset(),
}
"""Where an order can go from a state. A `refused` or `expired` one that the bank charged late is given back."""

KEPT_DAYS = 800
"""Orders older than this are forgotten: two years of them and more."""
_CHINA = datetime.timezone(datetime.timedelta(hours=8))
_COLUMNS = "order_id, method, amount_fen, purpose, state, opened_at, day, code, moved_at"


class PaymentOrder(msgspec.Struct, frozen=True):
    """An order as the journal has it; `day` is that of its opening, in China."""

    order: str
    method: Method
    amount_fen: int
    purpose: str
    state: State
    opened_at: float
    day: str
    code: str | None = None
    moved_at: float | None = None


Change = Callable[[sqlite3.Connection], object]
"""Work on the journal's tables, inside its caller's transaction."""


def add(order: PaymentOrder) -> Change:
    """Return the work that enters a new order."""
    row = msgspec.structs.astuple(order)
    return lambda db: db.execute("INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def move(order: str, state: State, code: str | None, at: float) -> Change:
    """Return the work that moves an order to a state; where no way leads there it stays as it is."""
    before = [one for one, after in NEXT.items() if state in after]
    places = ", ".join("?" * len(before))
    statement = f"UPDATE payments SET state = ?, code = ?, moved_at = ? WHERE order_id = ? AND state IN ({places})"  # noqa: S608 - question marks
    return lambda db: db.execute(statement, (state, code, at, order, *before))


def use(purpose: str, at: float) -> Change:
    """Return the work that notes that what was paid for is filed: its payment is used, once and for all."""
    statement = "UPDATE payments SET state = 'used', moved_at = ? WHERE purpose = ? AND state = 'paid'"
    return lambda db: db.execute(statement, (at, purpose))


def note_end(order: str) -> Change:
    """Return the work that notes that the platform says that an order has come to an end, unless that is known here."""
    statement = """
        INSERT OR IGNORE INTO payment_ends
        SELECT order_id FROM payments WHERE order_id = ? AND state IN ('open', 'reversing', 'refused', 'expired')"""
    return lambda db: db.execute(statement, (order,))


def forget_end(order: str) -> Change:
    """Return the work that notes that nothing is to be done for such an order any more."""
    return lambda db: db.execute("DELETE FROM payment_ends WHERE order_id = ?", (order,))


async def find(journal: Journal, order: str) -> PaymentOrder | None:
    """Return an order of this terminal; raises JournalError."""
    return next(iter(await _orders(journal, "order_id = ?", order)), None)


async def of_purpose(journal: Journal, purpose: str) -> list[PaymentOrder]:
    """Return every order for a receipt number; raises JournalError."""
    return await _orders(journal, "purpose = ?", purpose)


async def of_day(journal: Journal, day: str) -> list[PaymentOrder]:
    """Return the orders of a day, oldest first; raises JournalError."""
    return await _orders(journal, "day = ?", day)


async def unused(journal: Journal) -> list[PaymentOrder]:
    """Return the paid orders for which nothing was filed, nor is being filed; raises JournalError."""
    filing = "SELECT 1 FROM intents WHERE kind = 'file' AND state = 'open' AND name = purpose"
    return await _orders(journal, f"state = 'paid' AND NOT EXISTS ({filing})")


async def ended(journal: Journal) -> list[PaymentOrder]:
    """Return the orders of which an end was noted; raises JournalError."""
    return await _orders(journal, "order_id IN (SELECT order_id FROM payment_ends)")


async def on_the_way_back(journal: Journal) -> int:
    """Return how many orders are being given back; raises JournalError."""
    return len(await _orders(journal, "state = 'reversing'"))


def day_of(unix: float) -> str:
    """Return the day of a time in China Standard Time, as `2027-01-31`."""
    return f"{china(unix):%Y-%m-%d}"


def china(unix: float) -> datetime.datetime:
    """Return a time in China Standard Time."""
    return datetime.datetime.fromtimestamp(unix, _CHINA)


async def _orders(journal: Journal, condition: str, *values: str) -> list[PaymentOrder]:
    statement = f"SELECT {_COLUMNS} FROM payments WHERE {condition} ORDER BY opened_at"  # noqa: S608 - our own words
    rows = await journal.read(lambda db: db.execute(statement, values).fetchall())
    return [PaymentOrder(*row) for row in rows]
