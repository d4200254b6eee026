"""Counts what a soak of the whole terminal came to: by the platform's and the bank's own tables, and by the paper.

Nothing that a citizen was told, and nothing that the terminal journaled, may be missing there, or be there twice (T10,
T12).
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec

from runtime.messages import SupervisionEvent
from runtime.services.printing import PRINT
from sim.citizens.ledger import Line, Step
from sim.crash.afterlife import left

NEVER = (
    "record.conflict",
    "record.far_ahead",
    "call.key_reused",
    "application.duplicate",
    "payment.order_used",
    "assertion.bad_evidence",
)
"""What the platform never has to complain of, whatever happens."""

_LOST = ("Task exception was never retrieved", "Task was destroyed", "Exception in callback")
"""What asyncio says of an error that nobody caught."""
_RECORDS = "SELECT stream, sequence, schema, version, body FROM records"


class Records(msgspec.Struct, frozen=True):
    """Supervision, alarm and telemetry records. `lost`: in the terminal's journal and not at the platform."""

    received: int
    lost: int
    doubled: int
    altered: int


class Events(msgspec.Struct, frozen=True):
    """Steps that citizens were told of. `missing`: of these, not at the platform."""

    told: int
    received: int
    missing: int


class Receipts(msgspec.Struct, frozen=True):
    """Numbers of what was filed or registered, as citizens were told. `lost`: unknown to the platform.

    `unfounded`: filed at the platform without an intent in the terminal's journal.
    """

    told: int
    filed: int
    registered: int
    lost: int
    unfounded: int


class Charges(msgspec.Struct, frozen=True):
    """The bank's ledger by orders. `unaccounted`: charged, neither used for a filing nor given back."""

    orders: int
    charged: int
    given_back: int
    doubled: int
    unaccounted: int


class Papers(msgspec.Struct, frozen=True):
    """Pieces of paper, and what events tell of prints. `unaccounted`: more paper than prints done and unknown, or less
    than done.
    """

    pieces: int
    done: int
    unknown: int
    unaccounted: int


class Books(msgspec.Struct, frozen=True):
    """Everything counted; `amiss` says what does not hold beside it."""

    records: Records
    events: Events
    receipts: Receipts
    charges: Charges
    papers: Papers
    amiss: list[str]


def count(calls: Iterable[Line], receipts: Iterable[str], journal: Path, platform: Path, papers: Path) -> Books:
    """Count, once the daemon has ended; sqlite3.Error when a database cannot be read."""
    with closing(_open(journal)) as here, closing(_open(platform)) as there:
        rows = there.execute("SELECT event FROM records WHERE schema = 'supervision.event' ORDER BY id").fetchall()
        events = [msgspec.json.decode(event, type=SupervisionEvent) for (event,) in rows]
        complaints = dict(there.execute("SELECT name, count FROM counters WHERE name LIKE 'complaint %'").fetchall())
        never = [f"complaint {name}" for name in NEVER]
        return Books(
            _records(here, there),
            _events(calls, events),
            _receipts(receipts, here, there),
            _charges(there),
            _papers(events, papers),
            left(here) + [f"the platform's {name}: {complaints[name]}" for name in never if name in complaints],
        )


def wrong(books: Books) -> list[str]:
    """Say what is not as promised of the counts."""
    counted = {
        "records": (books.records, ("lost", "doubled", "altered")),
        "events": (books.events, ("missing",)),
        "receipts": (books.receipts, ("lost", "unfounded")),
        "charges": (books.charges, ("doubled", "unaccounted")),
        "papers": (books.papers, ("unaccounted",)),
    }
    failures = [
        f"{what}: {number} {name}"
        for what, (part, names) in counted.items()
        for name in names
        if (number := getattr(part, name))
    ]
    if not books.events.told:
        failures.append("events: nobody was told of any step")
    return failures + books.amiss


def bugs(log: Path) -> list[str]:
    """Return the own errors of the daemon and the vision process by their log, which nothing outside excuses.

    That is all but a lack of memory or of descriptors.
    """
    said = (_read(line) for line in log.read_text(encoding="utf-8", errors="replace").splitlines())
    found = Counter(
        f"{one.get('event')} of {one.get('unit') or one.get('method') or one.get('task')}: {one.get('error')}"
        for one in said
        if _is_bug(one) and not any(lack in str(one.get("error")) for lack in ("MemoryError", "OSError"))
    )
    return [f"internal error: {what}, {times} times" for what, times in found.items()]


def _is_bug(said: dict[str, Any]) -> bool:
    event = str(said.get("event"))
    is_lost = said.get("logger") == "asyncio" and str(said.get("text")).startswith(_LOST)
    return said.get("code") == "internal" or event.startswith(("uncaught", "library_error")) or is_lost


def _read(line: str) -> dict[str, Any]:
    """Return a line of the log, nothing of one that is torn or another program's."""
    with suppress(ValueError):
        said = json.loads(line.partition(">")[2] if line.startswith("<") else line)
        return said if isinstance(said, dict) else {}
    return {}


def _records(here: sqlite3.Connection, there: sqlite3.Connection) -> Records:
    sent = {row[:2]: row for row in here.execute(_RECORDS)}
    received = Counter(there.execute(_RECORDS).fetchall())
    places = {row[:2] for row in received}
    return Records(
        received=len(received),
        lost=sum(place not in places for place in sent),
        doubled=received.total() - len(received),
        altered=sum(row[:2] in sent and sent[row[:2]] != row for row in received),
    )


def _events(calls: Iterable[Line], events: Iterable[SupervisionEvent]) -> Events:
    told: Counter[Step] = Counter(step for line in calls for step in line.steps)
    received: Counter[Step] = Counter((one.step, one.outcome, one.code, one.seconds) for one in events)
    return Events(told.total(), received.total(), (told - received).total())


def _receipts(receipts: Iterable[str], here: sqlite3.Connection, there: sqlite3.Connection) -> Receipts:
    told = set(receipts)
    filed = {row[0] for row in there.execute("SELECT receipt FROM filings")}
    registered = {row[0] for row in there.execute("SELECT receipt FROM orders WHERE source = 'terminal'")}
    known = {row[0] for row in here.execute("SELECT name FROM intents WHERE kind IN ('file', 'register')")}
    founded = len((filed | registered) & known)
    return Receipts(
        told=len(told),
        filed=len(filed),
        registered=len(registered),
        lost=len(told - filed - registered),
        unfounded=len(filed | registered) - founded,
    )


def _charges(there: sqlite3.Connection) -> Charges:
    filed = {row[0] for row in there.execute("SELECT receipt FROM filings WHERE fee_fen > 0")}
    booked = Counter(there.execute("SELECT order_id, kind FROM bank_ledger").fetchall())
    orders = there.execute("SELECT order_id, purpose, spent_on FROM payment_orders").fetchall()
    doubled = unaccounted = 0
    for order, purpose, spent in orders:
        charged, given_back = booked[order, "charge"], booked[order, "reversal"]
        doubled += max(0, charged - 1) + max(0, given_back - charged)
        is_used = spent == purpose and purpose in filed
        unaccounted += (charged > given_back) != is_used
    kinds = Counter(kind for (_, kind), times in booked.items() for _ in range(times))
    return Charges(len(orders), kinds["charge"], kinds["reversal"], doubled, unaccounted)


def _papers(events: Iterable[SupervisionEvent], directory: Path) -> Papers:
    pieces = len(list(directory.glob("*.png")))
    outcomes = Counter(one.outcome for one in events if one.step == PRINT)
    done, unknown = outcomes["done"], outcomes["unknown"]
    return Papers(pieces, done, unknown, max(0, pieces - done - unknown) + max(0, done - pieces))


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
