"""A terminal as its staff see it: `python -m sim.privacy.onlooker SOCKET` prints all that the API tells an operator.

Every notification from its start on, and once standard input ends the answers to what an operator may read.
"""

import asyncio
import datetime
import sys
from contextlib import suppress
from typing import Any

import msgspec

from runtime.client import Terminal, connect
from sim.parent import end_with_parent

_CHINA = datetime.timezone(datetime.timedelta(hours=8))
_PLAIN = (
    "terminal.status",
    "operation.list",
    "sharing.resources",
    "tickets.list",
    "alarms.list",
    "lockdown.list",
    "staff.acts",
)


async def look_on(path: str) -> None:
    """Subscribe and print; raises RpcError when the daemon refuses an answer."""
    async with connect(path) as terminal:
        _print("events.subscribe", await terminal.call("events.subscribe"))
        heard: list[str] = []
        hearing = asyncio.create_task(_hear(terminal, heard), name="onlooker's ears")
        await asyncio.to_thread(sys.stdin.read)
        now = datetime.datetime.now(_CHINA)
        for method in _PLAIN:
            _print(method, await terminal.call(method))
        _print("payments.day", await terminal.call("payments.day", {"day": now.strftime("%Y-%m-%d")}))
        _print("sharing.statement", await terminal.call("sharing.statement", {"month": now.strftime("%Y-%m")}))
        hearing.cancel()
        with suppress(asyncio.CancelledError):
            await hearing
        if not heard:
            sys.exit("no notification came")


async def _hear(terminal: Terminal, heard: list[str]) -> None:
    async for told in terminal.notifications():
        heard.append(told.method)
        _print(told.method, told.params)


def _print(what: str, said: Any) -> None:
    sys.stdout.write(f"{what} {msgspec.json.encode(said).decode()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(look_on(sys.argv[1]))
