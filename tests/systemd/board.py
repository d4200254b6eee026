"""A booted board: commands inside it by nsenter, and its journal to wait on."""

import json
import os
import select
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sim.trust import make_trust
from tests.vision.conftest import CACHE as MODELS
from vision import store

BOOT = Path(__file__).with_name("boot.sh")
COMMAND_SECONDS = 60
STATUS = ("/opt/govterm/bin/govterm", "call", "terminal.status")
UNITS = "etc/systemd/system"

SETTINGS = """
[api]
ui_users = ["kiosk"]
operator_users = ["root"]
staff = "listed"

[idcard]
port = "/dev/serial/by-id/usb-absent-reader"

[printer]
port = "/dev/serial/by-id/usb-absent-printer"

[vision]
camera = "/dev/v4l/by-id/usb-absent-camera"
photo_library = "/opt/libphoto.so"

[platform]
host = "192.0.2.1"
terminal_id = "HALL-0001"
ca_file = "ca.pem"
certificate_file = "terminal.pem"
private_key_file = "terminal.key"
identity_key_file = "identity.der"
signing_key_file = "platform.der"
seal_key_file = "seal.der"
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """What is carried to a board."""

    tree: Path
    wheel: Path
    photo_library: Path


def took(since: float) -> float:
    """Return the seconds since then on the monotonic clock."""
    return time.monotonic() - since


class Board:
    """A machine whose PID 1 is a systemd of its own."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.root = Path(f"/proc/{pid}/root")

    def try_run(self, *command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a command inside, as a user with all its groups."""
        become = () if user == "root" else ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")
        return subprocess.run(
            [*self._inside(), *become, *command], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )

    def run(self, *command: str, user: str = "root") -> str:
        """Run a command that must succeed; return what it wrote."""
        done = self.try_run(*command, user=user)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def govterm(self, *arguments: str, user: str = "root") -> str:
        return self.run("/opt/govterm/bin/govterm", *arguments, user=user)

    def show(self, key: str, unit: str = "govterm.service") -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={key}", "--value").strip()

    def components(self, user: str = "kiosk") -> dict[str, str]:
        """Return the state of each component, as the daemon tells this user."""
        return {name: one["state"] for name, one in json.loads(self.run(*STATUS, user=user))["state"].items()}

    def signal(self, name: str, pid: str) -> None:
        self.run("sh", "-c", f"kill -{name} {pid}")

    def main_pid(self) -> str:
        return self.show("MainPID")

    def vision_pid(self) -> str:
        main = self.main_pid()
        (child,) = self.run("cat", f"/proc/{main}/task/{main}/children").split()
        return child

    def journal(self, after: str = "", *, unit: str = "", least: int = 7) -> str:
        """Return what the journal has since a cursor about a unit, at least as grave as a syslog priority.

        It is chosen here: journalctl 252 passes over the first line that it is to choose after a cursor.
        """
        since = (f"--after-cursor={after}",) if after else ()
        listed = self.run("journalctl", "--no-pager", "--output=json", *since).splitlines()
        lines = [
            line
            for line in map(json.loads, listed)
            if unit in ("", line.get("_SYSTEMD_UNIT"), line.get("UNIT")) and int(line.get("PRIORITY", 6)) <= least
        ]
        return "".join(f"{line['MESSAGE']}\n" for line in lines)

    def cursor(self) -> str:
        """Return the journal's present end, for `hear`."""
        return self.run("journalctl", "--lines=0", "--show-cursor").partition("-- cursor: ")[2].strip()

    def hear(self, text: str, after: str, *, unit: str = "govterm.service", seconds: float = 30.0) -> str:
        """Wait until the journal has `text` about the unit; return its line."""
        since = f"--after-cursor={after}" if after else "--lines=all"
        follow = ("journalctl", "--follow", "--no-pager", "--output=cat", f"--unit={unit}", since)
        ends = time.monotonic() + seconds
        heard = b""
        with subprocess.Popen([*self._inside(), *follow], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                while (left := ends - time.monotonic()) > 0 and select.select([process.stdout], [], [], left)[0]:
                    heard += os.read(process.stdout.fileno(), 65536)
                    for line in heard.decode().split("\n")[:-1]:
                        if text in line:
                            return line
            finally:
                # Its child, which nsenter then reaps: an orphan would keep the board's process ids in use.
                for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)
        raise AssertionError(f"{text!r} was not heard within {seconds:g} s, but: {heard.decode()}")

    def write(self, path: str, content: str) -> None:
        """Write a file as root."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)

    @contextmanager
    def changed(self, unit: str, settings: str) -> Iterator[None]:
        """Give a unit other settings meanwhile: its times made short, say."""
        path = f"/run/systemd/system/{unit}.d/50-test.conf"
        self.write(path, settings)
        self.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            (self.root / path.lstrip("/")).unlink()
            self.run("systemctl", "daemon-reload")

    def give_address(self, address: str) -> None:
        """Give the board an address of its own; its tree has no tool for it."""
        command = ("nsenter", f"--target={self.pid}", "--net", "ip", "address", "add", f"{address}/32", "dev", "lo")
        subprocess.run(command, check=True, timeout=COMMAND_SECONDS)

    def start(self) -> None:
        """Start the daemon anew, whatever was before, and wait until its vision process is ready."""
        self.run("systemctl", "stop", "govterm-retry.timer", "govterm.service")
        self.run("systemctl", "reset-failed")
        cursor = self.cursor()
        done = self.try_run("systemctl", "start", "govterm.service")
        assert done.returncode == 0, self.journal(cursor)
        self.hear("vision_ready", cursor)

    def _inside(self) -> list[str]:
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        return ["nsenter", f"--target={self.pid}", *spaces, "env", "--ignore-environment", path, "LANG=C.UTF-8"]


@contextmanager
def booted(parts: Parts, log: Path) -> Iterator[Board]:
    """Boot a board, and end it with everything it brought."""
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        BOOT,
        parts.tree,
        f"govterm-test-{uuid.uuid4().hex[:8]}",
    ]
    with (
        log.open("wb") as console,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=console) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pid = process.stdout.readline()
            assert pid, f"no boot: {log.read_text(errors='replace')}"
            board = Board(int(pid))
            assert board.run("systemctl", "is-system-running", "--wait").strip() == "running"
            yield board
        finally:
            process.stdin.close()
            ended = process.wait(COMMAND_SECONDS)
    assert ended == 0, f"something is left: {log.read_text(errors='replace')}"


def install(board: Board, parts: Parts, scratch: Path, settings: str = SETTINGS) -> None:
    """Install as the README tells, up to the last step; no udev nor modules in a container."""
    for source in (parts.wheel, parts.photo_library):
        shutil.copy(source, board.root / "opt")
    board.run("/opt/govterm/bin/pip", "install", "--quiet", "--no-index", "--no-deps", f"/opt/{parts.wheel.name}")
    board.write("/etc/govterm/govterm.toml", settings)
    board.govterm("units", "--output", "/", "--config", "/etc/govterm/govterm.toml")
    board.run("systemd-sysusers")
    board.run("systemd-tmpfiles", "--create")
    board.run("systemctl", "daemon-reload")
    for user in ("kiosk", "stranger", "outsider"):
        board.run("useradd", user, *(() if user == "outsider" else ("--groups", "govterm-ui")))
    store.prepare(MODELS / "models")
    for model in (MODELS / "models").glob("*.onnx"):
        shutil.copy(model, board.root / "var/lib/govterm-models")
    trust = make_trust(scratch / "trust", "HALL-0001")
    for name, file in {
        "ca.pem": trust.ca,
        "terminal.pem": trust.terminal_certificate,
        "terminal.key": trust.terminal_key,
        "identity.der": trust.identity_key,
        "platform.der": trust.signing_public_key,
        "seal.der": trust.seal_public_key,
    }.items():
        shutil.copy(file, board.root / "etc/govterm/credentials" / name)
