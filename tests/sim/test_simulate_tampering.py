"""Tampering in the simulation: who meddles how often, and what the judge says of locks (T23, H8)."""

import random
import sqlite3
from collections import Counter

import pytest

from runtime.messages import SupervisionEvent
from sim.simulate.faults import Density, Kind, Window
from sim.simulate.judge import Judge
from sim.simulate.locks import ENDS_SECONDS, TOLD_SECONDS, Case, quiet
from sim.simulate.people import People
from sim.simulate.tampering import COMES_SECONDS, TAMPERINGS, meddling
from sim.simulate.trace import Trace
from sim.world import EPOCH

DOOR = next(kind for kind in TAMPERINGS if kind.name == "cabinet.door")
WELL = {"session": "none", "lockdown": "none", "environment": "online", "platform": "online"}


@pytest.fixture
def judge(tmp_path):
    clock = [0.0]
    judge = Judge(Trace(lambda: clock[0]), People(), tmp_path / "audit.jsonl")
    judge.clock = clock
    judge.board(dict(WELL))
    return judge


def at(judge: Judge, now: float):
    judge.clock[0] = now
    return judge.locks


def opens_door(judge: Judge, since: float = 100.0, removed: float = 300.0) -> None:
    judge.locks.cases.append(Case(DOOR, since, removed))


def locked(judge: Judge, now: float = 120.0, name: str = "a") -> None:
    about = {"code": "environment.door_open", "subject": "environment"}
    at(judge, now).logged({"event": "alarm_raised", "alarm": f"alarm-{name}", **about})
    judge.locks.logged({"event": "lockdown_began", "lock": name, **about})


def cleared(judge: Judge, now: float = 400.0, name: str = "a") -> None:
    at(judge, now).logged({"event": "lockdown_cleared", "lock": name})


def reckoned(
    judge: Judge, *, received_at: float | None = 121.0, told: tuple[str, ...] = ("began", "cleared")
) -> list[str]:
    platform = sqlite3.connect(":memory:")
    platform.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, schema TEXT, event TEXT, received_at REAL)")
    if received_at is not None:
        row = ('{"id": "alarm-a"}', EPOCH + received_at)
        platform.execute("INSERT INTO records (schema, event, received_at) VALUES ('alarm', ?, ?)", row)
    events = [SupervisionEvent("a", f"lockdown.{step}", "done", None, 1.0, 0.0, "boot", rig=True) for step in told]
    judge.locks.reckon(judge, platform, events)
    platform.close()
    return judge.violations


def test_tampering_comes_every_hour_of_heavy_faults_and_every_week_of_light_ones():
    for density, seconds in ((Density.HEAVY, 3600.0), (Density.LIGHT, 7 * 86_400.0)):
        found, again = (list(meddling(density, 900 * seconds, random.Random(1))) for _ in range(2))  # noqa: S311
        assert found == again
        assert 800 < len(found) < 1_000
        counts = Counter(kind.name for _, kind, _ in found)
        assert len(counts) == len(TAMPERINGS)
        assert max(counts.values()) - min(counts.values()) <= 1
        least, most = COMES_SECONDS[density]
        assert all(least <= comes_in <= most for *_, comes_in in found)


def test_a_door_that_locks_and_is_cleared_is_as_it_should_be(judge):
    opens_door(judge)
    judge.changed("session", "open")
    locked(judge)
    at(judge, 130.0).logged({"event": "session_ended", "reason": "tamper"})
    judge.locks.refused("session.locked")
    judge.board(None)
    at(judge, 200.0)
    judge.board(WELL | {"lockdown": "locked"})
    judge.locks.refused("session.locked")
    at(judge, 399.0).listed(["a"])
    judge.locks.ordered("a")
    cleared(judge)
    at(judge, 420.0).opened()
    judge.locks.logged({"event": "alarm_receipted", "alarm": "alarm-a", "seconds": 300.0})
    assert reckoned(judge) == []
    assert judge.counts()["tamperings"] == 1


def test_a_daemon_that_does_not_lock_is_found(judge):
    """The negative control of the judge: somebody opens the cabinet, and nothing follows."""
    opens_door(judge)
    assert reckoned(judge, received_at=None, told=()) == [
        "cabinet.door goes on, and there is no lock",
        "cabinet.door goes on, and there is no alarm",
    ]


def test_who_cannot_see_does_not_have_to(judge):
    """A door is seen by a unit that serves, in a daemon that lives, outside a maintenance."""
    silent = Kind("environment.silent", "environment", (1, 2), lambda _: None)
    announced = Kind("platform.maintenance", "none", (1, 2), lambda _: None)
    opens_door(judge)
    assert quiet(judge, 100.0, 45.0, "environment") == 145.0
    judge.windows += [Window(silent, 90.0, 150.0), Window(announced, 145.0, 150.0)]
    judge.availability.outages += [("daemon", 280.0, 282.0)]
    assert quiet(judge, 100.0, 45.0, "environment") == 327.0
    assert reckoned(judge, received_at=None, told=()) == []
    assert judge.counts()["tamperings"] == 0


def test_nobody_is_served_while_the_terminal_is_locked(judge):
    opens_door(judge)
    judge.changed("session", "open")
    locked(judge)
    at(judge, 120.5).opened()
    judge.locks.refused("session.not_clear")
    assert judge.violations == [], "both were asked before"
    at(judge, 130.0).opened()
    judge.locks.refused("session.not_clear")
    at(judge, 120.0 + ENDS_SECONDS + 1).logged({"event": "anything"})
    assert judge.violations == [
        "a session is opened while the terminal is locked",
        "a session is refused as session.not_clear while the terminal is locked",
        "a session goes on 15 s after the terminal was locked",
    ]


def test_a_session_ends_for_the_tampering_and_for_nothing_else(judge):
    opens_door(judge)
    judge.changed("session", "verified")
    locked(judge)
    at(judge, 124.0).logged({"event": "session_ended", "reason": "idle"})
    assert judge.violations == ["a session ended as idle, and the terminal was locked"]


def test_a_lock_outlives_the_daemon_unless_it_died_in_the_same_moment(judge):
    """Locks are in the journal: no kill and no power cut opens the terminal."""
    opens_door(judge)
    locked(judge)
    at(judge, 120.2)
    judge.board(None)
    at(judge, 125.0)
    judge.board(dict(WELL))
    assert judge.violations == []
    locked(judge, 140.0, "b")
    at(judge, 150.0)
    judge.board(None)
    at(judge, 155.0)
    judge.board(dict(WELL))
    assert judge.violations == ["the lock environment.door_open is gone, and nobody cleared it"]


def test_a_lock_that_was_being_cleared_when_the_daemon_died_is_there_or_not(judge):
    for names in ([], ["a"]):
        judge.locks.began.clear()
        opens_door(judge)
        locked(judge)
        at(judge, 399.0).ordered("a")
        judge.board(None)
        at(judge, 405.0).listed(names)
        judge.locks.ordered("a")
        judge.locks.kept("a")
        assert judge.violations == []


def test_a_lock_that_nobody_caused_is_told(judge):
    locked(judge)
    assert judge.violations == ["the terminal is locked for environment.door_open, and nobody did that"]


def test_a_lock_is_there_as_long_as_an_operator_has_not_cleared_it_and_no_longer(judge):
    judge.board(WELL | {"lockdown": "locked"})
    judge.locks.refused("session.locked")
    judge.locks.listed(["x"])
    opens_door(judge)
    locked(judge)
    locked(judge, 121.0, "b")
    assert reckoned(judge, told=("began", "began")) == [
        "the terminal is locked, and nobody did anything",
        "a session is refused for a lock, and there is none",
        "there is a lock that never began",
        "the terminal is locked twice for environment.door_open",
        "2 locks are left, and nothing is wrong",
        "of cabinet.door there is more than one lock",
        "of cabinet.door there is more than one alarm",
        "the lock environment.door_open is told twice",
        "the platform was not told that the terminal was locked for environment.door_open",
        "the alarm environment.door_open is not at the platform in time",
    ]


@pytest.mark.parametrize(("received_at", "is_late"), [(120.0 + TOLD_SECONDS, False), (900.0, True), (None, True)])
def test_an_alarm_is_at_the_platform_once_the_line_is_well(judge, received_at, is_late):
    """T23: within 30 min of knowledge; and at once where nothing is wrong."""
    opens_door(judge)
    locked(judge)
    cleared(judge)
    found = reckoned(judge, received_at=received_at)
    assert found == (["the alarm environment.door_open is not at the platform in time"] if is_late else [])


def test_the_clock_of_an_alarm_is_right(judge):
    opens_door(judge)
    locked(judge)
    cleared(judge)
    at(judge, 420.0).logged({"event": "alarm_receipted", "alarm": "alarm-a", "seconds": 30.0})
    assert reckoned(judge) == ["the alarm environment.door_open counts 30 s, right is 300 s"]
