"""Crash points: what a power cut leaves of the journal, and that a daemon which stopped has stopped (rule 2)."""

import asyncio
import itertools
import sqlite3
from collections import deque
from pathlib import Path

import pytest

from sim.crash.explore import explore, survey
from sim.crash.points import Kind, Point, Points
from sim.crash.report import choose, covered, findings
from sim.crash.service import Service
from sim.crash.transcript import Heard, Transcript
from sim.crash.views import open_journal
from sim.crash.wires import PlatformUplink, WatchedUplink
from sim.uplink import MemoryUplink
from sim.virtual_time import run
from transport.uplink import Message

WILL = Message("govterm/v1/GT-0001/up/presence", b"gone")


@pytest.fixture
def passed() -> list[Point]:
    return []


@pytest.fixture
def points(passed) -> Points:
    points = Points(passed.append)
    points.arm()
    return points


def rows(content: bytes) -> list[tuple]:
    journal = sqlite3.connect(":memory:")
    journal.deserialize(content)
    found = journal.execute("SELECT * FROM intents").fetchall()
    journal.close()
    return found


def write(journal: sqlite3.Connection, key: str, synchronous: str) -> None:
    journal.execute(f"PRAGMA synchronous = {synchronous}")
    journal.execute("BEGIN IMMEDIATE")
    journal.execute("INSERT INTO intents VALUES (?)", (key,))
    journal.execute("COMMIT")


def test_only_a_commit_with_full_is_synced_and_it_syncs_all_before_it(points):
    journal = open_journal(points)
    journal.execute("CREATE TABLE intents (key TEXT)")
    write(journal, "a", "FULL")
    write(journal, "b", "NORMAL")
    assert rows(journal.written) == [("a",), ("b",)]
    assert rows(journal.synced) == [("a",)]
    write(journal, "c", "FULL")
    assert rows(journal.synced) == rows(journal.written) == [("a",), ("b",), ("c",)]
    journal.close()


def test_without_fsync_nothing_is_ever_synced(points):
    journal = open_journal(points, skips_fsync=True)
    journal.execute("CREATE TABLE intents (key TEXT)")
    journal.execute("INSERT INTO intents VALUES ('before')")
    journal.checkpoint()
    write(journal, "a", "FULL")
    assert rows(journal.written) == [("before",), ("a",)]
    assert rows(journal.synced) == [("before",)]
    journal.close()


def test_what_was_not_committed_is_in_neither_view(points, passed):
    journal = open_journal(points)
    journal.execute("CREATE TABLE intents (key TEXT)")
    write(journal, "a", "FULL")
    journal.execute("BEGIN IMMEDIATE")
    journal.execute("INSERT INTO intents VALUES ('b')")
    journal.executemany("INSERT OR REPLACE INTO intents VALUES (?)", [("c",), ("d",)])
    assert rows(journal.written) == rows(journal.synced) == [("a",)]
    journal.execute("ROLLBACK")
    journal.execute("BEGIN IMMEDIATE")
    journal.execute("COMMIT")  # nothing to commit: no point
    journal.close()
    assert [(point.kind, point.what) for point in passed] == [
        (Kind.STATEMENT, "insert intents"),
        (Kind.COMMIT, "before"),
        (Kind.COMMIT, "after"),
        (Kind.STATEMENT, "insert intents"),
        (Kind.STATEMENT, "insert intents"),
    ]


def test_points_between_which_nothing_happened_outside_are_of_one_world(points, passed):
    journal = open_journal(points)
    journal.execute("CREATE TABLE intents (key TEXT)")
    write(journal, "a", "FULL")
    points.reach(Kind.SENT, "before call")
    journal.close()
    assert [point.world for point in passed] == [0, 0, 1, 1]
    assert [point.number for point in choose(passed, None)] == [1, 3]


def test_a_share_of_the_points_has_each_kind_spread_over_the_run():
    kinds = [Kind.COMMIT] * 80 + [Kind.DEVICE] * 16 + [Kind.TOLD] * 4
    every = [Point(number, kind, "", number) for number, kind in enumerate(kinds)]
    few = choose(every, 25)
    assert len(few) == 25
    counted = {kind: sum(point.kind is kind for point in few) for kind in set(kinds)}
    assert counted == {Kind.COMMIT: 20, Kind.DEVICE: 4, Kind.TOLD: 1}
    commits = [point.number for point in few if point.kind is Kind.COMMIT]
    assert max(after - before for before, after in itertools.pairwise(commits)) <= 8
    assert choose(every, 1000) == every


def test_a_message_is_on_its_way_from_its_leaving_to_the_platforms_taking_it(points, passed):
    """What the broker has reaches the platform although the daemon is gone."""

    async def main() -> None:
        broker, on_way = MemoryUplink(), deque()
        daemons = WatchedUplink(broker, points, on_way)
        platforms = PlatformUplink(broker, points, on_way)
        message = Message("govterm/v1/GT-0001/up/call", b"1")
        async with daemons.connect(["down/#"], WILL) as daemon, platforms.connect(["#"], WILL) as platform:
            await daemon.publish(message)
            assert list(on_way) == [message]
            assert await platform.receive() == message
            assert not on_way
            await platform.publish(Message("down/answer", b"2"))
            assert (await daemon.receive()).body == b"2"

    run(main())
    assert [(point.kind, point.what) for point in passed] == [
        (Kind.SENT, "before call"),
        (Kind.SENT, "after call"),
        (Kind.RECEIVED, "answer"),
    ]
    assert [point.world for point in passed] == [0, 1, 2]


def test_a_transcript_knows_what_was_asked_and_told():
    transcript = Transcript()
    transcript.says(b'{"id": 1, "method": "a"}\n{"id": 2, "method": "b"}\n')
    assert transcript.hears(b'{"id": 1, "result": {"x": 1}}\n{"method": "n", "par') == "a"
    assert transcript.hears(b'ams": {"y": 2}}\n{"id": 2, "error": {"data": {"code": "c.d"}}}\n') == "n, b"
    assert transcript.heard == [Heard("a", {"x": 1}), Heard("n", {"y": 2}), Heard("b", {}, "c.d")]
    assert transcript.results("a") == [{"x": 1}]
    assert transcript.results("b") == []
    assert (transcript.asked("b"), transcript.asked("c")) == (1, 0)


def test_nothing_of_a_daemon_that_stopped_runs_any_more(tmp_path):
    """Neither its tasks nor their way out: a SIGKILL runs no `finally`."""
    ran = tmp_path / "ran"

    async def rest() -> None:
        try:
            await asyncio.sleep(0.5)
        finally:
            ran.touch()

    async def live(stage, ui) -> None:
        task = asyncio.create_task(rest(), name="rest")
        await ui.call("terminal.status")
        await task
        ran.unlink()

    async def check(remains) -> list[str]:
        await asyncio.sleep(5)
        return ["something ran"] if ran.exists() else []

    service = Service("rest", live, check)
    font = Path("no-font")
    found = survey(service, font)
    assert not ran.exists()
    outcomes = explore(service, font, choose(found[:6], None), tmp_path, workers=2)
    assert outcomes
    assert findings("rest", outcomes) == []
    assert covered("rest", found, outcomes, 1.0).restarts == len(outcomes)


def test_what_a_check_finds_is_a_finding_with_its_point_and_leaves_its_databases(tmp_path):
    async def live(stage, ui) -> None:
        await ui.call("terminal.status")

    async def check(remains) -> list[str]:
        return ["it does not hold"]

    service = Service("wrong", live, check)
    point = survey(service, Path("no-font"))[-1]
    (outcome,) = explore(service, Path("no-font"), [point], tmp_path)
    (finding,) = findings("wrong", [outcome])
    assert (finding.point, finding.view, finding.failures) == (point.number, "written", ["it does not hold"])
    left = {file.name for file in (tmp_path / f"{point.number}-written").iterdir()}
    assert {"journal-before.db", "journal.db", "platform.db"} <= left


def test_a_copy_that_dies_is_a_finding(tmp_path):
    async def live(stage, ui) -> None:
        await ui.call("terminal.status")

    async def check(remains) -> list[str]:
        raise SystemExit

    service = Service("dead", live, check)
    point = survey(service, Path("no-font"))[-1]
    (outcome,) = explore(service, Path("no-font"), [point], tmp_path)
    assert "SystemExit" in outcome.failures[0]
