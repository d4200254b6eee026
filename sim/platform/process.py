"""Runs the reference platform as a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sim.settings import RigError, RigFiles, RigSettings

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0


@asynccontextmanager
async def platform_process(
    files: RigFiles, settings: RigSettings, font: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m sim.platform` while the context lasts; raise RigError when it does not start."""
    trust, database, control = files.trust_directory, files.platform_database, files.platform_control
    arguments = ("--trust", trust, "--database", database, "--control", control, "--font", font)
    numbers = ("--port", settings.broker_port, "--seed", settings.seed)
    with files.platform_log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sim.platform", *map(str, arguments + numbers)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        )
    try:
        if process.stdout is None:
            raise RigError("platform: no output to read")
        line = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                line = await process.stdout.readline()
        if line != b"ready\n":
            raise RigError(f"platform: it does not start; {files.platform_log} says why")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()
            with suppress(TimeoutError):  # a child of its own may hold its output open
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.communicate()
