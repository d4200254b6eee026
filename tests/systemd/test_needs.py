"""A machine that cannot boot a board is told what it lacks."""

import shutil
import subprocess
import sys

import pytest

from tests.systemd import needs

ASK = "from tests.systemd.needs import missing; print(*missing(), sep='\\n')"


def test_without_root_it_says_so(monkeypatch):
    monkeypatch.setattr(needs.os, "geteuid", lambda: 1000)
    (told,) = needs.missing()
    assert "sudo make test" in told


@pytest.mark.board
def test_a_missing_command_is_told_with_its_package(monkeypatch):
    which = shutil.which
    monkeypatch.setattr(needs.shutil, "which", lambda name: None if name == "systemd-nspawn" else which(name))
    assert needs.missing() == ["systemd-nspawn (apt-get install systemd-container)"]


@pytest.mark.board
def test_a_container_without_rights_is_told():
    """As root in a container of the usual kind: no mount, no namespace."""
    command = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", ASK)
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    assert len(told) == 3
    assert all("--privileged" in line and "Operation not permitted" in line for line in told), told
