"""The vision process has no network: what tries one is refused, and the daemon is told (T20)."""

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.vision.bench import Bench, living
from vision.process import VisionProcess

TRIES = {
    "socket.__new__": "socket.socket(socket.AF_INET)",
    "socket.connect": "_socket.socket().connect(('127.0.0.1', 9))",
    "socket.sendto": "_socket.socket().sendto(b'x', ('127.0.0.1', 9))",
    "socket.sendmsg": "_socket.socket().sendmsg([b'x'], [], 0, ('127.0.0.1', 9))",
    "socket.bind": "_socket.socket().bind(('127.0.0.1', 0))",
    "socket.getaddrinfo": "socket.getaddrinfo('localhost', 9)",
    "socket.gethostbyname": "socket.gethostbyname('localhost')",
    "socket.gethostbyaddr": "socket.gethostbyaddr('127.0.0.1')",
    "socket.getnameinfo": "socket.getnameinfo(('127.0.0.1', 9), 0)",
}
"""`_socket.socket()` does not say its family when it is made."""


@pytest.mark.parametrize("event", TRIES)
def test_every_way_out_is_refused(event: str) -> None:
    program = f"""
import socket, _socket
from vision.guard import refuse_writes
refused = []
refuse_writes(refused.append)
left, right = socket.socketpair()
left.sendmsg([b"x"])
assert not refused
try:
    {TRIES[event]}
except PermissionError:
    assert refused == [{event!r}], refused
else:
    raise AssertionError("not refused")
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


async def test_the_daemon_hears_of_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A library calls home twice while the real process imports it; the log has that once, without the address."""
    (tmp_path / "sitecustomize.py").write_text("""
import sys

def call_home(event, arguments):
    if event == "import" and arguments[0] == "vision.pipeline":
        import socket
        for _ in range(2):
            try:
                socket.create_connection(("192.0.2.77", 9))
            except PermissionError:
                pass

sys.addaudithook(call_home)
""")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    heard = asyncio.Event()
    settings = msgspec.structs.replace(bench.settings, hung_seconds=1.0)
    times: list[None] = []

    def on_egress() -> None:
        times.append(None)
        heard.set()

    vision = VisionProcess(settings, rig=True, on_egress=on_egress)
    async with living(vision):
        async with asyncio.timeout(10):
            await heard.wait()
            await vision.wipe()
    assert len(times) == 1
    log = capfd.readouterr().err
    assert log.count("egress_refused") == 1
    assert "192.0.2.77" not in log
