"""The orders that the reference platform opened for its terminals, in its database."""

import datetime
import sqlite3
from dataclasses import dataclass
from typing import Any

from runtime.messages.payment import Method, OrderState, PaymentStanding

_CHINA = datetime.timezone(datetime.timedelta(hours=8))

SCHEMA = """
CREATE TABLE IF NOT EXISTS payment_orders (
    order_id TEXT PRIMARY KEY, terminal TEXT NOT NULL, method TEXT NOT NULL, amount_fen INTEGER NOT NULL,
    purpose TEXT NOT NULL, id_number TEXT NOT NULL, state TEXT NOT NULL, code TEXT, qr TEXT, opened_at INTEGER NOT NULL,
    at INTEGER NOT NULL, held_account TEXT, is_given_up INTEGER NOT NULL DEFAULT 0, spent_on TEXT);
CREATE INDEX IF NOT EXISTS payment_orders_purpose ON payment_orders (purpose);
"""


@dataclass(slots=True)
class Order:
    """An order. `held_account` is charged once the bank says so; `spent_on` is the receipt that it was spent on."""

    order: str
    terminal: str
    method: Method
    amount_fen: int
    purpose: str
    id_number: str
    state: OrderState
    code: str | None
    qr: str | None
    opened_at: int
    at: int
    held_account: str | None = None
    is_given_up: int = 0
    spent_on: str | None = None

    @property
    def standing(self) -> PaymentStanding:
        """How the order stands, as its terminal is told."""
        qr = self.qr if self.state == "open" else None
        return PaymentStanding(self.order, self.method, self.amount_fen, self.state, self.at, qr, self.code)

    @property
    def day(self) -> str:
        """The day on which it was opened, in China."""
        return f"{datetime.datetime.fromtimestamp(self.opened_at, _CHINA):%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class Orders:
    """The table of orders."""

    database: sqlite3.Connection

    def __post_init__(self) -> None:
        self.database.executescript(SCHEMA)

    def every(self, condition: str, *values: Any) -> list[Order]:
        """Return the orders that fulfil a condition, oldest first."""
        statement = f"SELECT * FROM payment_orders WHERE {condition} ORDER BY opened_at, rowid"  # noqa: S608 - our own words
        return [Order(*row) for row in self.database.execute(statement, values).fetchall()]

    def find(self, order: str) -> Order | None:
        """Return an order by its number."""
        return next(iter(self.every("order_id = ?", order)), None)

    def save(self, order: Order) -> None:
        """Write an order as it is now."""
        values = [getattr(order, name) for name in Order.__slots__]
        places = ", ".join("?" * len(values))
        self.database.execute(f"INSERT OR REPLACE INTO payment_orders VALUES ({places})", values)  # noqa: S608 - question marks
