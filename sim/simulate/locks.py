"""What must hold of tampering: who meddles is seen, the session ends, and nobody is served until a person says so."""

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.messages import SupervisionEvent
from sim.simulate.faults import Kind
from sim.world import EPOCH

if TYPE_CHECKING:
    from sim.simulate.judge import Judge
    from sim.simulate.tampering import Tampering

ENDS_SECONDS = 15.0
"""By then a session that was open is over: its operations 5 s, the vision process 5 s."""
WRITTEN_SECONDS = 1.0
"""A lock that is so old outlives whatever ends the daemon; what is told on the way may be so much behind."""
TOLD_SECONDS = 120.0
"""So long the line has to be well for the platform to know of an alarm: T23 gives 30 min in all."""
REPEATED_SECONDS = 3_600.0
"""The same alarm within this time is counted, not raised anew; but a board that boots may not know how old one is."""
OPEN_SECONDS = 5.0
"""What was asked before the lock is answered by then."""
SLACK_SECONDS, BOOT_SECONDS = 5.0, 200.0
MAINTAINED_SECONDS = 130.0
"""After an announcement the door is nobody's business for a while."""
_SERVED = ("open", "verified")
_OTHER_REFUSALS = ("session.locked", "session.busy", "session.power", "screen.lost")


@dataclass(slots=True)
class Case:
    """A tampering that happened: since when, and until its cause is gone."""

    kind: "Tampering"
    since: float
    removed: float = math.inf

    def explains(self, code: str, subject: str, now: float) -> bool:
        """Whether an alarm or a lock of now is of this."""
        is_of_it = (self.kind.code, self.kind.subject) == (code, subject)
        return is_of_it and self.since <= now <= self.removed + self.kind.seen_in


@dataclass(slots=True)
class Began:
    """A lock or an alarm that began in the log, and what an alarm counted until when, when it was receipted.

    It `is_sure` unless the daemon died before it must have been written. A lock may be `leaving`: somebody clears it.
    """

    id: str
    code: str
    subject: str
    at: float
    is_sure: bool = True
    is_leaving: bool = False
    is_cleared: bool = False
    receipted: tuple[float, float] | None = None


class Locks:
    """Follows locks by the log, by the board, by what citizens are told and by what an operator is shown."""

    def __init__(
        self, clock: Callable[[], float], session: Callable[[], str | None], fail: Callable[[str], None]
    ) -> None:
        """`session` is what the board tells of the session, `fail` is told what must not be."""
        self.cases: list[Case] = []
        self.began: list[Began] = []
        """Every lock that ever began."""
        self.alarms: list[Began] = []
        self.expected = 0
        """How many of the cases had to be seen."""
        self.ended = 0
        """How many sessions ended of one."""
        self._clock = clock
        self._session = session
        self._fail = fail
        self._held: dict[str, Began] = {}
        self._cleared_at = -math.inf
        self._ends_by = math.inf
        """When the session that was open when the terminal locked must be over."""

    def logged(self, event: MutableMapping[str, Any]) -> None:
        """See a line of the log."""
        now = self._clock()
        self._expect_end()
        match event:
            case {"event": "alarm_raised", "alarm": name, "code": code, "subject": subject}:
                self.alarms.append(Began(name, code, subject, now))
            case {"event": "alarm_receipted", "alarm": name, "seconds": seconds}:
                for alarm in self.alarms:
                    if alarm.id == name:
                        alarm.receipted = (seconds, now)
            case {"event": "lockdown_began", "lock": name, "code": code, "subject": subject}:
                self._begin(Began(name, code, subject, now))
            case {"event": "lockdown_cleared", "lock": name}:
                if (cleared := self._held.pop(name, None)) is not None:
                    cleared.is_cleared = True
                self._cleared_at = now
            case {"event": "session_ended", "reason": reason} if self._ends_by < math.inf:
                if reason != "tamper" and now > self._ends_by - ENDS_SECONDS + WRITTEN_SECONDS:
                    self._fail(f"a session ended as {reason}, and the terminal was locked")
                self.ended += reason == "tamper"
                self._ends_by = math.inf

    def board(self, states: dict[str, str] | None) -> None:
        """See the board as a life of the daemon begins, or none when one ended."""
        now = self._clock()
        self._expect_end()
        self._ends_by = math.inf
        if states is None:
            for one in (*self._held.values(), *self.alarms):
                one.is_sure = one.is_sure and one.at <= now - WRITTEN_SECONDS
        elif states["lockdown"] == "none":
            self.listed([])
        elif not self._held:
            self._fail("the terminal is locked, and nobody did anything")

    def opened(self) -> None:
        """See that a session is opened."""
        if any(self._certain(WRITTEN_SECONDS)):
            self._fail("a session is opened while the terminal is locked")

    def refused(self, code: str) -> None:
        """See that no session is opened, and why."""
        if code == "session.locked" and not self._held and self._clock() > self._cleared_at + WRITTEN_SECONDS:
            self._fail("a session is refused for a lock, and there is none")
        if any(self._certain(OPEN_SECONDS)) and not code.startswith(_OTHER_REFUSALS):
            self._fail(f"a session is refused as {code} while the terminal is locked")

    def listed(self, names: Iterable[str]) -> None:
        """See every lock that there is, as an operator is shown them."""
        shown = set(names)
        for lock in self._certain(WRITTEN_SECONDS):
            if lock.id not in shown:
                self._fail(f"the lock {lock.code} is gone, and nobody cleared it")
        for lock in [one for one in self._held.values() if one.at <= self._clock() - WRITTEN_SECONDS]:
            if lock.id in shown:
                lock.is_sure, lock.is_leaving = True, False
            else:
                del self._held[lock.id]
        if shown - {lock.id for lock in self.began}:
            self._fail("there is a lock that never began")

    def ordered(self, name: str) -> None:
        """Take note that a lock is about to be cleared: whether it is, the answer says or the next list."""
        if name in self._held:
            self._held[name].is_leaving = True

    def kept(self, name: str) -> None:
        """Take note that a lock was not cleared."""
        if name in self._held:
            self._held[name].is_leaving = False

    def persists(self, judge: "Judge", case: Case) -> None:
        """See that a lock is not cleared since its cause goes on, as the terminal says."""
        kind = case.kind
        if self._clock() > quiet(judge, case.removed, kind.seen_in, kind.sensor, but=kind) + SLACK_SECONDS:
            self._fail(f"{kind.name} is over, and goes on for the terminal")

    def reckon(self, judge: "Judge", platform: sqlite3.Connection, events: list[SupervisionEvent]) -> None:
        """Compare all that was locked with all that was done to the terminal, and with what the platform knows."""
        if self._held:
            self._fail(f"{len(self._held)} locks are left, and nothing is wrong")
        for case in self.cases:
            self._expect_seen(judge, case)
        told = Counter((one.step, one.transaction) for one in events)
        for lock in self.began:
            if told["lockdown.began", lock.id] > 1 or told["lockdown.cleared", lock.id] > 1:
                self._fail(f"the lock {lock.code} is told twice")
            if lock.is_sure and told["lockdown.began", lock.id] != 1:
                self._fail(f"the platform was not told that the terminal was locked for {lock.code}")
            if lock.is_cleared and told["lockdown.cleared", lock.id] != 1:
                self._fail(f"the platform was not told that the lock {lock.code} is cleared")
        self._reckon_alarms(judge, platform)

    def _reckon_alarms(self, judge: "Judge", platform: sqlite3.Connection) -> None:
        """Each alarm is at the platform once, as soon as the line is well (T23), and counts the right seconds."""
        statement = "SELECT json_extract(event, '$.id'), received_at FROM records WHERE schema = 'alarm' ORDER BY id"
        rows = platform.execute(statement).fetchall()
        arrived = {name: at - EPOCH for name, at in rows}
        for alarm in self.alarms:
            at = arrived.get(alarm.id, math.inf)
            if at == math.inf and not alarm.is_sure:
                continue
            if at > quiet(judge, alarm.at, TOLD_SECONDS, "platform"):
                self._fail(f"the alarm {alarm.code} is not at the platform in time")
            if alarm.receipted is not None:
                counted, now = alarm.receipted
                is_exact = not any(
                    one.kind.target == "power" and one.since <= now and one.until >= alarm.at - BOOT_SECONDS
                    for one in judge.windows
                )
                if is_exact and abs(counted - (now - alarm.at)) > SLACK_SECONDS:
                    self._fail(f"the alarm {alarm.code} counts {counted:.0f} s, right is {now - alarm.at:.0f} s")
        if len(arrived) < len(rows):
            self._fail("an alarm is twice at the platform")

    def _begin(self, lock: Began) -> None:
        now = self._clock()
        if not any(case.explains(lock.code, lock.subject, now) for case in self.cases):
            self._fail(f"the terminal is locked for {lock.code}, and nobody did that")
        if any((one.code, one.subject) == (lock.code, lock.subject) for one in self._certain(0.0)):
            self._fail(f"the terminal is locked twice for {lock.code}")
        self.began.append(lock)
        self._held[lock.id] = lock
        if self._session() in _SERVED:
            self._ends_by = min(self._ends_by, now + ENDS_SECONDS)

    def _expect_end(self) -> None:
        if self._clock() > self._ends_by:
            self._fail(f"a session goes on {ENDS_SECONDS:.0f} s after the terminal was locked")
            self._ends_by = math.inf

    def _certain(self, seconds: float) -> list[Began]:
        """Return the locks that are so old, were written for certain, and that nobody is about to clear."""
        now = self._clock()
        held = self._held.values()
        return [lock for lock in held if lock.at <= now - seconds and lock.is_sure and not lock.is_leaving]

    def _expect_seen(self, judge: "Judge", case: Case) -> None:
        """Who could see a case in time did: there is a lock, and an alarm in the log."""
        kind = case.kind
        latest = quiet(judge, case.since, kind.seen_in, kind.sensor, but=kind)
        if latest > case.removed:
            return
        self.expected += 1
        for what, found in (("lock", self.began), ("alarm", self.alarms)):
            mine = [one for one in found if case.explains(one.code, one.subject, one.at)]
            first = min((one.at for one in mine), default=math.inf)
            if first > latest + SLACK_SECONDS:
                self._fail(f"{kind.name} goes on, and there is no {what}")
            cuts = [max(one.since, first) for one in judge.windows if one.kind.target == "power" and one.until > first]
            until = min([first + REPEATED_SECONDS, *cuts])
            if sum(one.is_sure and one.at <= until for one in mine) > 1:
                self._fail(f"of {kind.name} there is more than one {what}")


def quiet(judge: "Judge", since: float, seconds: float, component: str, *, but: Kind | None = None) -> float:
    """Return when a component was well for so long, with a daemon and without a fault but one."""
    away = [(began, until) for cause, began, until in judge.availability.outages if cause in ("daemon", component)]
    wrong = [
        (one.since, one.until)
        for one in judge.windows
        if one.kind is not but and one.kind.target not in ("power", "daemon") and one.kind.hits(component)
    ]
    stopping = [(one.since, one.until) for one in judge.windows if one.kind.name == "daemon.stopped"]
    maintained = [
        (one.since, one.since + MAINTAINED_SECONDS)
        for one in judge.windows
        if one.kind.name == "platform.maintenance" and component == "environment"
    ]
    for began, until in sorted([*away, *wrong, *stopping, *maintained]):
        if began < since + seconds and until > since:
            since = until
    return since + seconds
