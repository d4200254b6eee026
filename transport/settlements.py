"""What becomes of calls whose answer did not come in time: the platform acted, or it never will (rule 2)."""

import asyncio
import contextlib
import secrets
from collections import Counter
from typing import Literal

import structlog

from transport.calls import Calls
from transport.errors import TransportError
from transport.payload import Payload

log = structlog.get_logger(__name__)

MOST_OWED = 1_000
AGAIN_SECONDS = 30.0

Settlement = Literal["acted", "void"]


class Settlements:
    """Settles calls by their keys; an answer that comes late is shown to nobody."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._owed: dict[bytes, None] = {}
        self._changed = asyncio.Event()
        self.outcomes: Counter[Settlement] = Counter()

    def owe(self, key: bytes) -> None:
        """Settle the call under `key` as soon as the line allows."""
        if len(self._owed) < MOST_OWED:
            self._owed[key] = None
            self._changed.set()

    async def settle(self, key: bytes, deadline_seconds: float) -> Settlement:
        """Return whether the platform acted on the call under `key`; raise TransportError as `Channel.settle`."""
        request = Payload("call.settle", 1, personal=False, body=key)
        answer = await self._calls.ask(request, secrets.token_bytes(16), deadline_seconds)
        if answer.schema != "call.settled" or answer.body not in (b"acted", b"void"):
            raise TransportError(
                "message.malformed", "no settlement", advice="bring the platform to this wire format", retry=False
            )
        return "acted" if answer.body == b"acted" else "void"

    async def run(self, answer_seconds: float) -> None:
        """Settle what is owed while the line lasts, until cancelled."""
        while True:
            self._changed.clear()
            for key in list(self._owed):
                try:
                    outcome = await self.settle(key, answer_seconds)
                except TransportError as error:
                    log.info("call_not_settled_yet", code=error.code)
                    continue
                del self._owed[key]
                self.outcomes[outcome] += 1
                log.info("call_settled", outcome=outcome)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS if self._owed else None):
                    await self._changed.wait()
