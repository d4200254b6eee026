"""`govterm simulate`: what it finds, and that a seed is a run (rule 5)."""

import os
import subprocess
import sys

import msgspec
import pytest

from sim.simulate.sabotage import Sabotage
from sim.simulate.tampering import TAMPERINGS

MOST_SEEDS = 200
FOUND_AS = {
    Sabotage.DOUBLE_CHARGE: "was charged 2 times",
    Sabotage.LEAK_SESSION: "of a number of citizen",
    Sabotage.LOSE_FILING: "was told that an application is filed, and the platform has none",
    Sabotage.SKIP_FSYNC: "journal.went_back",
    Sabotage.STUCK_TICKET: "is open, and nothing is wrong",
    Sabotage.DOUBLE_PRINT: "papers came out for citizen",
    Sabotage.KEEP_RECORD: "1 s after a session the daemon holds identifier of citizen",
    Sabotage.KEEP_KEYS: "the power plan's step wipe left the identity key",
    Sabotage.NO_TICKET: "there is no ticket of it",
    Sabotage.TURN_AWAY: "nothing was wrong: sharing.call: assertion.expired",
    Sabotage.NEVER_LOCK: "goes on, and there is no lock",
    Sabotage.NEVER_OFF: "the power plan went through its steps, and the board was not powered off",
}


def simulate(*options: str, hash_seed: str = "0") -> tuple[int, dict]:
    """Run the command as a process of its own; a run forks, and holds on to what a dead daemon left."""
    command = [sys.executable, "-m", "sim.simulate", "--json", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONHASHSEED": hash_seed}
    )
    assert done.stdout, done.stderr
    return done.returncode, msgspec.json.decode(done.stdout)


@pytest.mark.timeout(900)
def test_fault_dense_hours(tmp_path):
    """T10, T12, T15, T20, T21, rule 1, rule 2: nothing that must not be, in seeds of an hour full of faults."""
    code, report = simulate("--hours", "1", "--seeds", str(MOST_SEEDS), "--seed", "1", "--faults", "heavy")
    assert report["failures"] == []
    assert code == 0
    assert (report["seeds"], report["violations"]) == (MOST_SEEDS, 0)
    assert report["hours"] >= MOST_SEEDS
    assert report["citizens"] > 30 * MOST_SEEDS
    assert len(report["faults"]) > 100
    judged = report["judged"]
    assert judged["tickets"] > 3 * MOST_SEEDS
    assert judged["papers"] > 3 * MOST_SEEDS
    assert judged["looks_at_memory"] > 3 * MOST_SEEDS
    assert judged["ways_down"] > MOST_SEEDS // 10
    assert judged["tamperings"] > MOST_SEEDS // 3
    assert {kind.name for kind in TAMPERINGS} <= report["faults"].keys()
    assert judged["visits_excused"] < 0.9 * judged["visits"]
    assert report["lives"] > 2 * MOST_SEEDS
    assert 0.5 < report["availability"] < 1
    assert 0.5 < report["success_rate"] < 1


def test_equal_seeds_give_equal_traces_in_any_process():
    """Rule 5: identifiers and keys are random, and hashes differ; what happens does not."""
    _, one = simulate("--hours", "0.5", "--seeds", "2", "--seed", "3", hash_seed="0")
    _, same = simulate("--hours", "0.5", "--seeds", "2", "--seed", "3", hash_seed="77")
    _, other = simulate("--hours", "0.5", "--seeds", "2", "--seed", "4", hash_seed="0")
    assert one["trace_digest"] == same["trace_digest"] != other["trace_digest"]
    assert (one["events"], one["citizens"], one["faults"]) == (same["events"], same["citizens"], same["faults"])


@pytest.mark.parametrize("sabotage", Sabotage)
def test_what_is_broken_on_purpose_is_found(sabotage):
    """Each sabotage turns the command red within a few seeds, by what it breaks."""
    code, report = simulate("--hours", "1", "--seeds", "3", "--seed", "1", "--sabotage", sabotage)
    assert code == 1
    assert report["violations"] > 0
    said = [violation for failure in report["failures"] for violation in failure["violations"]]
    assert any(FOUND_AS[sabotage] in one for one in said), said
    assert f"--sabotage {sabotage} --seed " in report["failures"][0]["replay"]


def test_a_failing_seed_fails_again_in_the_same_way(tmp_path):
    """What a seed found is found again, and what is kept of it lets somebody else count."""
    options = ("--hours", "1", "--seeds", "1", "--seed", "1", "--sabotage", "lose-filing")
    _, one = simulate(*options, "--keep", str(tmp_path / "one"))
    _, again = simulate(*options, "--keep", str(tmp_path / "again"))
    assert one["failures"] == again["failures"] != []
    assert one["trace_digest"] == again["trace_digest"]
    kept = {file.name for file in (tmp_path / "one" / "seed-1").iterdir()}
    assert {"trace.txt", "journal.db", "platform.db", "audit.jsonl", "told.jsonl", "outcome.json"} <= kept
    trace = (tmp_path / "one" / "seed-1" / "trace.txt").read_text(encoding="utf-8")
    assert "VIOLATION citizen" in trace
    assert trace == (tmp_path / "again" / "seed-1" / "trace.txt").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_two_weeks_of_a_quiet_terminal():
    """T5: what grows, drifts or is forgotten shows in days, not in hours."""
    code, report = simulate("--hours", "168", "--seeds", "2", "--seed", "1", "--faults", "light")
    assert report["failures"] == []
    assert code == 0
    assert report["availability"] > 0.98
