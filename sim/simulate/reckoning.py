"""What must hold when all is over: the platform's and the bank's count against what citizens were told, and tickets."""

import sqlite3
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from runtime.messages import SupervisionEvent
from sim.crash.afterlife import left
from sim.simulate.faults import Window
from sim.simulate.judge import GRACE_SECONDS, Judge, Ticket

if TYPE_CHECKING:
    from sim.simulate.hall import Hall

__all__ = ["left", "reckon"]

NOTICED_SECONDS = 150.0
"""By when a fault that a device does not tell of is found: a poll, its deadlines, a new life of its driver."""
SLACK_SECONDS = 5.0
BOOT_SECONDS = 200.0
STARTING_SECONDS = 30.0
"""Until then the first life may be about to begin."""
_NEVER_ALARMS = ("journal.went_back", "envelope.forged", "key.bad_signature", "egress.connect", "egress.lookup")
_NEVER_COMPLAINTS = (
    "record.conflict",
    "record.far_ahead",
    "call.key_reused",
    "application.duplicate",
    "payment.order_used",
    "assertion.bad_evidence",
)


def reckon(hall: "Hall") -> None:
    """Note what does not hold in the hall's judge."""
    judge, life = hall.judge, hall.board.lives[-1]
    platform = hall.around.store.database
    for what in left(life.disk):
        judge.fail(f"at rest {what}")
    events = _events(judge, platform)
    whose = {person.citizen.id_number: person.ordinal for person in hall.people.came}
    judge.papers.reckon(judge.owners, whose, platform, events)
    judge.locks.reckon(judge, platform, events)
    _filings(judge, platform, life.disk)
    _requests(judge, platform)
    _payments(judge, platform, life.disk)
    _intents(judge, platform, life.disk)
    _complaints(judge, platform)
    _alarms(judge, life.disk)
    _tickets(judge, life.disk)
    _outages(judge)


def _events(judge: Judge, platform: sqlite3.Connection) -> list[SupervisionEvent]:
    """Every step that a citizen was told of is at the platform, each record once (T12); return the events."""
    rows = platform.execute("SELECT stream, sequence, event, schema FROM records").fetchall()
    places = Counter((stream, sequence) for stream, sequence, _, _ in rows)
    for (stream, sequence), times in places.items():
        if times > 1:
            judge.fail(f"record {sequence} of {stream.rpartition('-')[0]} is {times} times at the platform")
    said = [one for *_, one, schema in rows if schema == "supervision.event"]
    events = [msgspec.json.decode(one, type=SupervisionEvent) for one in said]
    for one, times in Counter(said).items():
        if times > 1:
            judge.fail(f"the event {msgspec.json.decode(one, type=SupervisionEvent).step} was told {times} times")
    received: Counter[tuple[str, str, str | None, float]] = Counter(
        (one.step, one.outcome, one.code, one.seconds) for one in events
    )
    told = Counter(step for one in judge.ledger for step in one.steps)
    for (step, outcome, code, _), times in (told - received).items():
        judge.fail(f"{times} events {step} {outcome} {code} that citizens were told of are not at the platform")
    return events


def _filings(judge: Judge, platform: sqlite3.Connection, journal: sqlite3.Connection) -> None:
    """Filed once, never lost, for whoever was given the number, and the terminal knows (T8)."""
    filed = dict(platform.execute("SELECT receipt, id_number FROM filings").fetchall())
    for one in judge.ledger:
        if one.method == "application.file" and one.outcome in ("done", "pending") and one.receipt not in filed:
            judge.fail(f"citizen {one.citizen} was told that an application is filed, and the platform has none")
    for receipt, id_number in filed.items():
        owner = judge.owners.get(receipt)
        if owner is None:
            judge.fail("an application was filed whose number nobody was told")
        elif judge.person(owner).citizen.id_number != id_number:
            judge.fail(f"an application of citizen {owner} was filed for somebody else")
        elif not journal.execute("SELECT 1 FROM intents WHERE name = ? AND kind = 'file'", (receipt,)).fetchone():
            judge.fail("an application was filed without an intent")


def _requests(judge: Judge, platform: sqlite3.Connection) -> None:
    registered = {row[0] for row in platform.execute("SELECT receipt FROM orders WHERE source = 'terminal'")}
    for one in judge.ledger:
        if one.method == "hotline.register" and one.outcome == "done" and one.receipt not in registered:
            judge.fail(f"citizen {one.citizen} was told that a request is registered, and the platform has none")
    if registered - judge.owners.keys():
        judge.fail("a request was registered whose number nobody was told")


def _payments(judge: Judge, platform: sqlite3.Connection, journal: sqlite3.Connection) -> None:
    """Nobody is charged twice, nor for nothing (T10)."""
    filed = {row[0] for row in platform.execute("SELECT receipt FROM filings WHERE fee_fen > 0")}
    here = dict(journal.execute("SELECT order_id, state FROM payments").fetchall())
    booked = Counter(platform.execute("SELECT order_id, kind FROM bank_ledger").fetchall())
    orders = platform.execute("SELECT order_id, purpose, spent_on, is_given_up FROM payment_orders").fetchall()
    for order, purpose, spent, is_given_up in orders:
        charged, given_back = booked[order, "charge"], booked[order, "reversal"]
        if charged > 1 or given_back > charged:
            judge.fail(f"an order was charged {charged} times and given back {given_back} times")
        is_used = purpose in filed and spent == purpose
        if charged > given_back and not is_used:
            judge.fail(f"an order is charged, and nothing was filed for it; here it is {here.get(order)}")
        if is_used and charged == given_back:
            judge.fail("an order was used for a filing, and is not charged")
        right = {"used"} if charged > given_back else {"reversed"} if charged else {"refused", "expired", "reversed"}
        if is_given_up:  # the bank may charge after it was told off, and give back at once: nobody was told otherwise
            right |= {"refused"}
        if here.get(order) not in right:
            judge.fail(f"an order is {here.get(order)} here, right is {' or '.join(sorted(right))}")


def _intents(judge: Judge, platform: sqlite3.Connection, journal: sqlite3.Connection) -> None:
    """What the journal says of an effect is so (rule 2)."""
    for kind, statement in {
        "file": "SELECT receipt FROM filings",
        "register": "SELECT receipt FROM orders WHERE source = 'terminal'",
        "issue": "SELECT receipt FROM certificate_issues",
    }.items():
        done = {row[0] for row in platform.execute(statement)}
        rows = journal.execute("SELECT name, state FROM intents WHERE kind = ?", (kind,)).fetchall()
        said: dict[str, set[str]] = {}
        for name, state in rows:  # who was refused may have tried again under the same number
            said.setdefault(name, set()).add(state)
        for name, states in said.items():
            is_wrong = "done" not in states if name in done else "done" in states
            if is_wrong and not (kind == "issue" and "unknown" in states):  # what was never answered stays unknown
                judge.fail(f"an intent {kind} is {' and '.join(sorted(states))}, and that is not so")


def _complaints(judge: Judge, platform: sqlite3.Connection) -> None:
    for name, times in platform.execute("SELECT name, count FROM counters ORDER BY name").fetchall():
        if name.removeprefix("complaint ") in _NEVER_COMPLAINTS:
            judge.fail(f"the platform complains {times} times of {name.removeprefix('complaint ')}")


def _alarms(judge: Judge, journal: sqlite3.Connection) -> None:
    for code, subject in journal.execute("SELECT code, subject FROM alarms").fetchall():
        if code in _NEVER_ALARMS:
            judge.fail(f"an alarm {code} about {subject}, and nobody did that")


def _tickets(judge: Judge, journal: sqlite3.Connection) -> None:
    """Every fault has a ticket with right clocks, and every ticket a fault (T15)."""
    rows = journal.execute("SELECT id, device, code, opened_at, closed_at, boot_id FROM tickets").fetchall()
    for _, device, code, *_, closed_at, _ in rows:
        if closed_at is None:
            judge.fail(f"the ticket of {device} ({code}) is open, and nothing is wrong")
    kept = {row[0] for row in rows}
    for number, ticket in judge.tickets.items():
        about = f"the ticket of {ticket.device} ({ticket.code})"
        if number not in kept:
            judge.fail(f"{about} is gone")
        if ticket.closed is not None:
            _clock(judge, ticket, about, ticket.closed)
    for window in judge.windows:
        if window.kind.needs_ticket:
            _expect_ticket(judge, window)


def _expect_ticket(judge: Judge, window: Window) -> None:
    """A fault that lasts has a ticket in time, until it is over or another one of the same device begins."""
    latest, until = _opened_by(judge, window), _alone_until(judge, window)
    if until < latest:
        return
    judge.ticketed += 1
    mine = [one for one in judge.tickets.values() if one.device == window.kind.target and one.opened <= latest]
    if not any(one.closed is None or one.closed >= until - SLACK_SECONDS for one in mine):
        lasted = window.until - window.since
        judge.fail(f"{window.kind.name} lasted {lasted:.0f} s, and there is no ticket of it")


def _opened_by(judge: Judge, window: Window) -> float:
    """Return by when a fault's ticket is open: a daemon that is away meanwhile begins anew when it is back."""
    begins = window.since
    for cause, since, until in judge.availability.outages:
        if cause == "daemon" and since <= begins + NOTICED_SECONDS + GRACE_SECONDS and begins <= until:
            begins = until
    return begins + NOTICED_SECONDS + GRACE_SECONDS


def _alone_until(judge: Judge, window: Window) -> float:
    """Return until when a fault is the only one of its device; its beginning when it is not even then."""
    until = window.until
    for one in judge.windows:
        is_same = one.kind.hits(window.kind.target) and one.kind.target not in ("power", "daemon")
        if is_same and one is not window and one.until >= window.since:
            until = min(until, max(one.since, window.since))
    return until


def _clock(judge: Judge, ticket: Ticket, about: str, closed: float) -> None:
    """A ticket counts from the fault's beginning, through restarts; over a boot by a wall clock, which may be wrong."""
    counted, right = ticket.seconds, closed - (ticket.opened - GRACE_SECONDS)
    is_exact = not any(
        window.kind.target == "power"
        for window in judge.windows
        if window.since <= closed + BOOT_SECONDS and window.until >= ticket.opened - BOOT_SECONDS
    )
    if is_exact and abs(counted - right) > SLACK_SECONDS:
        judge.fail(f"{about} counts {counted:.0f} s, right is {right:.0f} s")
    if not judge.troubled(ticket.opened - GRACE_SECONDS, ticket.opened, ticket.device):
        judge.fail(f"{about} was opened, and nothing was wrong with it")


def _outages(judge: Judge) -> None:
    """Whatever is away is so only while something is wrong, or recovers (T5)."""
    for cause, since, until in judge.availability.outages:
        if since > STARTING_SECONDS and not judge.troubled(since, until, cause):
            judge.fail(f"{cause} was away for {until - since:.0f} s, and nothing was wrong with it")
