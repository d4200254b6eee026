"""The load generator, a process of its own: `python -m sim.soak.load`. It speaks the local API and nothing else.

Each trial has a UUID; whatever is not acknowledged is unknown and is never asked for again under the same one.
"""

import argparse
import asyncio
import base64
import os
import random
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from runtime.client import ClientError, RpcError, connect
from runtime.client import Terminal as Client
from sim.parent import end_with_parent
from sim.soak.ledger import End, Kind, Ledger
from transport.sm import sm3

RECORDS_PER_SECOND = {"supervision": 20.0, "telemetry": 10.0}
CALLERS = 3
CALL_PAUSE_SECONDS = 0.2
LARGE_PAUSE_SECONDS = 8.0
CALL_SECONDS, LARGE_SECONDS = 8.0, 20.0
"""Deadlines of calls; the API answers within _MARGIN_SECONDS after it, or is not heard any more."""
_MARGIN_SECONDS = 5.0
_RECORD_SECONDS = 15.0
_RECONNECT_SECONDS = 0.1

_ENDS: dict[str, End] = {"platform.no_answer": "unknown", "line.down": "not_sent"}

_Step = Callable[[Client], Awaitable[None]]


class Load:
    """Asks for trials at a steady rate until it is stopped."""

    def __init__(self, api: Path, ledger: Ledger, seed: int) -> None:
        self._api = api
        self._ledger = ledger
        self._random = random.Random(seed)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Ask for nothing more; what is under way is waited for."""
        self._stopped.set()

    async def run(self) -> None:
        """Load until `stop`."""
        async with asyncio.TaskGroup() as group:
            for stream, rate in RECORDS_PER_SECOND.items():
                group.create_task(self._work(self._recorder(stream), 1 / rate), name=f"load {stream}")
            for number in range(CALLERS):
                group.create_task(self._work(self._small, CALL_PAUSE_SECONDS), name=f"load call {number}")
            group.create_task(self._work(self._large, LARGE_PAUSE_SECONDS), name="load large calls")

    async def _work(self, step: _Step, pause_seconds: float) -> None:
        """Repeat `step` on a connection of its own, and on a new one whenever the daemon is gone."""
        while not self._stopped.is_set():
            with suppress(ClientError):
                async with connect(self._api) as client:
                    while not await self._pause(pause_seconds):
                        await step(client)
            await self._pause(_RECONNECT_SECONDS)

    async def _pause(self, seconds: float) -> bool:
        """Wait, and say whether it was stopped meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return self._stopped.is_set()

    def _recorder(self, stream: str) -> _Step:
        kind: Kind = "trial.health" if stream == "telemetry" else "trial.record"

        async def step(client: Client) -> None:
            trial = str(uuid.uuid4())
            filler = os.urandom(self._random.choice((16, 64, 200, 200, 200, 600, 2_000)))
            digest = sm3(filler)
            self._ledger.begin(trial, kind, digest)
            params = {"id": trial, "digest": _text(digest), "filler": _text(filler), "stream": stream}
            try:
                result = await client.call("trial.record", params, seconds=_RECORD_SECONDS)
            except (RpcError, ClientError) as error:
                self._ledger.end(trial, "unknown", code=error.code)
                if isinstance(error, ClientError):
                    raise
            else:
                self._ledger.end(trial, "acknowledged", sequence=result["sequence"])

        return step

    async def _small(self, client: Client) -> None:
        up, down = self._random.randrange(2_000), self._random.randrange(2_000)
        await self._call(client, up, down, CALL_SECONDS)

    async def _large(self, client: Client) -> None:
        large, small = self._random.randrange(100_000, 1_048_576), self._random.randrange(2_000)
        up, down = self._random.choice(((large, small), (small, large)))
        await self._call(client, up, down, LARGE_SECONDS)

    async def _call(self, client: Client, filler_bytes: int, answer_bytes: int, deadline_seconds: float) -> None:
        trial = str(uuid.uuid4())
        self._ledger.begin(trial, "trial.call")
        params = {
            "id": trial,
            "filler_bytes": filler_bytes,
            "answer_bytes": answer_bytes,
            "deadline_seconds": deadline_seconds,
        }
        try:
            result = await client.call("trial.call", params, seconds=deadline_seconds + _MARGIN_SECONDS)
        except RpcError as error:
            self._ledger.end(trial, _ENDS.get(error.code, "refused"), code=error.code)
        except ClientError as error:
            self._ledger.end(trial, "unknown", code=error.code)
            raise
        else:
            self._ledger.end(trial, "answered", digest=base64.b64decode(result["digest"]))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


async def _main(api: Path, ledger: Path, seed: int) -> None:
    with ledger.open("ab", buffering=0) as file:
        load = Load(api, Ledger(file), seed)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, load.stop)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await load.run()


def main() -> None:
    """Load the daemon until SIGTERM; the line `ready` on standard output says that it has begun."""
    parser = argparse.ArgumentParser(prog="python -m sim.soak.load", description="Load a terminal with trials.")
    parser.add_argument("--api", type=Path, required=True, help="the Unix socket of the daemon's API")
    parser.add_argument("--ledger", type=Path, required=True, help="the file to append to")
    parser.add_argument("--seed", type=int, required=True, help="the sizes come from it")
    arguments = parser.parse_args()
    end_with_parent()
    asyncio.run(_main(arguments.api, arguments.ledger, arguments.seed))


if __name__ == "__main__":
    main()
