"""What the unit forbids is tried and refused, whole and line by line, and done outside it (T20)."""

import importlib
import re
from pathlib import Path

import pytest

from tests.systemd.confined import in_place_of_the_daemon, lines_of, run_services
from tests.systemd.directives import DECLARED, REFUSES, RUNS_IT, SHOWN_IN
from tests.systemd.probe import ALLOWED, FORBIDDEN, NODE, ON_X86_64, PLANTED, PORT, PROGRAM, SHARED_MEMORY

pytestmark = [pytest.mark.board, pytest.mark.timeout(300)]

DOCUMENT = Path(__file__).parents[2] / "docs/supervision.md"
LAY_OUT = f"""
mkdir -p /usr/lib/modules
for place in /home /root /tmp /usr/lib/modules; do touch $place/{PLANTED}; done
cp /usr/bin/id {PROGRAM} && chmod 4755 {PROGRAM}
mknod -m 666 {NODE} c 1 11
mknod -m 666 {PORT} c 4 67
python3 -c 'import ctypes; ctypes.CDLL(None).shmget({SHARED_MEMORY}, 1, 0o1666)'
"""
NO_CONTROL = {"write a credential"}
"""Credentials are read-only memory for everybody, root outside the unit too."""
AS_ROOT = """
User=root
Group=root
CapabilityBoundingSet=~
StateDirectory=
RuntimeDirectory=
ReadWritePaths=/var/lib/govterm /run/govterm
"""
"""With every capability of the board's; the daemon's directories stay the daemon's."""
ROOT_MAY = {
    *("read the shadow file", "read a key on the disk", "see PID 1", "read PID 1's environment"),
    "root by a set-user-id program",
}
"""What only being another user than root keeps from the daemon."""
CONTROLLED = {"MemoryMax": "memory.max", "MemorySwapMax": "memory.swap.max", "TasksMax": "pids.max"}


@pytest.fixture(scope="module")
def laid_out(shared_board):
    """A board with the daemon's directories, and with all that the probe goes for."""
    shared_board.run("systemctl", "start", "govterm.service")
    shared_board.run("sh", "-euc", LAY_OUT)
    return shared_board


def only(board, *settings, attempts=()):
    """Return what came of attempts in a service that has these settings alone."""
    return run_services(board, "probe", {"probe-only": ("\n".join(settings), attempts)})["probe-only"]["came"]


def refused(came):
    return {name for name in FORBIDDEN if came[name] != "done"}


def test_what_the_sandbox_forbids_is_refused(laid_out):
    """A copy of the unit runs a probe in the daemon's place."""
    answer = in_place_of_the_daemon(laid_out, "probe")
    came = answer["came"]
    assert {name: came[name] for name in ALLOWED} == dict.fromkeys(ALLOWED, "done")
    assert refused(came) == set(FORBIDDEN), came
    killed = {name for name, how in came.items() if how.startswith("SIG")}
    assert killed == ({"a call of another architecture"} if ON_X86_64 else set())
    assert answer["umask"] == "0o77"
    assert answer["writable"] == ["/var/lib/govterm", "/tmp"]


def test_root_with_every_right_is_refused_the_same(laid_out):
    """No refusal but these few rests on the daemon's user having no rights."""
    came = in_place_of_the_daemon(laid_out, "probe", AS_ROOT)["came"]
    assert refused(came) == FORBIDDEN.keys() - ROOT_MAY, came


def test_outside_the_unit_the_same_is_done(laid_out):
    """The control: neither the board nor its container refuses what the unit does."""
    came = only(laid_out)
    assert refused(came) == NO_CONTROL, came


def test_each_directive_refuses_by_itself(laid_out):
    """Whatever else refuses the same in the whole unit: a service with one line of it, beside one without."""
    lines = lines_of(laid_out)
    services = {}
    for number, (row, shown) in enumerate(REFUSES.items()):
        own = [line for line in lines.get(row.partition("=")[0], ()) if line.startswith(row)]
        services[f"probe-without-{number}"] = ("\n".join(shown.beside), shown.attempts)
        services[f"probe-with-{number}"] = ("\n".join([*shown.beside, *own]), shown.attempts)
    found = run_services(laid_out, "probe", services)
    for number, row in enumerate(REFUSES):
        free, bound = (found[f"probe-{how}-{number}"]["came"] for how in ("without", "with"))
        assert set(free.values()) == {"done"}, f"without {row}: {free}"
        assert "done" not in bound.values(), f"with {row}: {bound}"


def test_a_device_class_is_let_in_by_its_line_alone(laid_out):
    (policy,) = lines_of(laid_out)["DevicePolicy"]
    port = ("open a serial port",)
    assert only(laid_out, policy, attempts=port) == {port[0]: "EPERM"}
    assert only(laid_out, policy, "DeviceAllow=char-ttyS rw", attempts=port) == {port[0]: "done"}


def test_nothing_of_its_user_stays_in_shared_memory(laid_out):
    """RemoveIPC=, which removes of a user that has no other service left."""
    board = laid_out
    (line,) = lines_of(board)["RemoveIPC"]
    user = board.run("id", "--user", "kiosk").strip()

    def left():
        board.show("ActiveState", "probe-only.service")  # PID 1 answers when it is through with the service's end
        rows = [row.split() for row in board.run("cat", "/proc/sysvipc/shm").splitlines()]
        return sum(row[rows[0].index("uid")] == user for row in rows[1:])

    for settings, stays in ((("User=kiosk",), 1), (("User=kiosk", line), 0)):
        assert only(board, *settings, attempts=("shared memory",)) == {"shared memory": "done"}
        assert left() == stays, settings


def test_each_directive_has_its_evidence(laid_out):
    """A line without a row, or a row without its line, is told by name."""
    lines = lines_of(laid_out)
    rows = {*REFUSES, *SHOWN_IN, *DECLARED, *RUNS_IT}
    told = {line if line in rows else name for name, listed in lines.items() for line in listed}
    assert told == rows
    assert len(rows) == len(REFUSES) + len(SHOWN_IN) + len(DECLARED) + len(RUNS_IT)
    assert all(attempt in FORBIDDEN for shown in REFUSES.values() for attempt in shown.attempts)
    for place in SHOWN_IN.values():
        module, _, test = place.partition(".")
        assert hasattr(importlib.import_module(f"tests.systemd.{module}"), test), place


def test_what_is_only_declared_is_taken_over_and_told(laid_out):
    """systemd only warns of a line that it does not understand; the document names each of these."""
    board = laid_out
    lines = lines_of(board)
    for row in DECLARED:
        name, _, value = (row if "=" in row else lines[row][0]).partition("=")
        if mebibytes := re.fullmatch(r"(\d+)M", value):
            value = str(int(mebibytes[1]) << 20)
        told = board.show(name)
        assert value in (told, *told.splitlines()), f"{row}: {told}"
    rows = DOCUMENT.read_text().partition("| only declared |")[2].partition("\n\n")[0].splitlines()[2:]
    told = {name.removesuffix("=") for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert told == DECLARED - {"SystemCallArchitectures"}


def test_the_control_group_has_the_limits(laid_out):
    """MemoryMax=, MemorySwapMax=, TasksMax=: as systemd took them over, where the kernel has the controller here."""
    board = laid_out
    group = f"/sys/fs/cgroup{board.show('ControlGroup')}"
    assert board.main_pid() in board.run("cat", f"{group}/cgroup.procs").split()
    for name, file in CONTROLLED.items():
        limit = board.show(name)
        assert limit.isdecimal(), f"{name}: {limit}"
        if file in board.run("ls", group).split():
            assert board.run("cat", f"{group}/{file}").strip() == limit, file
