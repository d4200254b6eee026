"""The daemon's process: start, stop, refusals and exit codes, by its real command line."""

import asyncio
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from runtime import process
from runtime.cli import ALLOCATOR
from runtime.client import connect
from runtime.config import load
from runtime.enrolment import load_enrolment
from runtime.notify import Notifier
from runtime.process import writable
from runtime.sockets import bound
from sim.settings import RigFiles, RigSettings, make_rig
from transport.errors import TransportError


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A rig's files; nothing of the rig itself runs, so every peripheral is away."""
    monkeypatch.setenv("GOVTERM_CACHE", str(tmp_path / "no-models"))
    files = RigFiles(tmp_path / "rig", tmp_path / "rig")
    make_rig(files, RigSettings(broker_port=1))
    return files


def command(files, *more):
    return [sys.executable, "-m", "runtime", "--config", str(files.daemon_settings), *more]


def finished(files, *more, environment=ALLOCATOR):
    done = subprocess.run(
        command(files, *more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if name not in ALLOCATOR} | environment,
    )
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


class Daemon:
    """A started daemon; systemd's end of the notification socket is the test's."""

    def __init__(self, files, notify):
        self.notify = notify
        environment = {**os.environ, **ALLOCATOR, "NOTIFY_SOCKET": notify.getsockname(), "WATCHDOG_USEC": "600000"}
        self.log = files.daemon_log.open("w+")
        self.process = subprocess.Popen(command(files, "--rig"), stderr=self.log, env=environment)

    def wait_for(self, state):
        while True:
            if state in (told := self.notify.recv(4_096).decode()):
                return told

    def events(self):
        self.log.seek(0)
        return [json.loads(line)["event"] for line in self.log]


@pytest.fixture
def daemon(files, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(30)
        daemon = Daemon(files, notify)
        yield daemon
        if daemon.process.poll() is None:
            daemon.process.kill()
        daemon.process.wait(10)
        daemon.log.close()


def test_it_serves_says_so_and_stops_in_order(daemon, files):
    daemon.wait_for("READY=1")
    assert stat.S_IMODE(os.stat(files.api).st_mode) == 0o660

    async def ask():
        async with connect(files.api) as client:
            return await client.call("terminal.status")

    status = asyncio.run(ask())
    assert status["rig"] is True
    assert {"hotplug", "idcard", "platform", "printer", "session", "tickets", "vision"} <= set(status["state"])
    daemon.wait_for("WATCHDOG=1")
    assert resource.prlimit(daemon.process.pid, resource.RLIMIT_CORE) == (0, 0)
    asked = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_for("STOPPING=1")
    assert daemon.process.wait(20) == 0
    assert time.monotonic() - asked < 10
    assert not files.api.exists()
    assert not files.previews.exists()
    events = daemon.events()
    assert events[0] == "daemon_ready"
    assert "write_refused" not in events
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files.state.iterdir())


def test_the_identity_key_is_wiped_whatever_ends_the_daemon(files, monkeypatch):
    """T20: keys are wiped at the stop."""
    settings = load(files.daemon_settings, rig=True)
    enrolment = load_enrolment(settings, software_version="0", boot_id="b")
    assert enrolment.keys.identity.sign(b"content")

    async def fail(*_, **__):
        raise OSError

    for name in ("UnixClients", "UnixPreviews", "assemble"):
        monkeypatch.setattr(process, name, lambda *_: None)
    monkeypatch.setattr(process, "load_enrolment", lambda *_, **__: enrolment)
    monkeypatch.setattr(process, "run_daemon", fail)
    listening = dict.fromkeys((settings.api.socket, settings.api.preview_socket))
    assert asyncio.run(process._daemon(settings, None, listening, Notifier())) == 70
    with pytest.raises(TransportError) as caught:
        enrolment.keys.identity.sign(b"content")
    assert caught.value.code == "sm2.wiped"


def test_it_comes_back_after_a_kill(daemon, files, tmp_path):
    daemon.wait_for("READY=1")
    daemon.process.kill()
    daemon.process.wait(10)
    assert files.api.exists()
    again = Daemon(files, daemon.notify)
    try:
        daemon.wait_for("READY=1")
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(20) == 0
    finally:
        again.process.kill()
        again.process.wait(10)
        again.log.close()


def test_a_second_daemon_leaves_the_first_alone(daemon, files):
    daemon.wait_for("READY=1")
    code, lines = finished(files, "--rig")
    assert code == 69
    assert [line["code"] for line in lines] == ["api.socket_busy"]
    assert files.api.exists()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(20) == 0


def test_the_rig_is_refused_without_its_launchers_word(files):
    code, lines = finished(files)
    assert code == 78
    assert [(line["event"], line["key"]) for line in lines] == [("config_mistake", "rig")]


def test_every_mistake_is_told_and_nothing_starts(files):
    text = files.daemon_settings.read_text()
    files.daemon_settings.write_text(
        text.replace("[idcard]", "[idcard]\ncard_wait_seconds = 0").replace("[printer]", "[printer]\nx = 1")
    )
    code, lines = finished(files, "--rig")
    assert code == 78
    assert [line["key"] for line in lines] == ["idcard.card_wait_seconds", "printer.x"]
    assert list(files.state.iterdir()) == []


def test_a_key_that_is_missing_or_broken_is_told(files):
    files.trust.identity_key.chmod(0o600)
    files.trust.identity_key.write_bytes(b"not a key")
    code, lines = finished(files, "--rig")
    assert (code, lines[-1]["event"], lines[-1]["code"]) == (70, "daemon_failed", "sm2.bad_key")
    assert lines[-1]["advice"]
    files.trust.identity_key.unlink()
    code, lines = finished(files, "--rig")
    assert (code, lines[-1]["key"]) == (78, "platform.identity_key_file")


def test_an_allocator_that_keeps_freed_memory_is_told(files):
    _, lines = finished(files, environment={"PYTHONMALLOC": "malloc"})
    assert [line["variable"] for line in lines if line["event"] == "allocator_not_set"] == ["GLIBC_TUNABLES"]


def test_wrong_arguments_are_told():
    done = subprocess.run([sys.executable, "-m", "runtime"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--config" in done.stderr


def test_systemds_sockets_are_served_and_stay(files):
    with bound([str(files.api), str(files.previews)]) as listening:
        api, previews = (listening[str(path)].fileno() for path in (files.api, files.previews))
        script = f"exec 8<&{api} 9<&{previews}; exec 3<&8 4<&9 8<&- 9<&-; LISTEN_PID=$$ LISTEN_FDS=2 exec " + " ".join(
            command(files, "--rig")
        )
        with open(files.daemon_log, "w") as log:
            process = subprocess.Popen(
                ["bash", "-c", script], pass_fds=(api, previews), env={**os.environ, **ALLOCATOR}, stderr=log
            )

        async def ask():
            async with connect(files.api) as client:
                return await client.call("terminal.status", seconds=30)

        try:
            assert asyncio.run(ask())["rig"] is True
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert files.api.exists()
        finally:
            process.kill()
            process.wait(10)


def test_the_process_hides_its_memory_and_keeps_its_files_to_itself():
    """T20: not dumpable, so no core dump and no reading by the user's other processes."""
    probe = (
        "import ctypes, os, resource; from runtime.process import harden; harden(); "
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0 (0, 0) 0o77\n"


def test_only_journal_audit_log_and_ports_are_writable(files):
    from runtime.config import load

    settings = load(files.daemon_settings, rig=True)
    assert {str(path) for path in writable(settings)} == {
        str(files.state / "journal.db"),
        str(files.state / "journal.db-wal"),
        str(files.state / "journal.db-shm"),
        str(files.state / "journal.reserve"),
        str(files.state / "journal.backup.db"),
        str(files.state / "journal.copying.db"),
        str(files.state / "journal.rebuilding.db"),
        str(files.state / "journal.rebuilt.db"),
        str(files.state / "journal.db.damaged-*"),
        str(files.state / "audit.jsonl"),
        str(files.state / "audit.reserve"),
        str(files.state / "audit-*"),
        *(str(files.port(kind)) for kind in settings.devices),
    }
