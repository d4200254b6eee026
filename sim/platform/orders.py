"""The hotline's orders in the platform's database, each with its history; time moves them on (H1 to H4)."""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from runtime.messages.hotline import HotlineStep, Verdict
from sim.platform.hotline import ROUNDS, TEXTS, Action, IllegalMove, Order, move, plan

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY, receipt TEXT NOT NULL UNIQUE, source TEXT NOT NULL, category TEXT NOT NULL,
    district TEXT NOT NULL, registered_at INTEGER NOT NULL, due_at INTEGER NOT NULL, stage TEXT NOT NULL,
    entered_at INTEGER NOT NULL, department TEXT NOT NULL, assigned_at INTEGER NOT NULL, round INTEGER NOT NULL,
    escalation INTEGER NOT NULL, is_doubtful INTEGER NOT NULL, reply TEXT NOT NULL, verdict TEXT, next_action TEXT,
    next_at INTEGER);
CREATE INDEX IF NOT EXISTS orders_next ON orders (next_at);
CREATE TABLE IF NOT EXISTS order_contents (
    receipt TEXT PRIMARY KEY, terminal TEXT, id_number TEXT, telephone TEXT, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS order_history (
    id INTEGER PRIMARY KEY, receipt TEXT NOT NULL, action TEXT NOT NULL, stage TEXT NOT NULL, department TEXT NOT NULL,
    text TEXT NOT NULL, round INTEGER NOT NULL, at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS order_history_of ON order_history (receipt);
CREATE TABLE IF NOT EXISTS order_scans (
    receipt TEXT NOT NULL, name TEXT NOT NULL, digest BLOB NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (receipt, name));
CREATE TABLE IF NOT EXISTS order_ratings (
    receipt TEXT NOT NULL, round INTEGER NOT NULL, verdict TEXT NOT NULL, text TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (receipt, round));
CREATE TABLE IF NOT EXISTS published_replies (
    number INTEGER NOT NULL, round INTEGER NOT NULL, category TEXT NOT NULL, department TEXT NOT NULL,
    reply TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (number, round));
CREATE TABLE IF NOT EXISTS hotline_clock (id INTEGER PRIMARY KEY CHECK (id = 1), ahead INTEGER NOT NULL);
INSERT OR IGNORE INTO hotline_clock VALUES (1, 0);
"""

_NAMES = tuple(field.name for field in fields(Order))
_PUT = (
    f"INSERT OR REPLACE INTO orders ({', '.join(_NAMES)}, next_action, next_at)"  # noqa: S608 - our own names
    f" VALUES ({', '.join(f':{name}' for name in _NAMES)}, :next_action, :next_at)"
)
_GET = f"SELECT {', '.join(_NAMES)} FROM orders"  # noqa: S608 - our own names


@dataclass(frozen=True, slots=True)
class Content:
    """Who said what: what of an order is personal. Neither terminal nor citizen where it came another way."""

    text: str
    terminal: str | None = None
    id_number: str | None = None
    telephone: str | None = None


class Orders:
    """Every order; what is changed is part of the database's transaction. Luck comes from `seed`."""

    def __init__(self, database: sqlite3.Connection, seed: int) -> None:
        self._database = database
        self._seed = seed
        database.executescript(SCHEMA)

    @property
    def ahead(self) -> int:
        """How many seconds the hotline's clock is ahead of the wall clock, by `advance`."""
        return int(self._database.execute("SELECT ahead FROM hotline_clock").fetchone()[0])

    def advance(self, seconds: int) -> None:
        """Put the hotline's clock forward."""
        self._database.execute("UPDATE hotline_clock SET ahead = ahead + ?", (seconds,))

    def next_number(self) -> int:
        """Return the number of the next order."""
        return int(self._database.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()[0])

    def register(self, order: Order, content: Content, said: str) -> None:
        """Take a new order; raise IllegalMove when there is one of this receipt number."""
        if self.find(order.receipt) is not None:
            message = f"order {order.receipt} is registered already"
            raise IllegalMove(message)
        self._put(order)
        row = (order.receipt, content.terminal, content.id_number, content.telephone, content.text)
        self._database.execute("INSERT INTO order_contents VALUES (?, ?, ?, ?, ?)", row)
        self._note(order, "register", said, order.registered_at)

    def find(self, receipt: str) -> Order | None:
        """Return the order of a receipt number."""
        row = self._database.execute(f"{_GET} WHERE receipt = ?", (receipt,)).fetchone()
        return None if row is None else _order(row)

    def every(self) -> Iterator[Order]:
        """Return the orders, the oldest first."""
        return map(_order, self._database.execute(f"{_GET} ORDER BY number").fetchall())

    def content(self, receipt: str) -> Content:
        """Return who said what in an order; raise LookupError without one."""
        row = self._database.execute(
            "SELECT text, terminal, id_number, telephone FROM order_contents WHERE receipt = ?", (receipt,)
        ).fetchone()
        if row is None:
            raise LookupError(receipt)
        return Content(*row)

    def of_citizen(self, id_number: str) -> list[str]:
        """Return the receipt numbers of a citizen's orders."""
        rows = self._database.execute("SELECT receipt FROM order_contents WHERE id_number = ?", (id_number,))
        return [receipt for (receipt,) in rows]

    def steps(self, receipt: str) -> tuple[HotlineStep, ...]:
        """Return the history of an order, the oldest first."""
        statement = "SELECT stage, at, department, text FROM order_history WHERE receipt = ? ORDER BY id"
        return tuple(HotlineStep(*row) for row in self._database.execute(statement, (receipt,)))

    def actions(self, receipt: str) -> list[tuple[str, int]]:
        """Return what was done with an order, and when, the oldest first."""
        statement = "SELECT action, at FROM order_history WHERE receipt = ? ORDER BY id"
        return self._database.execute(statement, (receipt,)).fetchall()

    def act(self, order: Order, action: Action, at: int) -> Order:
        """Do one step of an order's life and note it; raise IllegalMove where the order does not allow it."""
        after = move(order, action, at, self._seed)
        self._put(after)
        self._note(after, action, TEXTS[action].format(department=after.department or order.department), at)
        if action == "answer":
            reply = (after.number, after.round, after.category, after.department, after.reply, at)
            self._database.execute("INSERT INTO published_replies VALUES (?, ?, ?, ?, ?, ?)", reply)
        return after

    def tick(self, now: int) -> None:
        """Do everything that is due by now, each at the time it was due."""
        due = "SELECT receipt, next_action, next_at FROM orders WHERE next_at <= ? ORDER BY next_at, number LIMIT 1"
        while (row := self._database.execute(due, (now,)).fetchone()) is not None:
            receipt, action, at = row
            order = self.find(receipt)
            if order is not None:
                self.act(order, action, at)

    def rate(self, order: Order, verdict: Verdict, text: str, now: int) -> Order:
        """Take the rating of an answered order: it is followed up, or opened again; raise IllegalMove otherwise.

        One who is unsatisfied with the reply of the last round has a doubtful case, which is reported.
        """
        is_reopened = verdict == "unsatisfied" and order.round < ROUNDS
        rated = self.act(order, "reopen" if is_reopened else "follow_up", now)
        is_doubtful = rated.is_doubtful or (verdict == "unsatisfied" and not is_reopened)
        rated = Order(**{**asdict(rated), "verdict": verdict, "is_doubtful": is_doubtful})
        self._put(rated)
        row = (order.receipt, order.round, verdict, text, now)
        self._database.execute("INSERT INTO order_ratings VALUES (?, ?, ?, ?, ?)", row)
        return rated

    def last_rating(self, receipt: str) -> tuple[str, str] | None:
        """Return verdict and text of the last rating."""
        statement = "SELECT verdict, text FROM order_ratings WHERE receipt = ? ORDER BY round DESC LIMIT 1"
        row = self._database.execute(statement, (receipt,)).fetchone()
        return None if row is None else (row[0], row[1])

    def attach(self, receipt: str, scans: Mapping[str, tuple[bytes, int]]) -> None:
        """Note the digest and the size of each attachment."""
        rows = [(receipt, name, digest, size) for name, (digest, size) in scans.items()]
        self._database.executemany("INSERT INTO order_scans VALUES (?, ?, ?, ?)", rows)

    def _put(self, order: Order) -> None:
        action, at = plan(order, self._seed) or (None, None)
        self._database.execute(_PUT, asdict(order) | {"next_action": action, "next_at": at})

    def _note(self, order: Order, action: str, text: str, at: int) -> None:
        row = (order.receipt, action, order.stage, order.department, text, order.round, at)
        self._database.execute(
            "INSERT INTO order_history (receipt, action, stage, department, text, round, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            row,
        )


def _order(row: tuple[Any, ...]) -> Order:
    order = Order(*row)
    return Order(**{**asdict(order), "is_doubtful": bool(order.is_doubtful)})
