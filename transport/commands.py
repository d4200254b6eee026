"""Commands of the platform: in order, each taken once, never one that is void (docs/wire-format.md).

The high-water mark is the handler's to keep, in the same transaction as what the command does.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

from transport import wire
from transport.errors import TransportError
from transport.gate import Urgency
from transport.line import Line
from transport.payload import Payload

MOST_WAITING = 64
"""Commands that wait to be taken; the platform sends what is over this again."""


LineOrder = Literal["rotate_keys", "revoke_keys"]


class CommandHandler(Protocol):
    """Who takes commands; `runtime.commands` does."""

    def high_water(self) -> dict[str, int]:
        """Return the sequence of the last command taken of each stream."""

    async def take(self, stream: str, sequence: int, command: Payload, *, expired: bool) -> LineOrder | None:
        """Do what the command says unless it has expired, and note its sequence, in one durable step.

        Called once for each sequence, in order; returns what the line is to do. Whatever is wrong with the command is
        the handler's to report.
        """


class Commands:
    """The terminal's end of the command streams."""

    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler
        self._waiting: asyncio.Queue[wire.Command] = asyncio.Queue(MOST_WAITING)

    def offer(self, command: wire.Command) -> None:
        """Queue a command that came; it is forgotten when too many wait, since it will come again."""
        if not self._waiting.full():
            self._waiting.put_nowait(command)

    async def say_taken(self, line: Line) -> None:
        """Tell the platform which commands were taken, and with it that the keys arrived."""
        streams = self._handler.high_water()
        await line.send("taken", wire.encode(wire.Taken(streams)), Urgency.KEYS, wants_answer=False)

    async def take(self, line: Line, platform_time: Callable[[], float]) -> None:
        """Take commands as they come, until cancelled; one that is not the next is only answered with the mark."""
        while True:
            command = await self._waiting.get()
            mark = self._handler.high_water().get(command.stream, 0)
            if command.sequence == mark + 1:
                payload = Payload(command.schema, command.version, personal=False, body=command.body)
                expired = platform_time() > command.expires_unix
                order = await self._handler.take(command.stream, command.sequence, payload, expired=expired)
                if order == "revoke_keys":
                    line.end(_revoked())
                elif order == "rotate_keys":
                    line.renew.set()
            await self.say_taken(line)


def _revoked() -> TransportError:
    return TransportError(
        "key.revoked",
        "the platform revoked the keys",
        advice="none: new keys are asked for; if they are refused, call the platform's operator",
        retry=True,
    )
