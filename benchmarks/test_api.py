"""Round trip of the local API beside a bare asyncio echo over a Unix socket, interleaved in one run."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.conftest import Figures, percentile
from benchmarks.rig import terminal_on_rig

ROUNDS = 2_000

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


async def asker(path: Path, request: bytes) -> tuple[Callable[[], Awaitable[float]], asyncio.StreamWriter]:
    """Connect; return what sends the request once and gives the microseconds until the line that answers it."""
    reader, writer = await asyncio.open_unix_connection(path)

    async def ask() -> float:
        started = time.perf_counter_ns()
        writer.write(request)
        assert await reader.readline()
        return (time.perf_counter_ns() - started) / 1_000

    return ask, writer


def test_api_round_trip(figures: Figures, tmp_path: Path) -> None:
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "terminal.status", "params": {}}).encode() + b"\n"

    async def measure() -> list[tuple[float, float]]:
        async with terminal_on_rig(tmp_path / "rig") as (rig, _, _pid):
            echo = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _ECHO, str(tmp_path / "echo")), stdout=asyncio.subprocess.PIPE
            )
            assert echo.stdout is not None
            await echo.stdout.readline()
            ours, our_writer = await asker(rig.files.api, request)
            bare, bare_writer = await asker(tmp_path / "echo", request)
            try:
                return [(await ours(), await bare()) for _ in range(ROUNDS)]
            finally:
                our_writer.close()
                bare_writer.close()
                echo.kill()
                await echo.communicate()

    ours, bare = zip(*asyncio.run(measure()), strict=True)
    for percent in (50, 99):
        mine, peer = percentile(ours, percent), percentile(bare, percent)
        figures.add(
            f"API round trip p{percent}",
            f"{mine:.0f} µs",
            beside=f"bare Unix-socket echo {peer:.0f} µs",
            verdict=f"{mine / peer:.2f} times",
        )
    assert len(ours) == ROUNDS
