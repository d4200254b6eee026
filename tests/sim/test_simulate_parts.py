"""The parts of the simulation: a death without last words, disks, citizens with values of their own, the judge."""

import asyncio
import random
import sqlite3
from collections import Counter

import msgspec
import pytest

from devices.cardreader.tracks import luhn_valid
from runtime.messages import SupervisionEvent
from sim.simulate import reckoning
from sim.simulate.availability import Availability
from sim.simulate.disk import open_disk
from sim.simulate.faults import Density
from sim.simulate.judge import Judge
from sim.simulate.kinds import KINDS, LASTING_SECONDS, schedule
from sim.simulate.life import PlainVision
from sim.simulate.loop import PROCESS, MortalLoop, Process
from sim.simulate.outside import Surroundings
from sim.simulate.people import People
from sim.simulate.trace import Trace
from sim.world import Keys


def started(process: Process, work) -> asyncio.Task:
    token = PROCESS.set(process)
    try:
        return asyncio.create_task(work)
    finally:
        PROCESS.reset(token)


def run(main):
    """Run without the end that waits for every task: what is dead never ends."""
    loop = MortalLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def test_of_a_dead_process_nothing_runs_not_even_its_last_words():
    """A kill: what it slept for, what it waited for and what it started runs no more; all others go on."""
    said = []

    async def speak(name: str, gate: asyncio.Event) -> None:
        try:
            child = asyncio.create_task(asyncio.sleep(5))
            await gate.wait()
            said.append(f"{name} went on")
            await child
        finally:
            said.append(f"{name} cleaned up")

    async def main() -> list[str]:
        gate, process = asyncio.Event(), Process()
        dead = started(process, speak("dead", gate))
        living = asyncio.create_task(speak("living", gate))
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        assert len(process.tasks) == 2
        loop.bury(process)
        gate.set()
        await living
        await asyncio.sleep(10)
        assert not dead.done()
        assert len(process.tasks) == 2
        return list(said)

    assert run(main()) == ["living went on", "living cleaned up"]


def test_tasks_have_one_order_in_a_set():
    async def main() -> None:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(6)]
        assert [hash(task) for task in tasks] == list(range(hash(tasks[0]), hash(tasks[0]) + 6))
        await asyncio.gather(*tasks)

    run(main())


def rows(content: bytes) -> list[tuple]:
    db = sqlite3.connect(":memory:")
    db.deserialize(content)
    found = db.execute("SELECT * FROM it").fetchall()
    db.close()
    return found


def write(disk: sqlite3.Connection, value: str, synchronous: str) -> None:
    disk.execute(f"PRAGMA synchronous = {synchronous}")
    disk.execute("BEGIN IMMEDIATE")
    disk.execute("INSERT INTO it VALUES (?)", (value,))
    disk.execute("COMMIT")


def test_a_power_cut_takes_back_what_was_not_synced():
    """Rule 2: a commit with NORMAL may be gone, and what was synced before it is not; one with FULL syncs all."""
    disk = open_disk(b"")
    disk.execute("CREATE TABLE it (value TEXT)")
    write(disk, "a", "FULL")
    write(disk, "b", "NORMAL")
    write(disk, "c", "NORMAL")
    assert (rows(disk.synced()), rows(disk.written())) == ([("a",)], [("a",), ("b",), ("c",)])
    write(disk, "d", "FULL")
    assert disk.synced() == disk.written()
    again = open_disk(disk.synced(), skips_fsync=True)
    write(again, "e", "FULL")
    assert rows(again.synced()) == [("a",), ("b",), ("c",), ("d",)]
    disk.close()
    again.close()


def test_each_citizen_has_values_of_their_own():
    people = People()
    came = [people.next() for _ in range(600)]
    values = [value for person in came for value in person.values]
    assert len(set(values)) == len(values)
    assert all(luhn_valid(person.bank_card) for person in came)
    assert people.population.find(came[7].citizen.name, came[7].citizen.id_number) is came[7].citizen
    assert people.population.find("nobody", came[7].citizen.id_number) is None
    assert people.found(b"\0".join((came[3].values[0], came[9].values[3], b"99010119900101123X"))) == {3, 9}
    assert people.found(came[5].pdf) == {5}
    for encoding in ("utf-8", "utf-16-le", "gb18030"):
        for text in ("id_number", "name", "address"):
            assert people.found(b"\xff" + getattr(came[4].citizen, text).encode(encoding)) == {4}


def test_a_schedule_has_every_kind_before_one_comes_again():
    found, again = (list(schedule(Density.HEAVY, 36_000, random.Random(1))) for _ in range(2))  # noqa: S311
    names = [kind.name for _, kind, _ in found]
    assert len(set(names[: len(KINDS)])) == len(KINDS) == len({kind.name for kind in KINDS})
    assert max(Counter(names).values()) - min(Counter(names).values()) <= 1
    assert [at for at, *_ in found] == sorted(at for at, *_ in found)
    lengths = {kind.name: (kind.seconds, LASTING_SECONDS) for _, kind, _ in found}
    assert all(any(low <= seconds <= high for low, high in lengths[kind.name]) for _, kind, seconds in found)
    lasting = [kind.needs_ticket for _, kind, seconds in found if seconds > LASTING_SECONDS[0]]
    assert sum(lasting) > 0.8 * sum(kind.needs_ticket for _, kind, _ in found), "a ticket takes up to 210 s"
    assert found == again


def test_a_printer_that_is_switched_off_stays_so_when_the_power_is_back():
    async def main() -> None:
        around = Surroundings(Keys(), People(), random.Random(1))  # noqa: S311 - faults, no keys

        def answers() -> bool:
            return around.printer.feed(b"\x10\x04\x01") != b""

        assert answers()
        around.cut_power()
        around.switch_printer(on=False)
        around.give_power()
        assert not answers()
        around.cut_power()
        around.switch_printer(on=True)
        assert not answers()
        around.give_power()
        assert answers()

    run(main())


def test_cameras_outlive_the_daemon():
    """A lens that is covered stays so, and what breaks the vision process goes on, in the daemon's next life."""

    async def main() -> None:
        before, after = PlainVision(), PlainVision()
        before.camera_is("face", "covered", "camera.covered")
        before.broken = True
        after.follow(before)
        assert after.broken
        after.broken = False
        said = {}
        after.watch(lambda status: said.__setitem__(status.camera, status.code))
        living = asyncio.create_task(after.run(lambda: None))
        await asyncio.sleep(0)
        assert said == {"face": "camera.covered", "document": None}
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)

    run(main())


def test_availability_adds_up():
    """T5: every second is one of a cause, or one in which the terminal could serve."""
    times = Availability()
    well = {"idcard": "online", "vision": "online", "camera": "online", "platform": "online", "printer": "online"}
    times.board(dict(well), 10)
    times.change("printer", "hardwareError", 20)
    times.change("platform", "offline", 30)
    times.change("idcard", "userError", 35)
    times.change("platform", "online", 40)
    times.change("idcard", "online", 50)
    times.board(None, 60)
    times.board(dict(well), 65)
    times.change("power", "going_down", 70)
    times.end(80)
    assert dict(times.seconds) == {"daemon": 15, "": 35, "platform": 5, "idcard": 15, "power": 10}
    assert sum(times.seconds.values()) == 80
    assert times.share == 35 / 80
    assert ("printer", 20, 60) in times.outages
    assert times.unwell() == []


@pytest.fixture
def judge(tmp_path):
    clock = [0.0]
    judge = Judge(Trace(lambda: clock[0]), People(), tmp_path / "audit.jsonl")
    judge.clock = clock
    judge.people = judge._people
    for _ in range(3):
        judge.people.next()
    return judge


def test_the_screen_shows_nobody_elses(judge):
    """Rule 1: in a session nobody's values but the citizen's own; an operator is told none (T21)."""
    mine, other = judge.people.came[1], judge.people.came[2]
    judge.sees(mine)
    judge.screen_told(mine.values[0] + b" " + mine.values[1])
    assert judge.violations == []
    judge.screen_told(other.values[1])
    judge.staff_told(mine.values[2])
    assert judge.violations == [
        "the screen is told values of citizen 2 in the session of citizen 1",
        "the operator is told values of citizen 1",
    ]


def test_what_the_screen_is_told_after_a_session_is_nobodys(judge):
    mine = judge.people.came[1]
    judge.sees(mine)
    judge.sees(None)
    judge.screen_told(mine.values[0])
    assert judge.violations == ["the screen is told values of citizen 1 in the session of nobody"]


def test_an_event_is_told_once(judge):
    """T12: under another number it would be a record of its own."""
    platform = sqlite3.connect(":memory:")
    platform.execute("CREATE TABLE records (stream TEXT, sequence INTEGER, event TEXT, schema TEXT)")
    one, other = (
        msgspec.json.encode(SupervisionEvent("t" * 16, "pay", "done", None, at, 0.5, "boot", rig=True)).decode()
        for at in (1.0, 2.0)
    )
    rows = [(1, one), (2, other), (3, one)]
    for count, expected in ((2, []), (3, ["the event pay was told 2 times"])):
        platform.execute("DELETE FROM records")
        for sequence, event in rows[:count]:
            platform.execute("INSERT INTO records VALUES ('s-1', ?, ?, 'supervision.event')", (sequence, event))
        reckoning._events(judge, platform)
        assert judge.violations == expected
    platform.close()


def test_numbers_are_whose_they_were_given(judge):
    mine, other = judge.people.came[1], judge.people.came[2]
    judge.told(mine, "application.begin", {"outcome": "done", "receipt": "A-1"})
    judge.told(mine, "progress.mine", {"outcome": "done", "receipts": [{"receipt": "A-1"}]})
    assert judge.violations == []
    judge.told(other, "progress.mine", {"outcome": "done", "receipts": [{"receipt": "A-1"}]})
    assert judge.violations == ["progress.mine tells citizen 2 of a number of citizen 1"]


def test_nothing_of_a_citizen_is_written_down(judge, tmp_path):
    """Rule 1, T20: the journal, the audit log and the log are searched after each session."""
    platform = sqlite3.connect(":memory:")
    platform.execute("CREATE TABLE bank_ledger (order_id TEXT, kind TEXT)")
    journal = sqlite3.connect(":memory:")
    journal.execute("CREATE TABLE it (value TEXT)")
    (tmp_path / "audit.jsonl").write_text("{}\n")
    judge.session_over(journal, platform)
    assert judge.violations == []
    journal.execute("INSERT INTO it VALUES (?)", (judge.people.came[1].words,))
    journal.commit()
    platform.executemany("INSERT INTO bank_ledger VALUES ('P', ?)", [("charge",), ("charge",)])
    with (tmp_path / "audit.jsonl").open("a") as audit:
        audit.write(judge.people.came[2].citizen.id_number)
    judge.session_over(journal, platform)
    assert judge.violations == [
        "the journal holds values of citizen 1",
        "the audit log holds values of citizen 2",
        "order 1 was charged 2 times and given back 0 times",
    ]
    platform.close()
    journal.close()


def test_a_task_that_outlives_its_session_is_told(judge):
    judge.availability.board({"session": "open"}, 0)
    judge.changed("session", "none")
    judge.at_rest(["clear-idcard"])
    judge.clock[0] = 30.0
    judge.at_rest(["unit-printer", "api-events"])
    assert judge.violations == []
    judge.at_rest(["clear-idcard"])
    assert judge.violations == ["the task clear-idcard is left after a session"]


def test_a_trace_names_things_by_ordinal():
    trace = Trace(lambda: 1.5)
    assert [trace.name("order", name) for name in ("P-8", "P-3", "P-8")] == ["order 1", "order 2", "order 1"]
    assert trace.name("receipt", "P-8") == "receipt 1"
    trace.tell("order 1 is paid")
    assert trace.lines == ["       1.500  order 1 is paid"]
    same, other = Trace(lambda: 1.5), Trace(lambda: 1.6)
    same.tell("order 1 is paid")
    other.tell("order 1 is paid")
    assert trace.digest == same.digest != other.digest
