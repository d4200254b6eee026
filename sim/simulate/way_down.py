"""The power plan as it was gone through: what must be so at the moment at which the board is powered off (T14, T20)."""

import sqlite3
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from runtime.messages import SupervisionEvent
from runtime.power_settings import HOST_SECONDS, Power, longest_way_seconds
from runtime.services.printing import PRINT
from sim.simulate.faults import Window

STEPS = (
    "session",
    "end",
    "cards",
    "print",
    "settle",
    "tell",
    "alarms",
    "records",
    "checkpoint",
    "look",
    "wipe",
    "ups",
    "results",
)
"""What comes before the order to power off, as docs/power.md has it."""
EXCUSES = {
    "cards": ("cardreader", "idcard", "printer"),
    "print": ("printer",),
    "settle": ("platform",),
    "alarms": ("platform",),
    "records": ("platform",),
    "look": ("ups",),
    "ups": ("ups",),
}
"""Whose fault excuses that a step is not done; every other step is done whatever is wrong."""
LONGEST_SECONDS = longest_way_seconds(Power()) - HOST_SECONDS
"""By then every step has used up its budget."""
_LAST_EVENTS = 60

Trouble = Callable[[float, float, str], Window | None]
"""Returns the fault of a component that falls into a time, or whose recovery does."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How the terminal is when it asks to be powered off."""

    session: str | None
    """What its board tells of the session."""
    has_card_inside: bool
    """A bank card is in the reader, and not held out."""
    is_signing: bool
    """The identity key is not wiped."""
    is_connected: bool
    journal: sqlite3.Connection
    checkpoints: int
    """How often the journal's log was moved into its database in this life."""


@dataclass(slots=True)
class WayDown:
    """Goes through a plan with the log; `fail` is told what is not so, `tell` what is excused and by what."""

    clock: Callable[[], float]
    trouble: Trouble
    fail: Callable[[str], None]
    tell: Callable[[str], None]
    ends: int = 0
    """How often the board was powered off."""
    _since: float = 0.0
    _codes: dict[str, str | None] = field(default_factory=dict)
    _was_clearing: bool = False

    def logged(self, event: MutableMapping[str, Any], session: str | None) -> None:
        """See a line of the log; `session` is what the board tells of it."""
        match event:
            case {"event": "power_changed", "state": "going_down"}:
                self._since, self._was_clearing = self.clock(), session == "clearing"
                self._codes.clear()
            case {"event": "power_step", "step": step, "code": code}:
                self._codes[step] = code
            case {"event": "left_behind", "device": "cardreader", "outcome": "taken_in"} if self._since:
                if not self._was_clearing:
                    self.fail("the power plan's step cards: a card is retained that is to stay at the gate")
            case {"event": "daemon_ready"} | {"event": "power_plan_cancelled"}:
                self._since = 0.0

    def off(self, moment: Moment) -> None:
        """Look at the terminal that asks to be powered off."""
        self.ends += 1
        if tuple(self._codes) != STEPS:
            self.fail(f"the power plan went by the steps {', '.join(self._codes)}")
        for step, code in self._codes.items():
            if code is not None:
                self._expect_excuse(step, f"ended as {code}")
        if moment.has_card_inside:
            self._expect_excuse("cards", "left a bank card in the reader")
        if moment.session not in ("clearing", "none"):
            self._expect_excuse("end", f"left a session {moment.session}")
        if moment.journal.execute("SELECT 1 FROM intents WHERE kind = ? AND state = 'open'", (PRINT,)).fetchone():
            self._expect_excuse("print", "left a print open")
        if moment.is_signing:
            self._expect_excuse("wipe", "left the identity key")
        if moment.is_connected:
            self._expect_excuse("wipe", "left the line to the platform")
        if moment.journal.in_transaction or not moment.checkpoints:
            self._expect_excuse("checkpoint", "left the journal's log")
        noted = _noted(moment.journal)
        for step in STEPS[:-1]:
            if step in self._codes and step not in noted:
                self._expect_excuse("results", f"left the result of {step} out of the journal")

    def starved(self) -> None:
        """See the UPS give no power any more to a daemon that lives: a way down that began did not end in its time."""
        now = self.clock()
        if "results" in self._codes and self._since:
            self.fail("the power plan went through its steps, and the board was not powered off")
        elif self._since and now - self._since > LONGEST_SECONDS and self.trouble(self._since, now, "ups") is None:
            self.fail(f"the power plan was at {', '.join(self._codes)} after {now - self._since:.0f} s")

    def _expect_excuse(self, step: str, what: str) -> None:
        now = self.clock()
        for component in EXCUSES.get(step, ()):
            if (window := self.trouble(self._since, now, component)) is not None:
                self.tell(f"the power plan's step {step} {what}, excused by {window.kind.name}")
                return
        self.fail(f"the power plan's step {step} {what}, and nothing was wrong")


def _noted(journal: sqlite3.Connection) -> set[str]:
    """Return the steps that the journal's last events tell of."""
    statement = "SELECT body FROM records WHERE schema = 'supervision.event' ORDER BY rowid DESC LIMIT ?"
    rows = journal.execute(statement, (_LAST_EVENTS,)).fetchall()
    events = [msgspec.msgpack.decode(body, type=SupervisionEvent) for (body,) in rows]
    outage = next((one.transaction for one in events if one.step == "power.no_return"), None)
    return {one.step.removeprefix("power.") for one in events if one.transaction == outage}
