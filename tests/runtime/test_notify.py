"""sd_notify: the datagrams systemd reads, and a watchdog fed only while the daemon vouches for itself (L34)."""

import asyncio
import os
import socket

import pytest

from runtime.notify import Notifier
from sim import virtual_time


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def received(receiver):
    told = []
    while True:
        try:
            told.append(receiver.recv(4_096).decode())
        except BlockingIOError:
            return told


def test_each_state_is_one_datagram(systemd):
    notifier = Notifier(systemd.getsockname())
    notifier.ready()
    notifier.status("2 of 3\ndevices online")
    notifier.stopping()
    assert received(systemd) == [
        "READY=1",
        "STATUS=2 of 3 devices online",
        "STOPPING=1",
    ]


def test_an_abstract_address_is_understood():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0govterm-test-{os.getpid()}")
        Notifier(f"@govterm-test-{os.getpid()}").ready()
        receiver.settimeout(5)
        assert receiver.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_sent_and_nothing_fails(tmp_path):
    notifier = Notifier()
    notifier.ready()
    Notifier(str(tmp_path / "gone")).ready()
    assert notifier.watchdog_seconds is None


def test_a_full_queue_does_not_block(systemd):
    notifier = Notifier(systemd.getsockname())
    for _ in range(5_000):
        notifier.ready()
    assert 0 < len(received(systemd)) < 5_000


def test_the_environment_is_taken_and_left_to_no_child(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Notifier.from_environment().watchdog_seconds == 30.0
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


@pytest.mark.parametrize(("microseconds", "process"), [("0", None), ("often", None), ("30000000", "1")])
def test_a_watchdog_that_is_not_ours_is_not_fed(monkeypatch, microseconds, process):
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", process or str(os.getpid()))
    assert Notifier.from_environment().watchdog_seconds is None


def test_the_watchdog_is_fed_at_a_third_of_its_time_until_the_loop_stops_serving(systemd):
    notifier = Notifier(systemd.getsockname(), watchdog_seconds=30)

    async def story():
        task = asyncio.create_task(notifier.feed_watchdog())
        await asyncio.sleep(29)
        task.cancel()
        fed = received(systemd)
        await asyncio.sleep(100)
        return fed

    assert virtual_time.run(story()) == ["WATCHDOG=1"] * 3
    assert received(systemd) == []


async def test_without_a_watchdog_feeding_ends_at_once():
    async with asyncio.timeout(1):
        assert await Notifier().feed_watchdog() is None
