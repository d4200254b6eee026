"""Counts what the platform has: every step that citizens were told of, and what the platform did by its own tables.

Nothing of the terminal's is asked: the ledger is the callers', the database the platform's (T12).
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from runtime.messages import SupervisionEvent
from sim.citizens.ledger import Line, Step

_EVENTS = """
    SELECT stream, sequence, event, count(*) FROM records WHERE schema = 'supervision.event'
    GROUP BY stream, sequence ORDER BY min(id)"""

_DEEDS = {
    "assert_identity": "SELECT count(*) FROM assertions",
    "issue": "SELECT count(*) + coalesce(sum(copies), 0) FROM certificate_issues",
    "file": "SELECT count(*) FROM filings",
    "open_order": "SELECT count(*) FROM payment_orders",
    "charge": "SELECT count(*) FROM bank_ledger WHERE kind = 'charge'",
    "reverse": "SELECT count(*) FROM bank_ledger WHERE kind = 'reversal'",
    "register": "SELECT count(*) FROM orders WHERE source = 'terminal'",
    "use_shared": "SELECT count(*) FROM sharing_uses",
}
"""A step, and what the platform counts by itself of those that were done."""


class Events(msgspec.Struct, frozen=True):
    """`told`: steps that the callers were told of. `missing`: of these, not at the platform. `doubled`: stored again.

    `unasked`: events of what no caller was told of, by step: the terminal's own (a new catalogue, a key, a ticket).
    """

    told: int
    received: int
    missing: int
    doubled: int
    unasked: dict[str, int]


class Deed(msgspec.Struct, frozen=True):
    """How often the platform did something, by its own tables, and how many events tell of it as done."""

    platform: int
    events: int


class Count(msgspec.Struct, frozen=True):
    """What the platform has. `by_call` are the events of each call of the ledger, None where some are missing."""

    events: Events
    deeds: dict[str, Deed]
    complaints: dict[str, int]
    by_call: list[list[Step] | None]


def count(lines: Iterable[Line], platform: Path) -> Count:
    """Compare the callers' ledger with the platform's database; sqlite3.Error when that cannot be read."""
    with closing(sqlite3.connect(f"{platform.absolute().as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute(_EVENTS).fetchall()
        deeds = {step: int(database.execute(statement).fetchone()[0]) for step, statement in _DEEDS.items()}
        counters: dict[str, int] = dict(database.execute("SELECT name, count FROM counters").fetchall())
    events = [msgspec.json.decode(event, type=SupervisionEvent) for _, _, event, _ in rows]
    transactions: dict[str, list[Step]] = defaultdict(list)
    for one in events:
        transactions[one.transaction].append((one.step, one.outcome, one.code, one.seconds))
    lines = list(lines)
    told = Counter(step for line in lines for step in line.steps)
    received = Counter(step for steps in transactions.values() for step in steps)
    whole = Counter(map(tuple, transactions.values()))
    by_call: list[list[Step] | None] = []
    for line in lines:
        is_there = not line.steps or whole[tuple(line.steps)] > 0
        whole[tuple(line.steps)] -= 1
        by_call.append(line.steps if is_there else None)
    done = Counter(one.step for one in events if one.outcome == "done")
    return Count(
        Events(
            told=told.total(),
            received=len(rows),
            missing=(told - received).total(),
            doubled=sum(times - 1 for _, _, _, times in rows),
            unasked=dict(sorted(Counter(step[0] for step in (received - told).elements()).items())),
        ),
        {step: Deed(number, done[step]) for step, number in deeds.items()},
        {name: number for name, number in counters.items() if name.startswith("complaint")},
        by_call,
    )
