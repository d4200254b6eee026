"""Listening sockets: bound with the right mode, taken from systemd, never stolen from a living daemon."""

import os
import socket
import stat
import subprocess
import sys

import pytest

from runtime.sockets import SocketError, bound, inherited


def test_a_socket_is_bound_for_its_group_and_removed_afterwards(tmp_path):
    path = str(tmp_path / "api.sock")
    with bound([path]) as listening:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        assert list(listening) == [path]
    assert not os.path.exists(path)


def test_a_left_over_socket_is_replaced(tmp_path):
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with bound([path]) as listening:
        assert listening[path].getsockname() == path


def test_a_living_daemons_socket_is_left_alone(tmp_path):
    first, second = str(tmp_path / "api.sock"), str(tmp_path / "preview.sock")
    with bound([second]):
        with pytest.raises(SocketError) as caught, bound([first, second]):
            pass
        assert (caught.value.code, caught.value.retry) == ("api.socket_busy", True)
        assert os.path.exists(second)
        assert not os.path.exists(first)


def test_another_file_is_never_removed(tmp_path):
    path = tmp_path / "api.sock"
    path.write_text("kept")
    with pytest.raises(SocketError, match="is not a socket"), bound([str(path)]):
        pass
    assert path.read_text() == "kept"


def test_a_missing_directory_is_told(tmp_path):
    with pytest.raises(SocketError, match="No such file or directory") as caught, bound([str(tmp_path / "no" / "x")]):
        pass
    assert caught.value.code == "api.socket_failed"


INHERIT = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from runtime.sockets import inherited
found = inherited()
print(sorted(found), [os.get_inheritable(one.fileno()) for one in found.values()])
print([name for name in os.environ if name.startswith("LISTEN")])
"""


def test_systemds_sockets_are_known_by_path_and_kept_from_children(tmp_path):
    paths = [str(tmp_path / "api.sock"), str(tmp_path / "preview.sock")]
    with bound(paths) as listening:
        first, second = (listening[path].fileno() for path in paths)
        # The child's descriptors 3 and 4 are the sockets, as systemd hands them over.
        script = f"exec 8<&{first} 9<&{second}; exec 3<&8 4<&9 8<&- 9<&-; exec {sys.executable} -c '{INHERIT}'"
        done = subprocess.run(
            ["bash", "-c", script],
            pass_fds=(first, second),
            env={**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.stdout.splitlines() == [f"{paths} [False, False]", "[]"], done.stderr


def test_another_processs_sockets_are_not_taken(monkeypatch):
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "2")
    assert inherited() == {}
    assert "LISTEN_FDS" not in os.environ
