"""Start to READY and resident memory of the daemon, beside the bare imports and Moonraker's."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.conftest import Figures, within
from benchmarks.rig import consenting, make_files, resident_mebibytes, terminal_on_rig
from runtime.cli import ALLOCATOR
from sim.settings import RigFiles

RUNS = 7
GOAL_SECONDS = 0.6
GOAL_MEBIBYTES = 52.0
MOONRAKER = "Moonraker 0.53 s, 52 MiB"

_IMPORTS = """
import time; started = time.perf_counter()
import sys; sys.modules["rich"] = None
import asyncio, sqlite3, ssl, aiomqtt, msgspec, serialx, structlog
from cryptography.hazmat.primitives.ciphers import Cipher
print(time.perf_counter() - started, [line.split()[1] for line in open("/proc/self/status") if "VmRSS" in line][0])
"""


def start_to_ready(files: RigFiles, notify: Path) -> tuple[float, float]:
    """Return the seconds from spawn to READY=1 and the resident MiB at that moment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(notify))
        receiver.settimeout(20)
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "runtime", "--rig", "--config", str(files.daemon_settings)],
            env=os.environ | ALLOCATOR | {"NOTIFY_SOCKET": str(notify)},
            stderr=subprocess.DEVNULL,
        )
        try:
            while b"READY=1" not in receiver.recv(4_096):
                pass
            return time.perf_counter() - started, resident_mebibytes(process.pid)
        finally:
            notify.unlink()
            process.terminate()
            process.wait(20)


def bare_imports() -> tuple[float, float]:
    started = time.perf_counter()
    printed = subprocess.run(
        [sys.executable, "-c", _IMPORTS], env=os.environ | ALLOCATOR, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - started, int(printed.stdout.split()[1]) / 1_024


def test_start_to_ready(figures: Figures, tmp_path: Path) -> None:
    files, _ = make_files(tmp_path / "rig")
    pairs = [(start_to_ready(files, tmp_path / "notify"), bare_imports()) for _ in range(RUNS)]
    seconds = statistics.median(ours[0] for ours, _ in pairs)
    bare = statistics.median(imports[0] for _, imports in pairs)
    figures.add(
        "daemon start to READY",
        f"p50 {seconds:.2f} s",
        beside=f"bare imports {bare:.2f} s; {MOONRAKER}",
        verdict=f"goal {GOAL_SECONDS} s: {within(seconds, GOAL_SECONDS)}",
    )
    memory = statistics.median(ours[1] for ours, _ in pairs)
    bare_memory = statistics.median(imports[1] for _, imports in pairs)
    figures.add(
        "daemon resident at READY",
        f"{memory:.1f} MiB",
        beside=f"bare imports {bare_memory:.1f} MiB; {MOONRAKER}",
        verdict=f"goal {GOAL_MEBIBYTES:.0f} MiB: {within(memory, GOAL_MEBIBYTES)}",
    )
    assert seconds > 0


def test_resident_memory_after_a_citizen(figures: Figures, tmp_path: Path) -> None:
    async def serve() -> float:
        async with terminal_on_rig(tmp_path / "rig") as (rig, terminal, pid):
            await rig.do("camera", "show", person="grace_hopper")
            await rig.do("idcard", "place_card")
            session = await consenting(terminal)
            identity = await terminal.call("session.verify_identity", session=session)
            assert identity["outcome"] == "done"
            await terminal.call("session.close", session=session)
            return resident_mebibytes(pid)

    memory = asyncio.run(serve())
    figures.add(
        "daemon resident after one citizen",
        f"{memory:.1f} MiB",
        beside=MOONRAKER,
        verdict=f"goal {GOAL_MEBIBYTES:.0f} MiB: {within(memory, GOAL_MEBIBYTES)}",
    )
