"""Recovery after kill -9, by kind, beside the same kill of a trivial process under systemd and under supervisord.

All on one booted board and in one run, but for a driver's life, which is no process: its wire breaks, on a PTY.
"""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.conftest import Figures, percentile
from benchmarks.test_replug import Online, supervised
from sim.pty import PtyHost
from sim.settings import BAUD
from sim.usb import MemoryHotplug
from tests.runtime.tester_rig import MAKE
from tests.systemd.board import Board, Parts, booted, install
from tests.systemd.needs import missing
from tests.systemd.tree import build_photo_library, build_wheel, kept_tree

RUNS = 20
QUICK = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n"
AS_SHIPPED = "[Unit]\nStartLimitIntervalSec=0\n"
STAMP = "/usr/bin/python3 -I /opt/board_restarts.py stamp"
TRIVIAL_UNIT = f"[Service]\nExecStart={STAMP} /run/by-systemd\nRestart=always\nRestartSec=100ms\n{AS_SHIPPED}"
SUPERVISORD = f"""
[supervisord]
nodaemon = true
logfile = /dev/null
logfile_maxbytes = 0
pidfile = /run/trivial.pid

[program:trivial]
command = {STAMP} /run/by-supervisord
autorestart = true
"""

pytestmark = pytest.mark.timeout(900)


def told(taken: Sequence[float]) -> str:
    return f"p50 {percentile(taken, 50):.2f} s, p95 {percentile(taken, 95):.2f} s, max {max(taken):.2f} s"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A board whose daemon serves, with the script that kills."""
    if lacks := missing():
        pytest.fail("a board cannot boot here; missing: " + "; ".join(lacks), pytrace=False)
    scratch = tmp_path_factory.mktemp("board")
    with kept_tree() as tree:
        parts = Parts(tree, build_wheel(scratch), build_photo_library(scratch))
        with booted(parts, scratch / "console") as board:
            install(board, parts, scratch)
            shutil.copy(Path(__file__).with_name("board_restarts.py"), board.root / "opt")
            board.start()
            yield board


@pytest.fixture(scope="module")
def peers(board: Board) -> dict[str, list[float]]:
    """The trivial process's recoveries under each of the two."""
    board.write("/run/systemd/system/trivial.service", TRIVIAL_UNIT)
    board.write("/etc/trivial.conf", SUPERVISORD)
    board.run("systemctl", "daemon-reload")
    board.run("systemctl", "start", "trivial.service")
    board.run("systemd-run", "--unit=supervisord", "/usr/bin/supervisord", "--configuration=/etc/trivial.conf")
    taken = {name: restarts(board, "stamped", f"/run/by-{name}") for name in ("systemd", "supervisord")}
    board.run("systemctl", "stop", "trivial.service", "supervisord.service")
    return taken


def restarts(board: Board, what: str, name: str) -> list[float]:
    taken: list[float] = []
    while len(taken) < RUNS:  # in parts: a command has COMMAND_SECONDS
        said = board.run("/usr/bin/python3", "-I", "/opt/board_restarts.py", what, name, "5")
        taken += json.loads(said)
    return taken


def beside(peers: dict[str, list[float]]) -> str:
    return "; ".join(f"trivial process under {name}: {told(taken)}" for name, taken in peers.items())


def ratio(ours: Sequence[float], peers: dict[str, list[float]]) -> str:
    return ", ".join(f"{percentile(ours, 50) / percentile(taken, 50):.1f} of {name}'s" for name, taken in peers.items())


async def broken_wire(port: Path) -> float:
    """Break a new driver's wire once, without an event of udev's; return the seconds until it is online again."""
    online = Online()
    peripherals, supervisor, journal, executor = supervised("idcard", port, MemoryHotplug(), online.heard)
    await journal.open()
    with PtyHost(MAKE["idcard"](), port, baud=BAUD["idcard"]) as host:
        async with asyncio.TaskGroup() as group:
            await peripherals.start(group)
            await online.until(online=True)
            began = time.perf_counter()
            host.unplug()
            host.plug()
            await online.until(online=False)
            await online.until(online=True)
            taken = time.perf_counter() - began
            await supervisor.stop()
    await executor.close()
    return taken


def test_a_drivers_life(figures: Figures, peers: dict[str, list[float]], tmp_path: Path) -> None:
    taken = [asyncio.run(broken_wire(tmp_path / f"port-{number}")) for number in range(RUNS)]
    figures.add("driver's life ended", told(taken), beside=beside(peers), verdict=ratio(taken, peers))
    assert len(taken) == RUNS


def test_the_vision_process(figures: Figures, peers: dict[str, list[float]], board: Board) -> None:
    taken = []
    for _ in range(RUNS // 2):
        board.start()  # its supervisor's pauses are the first ones again
        cursor, worker = board.cursor(), board.vision_pid()
        began = time.monotonic()
        board.signal("KILL", worker)
        board.hear("vision_ready", cursor)
        taken.append(time.monotonic() - began)
    figures.add("vision kill -9 to ready", told(taken), beside=beside(peers), verdict=ratio(taken, peers))
    assert len(taken) == RUNS // 2


@pytest.mark.parametrize(
    ("how", "settings"),
    [("RestartSec=100ms", QUICK), ("RestartSec=2 as shipped", AS_SHIPPED)],
    ids=["like the trivial process", "as shipped"],
)
def test_the_daemon(how: str, settings: str, figures: Figures, peers: dict[str, list[float]], board: Board) -> None:
    with board.changed("govterm.service", settings):
        board.start()
        taken = restarts(board, "unit", "govterm.service")
    figures.add(f"daemon kill -9 to READY, {how}", told(taken), beside=beside(peers), verdict=ratio(taken, peers))
    assert len(taken) == RUNS
