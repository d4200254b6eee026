"""Pack and seal beside raw SM4-GCM of the `cryptography` library, same key, same bytes (goal: 256 B in 40 µs)."""

import os
import statistics
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import Figures, within
from transport import wire
from transport.envelope import Sealer

SIZES = [256, 65_536]
GOAL_MICROSECONDS = {256: 40.0}


def ours(size: int) -> Callable[[], bytes]:
    sealer = Sealer(bytearray(os.urandom(16)), os.urandom(8), "T-1", "up")
    body = os.urandom(size)
    key = os.urandom(16)
    return lambda: sealer.seal("call", wire.encode(wire.Call(key, "certificate.request", 1, body)))


def raw(size: int) -> Callable[[], bytes]:
    key, body = os.urandom(16), os.urandom(size)

    def seal() -> bytes:
        encryptor = Cipher(algorithms.SM4(key), modes.GCM(os.urandom(12))).encryptor()
        encryptor.authenticate_additional_data(b"place")
        return encryptor.update(body) + encryptor.finalize() + encryptor.tag

    return seal


def microseconds(work: Callable[[], bytes]) -> float:
    started = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - started) / 1_000


@pytest.mark.parametrize("size", SIZES)
def test_seal_beside_raw_cipher(figures: Figures, size: int) -> None:
    """Interleaved, so that the machine's noise falls on both."""
    mine, peer = ours(size), raw(size)
    pairs = [(microseconds(mine), microseconds(peer)) for _ in range(2_000)]
    our_median, raw_median = (statistics.median(column) for column in zip(*pairs, strict=True))
    goal = GOAL_MICROSECONDS.get(size)
    verdict = f"{raw_median / our_median:.2f} of raw"
    if goal is not None:
        verdict += f"; goal {goal:.0f} µs: {within(our_median, goal)}"
    beside = f"raw SM4-GCM p50 {raw_median:.1f} µs"
    figures.add(f"pack + seal {size} B", f"p50 {our_median:.1f} µs", beside=beside, verdict=verdict)
    assert our_median > 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("who", [ours, raw])
def test_seal(benchmark: BenchmarkFixture, who: Callable[[int], Callable[[], bytes]], size: int) -> None:
    benchmark.group = f"seal {size} B"
    assert len(benchmark(who(size))) > size
