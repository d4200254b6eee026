"""The vision process as the kernel sees it: started with its environment, killed, reaped.

It runs on libc's malloc with every freed byte overwritten and without per-thread caches, so that pictures do not
outlive their use (T20).
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys

import structlog

log = structlog.get_logger(__name__)

ENVIRONMENT = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": (
        "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0"
        ":glibc.malloc.mmap_threshold=12582912:glibc.malloc.trim_threshold=33554432"
    ),
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FOR_THREADS_NUM": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "1",
}
"""What the process adds to the daemon's environment.

ONNX Runtime from 1.29 on keeps a database in the user's cache and uploads it to Microsoft unless told otherwise (T20).
A document's frame (15 MB) is mapped by itself and goes back to the kernel when it is freed; left to itself, glibc would
from the second on keep frames in its heaps. What a check uses stays in the heap, which is faster.
OpenCV and numpy would compute on every core, on threads whose stacks nobody wipes; the other core is the daemon's.
"""

_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")

_REAP_SECONDS = 2.0


async def spawn(theirs: socket.socket) -> asyncio.subprocess.Process:
    """Start the process with its end of the socket pair; raise OSError when it cannot be started."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vision",
        str(theirs.fileno()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        env=inherited | ENVIRONMENT,
        process_group=0,
    )


def kill(process: asyncio.subprocess.Process) -> None:
    """Kill the process and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def reap(process: asyncio.subprocess.Process) -> None:
    """Kill the process and wait for its end."""
    kill(process)
    try:
        async with asyncio.timeout(_REAP_SECONDS):
            log.info("vision_ended", status=await process.wait())  # negative: the signal that ended it
    except TimeoutError:
        log.error("vision_not_reaped", pid=process.pid)  # inside a driver's call; the kernel ends it when that returns
