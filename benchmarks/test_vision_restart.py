"""From SIGKILL of the vision process until it is ready again, beside a bare respawn of the same imports."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.conftest import Figures, percentile
from benchmarks.rig import children, terminal_on_rig

RUNS = 5
GOOD_RUN_SECONDS = 10.5
"""A life this long resets the supervisor's back-off, so that each kill is a first one."""


def bare_respawn() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy, cv2, onnxruntime"], check=True)
    return time.perf_counter() - started


def test_vision_from_kill_to_ready(figures: Figures, tmp_path: Path) -> None:
    async def measure() -> list[tuple[float, float, float]]:
        taken = []
        async with terminal_on_rig(tmp_path / "rig") as (_, terminal, pid):
            for _run in range(RUNS):
                await asyncio.sleep(GOOD_RUN_SECONDS)
                bare = await asyncio.to_thread(bare_respawn)
                (worker,) = children(pid)
                started = time.perf_counter()
                os.kill(worker, signal.SIGKILL)
                await terminal.wait_until("vision", "offline")
                noticed = time.perf_counter() - started
                await terminal.wait_until("vision", "online")
                taken.append((noticed, time.perf_counter() - started, bare))
        return taken

    noticed, ready, bare = zip(*asyncio.run(measure()), strict=True)
    figures.add(
        "vision SIGKILL to noticed",
        f"p50 {percentile(noticed, 50) * 1e3:.0f} ms, max {max(noticed) * 1e3:.0f} ms",
        beside="bar 20 ms",
    )
    figures.add(
        "vision SIGKILL to ready",
        f"p50 {percentile(ready, 50):.2f} s, max {max(ready):.2f} s",
        beside=f"bare imports in a new process {percentile(bare, 50):.2f} s; supervisord alone 2.0 s, circus 0.79 s",
    )
    assert len(ready) == RUNS
