"""The installed daemon under a real systemd, the short form: `make test` boots this board (rules 1 and 4, T14, T20)."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from runtime.process import STOP_SECONDS
from tests.systemd.board import took
from vision.log_priority import PREFIXES

HANGING = """
[Service]
WatchdogSec=4s
ExecStart=
ExecStart=/opt/govterm/bin/python /opt/hanging.py --config /etc/govterm/govterm.toml
"""

pytestmark = [pytest.mark.board, pytest.mark.timeout(600)]


def test_the_first_caller_starts_the_daemon(shared_board):
    board = shared_board
    board.run("systemctl", "stop", "govterm-retry.timer", "govterm.service")
    board.run("systemctl", "reset-failed")
    board.run("systemctl", "start", "govterm.socket")
    assert board.show("ActiveState") == "inactive"
    cursor = board.cursor()
    assert set(board.components()) >= {"idcard", "printer", "platform", "session", "vision"}
    assert board.show("ActiveState") == "active"
    board.hear("vision_ready", cursor)
    assert board.components()["vision"] == "online"
    assert "idcard offline (idcard.offline), " in board.show("StatusText")
    journal = board.journal(cursor, unit="govterm.service")
    assert "daemon_ready" in journal
    for bad in ("Traceback", '"level":"error"', "write_refused", "egress_refused", "denied", "not permitted"):
        assert bad not in journal, journal
    assert board.journal(cursor, least=3) == ""


def test_each_line_of_the_journal_has_its_priority(serving):
    """sd-daemon(3): `journalctl --priority=warning` finds what the daemon calls a warning."""
    listed = serving.run("journalctl", "--identifier=govterm", "--output=json", "--no-pager").splitlines()
    lines = [line for line in map(json.loads, listed) if line["MESSAGE"].startswith("{")]
    told = {(PREFIXES[json.loads(line["MESSAGE"])["level"]], f"<{line['PRIORITY']}>") for line in lines}
    assert told >= {("<6>", "<6>"), ("<4>", "<4>")}
    assert all(level == priority for level, priority in told), told


def test_users_directories_and_sockets_are_as_told(serving):
    assert serving.run("id", "--name", "--user", "govterm").strip() == "govterm"
    found = serving.run(
        *("stat", "--format=%n %U %G %a", "/etc/govterm", "/etc/govterm/credentials", "/var/lib/govterm-models"),
        *("/var/lib/govterm", "/run/govterm", "/run/govterm/govterm.sock", "/run/govterm/preview.sock"),
    )
    assert found.splitlines() == [
        "/etc/govterm root root 755",
        "/etc/govterm/credentials root root 700",
        "/var/lib/govterm-models root root 755",
        "/var/lib/govterm govterm govterm 700",
        "/run/govterm govterm govterm 755",
        "/run/govterm/govterm.sock govterm govterm-ui 660",
        "/run/govterm/preview.sock govterm govterm-ui 660",
    ]
    assert serving.run("systemctl", "is-enabled", "govterm.service", "govterm.socket").split() == ["enabled"] * 2


def test_both_processes_run_confined(serving):
    known = dict(line.split(":")[0:3:2] for line in serving.run("getent", "group").splitlines())
    groups = [known[name] for name in ("govterm", "dialout", "video")]
    for pid in (serving.main_pid(), serving.vision_pid()):
        status = dict(re.findall(r"^(\w+):\t(.*)$", (serving.root / f"proc/{pid}/status").read_text(), re.MULTILINE))
        nothing = "0" * 16
        assert (status["CapEff"], status["CapPrm"], status["CapBnd"], status["CapAmb"]) == (nothing,) * 4
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert status["Uid"].split() == [serving.run("id", "--user", "govterm").strip()] * 4
        assert status["Gid"].split() == [serving.run("id", "--group", "govterm").strip()] * 4
        assert set(status["Groups"].split()) == set(groups)
        assert re.search(r"Max core file size +0 +0 ", serving.run("cat", f"/proc/{pid}/limits"))
        # Neither its user nor anybody else may read its memory, descriptors or environment.
        for name in ("mem", "fd", "environ"):
            assert serving.run("stat", "--format=%U", f"/proc/{pid}/{name}").strip() == "root"


def test_keys_reach_the_daemon_alone(serving):
    """T20: root's on the disk, the daemon's in memory that never swaps."""
    place = "/run/credentials/govterm.service"
    names = ["ca.pem", "identity.der", "platform.der", "seal.der", "terminal.key", "terminal.pem"]
    assert serving.run("ls", place).split() == names
    listed = serving.run("stat", "--format=%U %a", *(f"{place}/{name}" for name in names))
    assert set(listed.splitlines()) == {"govterm 400"}
    assert serving.run("stat", "--file-system", "--format=%T", place).strip() in {"ramfs", "tmpfs"}
    for path in (f"{place}/terminal.key", "/etc/govterm/credentials/terminal.key", "/var/lib/govterm/journal.db"):
        assert "Permission denied" in serving.try_run("cat", path, user="kiosk").stderr


def test_it_stops_in_order_within_its_time(serving):
    board = serving
    cursor, began = board.cursor(), time.monotonic()
    board.run("systemctl", "stop", "govterm.service")
    assert took(began) < STOP_SECONDS
    assert board.show("Result") == "success"
    board.hear("daemon_stopped", cursor)
    # Nothing of it stays but its state and the sockets, which bring it back.
    assert board.try_run("sh", "-c", "cat /sys/fs/cgroup/system.slice/govterm.service/cgroup.procs").stdout == ""
    assert board.components()["session"] == "none"


def test_a_daemon_whose_loop_is_blocked_is_killed_and_comes_back(shared_board):
    """Rule 4: only the loop feeds the watchdog; the process lives, and a thread of it. The unit's 30 s made short."""
    board = shared_board
    shutil.copy(Path(__file__).with_name("hanging.py"), board.root / "opt")
    with board.changed("govterm.service", HANGING):
        board.start()
        before, cursor, began = board.main_pid(), board.cursor(), time.monotonic()
        board.signal("USR1", before)
        board.hear("a thread goes on", cursor)
        board.hear("Watchdog timeout", cursor, seconds=20)
        print(f"watchdog of 4 s: killed {took(began):.1f} s after its loop was blocked")
        board.hear("vision_ready", cursor, seconds=40)
        print(f"then RestartSec=2: serves again after {took(began):.1f} s")
        told = board.journal(cursor, unit="govterm.service")
        blocked = told.partition("Watchdog timeout")[0]
        assert blocked.count("a thread goes on") > 1, told
        assert "code=killed, status=6/ABRT" in told, told
        assert board.main_pid() != before
        assert board.components()["vision"] == "online"
