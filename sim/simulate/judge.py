"""What must hold while a terminal lives: checked on what each event touched, and in full at each session's end."""

import math
import sqlite3
from collections import Counter
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from sim.citizens.plan import Visit
from sim.devices.paper import Paper
from sim.simulate.availability import Availability
from sim.simulate.excuses import NEEDS, excuse, needed
from sim.simulate.faults import Window
from sim.simulate.held import Held
from sim.simulate.locks import Locks
from sim.simulate.papers import Papers
from sim.simulate.people import People, Person
from sim.simulate.trace import Trace
from sim.simulate.way_down import WayDown

NEEDLES = tuple(
    dict.fromkeys(
        text.encode(encoding)
        for text in ("990101", "622848", "样本号")
        for encoding in ("utf-8", "utf-16-le", "gb18030")
    )
)
"""What the values of every citizen begin with; a telephone number is too short to be searched for in bytes."""
MOST_VIOLATIONS = 20
REST_SECONDS = 5.0
"""After a session so much may still be done for it."""
MOST_TASKS = 120
GRACE_SECONDS = 60.0
"""A fault that lasts so long has a ticket (T15)."""
_OF_SESSIONS = ("session", "clear-", "api-session.", "api-application.", "api-payment.", "api-hotline.", "operation")
_NUMBERS = ("receipt", "order")
_OPENED = {"application.begin", "hotline.begin", "session.request_certificate", "payment.begin"}


@dataclass(frozen=True, slots=True)
class Told:
    """What a citizen was told of a call: enough for somebody else's count."""

    citizen: int
    method: str
    outcome: str | None
    code: str | None
    receipt: str | None
    order: str | None
    paper: str | None
    steps: tuple[tuple[str, str, str | None, float], ...]


@dataclass(slots=True)
class Ticket:
    """A ticket as the log told of it: when, by the right time, and how many seconds it counted."""

    device: str
    code: str
    opened: float
    closed: float | None = None
    seconds: float = 0.0


class Judge:
    """Sees what a run shows and notes what must not be."""

    def __init__(self, trace: Trace, people: People, audit: Path) -> None:
        self.violations: list[str] = []
        self.ledger: list[Told] = []
        self.windows: list[Window] = []
        self.visits: Counter[str] = Counter()
        self.owners: dict[str, int] = {}
        self.served = 0
        self.tried = 0
        self.demanding = 0
        """How many came who stayed and forgot nothing, before everything was mended."""
        self.excused = 0
        """Of these, whom a fault would have excused the terminal from serving."""
        self.availability = Availability()
        self.papers = Papers(self.fail)
        self.held = Held(people, lambda: self.availability.state("session") in ("clearing", "none"), self.fail)
        self.locks = Locks(lambda: trace.now, lambda: self.availability.state("session"), self.fail)
        self.way_down = WayDown(lambda: trace.now, self.trouble, self.fail, trace.tell)
        self._trace = trace
        self._people = people
        self._audit = audit
        self._audit_read = 0
        self._person: Person | None = None
        self._none_since = math.inf
        self.tickets: dict[str, Ticket] = {}
        """Every ticket that the log told of, by its id."""
        self.ticketed = 0
        """How many faults had to have a ticket."""

    def counts(self) -> dict[str, int]:
        """Return how much was judged: too little of it proves nothing."""
        return {
            "visits": self.demanding,
            "visits_excused": self.excused,
            "tickets": self.ticketed,
            "papers": len(self.papers.pieces),
            "looks_at_memory": self.held.looks,
            "ways_down": self.way_down.ends,
            "tamperings": self.locks.expected,
            "sessions_tampered": self.locks.ended,
        }

    def fail(self, what: str) -> None:
        """Note something that must not be."""
        self._trace.tell(f"VIOLATION {what}")
        if what not in self.violations and len(self.violations) < MOST_VIOLATIONS:
            self.violations.append(what)

    def person(self, ordinal: int) -> Person:
        """Return a citizen who came."""
        return self._people.came[ordinal]

    def sees(self, person: Person | None) -> None:
        """Take note of whose session it is from now on; None: nobody's."""
        self._person = person

    def screen_told(self, data: bytes) -> None:
        """See what the citizens' screen is told: nobody's values but the citizen's own (rule 1)."""
        self._expect_own("the screen is told", data)

    def staff_told(self, data: bytes) -> None:
        """See what an operator is told: nobody's values at all (T21)."""
        for ordinal in sorted(self._people.found(data)):
            self.fail(f"the operator is told values of citizen {ordinal}")

    def printed(self, paper: Paper) -> None:
        """See what comes out of the printer."""
        self._trace.tell(f"paper comes out, {paper.height_dots} dots")
        self.papers.came_out(
            None if self._person is None else self._person.ordinal, self._people.found(paper.rows), paper
        )

    def logged(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        """See a line of the log (a structlog processor): nothing of citizens, and no error of our own."""
        line = repr(event).encode()
        for ordinal in sorted(self._people.found(line)):
            self.fail(f"the log has values of citizen {ordinal}: {event.get('event')}")
        if event.get("code") == "internal" or level in ("critical", "exception") or event.get("exc_info"):
            self.fail(f"internal error: {event}")
        self.locks.logged(event)
        self.way_down.logged(event, self.availability.state("session"))
        match event.get("event"):
            case "operation_stuck":
                self.fail("an operation did not end with its session")
            case "unit_stuck" if not self.troubled(self._trace.now, self._trace.now, event["unit"]):
                self.fail(f"the unit {event['unit']} did not stop, and nothing was wrong with it")
            case "ticket_opened":
                self.tickets[event["ticket"]] = Ticket(event["device"], event["code"], self._trace.now)
            case "ticket_closed":  # whose opening was not told of where the daemon was killed in between
                now, seconds = self._trace.now, event["seconds"]
                unseen = Ticket(event["device"], "untold", now - seconds + GRACE_SECONDS)
                ticket = self.tickets.setdefault(event["ticket"], unseen)
                ticket.closed, ticket.seconds = now, seconds
        raise structlog.DropEvent

    def told(self, person: Person, method: str, result: dict[str, Any]) -> None:
        """Take note of what a citizen is told of a call."""
        steps = tuple((one["step"], one["outcome"], one["code"], one["seconds"]) for one in result.get("steps", ()))
        receipt, order, paper = result.get("receipt"), result.get("order"), result.get("paper")
        one = Told(person.ordinal, method, result.get("outcome"), result.get("code"), receipt, order, paper, steps)
        self.ledger.append(one)
        self.papers.told(person.ordinal, receipt or order, paper)
        for number in filter(None, (receipt, order)):
            self._expect_owner(person, method, number, is_new=method in _OPENED)
        for shown in result.get("receipts") or ():
            self._expect_owner(person, method, shown["receipt"], is_new=False)
        names = "".join(f" {self._trace.name(kind, result[kind])}" for kind in _NUMBERS if result.get(kind))
        said = f" {one.outcome or 'done'}" + (f" {one.code}" if one.code else "")
        self._trace.tell(f"{person.name}: {method}{said}{names}")

    def refused(self, person: Person, method: str, code: str) -> None:
        """Take note of a call's error."""
        self._trace.tell(f"{person.name}: {method} error {code}")
        self.papers.unanswered(person.ordinal, method)
        if code in ("internal", "was served without being verified") or code.startswith("request."):
            self.fail(f"{method}: {code}")

    def visit_ended(
        self, person: Person, how: str, *, visit: Visit, since: float, now: float, is_demanding: bool, is_well: bool
    ) -> None:
        """Take note of how a visit ended; one to a terminal that is well, or has what the visit needs, is served."""
        known = partial(excuse, visit, since=since, now=now, windows=self.windows, board=self.availability)
        excused = None if is_well or how == "served" else known(needed(visit, how))
        self._trace.tell(f"{person.name}: {how}{'' if excused is None else f' ({excused})'}")
        self.visits[how.partition(" ")[0].rstrip(":")] += 1
        if is_demanding and not is_well:
            self.demanding += 1
            self.excused += known(NEEDS[visit]) is not None
        if how not in ("walked away", "changed their mind"):
            self.tried += 1
            self.served += how == "served"
            if how != "served" and is_demanding and excused is None:
                self.fail(f"{person.name} was not served with {visit}, and nothing was wrong: {how}")

    def troubled(self, since: float, now: float, component: str | None = None) -> bool:
        """Whether a fault (of a component), or what it takes to recover from one, falls into a time."""
        return self.trouble(since, now, component) is not None

    def trouble(self, since: float, now: float, component: str | None = None) -> Window | None:
        """Return the first fault (of a component) that falls into a time, or the recovery from which does."""
        found = (
            window
            for window in self.windows
            if window.since <= now
            and since <= window.until + recovery(window)
            and (component is None or window.kind.hits(component))
        )
        return next(found, None)

    def board(self, states: dict[str, str] | None) -> None:
        """Take note of the terminal's whole board, as who begins to watch it is told; None: no daemon serves."""
        now = self._trace.now
        self.availability.board(states, now)
        self.locks.board(states)
        self._none_since = now if states is not None and states["session"] == "none" else math.inf

    def changed(self, component: str, state: str) -> None:
        """Take note of a change of the terminal's board."""
        now = self._trace.now
        self.availability.change(component, state, now)
        if component == "session":
            self._none_since = now if state == "none" else math.inf
            if state == "clearing":
                self.held.closed()

    def at_rest(self, tasks: list[str]) -> None:
        """Look at the daemon's tasks between two sessions: none of a session's is left."""
        if self._trace.now < self._none_since + REST_SECONDS:
            return
        for task in sorted({task for task in tasks if task.startswith(_OF_SESSIONS)}):
            self.fail(f"the task {task} is left after a session")
        if len(tasks) > MOST_TASKS:
            self.fail(
                "more and more tasks: " + ", ".join(f"{name} {count}" for name, count in Counter(tasks).most_common(3))
            )

    def session_over(self, journal: sqlite3.Connection, platform: sqlite3.Connection) -> None:
        """Look at everything that is written, and at the bank's ledger."""
        written = journal.serialize()
        self._expect_nobody("the journal", written)
        if self._audit.exists():
            with self._audit.open("rb") as file:
                file.seek(self._audit_read)
                lines = file.read()
            self._audit_read += len(lines)
            self._expect_nobody("the audit log", lines)
        statement = """
            SELECT order_id, sum(kind = 'charge'), sum(kind = 'reversal') FROM bank_ledger GROUP BY order_id
            HAVING sum(kind = 'charge') > 1 OR sum(kind = 'reversal') > sum(kind = 'charge')"""
        for order, charges, reversals in platform.execute(statement).fetchall():
            name = self._trace.name("order", order)
            self.fail(f"{name} was charged {charges} times and given back {reversals} times")

    def _expect_own(self, what: str, data: bytes) -> None:
        own = set() if self._person is None else {self._person.ordinal}
        for ordinal in sorted(self._people.found(data) - own):
            whose = "nobody" if self._person is None else self._person.name
            self.fail(f"{what} values of citizen {ordinal} in the session of {whose}")

    def _expect_owner(self, person: Person, method: str, number: str, *, is_new: bool) -> None:
        if is_new:
            self.owners.setdefault(number, person.ordinal)
        if (owner := self.owners.get(number)) not in (None, person.ordinal):
            self.fail(f"{method} tells {person.name} of a number of citizen {owner}")

    def _expect_nobody(self, place: str, written: bytes) -> None:
        if any(needle in written for needle in NEEDLES):
            for ordinal in sorted(self._people.found(written)):
                self.fail(f"{place} holds values of citizen {ordinal}")


RECOVERY_SECONDS = 180.0
GAVE_UP_SECONDS = 1_100.0
"""A device that was given up is tried every 15 min."""


def recovery(window: Window) -> float:
    """Return how long the terminal may take to recover from a fault, once it is over."""
    return RECOVERY_SECONDS if window.until - window.since < 60 else GAVE_UP_SECONDS
