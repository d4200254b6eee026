"""The power plan on a real board: Debian's NUT server, logind and polkit, down to a board that is gone (T14)."""

import json
import os
import select
import subprocess
import time

import pytest

from tests.systemd.board import STATUS, Board, booted, install, took
from tests.systemd.nut import SETTINGS_WITH_UPS, say, serve_nut

pytestmark = [pytest.mark.slow, pytest.mark.board, pytest.mark.timeout(600)]

RULE = "etc/polkit-1/rules.d/50-govterm.rules"
STEPS = [
    *("session", "end", "cards", "print", "settle", "tell", "alarms", "records", "checkpoint", "look"),
    *("wipe", "ups", "results", "off"),
]
RESERVE_SECONDS = 60
NOTICED_SECONDS = 45
"""A UPS on the mains is asked every 30 s while nobody is served."""


@pytest.fixture
def board(parts, tmp_path):
    """A board of its own, with its UPS on the mains and its daemon serving."""
    with booted(parts, tmp_path / "console") as board:
        install(board, parts, tmp_path, SETTINGS_WITH_UPS)
        serve_nut(board)
        board.start()
        wait_for_power(board, "on_mains")
        yield board


@pytest.fixture
def machine(board):
    """The descriptor of the board's PID 1, readable when it is gone."""
    descriptor = os.pidfd_open(board.pid)
    yield descriptor
    os.close(descriptor)


def wait_for_power(board: Board, state: str) -> None:
    ends = time.monotonic() + NOTICED_SECONDS
    while board.components()["power"] != state:
        assert time.monotonic() < ends, f"the power is not {state}: {board.run(*STATUS)}"


def wait_until_gone(board: Board, machine: int) -> None:
    """Wait for the board's end; no process may be sent into it meanwhile, for nsenter's would not be reaped."""
    assert select.select([machine], [], [], NOTICED_SECONDS + RESERVE_SECONDS)[0], "the board still runs"


def test_the_mains_fail_and_the_board_is_gone(board, machine, tmp_path):
    """On battery nothing is given up; a low battery brings the whole plan, in order, within the reserve."""
    say(board, "OB", runtime=1_800)
    wait_for_power(board, "on_battery")
    (journal,) = board.root.glob("*/log/journal/*/system.journal")
    with journal.open("rb") as opened:  # so it can be read when the board is gone
        began = time.monotonic()
        say(board, "OB LB", runtime=1_000)
        wait_until_gone(board, machine)
        lasted = took(began)
        (tmp_path / "system.journal").write_bytes(opened.read())
    listed = ("journalctl", f"--file={tmp_path / 'system.journal'}", "--identifier=govterm", "--output=cat")
    said = subprocess.run(listed, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    lines = [json.loads(line) for line in said if line.startswith("{")]
    steps = [line for line in lines if line["event"] == "power_step"]
    print(f"from OB LB until the board is gone: {lasted:.1f} s of a reserve of {RESERVE_SECONDS} s")
    for step in steps:
        print(f"  {step['step']:10} {step['seconds']:5.2f} of {step['budget_seconds']:g} s")
    assert [step["step"] for step in steps] == STEPS
    failed = {step["step"]: step["code"] for step in steps if step["code"] is not None}
    assert set(failed) <= {"ups"}, "the dummy UPS knows no order to cut"
    assert [line["event"] for line in lines if line["event"].startswith("power_off")] == ["power_off_ordered"]


def test_without_its_polkit_rule_the_daemon_is_refused_and_asks_again(board, machine):
    """T20: no other right of the daemon's powers the board off."""
    rule = (board.root / RULE).read_text()
    (board.root / RULE).unlink()
    board.run("systemctl", "restart", "polkit.service")
    refused = board.try_run("/opt/govterm/bin/govterm", "call", "terminal.power_off")
    assert "power.refused" in refused.stderr
    cursor = board.cursor()
    say(board, "OB LB", runtime=1_000)
    line = json.loads(board.hear('"step":"off"', cursor, seconds=NOTICED_SECONDS + RESERVE_SECONDS))
    assert line["code"] == "power.refused"
    board.write(RULE, rule)
    board.run("systemctl", "restart", "polkit.service")
    wait_until_gone(board, machine)
