"""The promises of every service when the daemon stops at a point of a citizen's visit (rule 2, T7 to T11, H2, S6)."""

import json
import os
import re
import subprocess
import sys

import pytest

from sim.crash.services import SERVICES

LEAST = {
    "identity": 80,
    "certificate": 180,
    "applications": 380,
    "payment-card": 600,
    "payment-unionpay": 500,
    "payment-ecny": 500,
    "payment-back": 450,
    "hotline": 200,
    "sharing": 330,
}
"""Points of a run; fewer would mean that something is no longer watched."""
SHARE = 24
"""Worlds of each service in the short form."""


def enumerated(*arguments: str, code: int = 0) -> dict:
    command = [sys.executable, "-m", "sim.crash", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=900, check=False, env=os.environ)
    assert done.returncode == code, (done.stdout.decode()[-3000:], done.stderr.decode()[-3000:])
    return json.loads(done.stdout)


@pytest.mark.parametrize("service", SERVICES)
def test_every_promise_is_kept_wherever_the_daemon_stops(service):
    report = enumerated("--service", service, "--points", str(SHARE), "--again", "1")
    (covered,) = report["services"]
    assert report["findings"] == []
    assert covered["points"] >= LEAST[service]
    assert covered["restarts"] >= covered["stopped"] >= min(SHARE, covered["worlds"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("service", SERVICES)
def test_every_promise_is_kept_at_every_point(service):
    report = enumerated("--service", service)
    (covered,) = report["services"]
    assert report["findings"] == []
    assert covered["stopped"] == covered["worlds"]
    assert 0 < covered["synced"] < covered["restarts"]
    assert covered["late"]
    assert covered["recoveries"] or service == "identity"  # which has no effect


@pytest.mark.parametrize("service", SERVICES)
def test_a_journal_that_is_not_synced_breaks_promises(service):
    """Taking `synchronous=FULL` away turns the suite red, and only on the journal as it was synced."""
    report = enumerated("--service", service, "--points", "10", "--again", "0", "--sabotage", "skip-fsync", code=1)
    assert {finding["view"] for finding in report["findings"]} == {"synced"}


@pytest.mark.parametrize(
    ("service", "sabotage", "found"),
    [
        ("payment-card", "double-charge", r"was charged 2 times and given back \d times"),
        ("payment-unionpay", "double-charge", r"was charged 2 times and given back \d times"),
        ("payment-ecny", "keep-fee", r"is charged, and nothing was filed for it"),
        ("payment-back", "keep-fee", r"is charged, and nothing was filed for it"),
    ],
)
def test_a_citizen_who_is_charged_twice_or_for_nothing_is_found(service, sabotage, found):
    """T10."""
    report = enumerated("--service", service, "--points", "10", "--again", "0", "--sabotage", sabotage, code=1)
    failures = [failure for finding in report["findings"] for failure in finding["failures"]]
    assert any(re.search(found, failure) for failure in failures)


def test_a_filing_that_the_platform_loses_is_found():
    """Lost means: told as filed, and the platform has none (T8)."""
    report = enumerated(
        "--service", "applications", "--points", "20", "--again", "0", "--sabotage", "lose-filing", code=1
    )
    assert any("was told as filed" in failure for finding in report["findings"] for failure in finding["failures"])


def test_the_table_tells_the_points_of_each_service(tmp_path):
    command = [sys.executable, "-m", "sim.crash", "--service", "applications", "--points", "20"]
    command += ["--sabotage", "lose-filing", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, text=True)
    assert done.returncode == 1
    assert re.search(r"applications \(.+ s\): audit \d+, commit \d+", done.stdout)
    assert "restarts broke a promise" in done.stdout
    assert list((tmp_path / "kept" / "applications").glob("*/platform.db"))
    again = subprocess.run(command, capture_output=True, timeout=120, check=False, text=True)
    assert again.returncode == 1
    assert "File exists" in again.stderr


def test_an_unknown_service_is_a_usage_error():
    command = [sys.executable, "-m", "sim.crash", "--service", "nothing"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == 2
    assert "nothing: no such service" in done.stderr
