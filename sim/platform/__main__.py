"""The reference platform as a process of its own: `python -m sim.platform`, started by the rig."""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path

from runtime import logs
from sim.control import serve_control
from sim.enrolment import Desk
from sim.parent import end_with_parent
from sim.people import Population
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.service import serve
from sim.platform.store import Store
from sim.trust import Trust
from transport.mqtt import MqttUplink

HOST = "127.0.0.1"


def main() -> None:
    """Run the platform until SIGTERM or Ctrl-C; the line `ready` on standard output says that it is on the broker."""
    parser = argparse.ArgumentParser(prog="python -m sim.platform", description="Run the rig's reference platform.")
    parser.add_argument("--trust", type=Path, required=True, help="the rig's trust anchors (sim.trust)")
    parser.add_argument("--database", type=Path, required=True, help="the SQLite database, made when absent")
    parser.add_argument("--control", type=Path, required=True, help="the Unix socket of its verbs")
    parser.add_argument("--font", type=Path, required=True, help="a font with Chinese characters")
    parser.add_argument("--port", type=int, required=True, help="the broker's TLS port on 127.0.0.1")
    parser.add_argument("--seed", type=int, default=1, help="the population grows from it")
    arguments = parser.parse_args()
    end_with_parent()
    handler = logs.install()
    store = Store(arguments.database)
    try:
        asyncio.run(_run(arguments, store))
    finally:
        store.close()
        handler.close()


async def _run(arguments: argparse.Namespace, store: Store) -> None:
    trust, desk = Trust.in_directory(arguments.trust), Desk(arguments.trust)
    keys = PlatformKeys(signing=desk.signing_key, seal=desk.seal_key, terminals=desk.terminals())
    platform = Platform(store, keys, Population(arguments.seed), arguments.font, time.time)
    uplink = MqttUplink(
        HOST,
        arguments.port,
        "platform",
        ca_file=trust.ca,
        certificate_file=trust.platform_certificate,
        private_key_file=trust.platform_key,
    )
    serving = asyncio.create_task(serve(platform, uplink, _say_ready), name="platform")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    async with serve_control(arguments.control, {"platform": platform.verbs}):
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
