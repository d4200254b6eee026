"""Round trip of the local API, quiet and under a preview stream, beside a bare asyncio echo on a Unix socket."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.conftest import Figures, percentile
from benchmarks.rig import terminal_on_rig
from sim.terminal import Terminal

ROUNDS = 2_000
PAUSE_SECONDS = 0.002
GOAL_MILLISECONDS = 10.0
BLOCKS = 4
"""With a preview and without, by turns, so that both meet the same load of the machine."""

_ECHO = """
import asyncio, sys
async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
async def main():
    async with await asyncio.start_unix_server(echo, sys.argv[1]) as server:
        print("ready", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""

_VIEWER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as preview:
    preview.connect(sys.argv[1])
    preview.sendall(sys.argv[2].encode() + b"\\n")
    frames = preview.makefile("rb")
    print("ready", flush=True)
    count = 0
    while head := frames.read(4):
        frames.read(int.from_bytes(head, "big"))
        count += 1
    print(count, flush=True)
"""


async def asker(path: Path, request: bytes) -> tuple[Callable[[], Awaitable[float]], asyncio.StreamWriter]:
    """Connect; return what sends the request once and gives the microseconds until the line that answers it."""
    reader, writer = await asyncio.open_unix_connection(path)

    async def ask() -> float:
        started = time.perf_counter_ns()
        writer.write(request)
        assert await reader.readline()
        return (time.perf_counter_ns() - started) / 1_000

    return ask, writer


@asynccontextmanager
async def previewing(terminal: Terminal) -> AsyncIterator[list[int]]:
    """Let another process look at the face camera; the frames it got are in the list afterwards."""
    frames: list[int] = []
    session = (await terminal.call("session.open"))["session"]
    opened = await terminal.call("preview.open", session=session)
    viewer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _VIEWER, opened["socket"], opened["token"]), stdout=asyncio.subprocess.PIPE
    )
    assert viewer.stdout is not None
    await viewer.stdout.readline()
    try:
        yield frames
    finally:
        await terminal.call("session.close", session=session)
        frames.append(int((await viewer.communicate())[0]))


def test_api_round_trip(figures: Figures, tmp_path: Path) -> None:
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "terminal.status", "params": {}}).encode() + b"\n"
    quiet: list[float] = []
    watched: list[float] = []
    bare: list[float] = []
    frames: list[int] = []

    async def measure() -> None:
        async with terminal_on_rig(tmp_path / "rig") as (rig, terminal, _pid):
            echo = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _ECHO, str(tmp_path / "echo")), stdout=asyncio.subprocess.PIPE
            )
            assert echo.stdout is not None
            await echo.stdout.readline()
            ours, our_writer = await asker(rig.files.api, request)
            echoed, bare_writer = await asker(tmp_path / "echo", request)

            async def rounds(kept: list[float]) -> None:
                for _ in range(ROUNDS // BLOCKS):
                    kept.append(await ours())
                    bare.append(await echoed())
                    await asyncio.sleep(PAUSE_SECONDS)

            try:
                for _ in range(BLOCKS):
                    await rounds(quiet)
                    async with previewing(terminal) as seen:
                        await rounds(watched)
                    frames.extend(seen)
            finally:
                our_writer.close()
                bare_writer.close()
                echo.kill()
                await echo.communicate()

    asyncio.run(measure())
    for percent in (50, 99):
        peer = percentile(bare, percent)
        for name, mine in (("", percentile(quiet, percent)), (" under a preview", percentile(watched, percent))):
            figures.add(
                f"API round trip{name} p{percent}",
                f"{mine:.0f} µs",
                beside=f"bare Unix-socket echo {peer:.0f} µs",
                verdict=f"{mine / peer:.2f} times",
            )
    assert len(quiet) == len(watched) == ROUNDS
    assert min(frames) > 0
    assert percentile(watched, 99) / 1_000 < GOAL_MILLISECONDS
