"""The installed units under a real systemd: started, refused, killed, and confined (rules 1 and 4, T14, T20)."""

import json
import os
import re
import select
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.process import STOP_SECONDS
from tests.systemd.board import SETTINGS, Board, Parts, booted, install
from tests.systemd.tree import build_photo_library, build_tree, build_wheel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root boots a board"),
]

EGRESS = "etc/systemd/system/govterm.service.d/10-egress.conf"
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
STATUS = ("/opt/govterm/bin/govterm", "call", "terminal.status")
UNIT = "/etc/systemd/system/govterm.service"
TOML = "/etc/govterm/govterm.toml"
QUICK = "/run/systemd/system/{}.d/quick.conf"
QUICK_RESTART = "[Service]\nRestartSec=100ms\n"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    output = tmp_path_factory.mktemp("parts")
    return Parts(build_tree(), build_wheel(output), build_photo_library(output))


@pytest.fixture(scope="module")
def shared_board(parts, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("board")
    with booted(parts, scratch / "console") as board:
        install(board, parts, scratch)
        board.run("systemctl", "enable", "govterm.service")
        yield board


@pytest.fixture
def board(shared_board):
    """The board with its daemon serving and warm."""
    shared_board.start()
    return shared_board


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


def took(since):
    return time.monotonic() - since


def components(board: Board, user="kiosk"):
    return {name: one["state"] for name, one in json.loads(board.run(*STATUS, user=user))["state"].items()}


def in_place_of_the_daemon(board: Board, probe: str):
    """Run a probe under a copy of the unit with its drop-in; return what it found."""
    shutil.copy(Path(__file__).with_name(f"{probe}.py"), board.root / f"opt/{probe}.py")
    unit = (board.root / UNIT.lstrip("/")).read_text()
    unit = re.sub(r"^ExecStartPre=.*\n", "", unit, flags=re.MULTILINE)
    unit = re.sub(r"^ExecStart=.*$", f"ExecStart=/usr/bin/python3 -I /opt/{probe}.py", unit, flags=re.MULTILINE)
    unit = unit.replace("Type=notify", "Type=oneshot").replace("Restart=always", "Restart=no")
    board.write(f"/run/systemd/system/{probe}.service", unit)
    board.write(f"/run/systemd/system/{probe}.service.d/10-egress.conf", (board.root / EGRESS).read_text())
    board.run("systemctl", "daemon-reload")
    board.run("systemctl", "start", f"{probe}.service")
    return json.loads(board.hear("{", "", unit=f"{probe}.service"))


def test_users_directories_and_sockets_are_as_told(board):
    assert board.run("id", "--name", "--user", "govterm").strip() == "govterm"
    found = board.run(
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
    assert board.run("systemctl", "is-enabled", "govterm.service", "govterm.socket").split() == ["enabled"] * 2


def test_the_first_caller_starts_the_daemon(shared_board):
    board = shared_board
    board.run("systemctl", "stop", "govterm-retry.timer", "govterm.service")
    board.run("systemctl", "reset-failed")
    board.run("systemctl", "start", "govterm.socket")
    assert board.show("ActiveState") == "inactive"
    cursor = board.cursor()
    assert set(components(board)) >= {"idcard", "printer", "platform", "session", "vision"}
    assert board.show("ActiveState") == "active"
    board.hear("vision_ready", cursor)
    assert components(board)["vision"] == "online"
    assert "idcard offline (idcard.offline), " in board.show("StatusText")
    journal = board.journal(f"--after-cursor={cursor}", "--unit=govterm.service")
    assert "daemon_ready" in journal
    for bad in ("Traceback", '"level":"error"', "write_refused", "egress_refused", "denied", "not permitted"):
        assert bad not in journal, journal
    assert board.journal(f"--after-cursor={cursor}", "--priority=err") == ""


def test_the_caller_is_known_by_its_user(board):
    """H6, T21: the kernel says who calls."""
    cursor = board.cursor()
    assert components(board, "kiosk")["session"] == "none"
    assert components(board, "root")["session"] == "none"
    refused = board.try_run(*STATUS, user="stranger")
    assert refused.returncode != 0
    assert refused.stdout == ""
    stranger = board.run("id", "--user", "stranger").strip()
    assert f'"uid":{stranger}' in board.hear("caller_refused", cursor)
    assert board.try_run(*STATUS, user="outsider").returncode == 2
    refused = board.try_run("/opt/govterm/bin/govterm", "call", "terminal.power_off", user="kiosk")
    assert "caller.not_allowed" in refused.stderr


def test_both_processes_run_confined(board):
    for pid in (board.main_pid(), board.vision_pid()):
        status = dict(re.findall(r"^(\w+):\t(.*)$", (board.root / f"proc/{pid}/status").read_text(), re.MULTILINE))
        nothing = "0" * 16
        assert (status["CapEff"], status["CapPrm"], status["CapBnd"], status["CapAmb"]) == (nothing,) * 4
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert status["Uid"].split() == [board.run("id", "--user", "govterm").strip()] * 4
        assert re.search(r"Max core file size +0 +0 ", board.run("cat", f"/proc/{pid}/limits"))
        # Neither its user nor anybody else may read its memory, descriptors or environment.
        for name in ("mem", "fd", "environ"):
            assert board.run("stat", "--format=%U", f"/proc/{pid}/{name}").strip() == "root"


def test_what_the_sandbox_forbids_is_refused(board):
    """T20: a copy of the unit runs a probe in the daemon's place."""
    (board.root / "tmp/left-by-somebody").touch()
    answer = in_place_of_the_daemon(board, "probe")
    assert set(answer["allowed"].values()) == {"done"}, answer["allowed"]
    refused = answer["forbidden"]
    assert "done" not in refused.values(), refused
    assert refused["a packet socket"] == refused["a VM socket"] == "EAFNOSUPPORT"
    for name in ("mount", "ptrace", "a user namespace", "memory to write and execute", "memory made executable later"):
        assert refused[name] == "EPERM", name
    assert answer["umask"] == "0o77"
    assert answer["/tmp"] == ["probe"]
    assert answer["writable"] == ["/var/lib/govterm", "/tmp"]


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
    came = board.journal("--unit=listener.service").split()
    assert (came.count("192.0.2.2"), came.count("127.0.0.1")) == (1, 1), "nothing of the unit's arrived"
    guarded = board.run("/opt/govterm/bin/python", "-c", GUARDED)
    assert guarded.splitlines()[-1] == "connected PermissionError", "the code's guard alone, outside the unit"
    board.run("systemctl", "stop", "listener.service")


def test_keys_reach_the_daemon_alone(board):
    """T20: root's on the disk, the daemon's in memory that never swaps."""
    place = "/run/credentials/govterm.service"
    names = ["ca.pem", "identity.der", "platform.der", "seal.der", "terminal.key", "terminal.pem"]
    assert board.run("ls", place).split() == names
    listed = board.run("stat", "--format=%U %a", *(f"{place}/{name}" for name in names))
    assert set(listed.splitlines()) == {"govterm 400"}
    assert board.run("stat", "--file-system", "--format=%T", place).strip() in {"ramfs", "tmpfs"}
    for path in (f"{place}/terminal.key", "/etc/govterm/credentials/terminal.key", "/var/lib/govterm/journal.db"):
        assert "Permission denied" in board.try_run("cat", path, user="kiosk").stderr


def test_a_daemon_that_hangs_is_killed_and_comes_back(board):
    """Rule 4: stopped as a whole, it feeds no watchdog."""
    before, cursor, began = board.main_pid(), board.cursor(), time.monotonic()
    board.signal("STOP", before)
    board.hear("Watchdog timeout", cursor, seconds=40)
    board.hear("vision_ready", cursor, seconds=60)
    print(f"watchdog: serves again {took(began):.1f} s after it stopped")
    assert took(began) < 75
    assert board.main_pid() != before
    assert components(board)["vision"] == "online"


def test_a_killed_daemon_comes_back_and_its_callers_wait(board):
    before, began = board.main_pid(), time.monotonic()
    board.signal("KILL", before)
    assert "vision" in components(board)  # the sockets are systemd's: this call was answered by the next daemon
    print(f"kill -9: answers again after {took(began):.1f} s")
    assert took(began) < 15
    assert board.show("NRestarts") == "1"
    assert board.main_pid() != before


def test_a_vision_process_that_hangs_is_started_again(board):
    main, before, cursor = board.main_pid(), board.vision_pid(), board.cursor()
    board.signal("STOP", before)
    board.hear("vision_ready", cursor, seconds=40)
    assert board.vision_pid() != before
    assert (board.main_pid(), board.show("NRestarts")) == (main, "0")


def test_it_stops_in_order_within_its_time(board):
    cursor, began = board.cursor(), time.monotonic()
    board.run("systemctl", "stop", "govterm.service")
    assert took(began) < STOP_SECONDS
    assert board.show("Result") == "success"
    board.hear("daemon_stopped", cursor)
    # Nothing of it stays but its state and the sockets, which bring it back.
    assert board.try_run("sh", "-c", "cat /sys/fs/cgroup/system.slice/govterm.service/cgroup.procs").stdout == ""
    assert components(board)["session"] == "none"


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
        assert "daemon_ready" not in board.journal(f"--after-cursor={cursor}")


def test_a_mistake_of_this_machine_is_told_before_the_daemon_starts(shared_board):
    board = shared_board
    with configured(board, SETTINGS.replace("libphoto", "libother")):
        cursor = board.cursor()
        assert board.try_run("systemctl", "start", "govterm.service").returncode != 0
        assert "a readable file" in board.hear("vision.photo_library: expected", cursor)


def test_a_crash_loop_ends_in_sight_and_heals_by_itself(shared_board):
    """L35: quick tries, then slow ones for ever; the board shows `failed` meanwhile. The unit's times, made short."""
    board = shared_board
    board.write(QUICK.format("govterm.service"), "[Unit]\nStartLimitIntervalSec=9\nStartLimitBurst=3\n" + QUICK_RESTART)
    board.write(QUICK.format("govterm-retry.timer"), "[Timer]\nOnActiveSec=\nOnActiveSec=10\n")
    try:
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
        assert components(board)["vision"] == "online"
        assert board.run("systemctl", "is-system-running").strip() == "running"
    finally:
        for unit in ("govterm.service", "govterm-retry.timer"):
            (board.root / QUICK.format(unit).lstrip("/")).unlink()
        board.run("systemctl", "daemon-reload")


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
