"""Delivers one stream of journaled records in order until the platform's receipt (T12, I6)."""

import asyncio
from collections.abc import Awaitable, Callable

from transport import wire
from transport.payload import RecordLog

WINDOW = 20
RESEND_SECONDS = 5.0


class Outbox:
    """One stream on one connection: at most WINDOW records ahead of the receipt, sent again until it comes."""

    def __init__(self, records: RecordLog, stream: str) -> None:
        self._records = records
        self._stream = stream
        self._received = 0
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at the log again: a record was appended."""
        self._wake.set()

    def receive(self, sequence: int) -> None:
        """Note a receipt: the platform has every record up to and including `sequence`."""
        self._received = max(self._received, sequence)
        self._wake.set()

    async def deliver(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Send records until cancelled or `send` raises.

        A receipt counts only as far as records were sent here: a platform that is wrong must not make the
        terminal skip records to come.
        """
        loop = asyncio.get_running_loop()
        sent = confirmed = 0
        resend_at = loop.time()
        while True:
            self._wake.clear()
            received = min(self._received, sent)
            if received > confirmed:
                await self._records.acknowledge(self._stream, received)
                confirmed = received
                resend_at = loop.time() + RESEND_SECONDS
            room = WINDOW - (sent - confirmed)
            records = await self._records.unacknowledged(self._stream, sent, room) if room else []
            if records and sent == confirmed:
                confirmed = records[0].sequence - 1
                resend_at = loop.time() + RESEND_SECONDS
            for record in records:
                content = record.payload
                message = wire.RecordMessage(
                    self._stream, record.sequence, content.schema, content.version, content.body
                )
                await send(wire.encode(message))
                sent = record.sequence
            try:
                async with asyncio.timeout_at(resend_at if sent > confirmed else None):
                    await self._wake.wait()
            except TimeoutError:
                sent = confirmed
