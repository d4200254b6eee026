"""The egress guard (T20, H8): what it lets through, refuses and tells. Its hook is for ever, so a process has it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runtime import egress as egress_module
from runtime.config import parse
from runtime.egress import REPEAT_SECONDS, Egress, Endpoint, endpoints, parse_ip
from runtime.reference import EXAMPLE
from sim.settings import RigFiles, RigSettings, make_rig

REPOSITORY = Path(__file__).parents[2]
CITIZEN = "citizen-zhang"
PRINTER = "/dev/serial/by-id/usb-Printer_80mm-if00"


@pytest.fixture(scope="module")
def probed():
    """Run the probe; return what it told, its log, and how many came to each listener."""
    here, named, other = (socket.create_server(("127.0.0.1", 0)) for _ in range(3))
    port, name_port, other_port = (listener.getsockname()[1] for listener in (here, named, other))
    elsewhere, moved = (socket.create_server(("127.0.0.2", number)) for number in (port, name_port))
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.egress_probe", *map(str, (port, name_port, other_port))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=REPOSITORY,
    )
    came = {
        "here": accepted(here),
        "named": accepted(named),
        "moved": accepted(moved),
        "other": accepted(other),
        "elsewhere": accepted(elsewhere),
    }
    return json.loads(done.stdout), [json.loads(line) for line in done.stderr.splitlines()], came


def accepted(listener):
    """Count and close the connections that came to a listener."""
    count = 0
    with listener:
        listener.setblocking(False)
        while True:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


def test_everything_else_is_refused_and_told_once(probed):
    """T20, H8: by whatever library, on whatever thread, in whatever form of the address."""
    told, _, came = probed
    assert len(told["refused"]) > 30
    for name, outcome in {**told["refused"], "connect: after the name moved": told["afterwards"]}.items():
        assert outcome == {"raised": ["PermissionError"] * 2, "heard": [name.partition(":")[0]]}, name
    assert came["other"] == came["elsewhere"] == 0


def test_the_endpoints_are_reached_by_address_and_by_name(probed):
    """T20: local sockets are free, and a name leads to where it was last found."""
    told, _, came = probed
    assert len(told["allowed"]) > 8
    for name, outcome in told["allowed"].items():
        assert outcome == {"raised": ["nothing"] * 2, "heard": []}, name
    assert (came["here"], came["named"], came["moved"]) == (8, 6, 2)


def test_the_log_names_the_caller_and_nothing_foreign(probed):
    """T20: the address or the name could carry data."""
    told, lines, _ = probed
    assert len(lines) == len(told["refused"]) + 1
    for line in lines:
        assert (line["event"], line["repeats"]) == ("egress_refused", 0)
        assert line["operation"].startswith("socket.")
        assert "127.0.0" not in json.dumps(line)
        assert CITIZEN not in json.dumps(line)
    callers = {line["caller"].partition(":")[0] for line in lines}
    assert callers == {"__main__", "threading", "devices.tcp", "transport.dial", "paho.mqtt.client"}


def test_the_daemon_runs_under_it(tmp_path, monkeypatch):
    """T20: a library of the real process calls home when the journal opens."""
    monkeypatch.setenv("GOVTERM_CACHE", str(tmp_path / "no-models"))
    (tmp_path / "sitecustomize.py").write_text("""
import socket, sys

def call_home(event, arguments):
    if event == "sqlite3.connect":
        try:
            socket.create_connection(("192.0.2.77", 9), 1)
        except PermissionError:
            pass

sys.addaudithook(call_home)
""")
    files = RigFiles(tmp_path / "rig", tmp_path / "rig")
    make_rig(files, RigSettings(broker_port=1))
    with subprocess.Popen(
        [sys.executable, "-m", "runtime", "--config", files.daemon_settings, "--rig"],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        text=True,
        cwd=REPOSITORY,
    ) as process:
        lines = iter(process.stderr.readline, "")
        told = json.loads(next(line for line in lines if "egress_refused" in line))
        process.terminate()
        rest = [*lines]
    assert (told["operation"], told["caller"].partition(":")[0]) == ("socket.getaddrinfo", "sitecustomize")
    assert "egress_refused" not in "".join(rest)
    assert process.returncode == 0


def test_the_same_caller_is_told_once_an_hour_with_a_count(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(egress_module.time, "monotonic", lambda: now[0])
    egress = Egress([])
    with capture_logs() as logs:
        for moment, caller in (
            (0, "a:1"),
            (1, "a:1"),
            (1, "b:2"),
            (REPEAT_SECONDS - 1, "a:1"),
            (REPEAT_SECONDS, "a:1"),
        ):
            now[0] = 1000.0 + moment
            egress.note("connect", operation="socket.connect", caller=caller)
    assert [(line["caller"], line["repeats"]) for line in logs] == [("a:1", 0), ("b:2", 0), ("a:1", 2)]


async def test_what_happened_before_somebody_watches_is_told_then():
    heard: list[str] = []
    egress = Egress([])
    egress.note("bind", operation="socket.bind", caller="early:1")
    egress.watch(heard.append)
    late = threading.Thread(
        target=egress.note, args=["lookup"], kwargs={"operation": "socket.getaddrinfo", "caller": "late:1"}
    )
    late.start()
    late.join()
    await asyncio.sleep(0)
    assert heard == ["bind", "lookup"]


def test_a_violation_after_the_loop_has_ended_is_only_logged():
    egress = Egress([])

    async def watch():
        egress.watch(lambda what: None)

    asyncio.run(watch())
    with capture_logs() as logs:
        egress.note("connect", operation="socket.connect", caller="late:1")
    assert len(logs) == 1


def test_the_endpoints_are_the_broker_and_the_devices_on_the_network():
    broker = Endpoint("broker.example.gov.cn", 8883)
    assert endpoints(parse(EXAMPLE.encode())) == [broker]
    networked = EXAMPLE.replace(PRINTER, "tcp://[2001:db8::9]:9100") + '[ups]\nport = "nut://mon@localhost/ups"\n'
    assert endpoints(parse(networked.encode())) == [
        broker,
        Endpoint("2001:db8::9", 9100),
        Endpoint("localhost", 3493),
    ]


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("localhost", None),
        ("127.1", None),
        ("", None),
    ],
)
def test_an_address_has_one_form(host, ip):
    assert parse_ip(host) == (None if ip is None else ip_address(ip))
