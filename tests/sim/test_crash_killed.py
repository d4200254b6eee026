"""Real processes: a daemon that kills itself at a point of a citizen's visit to the rig, and what is left (rule 2)."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from runtime import board
from sim.crash.fuse import VARIABLE, passed
from sim.crash.points import Kind, Point
from sim.crash.real import share
from sim.crash.services import SERVICES


def killed(*arguments: str, seconds: float) -> dict:
    command = [sys.executable, "-m", "sim.crash", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    assert done.returncode == 0, (done.stdout.decode()[-3000:], done.stderr.decode()[-3000:])
    report = json.loads(done.stdout)
    assert report["findings"] == []
    return report


def test_a_few_points_with_real_processes():
    report = killed("--service", "applications", "--kill", "4", seconds=110)
    (covered,) = report["services"]
    assert covered["points"] >= 200
    assert covered["stopped"] == covered["restarts"] == 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_forty_points_of_all_services_with_real_processes():
    report = killed("--kill", "40", seconds=1750)
    assert [covered["service"] for covered in report["services"]] == list(SERVICES)
    assert sum(covered["restarts"] for covered in report["services"]) >= 38
    assert all(covered["restarts"] for covered in report["services"])


KILLED = """
import os, pathlib
from sim.crash.fuse import Fuse
from sim.crash.points import Kind, Point
fuse = Fuse(pathlib.Path(os.environ["GOVTERM_RIG_CRASH_FILE"]))
fuse.passes(Point(1, Kind.SENT, "before there is a file", 0))
pathlib.Path(os.environ["GOVTERM_RIG_CRASH_FILE"]).write_text("2")
for number in range(1, 9):
    print(number, flush=True)
    fuse.passes(Point(number, Kind.SENT, "before call", 0))
"""


def test_the_fuse_kills_at_the_point_that_its_file_names(tmp_path):
    environment = {**os.environ, VARIABLE: str(tmp_path / "fuse")}
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, timeout=60, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [line for line in done.stdout.split() if line.isdigit()] == [b"1", b"2"]


def test_the_log_of_a_daemon_tells_its_points():
    lines = [
        b'{"event":"daemon_ready"}',
        b'{"event":"crash_point_passed","number":1,"kind":"commit","what":"before"}',
    ]
    assert passed(lines) == [Point(1, Kind.COMMIT, "before", 1)]


def test_only_a_rig_that_is_asked_to_has_a_fuse(tmp_path, monkeypatch):
    """A terminal that serves citizens does not look at the variable."""
    rig, terminal = SimpleNamespace(rig=True), SimpleNamespace(rig=False)
    plug_in = SimpleNamespace(load=lambda: lambda seams: f"watched {seams}")
    monkeypatch.setattr(board, "entry_points", lambda **_: [plug_in])
    monkeypatch.delenv(VARIABLE, raising=False)
    assert board._watched(rig, "seams") == "seams"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "fuse"))
    assert board._watched(terminal, "seams") == "seams"
    assert board._watched(rig, "seams") == "watched seams"


def test_points_are_shared_out_by_the_length_of_the_runs():
    assert share([400, 200, 200, 2], 40) == [20, 10, 10, 1]
