"""Drivers and codecs of the peripherals: round trips beside the raw wire, decoders, idling."""

import asyncio
import multiprocessing
import os
import random
import time
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conftest import Figures, percentile, within
from benchmarks.rig import children, terminal_on_rig
from devices.idcard.protocol import Command
from devices.link import FlowControl, Link
from devices.pinpad import commands
from devices.serial import open_serial_link
from devices.ups.megatec_protocol import encode_command
from sim.pty import PtyHost
from sim.settings import BAUD as BAUD_OF_RIG
from tests.devices.conformance import CASES, Case
from tests.fuzz.codecs import CODECS

ROUNDS = 300
GOAL_TIMES = 1.2
BAUD = 115_200


def answer(case: Case, master: int) -> None:
    """Be the device at once: no pace and no timers, whose millisecond would hide what a driver adds."""

    async def serve() -> None:
        device = case.make_device()
        gone = asyncio.Event()

        def readable() -> None:
            try:
                os.write(master, device.feed(os.read(master, 4_096)))
            except OSError:
                gone.set()

        asyncio.get_running_loop().add_reader(master, readable)
        await gone.wait()

    asyncio.run(serve())


@contextmanager
def prompt_device(case: Case) -> Iterator[Path]:
    """Run a case's device in a process of its own, at the PTY whose path this yields."""
    master, slave = os.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    process = multiprocessing.get_context("fork").Process(target=answer, args=(case, master))
    process.start()
    try:
        yield Path(os.ttyname(slave))
    finally:
        process.terminate()
        process.join()
        process.close()
        os.close(master)
        os.close(slave)


class Tap:
    """An OpenLink that lets the benchmark read raw what the driver's listener would have read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw: asyncio.Queue[bytes] | None = None
        self.asked = b""
        self.heard = 0
        self._link: Any = None

    async def __call__(self, port: str, baud: int, flow_control: FlowControl = "none") -> Link:  # noqa: ARG002 - own words
        """Open the rig's port."""
        self._link = await open_serial_link(str(self.path), BAUD)
        return self

    async def read(self) -> bytes:
        """Return what arrived; what the raw round trip waits for goes there instead."""
        while True:
            data: bytes = await self._link.read()
            if self.raw is None:
                self.heard += len(data)
                return data
            self.raw.put_nowait(data)

    async def write(self, data: bytes) -> None:
        """Write, and remember what was asked last."""
        self.asked += data
        await self._link.write(data)

    async def close(self) -> None:
        """Close the port."""
        await self._link.close()


# The simplest command of each kind: one question, one answer.
COMMANDS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "idcard": lambda driver: driver._command(Command.STATUS),  # noqa: SLF001
    "printer": lambda driver: driver._wire._ask(1),  # noqa: SLF001
    "cardreader": lambda driver: driver._media(),  # noqa: SLF001
    "pinpad": lambda driver: driver._command(commands.IDENTIFY),  # noqa: SLF001
    "fingerprint": lambda driver: driver._fence(),  # noqa: SLF001
    "ups-megatec": lambda driver: driver.ask(encode_command("Q1"), lambda _: True, seconds=1),
    "ups-nut": lambda driver: driver._say("GET", "VAR", "kiosk", "ups.status"),  # noqa: SLF001
    "environment": lambda driver: driver._exchange(4),  # noqa: SLF001
}


async def round_trips(case: Case, path: Path) -> tuple[list[float], list[float]]:
    """Return the microseconds of commands through the driver and of the same bytes raw, interleaved."""
    tap = Tap(path)
    serving = asyncio.Event()
    driver: Any = case.make_driver(tap, lambda _: None)
    ours, raw = [], []
    life = asyncio.create_task(driver.run(serving.set))
    try:
        async with asyncio.timeout(20):
            await serving.wait()
        for _ in range(ROUNDS):
            async with driver._lock:  # noqa: SLF001 - what every call of the driver does; its health check waits
                tap.asked, tap.heard = b"", 0
                started = time.perf_counter_ns()
                await COMMANDS[str(case)](driver)
                ours.append((time.perf_counter_ns() - started) / 1_000)
                raw.append(await raw_round_trip(tap))
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
    return ours, raw


async def raw_round_trip(tap: Tap) -> float:
    """Write what the driver wrote and read as much as it read, without it; return the microseconds."""
    asked, missing = tap.asked, tap.heard
    parts = [asked[:-1], asked[-1:]] if asked.endswith(b"\x05") and len(asked) > 1 else [asked]
    tap.raw = asyncio.Queue()
    started = time.perf_counter_ns()
    for part in parts:  # a handshake: the last byte follows the ACK
        await tap.write(part)
        if part is not parts[-1]:
            missing -= len(await tap.raw.get())
    while missing > 0:
        missing -= len(await tap.raw.get())
    taken = (time.perf_counter_ns() - started) / 1_000
    tap.raw = None
    return taken


async def paced_round_trips(case: Case, path: Path) -> tuple[list[float], list[float]]:
    with PtyHost(case.make_device(), path, baud=BAUD):
        return await round_trips(case, path)


def tell(figures: Figures, what: str, ours: list[float], raw: list[float]) -> None:
    mine, bare = percentile(ours, 50), percentile(raw, 50)
    figures.add(
        what,
        f"{mine:.0f} µs",
        beside=f"same bytes raw on the same PTY {bare:.0f} µs",
        verdict=f"{mine / bare:.2f} times, goal {GOAL_TIMES}: {within(mine / bare, GOAL_TIMES)}",
    )
    assert len(ours) == len(raw) == ROUNDS


@pytest.mark.parametrize("case", CASES, ids=str)
def test_command_at_the_pace_of_a_line(case: Case, figures: Figures, tmp_path: Path) -> None:
    ours, raw = asyncio.run(paced_round_trips(case, tmp_path / "tty"))
    tell(figures, f"{case} command p50 at {BAUD} baud", ours, raw)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_command_to_a_device_that_answers_at_once(case: Case, figures: Figures) -> None:
    """What a driver adds, with nothing to hide behind."""
    with prompt_device(case) as path:
        ours, raw = asyncio.run(round_trips(case, path))
    tell(figures, f"{case} command p50, no pace", ours, raw)


DECODE_BYTES = 256 * 1024
CHUNK_BYTES = 4_096


def megabytes_a_second(name: str, data: bytes) -> float:
    """Decode `data` over and over, DECODE_BYTES in all."""
    decoder = CODECS[name].make()
    stream = data * (DECODE_BYTES // len(data) + 1)
    started = time.perf_counter()
    for at in range(0, DECODE_BYTES, CHUNK_BYTES):
        decoder.feed(stream[at : at + CHUNK_BYTES])
    return DECODE_BYTES / (time.perf_counter() - started) / 1e6


@pytest.mark.parametrize("name", CODECS)
def test_decoder_throughput(name: str, figures: Figures) -> None:
    """On good frames, and the worst of three kinds of garbage; 0.0115 MB/s is what 115,200 baud can bring."""
    good = CODECS[name].good
    half = good[: max(1, len(good) - 1)]
    garbage = {
        "noise": random.Random(8).randbytes(DECODE_BYTES),  # noqa: S311 - noise
        "begun frames": half,
        "its first byte": good[:1],
        "wrong ends": half + bytes([good[-1] ^ 1]),
    }
    speed = megabytes_a_second(name, good)
    worst, slowest = min(
        ((kind, megabytes_a_second(name, data)) for kind, data in garbage.items()), key=lambda it: it[1]
    )
    figures.add(
        f"{name} decoder",
        f"frames {speed:.2f} MB/s",
        beside=f"worst garbage ({worst}) {slowest:.2f} MB/s",
        verdict=f"{slowest / 0.01152:.0f} times the line at 115,200 baud",
    )
    assert slowest > 0.01152, "a flood at line rate is decoded faster than it comes"


IDLE_SECONDS = 65
"""Two health checks of every device, which come every 30 s, and more of what is watched."""
GOAL_SHARE = 0.01


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.timeout(240)
def test_idle_daemon(figures: Figures, tmp_path: Path) -> None:
    """Every device of the rig attached, nobody at the terminal."""

    async def idle() -> list[float]:
        async with terminal_on_rig(tmp_path / "rig") as (_, terminal, pid):
            for kind in BAUD_OF_RIG:
                await terminal.wait_until(kind, "online")
            pids = [pid, *children(pid)]
            before = [cpu_seconds(one) for one in pids]
            await asyncio.sleep(IDLE_SECONDS)
            return [(cpu_seconds(one) - used) / IDLE_SECONDS for one, used in zip(pids, before, strict=True)]

    share, vision = asyncio.run(idle())
    figures.add(
        f"idle daemon with {len(BAUD_OF_RIG)} devices, over {IDLE_SECONDS} s",
        f"{share:.2%} of one core",
        beside=f"its vision process {vision:.2%}",
        verdict=f"goal {GOAL_SHARE:.0%}: {within(share, GOAL_SHARE)}",
    )
    assert share > 0, "a daemon that does nothing is not idle but dead"
