"""`govterm soak citizens`: everybody is served, every step has its event, and each sabotage is found (T12, T13)."""

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sim.citizens.count import count
from sim.citizens.ledger import read
from sim.citizens.plan import VISITS, plan
from sim.citizens.report import Sabotage
from sim.citizens.times import PLACES, exclusive, machine_seconds, times
from tests.sim.processes import children

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 300
COMMAND = [sys.executable, "-m", "sim.soak", "citizens"]
WHOLE = ("--citizens", "6", "--seed", "42")
SABOTAGED = ("--citizens", "1", "--seed", "23")
TOO_LATE = " took "
"""What a machine that others keep busy may bring about; `make bench` judges the times."""


@dataclass(frozen=True)
class Run:
    """One run of the command with `--json`."""

    code: int
    report: dict[str, Any]
    errors: str
    directory: Path

    @property
    def failures(self) -> list[str]:
        return [failure for failure in self.report["failures"] if TOO_LATE not in failure]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Sabotage | None, Run]:
    """Six citizens, and beside them one for each sabotage."""

    def run(sabotage: Sabotage | None) -> Run:
        directory = tmp_path_factory.mktemp("citizens") / ("kept-under-a-long-name-" * 5)
        told = WHOLE if sabotage is None else (*SABOTAGED, "--sabotage", sabotage)
        command = [*COMMAND, *told, "--json", "--keep", str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        assert done.stdout, done.stderr
        return Run(done.returncode, json.loads(done.stdout), done.stderr, directory)

    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(run, None)
        broken = [(sabotage, run(sabotage)) for sabotage in Sabotage]
        return {None: whole.result(), **dict(broken)}


def test_everybody_is_served_and_every_step_has_its_event(runs: Mapping[Sabotage | None, Run]) -> None:
    """T12."""
    run = runs[None]
    report = run.report
    assert run.failures == []
    assert run.code == (1 if report["failures"] else 0)
    assert report["served"] == 6
    assert set(report["visits"]) == set(VISITS) - {"application"}
    events, delivery = report["events"], report["delivery"]
    assert (events["missing"], events["doubled"]) == (0, 0)
    assert events["told"] >= 80
    assert events["received"] == events["told"] + sum(events["unasked"].values())
    assert (delivery["lost"], delivery["duplicates"], delivery["altered"]) == (0, 0, 0)
    deeds = report["deeds"]
    assert all(deed["platform"] == deed["events"] for deed in deeds.values())
    assert deeds["assert_identity"]["platform"] == 6
    assert deeds["charge"]["platform"] == deeds["file"]["platform"] == 2
    assert all(deed["platform"] for step, deed in deeds.items() if step != "reverse")


def test_every_operation_is_measured_and_its_time_is_placed(runs: Mapping[Sabotage | None, Run]) -> None:
    """T13."""
    report = runs[None].report
    operations = report["operations"]
    wanted = {"session.verify_identity", "session.request_certificate", "session.add_page", "payment.card"}
    wanted |= {"payment.await", "application.file", "progress.mine", "hotline.register", "sharing.call"}
    assert wanted <= operations.keys()
    for method, operation in operations.items():
        call, steps = operation["call"], operation["steps"]
        assert 0 < call["p50"] <= call["p95"] <= call["p99"] <= call["longest"]
        if steps is None:
            assert method in ("session.open", "session.close")
        else:
            assert steps["longest"] <= call["longest"]
            assert sum(operation["shares"].values()) == pytest.approx(100, abs=0.5)
            assert min(operation["shares"].values()) >= 0
    shares = {method: operations[method]["shares"] for method in wanted}
    largest = {method: max(PLACES, key=shares[method].__getitem__) for method in wanted}
    assert largest["session.verify_identity"] == largest["session.add_page"] == "vision"
    assert largest["payment.card"] == "device"
    assert shares["application.file"]["platform"] > shares["application.file"]["device"] == 0
    assert report["sessions_per_hour"] > 50
    for name in ("daemon_memory", "vision_memory"):
        memory = report[name]
        assert memory["warm_session"] == 6
        assert 20 < memory["end"] <= memory["most"]
    trip = report["round_trip"]
    assert trip["frames"] > 0
    assert 0 < trip["quiet"]["p50"] < trip["quiet"]["p99"]
    assert 0 < trip["previewing"]["p50"] < trip["previewing"]["p99"]


def test_an_event_that_the_platform_dropped_is_missed(runs: Mapping[Sabotage | None, Run]) -> None:
    run = runs[Sabotage.DROP_EVENT]
    missing, told = run.report["events"]["missing"], run.report["events"]["told"]
    assert run.code == 1
    assert missing >= 1
    assert f"events: {missing} of {told} missing" in run.failures
    assert f"records: 2 of {run.report['delivery']['sent']} lost" in run.failures
    assert f"govterm: events: {missing} of {told} missing\n" in run.errors


def test_an_event_that_the_platform_doubled_is_found(runs: Mapping[Sabotage | None, Run]) -> None:
    run = runs[Sabotage.DOUBLE_EVENT]
    doubled, told = run.report["events"]["doubled"], run.report["events"]["told"]
    assert run.code == 1
    assert doubled >= 1
    assert f"events: {doubled} of {told} doubled" in run.failures
    assert run.report["events"]["missing"] == 0


def test_an_operation_over_the_limit_is_told(runs: Mapping[Sabotage | None, Run]) -> None:
    """T13."""
    run = runs[Sabotage.SLOW_ANSWER]
    assert run.code == 1
    late = [failure for failure in run.report["failures"] if TOO_LATE in failure]
    assert any(re.match(r"citizen 0 \(progress\): session.verify_identity took [5-9]\.", one) for one in late), late


@pytest.mark.parametrize("sabotage", [None, *Sabotage])
def test_somebody_else_counts_what_was_kept_and_finds_the_same(
    runs: Mapping[Sabotage | None, Run], sabotage: Sabotage | None
) -> None:
    """By the SQL that docs/figures.md gives (T12)."""
    run = runs[sabotage]
    events = run.report["events"]
    with closing(sqlite3.connect(f"{(run.directory / 'platform.db').as_uri()}?mode=ro", uri=True)) as database:
        database.execute("CREATE TEMP TABLE ledger (line TEXT)")
        lines = (run.directory / "calls.jsonl").read_text().splitlines()
        database.executemany("INSERT INTO ledger VALUES (?)", ((line,) for line in lines))
        page = (ROOT / "docs/figures.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"```sql\n(.+?)```", page, re.DOTALL)
        rows = [database.execute(statement).fetchall() for statement in block.split(";")]
    told, missing, doubled = (row[0][0] for row in rows if row)
    assert (told, missing, doubled) == (events["told"], events["missing"], events["doubled"])
    assert (run.directory / "state" / "journal.db").stat().st_size
    assert (run.directory / "state" / "audit.jsonl").stat().st_size


def test_one_event_less_is_missing_and_a_deed_without_one_is_found(
    runs: Mapping[Sabotage | None, Run], tmp_path: Path
) -> None:
    """The platform's own tables say what it did, whatever terminal and callers say (T12)."""
    kept = runs[None].directory
    database = tmp_path / "platform.db"
    shutil.copy(kept / "platform.db", database)
    lines = read(kept / "calls.jsonl")
    before = count(lines, database)
    with closing(sqlite3.connect(database)) as platform:
        event = "json_extract(event, '$.step') = 'charge'"
        statement = f"DELETE FROM records WHERE id = (SELECT min(id) FROM records WHERE {event})"  # noqa: S608 - our own
        assert platform.execute(statement).rowcount == 1
        platform.commit()
    after = count(lines, database)
    assert (before.events.missing, after.events.missing) == (0, 1)
    assert after.deeds["charge"].events == after.deeds["charge"].platform - 1
    assert after.by_call.count(None) == 1


def test_a_plan_has_every_visit_and_is_the_same_again() -> None:
    visits = plan(20, 3)
    assert visits == plan(20, 3)
    assert visits != plan(20, 4)
    assert sorted(visits[:7]) == sorted(visits[7:14]) == sorted(VISITS)


def test_a_step_inside_another_is_counted_once() -> None:
    inside = [("check_grant", "done", None, 0.1), ("check_data", "done", None, 0.2), ("use_shared", "done", None, 1.0)]
    assert exclusive(inside) == [("check_grant", 0.1), ("check_data", 0.2), ("use_shared", 0.8)]
    assert machine_seconds(inside) == pytest.approx(1.1)
    after = [
        ("use_shared", "done", None, 1.0),
        ("check_data", "done", None, 0.2),
        ("switch_dataset", "done", None, 0.0),
    ]
    assert machine_seconds(after) == pytest.approx(1.2)
    assert times([2.0]).p99 == times([2.0]).longest == 2.0


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "notes"
    kept.touch()
    done = subprocess.run([*COMMAND, "--keep", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "something is in it already" in done.stderr
    assert list(tmp_path.iterdir()) == [kept]


def test_it_is_stopped_with_everything_that_it_started() -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "everything is online\n"
        below = children(process.pid)
        below |= {pid: what for child in tuple(below) for pid, what in children(child).items()}
        assert len(below) >= 5, below  # rig, broker, platform, daemon, vision process
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == "govterm: stopped\n"
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
@pytest.mark.timeout(4 * 3_600)
def test_memory_is_flat_over_a_thousand_sessions() -> None:
    command = [*COMMAND, "--citizens", "1000", "--seed", "7", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * 3_600 - 60, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert [failure for failure in report["failures"] if TOO_LATE not in failure] == []
    assert report["served"] == 1_000
    assert report["daemon_memory"]["end"] - report["daemon_memory"]["warm"] <= 5.0
