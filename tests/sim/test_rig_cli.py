"""`govterm rig` and `govterm demo` as a stranger types them."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
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
        summary = govterm("rig", "--config", config, "do", "platform", "summary")
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


def still_there(below: dict[int, str]) -> dict[int, str]:
    """Return those of `below` that did not end, with their states."""
    found = {}
    for pid in below:
        with suppress(FileNotFoundError):
            found[pid] = Path(f"/proc/{pid}/stat").read_text()
    return found


@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGKILL])
def test_a_rig_that_loses_its_terminal_or_is_killed_leaves_nothing_running(
    directory: Path, ending: signal.Signals
) -> None:
    govterm("rig", "init", directory)
    with subprocess.Popen(
        [GOVTERM, "rig", "--config", directory / "rig.toml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as rig:
        assert rig.stdout is not None
        assert rig.stdout.readline().startswith("rig")
        below = children(rig.pid)
        rig.send_signal(ending)
        rig.communicate(timeout=DEADLINE_SECONDS)
    assert len(below) == 2
    deadline = time.monotonic() + DEADLINE_SECONDS
    while still_there(below):
        assert time.monotonic() < deadline, still_there(below)
        time.sleep(0.05)


def test_a_demo_that_is_stopped_leaves_nothing_running(directory: Path) -> None:
    log = directory / "daemon.log"
    with subprocess.Popen(
        [GOVTERM, "demo", "--once", "--keep", directory], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as demo:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (log.exists() and "daemon_ready" in log.read_text()):
            assert time.monotonic() < deadline
            assert demo.poll() is None
            time.sleep(0.05)
        below = children(demo.pid)
        assert len(below) == 3
        demo.send_signal(signal.SIGTERM)
        _, errors = demo.communicate(timeout=DEADLINE_SECONDS)
    assert (demo.returncode, errors) == (130, "govterm: stopped\n")
    assert still_there(below) == {}
    assert not list(directory.glob("*.sock"))


def test_a_demo_left_up_ends_at_once_at_the_second_signal(directory: Path) -> None:
    with subprocess.Popen(
        [GOVTERM, "demo", "--keep", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stdout is not None
        assert any("Ctrl-C stops everything" in line for line in demo.stdout)
        below = children(demo.pid)
        (daemon,) = [pid for pid, command in below.items() if "-m runtime" in command]
        os.kill(daemon, signal.SIGSTOP)
        wait_until(lambda: status_of(daemon, "State").startswith("T"))  # or SIGTERM could still come before it
        demo.send_signal(signal.SIGTERM)
        wait_until(lambda: bool(int(status_of(daemon, "ShdPnd"), 16) & (1 << (signal.SIGTERM - 1))))
        demo.send_signal(signal.SIGTERM)
        _, errors = demo.communicate(timeout=DEADLINE_SECONDS)
    assert (demo.returncode, errors) == (130, "govterm: stopped\n")
    assert still_there(below) == {}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def status_of(pid: int, field: str) -> str:
    """Return a field of a process's status; `ShdPnd` is the mask of the signals that wait for it."""
    return Path(f"/proc/{pid}/status").read_text().split(f"\n{field}:\t")[1].split("\n")[0]


def test_without_the_extra_it_is_named() -> None:
    """As where the wheel was installed without `[rig]`: no traceback."""
    for package in ("fpdf", "iotcore", "PIL", "segno"):
        program = f"import sys; sys.modules[{package!r}] = None; import runtime.cli; runtime.cli.main()"
        for command in ("demo", "rig"):
            done = subprocess.run(
                [sys.executable, "-c", program, command],
                capture_output=True,
                text=True,
                timeout=DEADLINE_SECONDS,
                check=False,
            )
            assert (done.returncode, done.stdout) == (69, "")
            assert done.stderr.startswith(f"govterm: `{command}` needs the extra `rig`, {package} is missing"), done


def test_a_directory_in_use_is_not_overwritten(directory: Path) -> None:
    govterm("rig", "init", directory)
    before = sorted(directory.rglob("*"))
    done = govterm("demo", "--once", "--keep", directory)
    assert done.returncode == 1
    assert "there is a rig already" in done.stderr
    assert sorted(directory.rglob("*")) == before


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ('device = "printer"\nverb = "shout"', ":2: printer has no verb shout"),
        ('device = "environment"\nverb = "set_humidity"\nargs = {percent = "wet"}', ":2: environment set_humidity: "),
        ('device = "printer"', ":2: Object missing required field `verb`"),
    ],
)
def test_a_bad_scenario_is_told_with_its_line_and_ends_the_rig(directory: Path, step: str, said: str) -> None:
    govterm("rig", "init", directory)
    story = directory / "story.toml"
    story.write_text(f"\n[[at]]\nseconds = 0.1\n{step}\n")
    done = govterm("rig", "--config", directory / "rig.toml", "--scenario", story)
    assert done.returncode == 1
    assert done.stderr.startswith(f"govterm: {story}{said}"), done.stderr
