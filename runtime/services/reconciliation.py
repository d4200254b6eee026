"""The months of the ledger: compared with the platform, each by itself once it is over, and kept two years (S6).

A use may end while the two counts are taken. The ledger is therefore read before and after the platform counts, and a
difference is one only where no use was under way meanwhile.
"""

import secrets
import sqlite3
from typing import Literal

import msgspec

from runtime.messages.sharing import Mode, Statement, StatementLine, StatementRequest
from runtime.services.metering import USE, Ledger, LedgerLine, month_lines, month_of
from runtime.services.steps import Refused, Transaction

KEPT_MONTHS = 24


class Difference(msgspec.Struct, frozen=True):
    """What terminal and platform counted otherwise."""

    resource: str
    mode: Mode
    our_uses: int
    our_units: int
    their_uses: int
    their_units: int


class Reconciliation(msgspec.Struct, frozen=True):
    """How the terminal's count of a month compares with the platform's.

    `uses` is how many the terminal had counted by then, at `at_unix` (UTC seconds), and of how many `units`; uses that
    were `unsettled`, under way while it was compared, may still be counted.
    """

    month: str
    at_unix: int
    outcome: Literal["equal", "different", "unsettled"]
    uses: int
    units: int
    unsettled: int
    differences: tuple[Difference, ...]


async def reconcile(ledger: Ledger, transaction: Transaction, month: str) -> Reconciliation:
    """Compare a month with the platform's count, and keep what came of it; raises Refused, JournalError."""
    office = ledger.office
    deadline = office.answer_seconds + 1.0
    before = await office.journal.read(lambda db: _counted(db, month))
    async with transaction.step("ask_statement", deadline_seconds=deadline, no_answer="platform.no_answer"):
        said = await office.ask(StatementRequest(month), Statement, key=secrets.token_bytes(16))
        theirs = {(line.resource, line.mode): line for line in said.lines}
        if said.month != month or len(theirs) != len(said.lines):
            raise Refused("message.unexpected", "not the statement asked for", retry=False)
    lines, ended, is_open = await office.journal.read(
        lambda db: (month_lines(db, month), _counted(db, month) - before, _open(db))
    )
    ours = {(line.resource, line.mode): line for line in lines}
    unsettled = len(ended | is_open)
    differences = [_difference(key, ours.get(key), theirs.get(key)) for key in sorted(ours.keys() | theirs.keys())]
    found = tuple(one for one in differences if (one.our_uses, one.our_units) != (one.their_uses, one.their_units))
    outcome: Literal["equal", "different", "unsettled"] = "equal"
    if found:
        outcome = "unsettled" if unsettled else "different"
    uses, units = sum(line.uses for line in lines), sum(line.units for line in lines)
    result = Reconciliation(month, int(ledger.now()), outcome, uses, units, unsettled, found)
    code = None if outcome == "equal" else "sharing.count_differs"
    told = transaction.event("reconcile_sharing", "done" if code is None else "refused", code, 0.0)
    row = (_kept_as(month), msgspec.msgpack.encode(result))
    await office.journal.write(lambda db: db.execute("INSERT OR REPLACE INTO sharing VALUES (?, ?)", row), told)
    if outcome == "unsettled":
        ledger.look()
    return result


async def reconciled(ledger: Ledger, month: str) -> Reconciliation | None:
    """Return what came of the last comparison of a month."""
    statement, name = "SELECT body FROM sharing WHERE name = ?", _kept_as(month)
    row = await ledger.office.journal.read(lambda db: db.execute(statement, (name,)).fetchone())
    return None if row is None else msgspec.msgpack.decode(row[0], type=Reconciliation)


async def owed(ledger: Ledger) -> list[str]:
    """Return the months since the first use that are over and were not compared since, oldest first."""
    now = ledger.now()
    (first,) = await ledger.office.journal.read(lambda db: db.execute("SELECT min(month) FROM metering").fetchone())
    found = []
    for month in (_months_before(now, back) for back in range(KEPT_MONTHS, 0, -1)):
        if first is None or month < first:
            continue
        last = await reconciled(ledger, month)
        if last is None or last.outcome == "unsettled" or month_of(last.at_unix) <= month:
            found.append(month)
    return found


async def prune(ledger: Ledger) -> None:
    """Forget what is older than two years."""
    oldest = _months_before(ledger.now(), KEPT_MONTHS)

    def work(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM metering WHERE month < ?", (oldest,))
        db.execute("DELETE FROM sharing WHERE name LIKE 'reconciled:%' AND name < ?", (_kept_as(oldest),))

    await ledger.office.journal.write(work)


def _counted(db: sqlite3.Connection, month: str) -> set[str]:
    """Return the uses of a month that were counted."""
    return {str(row[0]) for row in db.execute("SELECT id FROM metering WHERE month = ?", (month,))}


def _open(db: sqlite3.Connection) -> set[str]:
    """Return the uses that are under way, of whatever month."""
    return {str(row[0]) for row in db.execute("SELECT key FROM intents WHERE kind = ? AND state = 'open'", (USE,))}


def _months_before(unix: float, months: int) -> str:
    year, month = month_of(unix).split("-")
    count = int(year) * 12 + int(month) - 1 - months
    return f"{count // 12:04d}-{count % 12 + 1:02d}"


def _kept_as(month: str) -> str:
    return f"reconciled:{month}"


def _difference(key: tuple[str, Mode], ours: LedgerLine | None, theirs: StatementLine | None) -> Difference:
    our = (ours.uses, ours.units) if ours is not None else (0, 0)
    their = (theirs.uses, theirs.units) if theirs is not None else (0, 0)
    return Difference(*key, *our, *their)
