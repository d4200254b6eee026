"""`govterm soak terminal`: four kinds of faults in CI, all in `make slow`; each sabotage is found (T12, T14)."""

import json
import os
import re
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

from sim.people import make_citizen
from sim.soak.mishaps import MISHAPS
from sim.soak.sabotage import TerminalSabotage
from tests.sim.processes import children

pytestmark = pytest.mark.timeout(400)

RUN_SECONDS = 300
COMMAND = [sys.executable, "-m", "sim.soak", "terminal"]
KINDS = ["kill_daemon", "hang_vision", "unplug_printer", "client_killed"]
"""One of each sort: a process that is killed, one that hangs, a device, the UI."""
SHORT = ("--minutes", "0.3", "--seed", "4", "--faults", ",".join(KINDS))
SABOTAGES = (TerminalSabotage.DROP_RECORD, TerminalSabotage.NO_RESTART)
"""Those that CI has time for; `make slow` has the others."""
SABOTAGED = ("--minutes", "0.05", "--seed", "9")


@dataclass(frozen=True)
class Run:
    """One run of the command with `--json`."""

    code: int
    report: dict[str, Any]
    errors: str
    directory: Path


def run(directory: Path, *told: str, seconds: float = RUN_SECONDS) -> Run:
    command = [*COMMAND, *told, "--json", "--keep", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.stdout, done.stderr
    return Run(done.returncode, json.loads(done.stdout), done.stderr, directory)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[TerminalSabotage | None, Run]:
    """A short run with four kinds of faults, and beside it two sabotages, one after the other."""

    def one(sabotage: TerminalSabotage | None) -> Run:
        directory = tmp_path_factory.mktemp("soak") / ("kept-under-a-long-name-" * 5)
        return run(directory, *(SHORT if sabotage is None else (*SABOTAGED, "--sabotage", sabotage)))

    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(one, None)
        broken = [(sabotage, one(sabotage)) for sabotage in SABOTAGES]
        return {None: whole.result(), **dict(broken)}


def as_promised(done: Run, kinds: list[str]) -> None:
    report = done.report
    assert (report["failures"], done.errors, done.code) == ([], "", 0)
    assert list(report["faults"]) == kinds
    assert all(one["count"] for one in report["faults"].values())
    recovery = report["recovery"]
    assert 0 < recovery["p50"] <= recovery["p95"] <= recovery["max"] < 180
    assert (report["lost"], report["duplicates"], report["double_charges"]) == (0, 0, 0)
    books, citizens, personal = report["books"], report["citizens"], report["personal"]
    assert books["events"]["told"] >= 20
    assert books["records"]["received"] >= books["events"]["received"] >= books["events"]["told"]
    assert citizens["served"] >= len(kinds)
    assert citizens["served"] + citizens["refused"] + citizens["cut_off"] == citizens["came"]
    assert (personal["found"], personal["controls_found"]) == ([], 4)
    assert personal["files"] >= 10


def test_the_terminal_recovers_from_every_fault_by_itself(runs: Mapping[TerminalSabotage | None, Run]) -> None:
    """T12, T14, T20."""
    as_promised(runs[None], KINDS)
    starts = runs[None].report["starts"]
    assert min(starts["daemon"], starts["hall"]) >= 2
    assert starts["broker"] == starts["platform"] == starts["rig"] == 1


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_terminal_recovers_from_every_kind_of_fault(tmp_path: Path) -> None:
    """T12, T14, T20: memory and descriptors stay flat too."""
    done = run(tmp_path / "kept", "--minutes", "15", "--seed", "2", seconds=3_000)
    as_promised(done, list(MISHAPS))
    report = done.report
    assert report["watchdog"] >= 1
    assert report["books"]["charges"]["charged"] >= 5
    assert report["books"]["papers"]["done"] >= 10
    assert report["memory"].keys() == report["descriptors"].keys() == {"daemon", "vision"}


FOUND = {
    TerminalSabotage.DROP_RECORD: r"records: 3 lost",
    TerminalSabotage.DOUBLE_CHARGE: r"charges: 1 doubled",
    TerminalSabotage.PLANT_NAME: r"personal data: name of citizen 0, utf-8, in .*/daemon\.log",
    TerminalSabotage.NO_RESTART: r"nobody was served for 15 s after kill_daemon",
}


def is_found(done: Run, sabotage: TerminalSabotage) -> None:
    failures = done.report["failures"]
    assert done.code == 1
    assert done.errors == "".join(f"govterm: {failure}\n" for failure in failures)
    assert any(re.fullmatch(FOUND[sabotage], failure) for failure in failures), failures
    wrong = {name: done.report[name] for name in ("lost", "duplicates", "double_charges")}
    if sabotage is not TerminalSabotage.NO_RESTART:  # where nobody starts it again, it has delivered nothing
        assert len(failures) == 1 + (sabotage is TerminalSabotage.DROP_RECORD), failures
        assert wrong["duplicates"] == 0
        assert (wrong["lost"] > 0) == (sabotage is TerminalSabotage.DROP_RECORD)
    assert wrong["double_charges"] == (sabotage is TerminalSabotage.DOUBLE_CHARGE)
    assert bool(done.report["personal"]["found"]) == (sabotage is TerminalSabotage.PLANT_NAME)


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_sabotage_is_found(runs: Mapping[TerminalSabotage | None, Run], sabotage: TerminalSabotage) -> None:
    is_found(runs[sabotage], sabotage)


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", [one for one in TerminalSabotage if one not in SABOTAGES])
def test_each_other_sabotage_is_found(tmp_path: Path, sabotage: TerminalSabotage) -> None:
    is_found(run(tmp_path / "kept", *SABOTAGED, "--sabotage", sabotage), sabotage)


def test_somebody_else_counts_what_was_kept_and_finds_the_same(
    runs: Mapping[TerminalSabotage | None, Run],
) -> None:
    """By plain SQL and grep (T12, T20)."""
    done = runs[None]
    kept, books = done.directory, done.report["books"]
    with closing(sqlite3.connect(f"{(kept / 'platform.db').as_uri()}?mode=ro", uri=True)) as platform:
        platform.execute("ATTACH ? AS here", (f"file:{kept}/terminal/journal.db?mode=ro",))
        (lost,) = platform.execute(
            "SELECT count(*) FROM here.records WHERE (stream, sequence) NOT IN (SELECT stream, sequence FROM records)"
        ).fetchone()
        (received,) = platform.execute("SELECT count(*) FROM records").fetchone()
        charged = platform.execute("SELECT count(*) FROM bank_ledger WHERE kind = 'charge'").fetchone()
    assert (lost, received, charged) == (0, books["records"]["received"], (books["charges"]["charged"],))
    assert len(list((kept / "paper").glob("*.png"))) == books["papers"]["pieces"]
    written = (kept / "daemon.log").read_bytes() + (kept / "terminal" / "audit.jsonl").read_bytes()
    assert len(written) > 1_000
    for number in range(done.report["citizens"]["came"]):
        citizen = make_citizen(number, 4)
        assert citizen.id_number.encode() not in written
        assert citizen.name.encode() not in written


def test_a_machine_without_mount_namespaces_is_told_what_to_do(tmp_path: Path) -> None:
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2; exit 1\n")
    refusing.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 69
    assert "unshare failed: Operation not permitted" in done.stderr


def test_an_unknown_kind_of_fault_is_told(tmp_path: Path) -> None:
    command = [*COMMAND, "--faults", "kill_daemon,kill_time", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no such fault: kill_time" in done.stderr
    assert not (tmp_path / "kept").exists()


@pytest.mark.slow
def test_it_is_stopped_with_everything_that_it_started(tmp_path: Path) -> None:
    command = [*COMMAND, "--minutes", "5", "--faults", "kill_broker", "--keep", str(tmp_path / "kept")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        below = children(process.pid)
        assert len(below) >= 5, below
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == "govterm: stopped\n"
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


def test_every_part_of_the_terminal_is_killed_hung_and_starved() -> None:
    """The list that the promise is about: nobody takes a kind away unseen."""
    for which in ("daemon", "vision", "rig", "broker", "platform"):
        assert {f"kill_{which}", f"hang_{which}"} <= MISHAPS.keys()
    for device in ("idcard", "printer", "fingerprint", "cardreader", "pinpad", "ups", "environment"):
        assert {f"unplug_{device}", f"garbage_{device}"} <= MISHAPS.keys()
    for camera in ("camera", "document"):
        assert {f"unplug_{camera}", f"bad_picture_{camera}"} <= MISHAPS.keys()
    for which in ("daemon", "vision"):
        assert {f"memory_{which}", f"descriptors_{which}"} <= MISHAPS.keys()
    others = {"broker_outage", "platform_outage", "disk_full", "clock_step", "mains_failure"}
    assert {*others, "client_closed", "client_killed", "client_silent"} <= MISHAPS.keys()
