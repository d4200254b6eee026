"""`govterm soak delivery`: every kind of fault, nothing lost, doubled or altered; each sabotage is found (I6, T12)."""

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

import msgspec
import pytest

from sim.soak import faults
from sim.soak.count import count
from sim.soak.report import Sabotage
from tests.sim.processes import children

pytestmark = pytest.mark.timeout(400)

RUN_SECONDS = 300
COMMAND = [sys.executable, "-m", "sim.soak", "delivery"]
SHORT = ("--minutes", "1", "--seed", "4")
SABOTAGED = ("--minutes", "0.1")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """One run of the command with `--json`."""

    code: int
    report: dict[str, Any]
    errors: str
    directory: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Sabotage | None, Run]:
    """One short run with every kind of fault, and beside it one for each sabotage."""

    def run(sabotage: Sabotage | None) -> Run:
        directory = tmp_path_factory.mktemp("soak") / ("kept-under-a-long-name-" * 5)
        told = SHORT if sabotage is None else (*SABOTAGED, "--sabotage", sabotage)
        command = [*COMMAND, *told, "--json", "--keep", str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        assert done.stdout, done.stderr
        return Run(done.returncode, json.loads(done.stdout), done.stderr, directory)

    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(run, None)
        broken = [(sabotage, run(sabotage)) for sabotage in Sabotage]
        return {None: whole.result(), **dict(broken)}


def test_nothing_is_lost_doubled_or_altered_by_any_fault(runs: Mapping[Sabotage | None, Run]) -> None:
    """I6, T12, T20."""
    run = runs[None]
    report = run.report
    assert (report["failures"], run.errors, run.code) == ([], "", 0)
    assert list(report["faults"]) == list(faults.KINDS)
    assert all(report["faults"].values())
    records, calls = report["records"], report["calls"]
    for counted in (records, calls):
        assert (counted["lost"], counted["duplicates"], counted["altered"]) == (0, 0, 0)
    assert records["sent"] >= 5 * report["seconds"]
    assert records["sent"] <= records["received"] + records["shed"] <= records["sent"] + records["unknown"]
    assert calls["answered"] >= 50
    assert calls["answered"] + calls["refused"] + calls["unknown"] + calls["not_sent"] == calls["sent"]
    assert report["nonces_reused"] == 0
    assert report["envelopes"] >= 500
    recovery = report["recovery_seconds"]
    assert 0 < recovery["p50"] <= recovery["p95"] <= recovery["max"] < 60
    assert recovery["measured"] == sum(report["faults"].values())


FOUND = {
    Sabotage.DROP_RECORD: ("lost", 3, "records: 3 lost"),
    Sabotage.DOUBLE_RECORD: ("duplicates", 3, "records: 3 duplicates"),
    Sabotage.FLIP_BYTE: ("altered", 3, "records: 3 altered"),
    Sabotage.REUSE_NONCE: (None, 0, "1 nonces were used twice"),
}


@pytest.mark.parametrize("sabotage", Sabotage)
def test_each_sabotage_is_found_and_nothing_else(runs: Mapping[Sabotage | None, Run], sabotage: Sabotage) -> None:
    run = runs[sabotage]
    which, number, failure = FOUND[sabotage]
    assert run.code == 1
    assert run.report["failures"] == [failure]
    assert run.errors == f"govterm: {failure}\n"
    wrong = {name: run.report["records"][name] for name in ("lost", "duplicates", "altered")}
    assert wrong == {"lost": 0, "duplicates": 0, "altered": 0} | ({which: number} if which else {})
    assert run.report["nonces_reused"] == (sabotage is Sabotage.REUSE_NONCE)


@pytest.mark.parametrize("sabotage", [None, *Sabotage])
def test_somebody_else_counts_what_was_kept_and_finds_the_same(
    runs: Mapping[Sabotage | None, Run], sabotage: Sabotage | None
) -> None:
    """By the same program again, and by the SQL that docs/reliability.md gives (I6)."""
    run = runs[sabotage]
    kept, records = run.directory, run.report["records"]
    assert run.report["directory"] == str(kept)
    again = msgspec.to_builtins(count(kept / "ledger.jsonl", kept / "platform.db"))
    assert again == {"records": records, "calls": run.report["calls"]}
    with closing(sqlite3.connect(f"{(kept / 'platform.db').as_uri()}?mode=ro", uri=True)) as database:
        database.execute("CREATE TEMP TABLE ledger (line TEXT)")
        lines = (kept / "ledger.jsonl").read_text().splitlines()
        database.executemany("INSERT INTO ledger VALUES (?)", ((line,) for line in lines))
        page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"```sql\n(.+?)```", page, re.DOTALL)
        rows = [database.execute(statement).fetchall() for statement in block.split(";")]
        sent, missing, doubled, altered = (row[0][0] for row in rows if row)
    assert sent == records["sent"]
    assert missing == records["lost"] + records["shed"]
    assert doubled == records["duplicates"] + run.report["calls"]["duplicates"]
    assert altered == records["altered"] + run.report["calls"]["altered"]
    assert (kept / "terminal" / "journal.db").stat().st_size
    assert (kept / "terminal" / "audit.jsonl").stat().st_size


def test_a_machine_without_mount_namespaces_is_told_what_to_do(tmp_path: Path) -> None:
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2; exit 1\n")
    refusing.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 69
    assert "unshare failed: Operation not permitted" in done.stderr
    assert "run it as root" in done.stderr


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "notes"
    kept.touch()
    done = subprocess.run([*COMMAND, "--keep", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "something is in it already" in done.stderr
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_stopped_with_everything_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    command = [*COMMAND, "--minutes", "1", "--keep", str(tmp_path / "kept")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        below = children(process.pid)
        assert len(below) >= 4, below
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == "govterm: stopped\n"
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
