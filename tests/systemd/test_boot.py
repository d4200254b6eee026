"""The installed units under a real systemd: started, refused, killed, and confined (rules 1 and 4, T14, T20)."""

import json
import os
import select
import time
from contextlib import contextmanager

import pytest

from runtime.process import STOP_SECONDS
from tests.systemd.board import SETTINGS, STATUS, Board, booted, install, took
from tests.systemd.confined import in_place_of_the_daemon

pytestmark = [pytest.mark.slow, pytest.mark.board, pytest.mark.timeout(600)]

LISTENER = """
import socket
with socket.create_server(("0.0.0.0", 8883)) as listener:
    print("listens")
    while True:
        made, _ = listener.accept()
        print(made.getsockname()[0])
        made.close()
"""
GUARDED = """
import socket
from runtime.config import load
from runtime.egress import Egress, endpoints
Egress(endpoints(load("/etc/govterm/govterm.toml"))).install()
found = []
for host in ("192.0.2.1", "192.0.2.2"):
    try:
        socket.create_connection((host, 8883), 5).close()
        found.append("connected")
    except OSError as error:
        found.append(type(error).__name__)
print(*found)
"""
TOML = "/etc/govterm/govterm.toml"
QUICK_FAILURES = "[Unit]\nStartLimitIntervalSec=9\nStartLimitBurst=3\n[Service]\nRestartSec=100ms\n"
QUICK_RETRIES = "[Timer]\nOnActiveSec=\nOnActiveSec=10\n"


@contextmanager
def configured(board: Board, toml: str):
    """Let the daemon find this configuration, from a stopped and forgiven start, and the right one afterwards."""
    board.run("systemctl", "stop", "govterm-retry.timer", "govterm.service")
    board.run("systemctl", "daemon-reload")
    board.run("systemctl", "reset-failed")
    board.write(TOML, toml)
    try:
        yield
    finally:
        board.write(TOML, SETTINGS)


def test_the_caller_is_known_by_its_user(board):
    """H6, T21: the kernel says who calls."""
    cursor = board.cursor()
    assert board.components("kiosk")["session"] == "none"
    assert board.components("root")["session"] == "none"
    refused = board.try_run(*STATUS, user="stranger")
    assert refused.returncode != 0
    assert refused.stdout == ""
    stranger = board.run("id", "--user", "stranger").strip()
    assert f'"uid":{stranger}' in board.hear("caller_refused", cursor)
    assert board.try_run(*STATUS, user="outsider").returncode == 2
    refused = board.try_run("/opt/govterm/bin/govterm", "call", "terminal.power_off", user="kiosk")
    assert "caller.not_allowed" in refused.stderr


def test_it_speaks_to_the_broker_alone(board):
    """T20, H8: what the guard in the code cannot see either, of a native library; a probe without it stands for one."""
    for address in ("192.0.2.1", "192.0.2.2"):
        board.give_address(address)
    board.write("/opt/listener.py", LISTENER)
    board.run("systemd-run", "--unit=listener", "/usr/bin/python3", "-u", "/opt/listener.py")
    board.hear("listens", "", unit="listener.service")
    assert in_place_of_the_daemon(board, "egress_probe") == {
        "connect to the broker": "done",
        "connect elsewhere": "no answer",
        "connect to this machine": "no answer",
        "send elsewhere": "EPERM",
        "send to this machine by IPv6": "EPERM",
        "ask a resolver": "EPERM",
    }
    free = json.loads(board.run("/usr/bin/python3", "-I", "/opt/egress_probe.py"))
    assert set(free.values()) == {"done"}, "only the unit refuses"
    came = board.journal(unit="listener.service").split()
    assert (came.count("192.0.2.2"), came.count("127.0.0.1")) == (1, 1), "nothing of the unit's arrived"
    guarded = board.run("/opt/govterm/bin/python", "-c", GUARDED)
    assert guarded.splitlines()[-1] == "connected PermissionError", "the code's guard alone, outside the unit"
    board.run("systemctl", "stop", "listener.service")


def test_a_killed_daemon_comes_back_and_its_callers_wait(board):
    before, began = board.main_pid(), time.monotonic()
    board.signal("KILL", before)
    assert "vision" in board.components()  # the sockets are systemd's: this call was answered by the next daemon
    print(f"kill -9: answers again after {took(began):.1f} s")
    assert took(began) < 15
    assert board.show("NRestarts") == "1"
    assert board.main_pid() != before


def test_a_daemon_that_is_stopped_as_a_whole_is_killed_and_comes_back(shared_board):
    """Rule 4. The unit's 30 s made short."""
    board = shared_board
    with board.changed("govterm.service", "[Service]\nWatchdogSec=4s\n"):
        board.start()
        before, cursor, began = board.main_pid(), board.cursor(), time.monotonic()
        board.signal("STOP", before)
        board.hear("Watchdog timeout", cursor, seconds=20)
        board.hear("vision_ready", cursor, seconds=40)
        print(f"watchdog of 4 s, then RestartSec=2: serves again {took(began):.1f} s after it stopped")
        assert board.main_pid() != before
        assert board.components()["vision"] == "online"


def test_a_vision_process_that_hangs_is_started_again(board):
    main, before, cursor = board.main_pid(), board.vision_pid(), board.cursor()
    board.signal("STOP", before)
    board.hear("vision_ready", cursor, seconds=40)
    assert board.vision_pid() != before
    assert (board.main_pid(), board.show("NRestarts")) == (main, "0")


def test_a_vision_process_that_hangs_does_not_hold_the_stop(board):
    board.signal("STOP", board.vision_pid())
    began = time.monotonic()
    board.run("systemctl", "stop", "govterm.service")
    assert took(began) < STOP_SECONDS
    assert board.show("Result") == "success"


def test_the_rig_is_refused_before_the_daemon_starts(shared_board):
    """Rule 1: a rig's decoder and camera never run on a board."""
    board = shared_board
    with configured(board, "rig = true\n" + SETTINGS):
        cursor = board.cursor()
        assert board.try_run("systemctl", "start", "govterm.service").returncode != 0
        board.hear("rig: expected", cursor)
        assert "code=exited, status=1" in board.hear("Control process exited", cursor)
        assert "daemon_ready" not in board.journal(cursor)


def test_a_mistake_of_this_machine_is_told_before_the_daemon_starts(shared_board):
    board = shared_board
    with configured(board, SETTINGS.replace("libphoto", "libother")):
        cursor = board.cursor()
        assert board.try_run("systemctl", "start", "govterm.service").returncode != 0
        assert "a readable file" in board.hear("vision.photo_library: expected", cursor)
        assert "vision.photo_library" in board.journal(cursor, unit="govterm.service", least=3)


def test_a_crash_loop_ends_in_sight_and_heals_by_itself(shared_board):
    """L35: quick tries, then slow ones for ever; the board shows `failed` meanwhile. The unit's times, made short."""
    board = shared_board
    board.run("systemctl", "stop", "govterm-retry.timer", "govterm.service")
    with (
        board.changed("govterm.service", QUICK_FAILURES),
        board.changed("govterm-retry.timer", QUICK_RETRIES),
    ):
        with configured(board, "unknown = 1\n" + SETTINGS):
            cursor = board.cursor()
            board.try_run("systemctl", "start", "govterm.service")
            for _ in range(2):  # the timer starts it, and after its next failures waits anew
                board.hear("Started govterm-retry.timer", cursor, unit="govterm-retry.timer")
                cursor = board.cursor()
                assert board.show("ActiveState") == "failed"
                assert board.show("ActiveState", "govterm-retry.timer") == "active"
                assert board.try_run("systemctl", "is-system-running").stdout.strip() == "degraded"
                assert "client." in board.try_run(*STATUS, user="kiosk").stderr
        board.hear("vision_ready", cursor)
        assert board.components()["vision"] == "online"
        assert board.run("systemctl", "is-system-running").strip() == "running"


def test_an_operator_powers_the_board_off(parts, tmp_path):
    """T14: through logind, let in by the polkit rule; nobody else but root is."""
    with booted(parts, tmp_path / "console") as board:
        install(board, parts, tmp_path)
        board.start()
        asked = ("busctl", "call", *["org.freedesktop.login1", "/org/freedesktop/login1"])
        asked = (*asked, "org.freedesktop.login1.Manager", "CanPowerOff")
        assert board.run(*asked, user="govterm").strip() == 's "yes"'
        assert board.run(*asked, user="kiosk").strip() != 's "yes"'
        machine = os.pidfd_open(board.pid)
        try:
            # Its answer may be lost: the bus goes down with the board.
            board.try_run("/opt/govterm/bin/govterm", "call", "terminal.power_off")
            assert select.select([machine], [], [], 60)[0], "the board still runs"
        finally:
            os.close(machine)
