"""`python -m sim.soak.rig --config FILE`: every device of a rig and nothing else, as a process of its own."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from runtime import logs
from sim import assets
from sim.parent import end_with_parent
from sim.rig import open_rig
from sim.settings import load_rig
from vision.store import cache_directory


def main() -> None:
    """Run the devices until SIGTERM; the line `ready` on standard output says that they are there."""
    parser = argparse.ArgumentParser(prog="python -m sim.soak.rig", description="Run the devices of a rig.")
    parser.add_argument("--config", type=Path, required=True, help="the rig's own configuration")
    arguments = parser.parse_args()
    end_with_parent()
    handler = logs.install()
    try:
        asyncio.run(_serve(arguments.config))
    finally:
        handler.close()


async def _serve(config: Path) -> None:
    files, settings = load_rig(config)
    serving = asyncio.create_task(asyncio.Event().wait(), name="rig")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    async with open_rig(files, settings, assets.prepare(cache_directory() / "assets"), devices_only=True):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


if __name__ == "__main__":
    main()
