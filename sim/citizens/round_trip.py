"""The round trip of a small method of the API, with nobody looking at a preview and with somebody (rule 1)."""

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from runtime.client import Terminal
from sim.settings import RigError

BLOCKS = 2
"""With a preview and without, by turns, so that both meet the same load of the machine."""
PAUSE_SECONDS = 0.002
_READY_SECONDS = 10.0


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p99: float


class RoundTrip(msgspec.Struct, frozen=True):
    """`terminal.status` by the typed client; `frames` is how many pictures the other process got meanwhile."""

    calls: int
    quiet: Latency
    previewing: Latency
    frames: int


async def measure(terminal: Terminal, calls: int) -> RoundTrip:
    """Measure so many calls without a preview, and as many with one; raise RigError when no picture comes."""
    quiet: list[float] = []
    previewing: list[float] = []
    frames: list[int] = []
    await terminal.status()
    for _ in range(BLOCKS):
        await _ask(terminal, calls // BLOCKS, quiet)
        async with _preview(terminal, frames):
            await _ask(terminal, calls // BLOCKS, previewing)
    return RoundTrip(len(quiet), _latency(quiet), _latency(previewing), sum(frames))


async def _ask(terminal: Terminal, calls: int, milliseconds: list[float]) -> None:
    for _ in range(calls):
        began = time.perf_counter()
        await terminal.status()
        milliseconds.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def _preview(terminal: Terminal, frames: list[int]) -> AsyncIterator[None]:
    """Let another process look at the face camera."""
    async with await terminal.open_session() as session:
        opened = await session.preview_open(camera="face")
        viewer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sim.citizens.viewer", opened.socket, opened.token),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_READY_SECONDS):
                if viewer.stdout is None or await viewer.stdout.readline() != b"ready\n":
                    raise RigError("the preview ended before its first picture")
            yield
            await session.close()
            async with asyncio.timeout(_READY_SECONDS):
                frames.append(int((await viewer.communicate())[0]))
        finally:
            if viewer.returncode is None:
                viewer.kill()
                await viewer.communicate()


def _latency(milliseconds: list[float]) -> Latency:
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return Latency(round(cuts[49], 3), round(cuts[98], 3))
