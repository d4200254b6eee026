"""Delivers one stream of journaled records in order until the platform's receipt (T12, I6)."""

import asyncio
from collections.abc import Awaitable, Callable

from transport import wire
from transport.payload import Record, RecordLog

WINDOW = 256
"""Records ahead of the receipt."""
BATCH_RECORDS = 64
BATCH_BYTES = 49_152
"""A message carries at least one record and no more than this of several."""
RESEND_SECONDS = 5.0


class Outbox:
    """One stream on one connection: at most WINDOW records ahead of the receipt, sent again until it comes."""

    def __init__(self, records: RecordLog, stream: str) -> None:
        self._records = records
        self._stream = stream
        self._receipt: wire.Receipt | None = None
        self._wake = asyncio.Event()
        self.name: str | None = None
        """What the platform knows the stream by, once something was sent."""

    def wake(self) -> None:
        """Look at the log again: a record was appended."""
        self._wake.set()

    def receive(self, receipt: wire.Receipt) -> None:
        """Note a receipt: the platform has every record up to and including its sequence."""
        if self._receipt is None or receipt.sequence > self._receipt.sequence:
            self._receipt = receipt
            self._wake.set()

    async def deliver(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Send records until cancelled or `send` raises.

        A receipt counts only when the log has the record that it names. One that it does not have shows that the log
        went back, or that the platform is wrong: what was not receipted is then told under another name, after a pause,
        so that a platform that is always wrong costs little. Nothing follows the first message before its receipt: the
        first record that a log from an older image differs in is always the first that comes.
        """
        loop = asyncio.get_running_loop()
        sent = confirmed = 0
        is_sure = False
        ahead: list[int] = []  # sequences sent and not receipted; they have gaps where records were shed
        resend_at = loop.time()
        while True:
            self._wake.clear()
            receipt = self._receipt
            if receipt is not None and receipt.sequence > confirmed:
                if not await self._records.has(self._stream, receipt.sequence, receipt.digest):
                    await self._records.renew(self._stream)
                    self.name = self._receipt = None
                    sent = confirmed = 0
                    ahead.clear()
                    await asyncio.sleep(RESEND_SECONDS)
                    continue
                await self._records.acknowledge(self._stream, receipt.sequence)
                confirmed, is_sure = receipt.sequence, True
                sent = max(sent, confirmed)
                ahead = [sequence for sequence in ahead if sequence > confirmed]
                resend_at = loop.time() + RESEND_SECONDS
            room = min(WINDOW - len(ahead), BATCH_RECORDS) if is_sure or not ahead else 0
            records = await self._records.unacknowledged(self._stream, sent, room) if room > 0 else []
            if records:
                if not ahead:
                    resend_at = loop.time() + RESEND_SECONDS
                batch = _batch(records)
                self.name = batch[0].stream
                await send(wire.encode(wire.Records(self.name, tuple(_message(record) for record in batch))))
                sent = batch[-1].sequence
                ahead += [record.sequence for record in batch]
                continue
            try:
                async with asyncio.timeout_at(resend_at if ahead else None):
                    await self._wake.wait()
            except TimeoutError:
                sent = confirmed
                ahead.clear()


def _batch(records: list[Record]) -> list[Record]:
    room = BATCH_BYTES
    for index, record in enumerate(records):
        room -= len(record.payload.body)
        if room < 0 and index:
            return records[:index]
    return records


def _message(record: Record) -> wire.RecordMessage:
    content = record.payload
    return wire.RecordMessage(record.sequence, content.schema, content.version, content.body)
