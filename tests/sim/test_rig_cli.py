"""`govterm rig` and `govterm demo` as a stranger types them."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sim.processes import children

GOVTERM = str(Path(sys.executable).with_name("govterm"))
DEADLINE_SECONDS = 60.0


def govterm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GOVTERM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rig-") as directory:
        yield Path(directory, "my-rig")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rig", "--help"), ["init", "do", "verbs", "prepare", "--config"]),
        (("rig", "do", "--help"), ["DEVICE", "VERB", "JSON"]),
        (("demo", "--help"), ["--once", "--json", "--keep", "--sabotage", "same-face"]),
    ],
)
def test_help_says_what_there_is(arguments: tuple[str, ...], said: list[str]) -> None:
    done = govterm(*arguments)
    assert done.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert all(word in plain for word in said), plain


def test_a_rig_is_made_started_asked_and_stopped(directory: Path) -> None:
    made = govterm("rig", "init", directory)
    assert (made.returncode, made.stderr) == (0, "")
    assert "govterm run --rig --config" in made.stdout
    config = directory / "rig.toml"
    again = govterm("rig", "init", directory)
    assert (again.returncode, again.stdout) == (1, "")
    assert "there is a rig already" in again.stderr
    silent = govterm("rig", "do", "idcard", "place_card", "--config", config)
    assert silent.returncode == 1
    assert "the rig does not answer" in silent.stderr

    with subprocess.Popen(
        [GOVTERM, "rig", "--config", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as rig:
        assert rig.stdout is not None
        assert rig.stdout.readline().startswith("rig")
        placed = govterm("rig", "do", "idcard", "place_card", '{"citizen": 3}', "--config", config)
        assert (placed.returncode, placed.stdout, placed.stderr) == (0, "null\n", "")
        summary = govterm("rig", "do", "platform", "summary", "--config", config)
        assert json.loads(summary.stdout)["records"] == 0
        refused = govterm("rig", "do", "camera", "shout", "--config", config)
        assert refused.returncode == 1
        assert "no such verb; there are show" in refused.stderr
        assert govterm("rig", "do", "camera", "show", "[]", "--config", config).returncode == 2
        verbs = govterm("rig", "verbs", "--config", config).stdout
        assert "place_card" in verbs
        assert "double_record" in verbs
        below = children(rig.pid)
        assert len(below) == 2
        rig.send_signal(signal.SIGTERM)
        _, errors = rig.communicate(timeout=DEADLINE_SECONDS)
    assert (rig.returncode, errors) == (0, "govterm: stopped\n")
    assert not any(Path("/proc", str(pid)).exists() for pid in below)
    assert not list(directory.glob("*.sock"))


def test_no_rig_is_said(tmp_path: Path) -> None:
    done = govterm("rig", "--config", tmp_path / "rig.toml")
    assert done.returncode == 1
    assert "govterm rig init" in done.stderr


def test_a_demo_that_is_stopped_leaves_nothing_running(directory: Path) -> None:
    with subprocess.Popen(
        [GOVTERM, "demo", "--once", "--keep", directory], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as demo:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (directory / "govterm.sock").exists():
            assert time.monotonic() < deadline
            assert demo.poll() is None
            time.sleep(0.05)
        below = children(demo.pid)
        assert len(below) == 3
        demo.send_signal(signal.SIGTERM)
        _, errors = demo.communicate(timeout=DEADLINE_SECONDS)
    assert (demo.returncode, errors) == (130, "govterm: stopped\n")
    assert not any(Path("/proc", str(pid)).exists() for pid in below)
    assert not list(directory.glob("*.sock"))


def test_a_directory_in_use_is_not_overwritten(directory: Path) -> None:
    govterm("rig", "init", directory)
    before = sorted(directory.rglob("*"))
    done = govterm("demo", "--once", "--keep", directory)
    assert done.returncode == 1
    assert "there is a rig already" in done.stderr
    assert sorted(directory.rglob("*")) == before
