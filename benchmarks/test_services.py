"""200 citizens one after the other at real processes: every operation beside the 5 s of T13, and what else counts."""

import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.conftest import Figures, within

CITIZENS = 200
SEED = 7
RUN_SECONDS = 3_600
LIMIT_SECONDS = 5.0
GOAL_GROWTH_MEBIBYTES = 5.0
GOAL_MILLISECONDS = 10.0
COMMAND = [sys.executable, "-m", "sim.soak", "citizens", "--json", "--citizens", str(CITIZENS), "--seed", str(SEED)]


@pytest.mark.timeout(RUN_SECONDS + 60)
def test_every_operation_of_a_day_of_citizens(figures: Figures) -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    for method, operation in report["operations"].items():
        call = operation["call"]
        figures.add(
            f"{method} ({operation['calls']} calls)",
            f"p50 {call['p50']:.3f} s, p95 {call['p95']:.3f} s, p99 {call['p99']:.3f} s{_shares(operation['shares'])}",
            beside=f"T13 limit {LIMIT_SECONDS:.0f} s",
            verdict=within(call["p99"], LIMIT_SECONDS),
        )
    figures.add("time of all operations", _shares(report["shares"]).removeprefix("; "), beside="no limit")
    figures.add("sessions an hour", f"{report['sessions_per_hour']:.0f}", beside="citizens who never hesitate")
    for name in ("daemon", "vision"):
        memory = report[f"{name}_memory"]
        figures.add(
            f"{name} resident after {memory['warm_session']} and {CITIZENS} sessions",
            f"{memory['warm']:.1f} and {memory['end']:.1f} MiB",
            beside=f"goal flat: at most {GOAL_GROWTH_MEBIBYTES:.0f} MiB more",
            verdict=within(memory["end"] - memory["warm"], GOAL_GROWTH_MEBIBYTES),
        )
    for name, trip in report["round_trip"].items():
        if isinstance(trip, dict):
            figures.add(
                f"terminal.status by the typed client, {name}",
                f"p50 {trip['p50']:.2f} ms, p99 {trip['p99']:.2f} ms",
                beside=f"goal {GOAL_MILLISECONDS:.0f} ms",
                verdict=within(trip["p99"], GOAL_MILLISECONDS),
            )
    events = report["events"]
    told = f"{events['missing']} missing, {events['doubled']} doubled"
    figures.add(f"events of {events['told']} steps at the platform", told, beside="0")
    assert report["served"] == CITIZENS, report["failures"]
    assert (events["missing"], events["doubled"]) == (0, 0)


def _shares(shares: dict[str, Any] | None) -> str:
    return "; " + ", ".join(f"{place} {share:.0f} %" for place, share in shares.items() if share) if shares else ""
