"""The line end to end: the terminal's journal and channel, a real mosquitto over TLS, the reference platform.

Beside bare aiomqtt publishing the same bytes to the same broker, and the goals: half of bare for records with
receipts, 500 a second for what an outage left, 20 ms for a call (p99), memory flat over 100,000 records.
"""

import asyncio
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
import pytest

from benchmarks.conftest import Figures, percentile, within
from benchmarks.rig import make_files, resident_mebibytes
from runtime.board import ThreadExecutor
from runtime.journal import Journal
from runtime.messages import SupervisionEvent, TrialCall, to_payload
from sim.assets import prepare
from sim.mosquitto import HOST, broker_process
from sim.platform.process import platform_process
from sim.settings import RigFiles
from transport.channel import Channel
from transport.config import Platform
from transport.gate import Urgency
from transport.keys import IdentityKey
from transport.line_keys import ChannelKeys
from transport.mqtt import MqttUplink
from transport.sm import sm3
from transport.sm2 import PrivateKey, PublicKey
from vision.store import cache_directory

RECORDS = 20_000
MANY = 100_000
A_DAY = 3_000
"""Records of 24 h offline: 300 citizens of eight steps each, and a health record every five minutes."""
CALLS = 1_000
CALLERS = 200
IN_FLIGHT = 20
GOAL_OF_BARE = 0.5
GOAL_DRAIN = 500
GOAL_CALL_MILLISECONDS = 20.0
GOAL_GROWTH_MEBIBYTES = 5.0


class NoCommands:
    """A terminal that was never commanded."""

    def high_water(self) -> dict[str, int]:
        return {}

    async def take(self, *_: object, **__: object) -> None:
        raise AssertionError("nothing was ordered")


@dataclass(frozen=True)
class Bed:
    """A broker and a platform that run."""

    files: RigFiles
    port: int
    terminal: str


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("delivery")


@asynccontextmanager
async def bed(directory: Path) -> AsyncIterator[Bed]:
    files, settings = make_files(directory / secrets.token_hex(4))
    assets = prepare(cache_directory() / "assets")
    async with (
        broker_process(files.trust_directory, settings.broker_port) as (_, port),
        platform_process(files, settings, assets.font),
    ):
        yield Bed(files, port, settings.terminal_id)


def event(number: int) -> SupervisionEvent:
    return SupervisionEvent(f"{number:016x}", "verify_face", "done", None, time.time(), 0.41, "boot", rig=True)


class Terminal:
    """The terminal's half: journal on the disk, channel over TLS."""

    def __init__(self, bed: Bed, database: Path) -> None:
        trust = bed.files.trust
        self.executor = ThreadExecutor(database)
        self.journal = Journal(self.executor, time.time)
        self._settings = Platform(
            host=HOST,
            port=bed.port,
            terminal_id=bed.terminal,
            ca_file="-",
            certificate_file="-",
            private_key_file="-",
            identity_key_file="-",
            signing_key_file="-",
            seal_key_file="-",
        )
        self._uplink = MqttUplink(
            HOST,
            bed.port,
            bed.terminal,
            ca_file=trust.ca,
            certificate_file=trust.terminal_certificate,
            private_key_file=trust.terminal_key,
        )
        identity = IdentityKey(PrivateKey.from_der(trust.identity_key.read_bytes()))
        self._keys = ChannelKeys(identity, PublicKey.from_der(trust.signing_public_key.read_bytes()))

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Channel]:
        """The channel, connected, while the context lasts."""
        channel = Channel(
            self._settings,
            self._uplink,
            self._keys,
            self.journal,
            streams=dict.fromkeys(self.journal.streams.values(), Urgency.RECORD),
            commands=NoCommands(),
            boot_id="boot",
            software_version="0",
            wall_clock=time.time,
            on_state=lambda _: None,
            on_dropped=lambda _: None,
        )
        ready = asyncio.Event()
        life = asyncio.create_task(channel.run(ready.set))
        async with asyncio.timeout(20):
            await ready.wait()
        try:
            yield channel
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)

    async def append(self, count: int, first: int = 0) -> None:
        """Journal records from CALLERS callers at once."""
        numbers = iter(range(first, first + count))

        async def caller() -> None:
            for number in numbers:
                await self.journal.append(event(number))

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(caller())


async def bare(bed: Bed, bodies: list[bytes]) -> float:
    """Return how many messages a second aiomqtt alone publishes at QoS 1, IN_FLIGHT at once."""
    trust = bed.files.trust
    tls = ssl.create_default_context(cafile=trust.ca)
    tls.load_cert_chain(trust.platform_certificate, trust.platform_key)
    waiting = iter(bodies)
    async with aiomqtt.Client(HOST, bed.port, tls_context=tls, max_inflight_messages=IN_FLIGHT) as client:

        async def publisher() -> None:
            for body in waiting:
                await client.publish("bare", body, qos=1)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(publisher())
        return len(bodies) / (time.perf_counter() - began)


def test_records_beside_bare_publishing(figures: Figures, directory: Path) -> None:
    async def measure() -> tuple[float, float, float, float]:
        async with bed(directory) as there:
            terminal = Terminal(there, directory / "records.db")
            await terminal.journal.open()
            peer = await bare(there, [to_payload(event(number)).body for number in range(RECORDS)])
            async with terminal.line():
                began = time.perf_counter()
                await terminal.append(RECORDS)
                await terminal.journal.delivered()
                steady = RECORDS / (time.perf_counter() - began)
            await terminal.append(A_DAY, RECORDS)
            began = time.perf_counter()
            async with terminal.line():
                await terminal.journal.delivered()
            drain = A_DAY / (time.perf_counter() - began)
            await terminal.append(RECORDS, 2 * RECORDS)
            began = time.perf_counter()
            async with terminal.line():
                await terminal.journal.delivered()
            long_drain = RECORDS / (time.perf_counter() - began)
            await terminal.executor.close()
            return peer, steady, drain, long_drain

    peer, steady, drain, long_drain = asyncio.run(measure())
    verdict = f"{steady / peer:.2f} of bare; goal {GOAL_OF_BARE}: {within(GOAL_OF_BARE, steady / peer)}"
    figures.add(
        "records journaled, sealed, receipted",
        f"{steady:,.0f}/s",
        beside=f"bare aiomqtt publish, mosquitto/TLS {peer:,.0f}/s",
        verdict=verdict,
    )
    for what, rate in ((f"drain of a day offline ({A_DAY:,})", drain), (f"drain of {RECORDS:,}", long_drain)):
        verdict = within(GOAL_DRAIN, rate)
        figures.add(what, f"{rate:,.0f}/s with connecting", beside=f"goal {GOAL_DRAIN}/s", verdict=verdict)
    assert steady > 0


def test_calls(figures: Figures, directory: Path) -> None:
    async def measure() -> list[float]:
        async with bed(directory) as there:
            terminal = Terminal(there, directory / "calls.db")
            await terminal.journal.open()
            filler = os.urandom(256)
            times = []
            async with terminal.line() as channel:
                for number in range(CALLS):
                    request = to_payload(TrialCall(f"call-{number}", sm3(filler), filler, 256))
                    began = time.perf_counter()
                    await channel.call(request, key=secrets.token_bytes(16), deadline_seconds=10)
                    times.append((time.perf_counter() - began) * 1_000)
            await terminal.executor.close()
            return times

    times = asyncio.run(measure())
    p50, p99 = percentile(times, 50), percentile(times, 99)
    verdict = within(p99, GOAL_CALL_MILLISECONDS)
    figures.add(
        "business call, 256 B each way",
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        beside=f"goal p99 {GOAL_CALL_MILLISECONDS:.0f} ms",
        verdict=verdict,
    )
    assert p50 > 0


def test_memory_over_many_records(figures: Figures, directory: Path) -> None:
    async def measure() -> tuple[float, float]:
        async with bed(directory) as there:
            terminal = Terminal(there, directory / "memory.db")
            await terminal.journal.open()
            async with terminal.line():
                await terminal.append(RECORDS)
                await terminal.journal.delivered()
                before = resident_mebibytes(os.getpid())
                await terminal.append(MANY, RECORDS)
                await terminal.journal.delivered()
            await terminal.executor.close()
            return before, resident_mebibytes(os.getpid())

    before, after = asyncio.run(measure())
    growth = after - before
    figures.add(
        f"resident memory over {MANY:,} records",
        f"{before:.1f} to {after:.1f} MiB",
        beside=f"goal flat: at most {GOAL_GROWTH_MEBIBYTES:.0f} MiB more",
        verdict=within(growth, GOAL_GROWTH_MEBIBYTES),
    )
    assert after > 0
