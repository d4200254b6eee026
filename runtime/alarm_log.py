"""The records as the line takes them: the journal's, and beside them alarms that a full disk does not take (T23, I6).

Such alarms leave from memory, in a stream of this life of the daemon, so that none of its sequences is ever used again.
"""

import asyncio
import secrets
from collections.abc import Callable

from runtime.journal import Journal
from runtime.messages import Alarm, to_payload
from transport.payload import Record
from transport.sm import sm3


class AlarmLog:
    """The journal and the stream beside it, as a `transport.payload.RecordLog`; `stream` is what that one is called."""

    def __init__(self, journal: Journal, on_receipt: Callable[[], None]) -> None:
        """Call `on_receipt` when the platform has alarms of the stream beside the journal."""
        self._journal = journal
        self._on_receipt = on_receipt
        self._waiting: dict[str, Alarm] = {}
        self._sent: dict[int, Alarm] = {}
        self._sequence = 0
        self._receipted: dict[str, tuple[str, int]] = {}
        self._receipt = asyncio.Event()
        self.stream = self._name = _new_name()

    def offer(self, alarm: Alarm) -> None:
        """Let an alarm leave from memory that the journal has just refused, which wakes the line as a record does."""
        self._waiting[alarm.id] = alarm

    def take_back(self, alarm: Alarm) -> bool:
        """Whether an alarm may be journaled with its record: it does not leave from here, or not any more.

        One that a line was given stays here until its receipt, so that it never leaves twice.
        """
        self._waiting.pop(alarm.id, None)
        return alarm not in self._sent.values()

    def place(self, alarm: Alarm) -> tuple[str, int] | None:
        """Return the stream and sequence at which the platform has an alarm that left from here, None before it has."""
        return self._receipted.get(alarm.id)

    async def delivered(self) -> None:
        """Return when the platform has every alarm and every supervision event; waits without end while it does not."""
        while self._waiting or self._sent:
            self._receipt.clear()
            await self._receipt.wait()
        await self._journal.delivered()

    async def unacknowledged(self, stream: str, after: int, limit: int) -> list[Record]:
        """Return up to `limit` records of `stream` with a sequence above `after`, in order; raise JournalError."""
        if stream != self.stream:
            return await self._journal.unacknowledged(stream, after, limit)
        for alarm in self._waiting.values():
            self._sequence += 1
            self._sent[self._sequence] = alarm
        self._waiting.clear()
        found = [Record(self._name, at, to_payload(alarm)) for at, alarm in self._sent.items() if at > after]
        return found[:limit]

    async def has(self, stream: str, sequence: int, digest: bytes) -> bool:
        """Whether the body of the record at `sequence` has this SM3; raise JournalError."""
        if stream != self.stream:
            return await self._journal.has(stream, sequence, digest)
        alarm = self._sent.get(sequence)
        return sequence <= self._sequence if alarm is None else sm3(to_payload(alarm).body) == digest

    async def acknowledge(self, stream: str, sequence: int) -> None:
        """Note that the platform has every record of `stream` up to and including `sequence`; raise JournalError."""
        if stream != self.stream:
            await self._journal.acknowledge(stream, sequence)
            return
        for at in [at for at in self._sent if at <= sequence]:
            self._receipted[self._sent.pop(at).id] = (self._name, at)
        self._receipt.set()
        self._on_receipt()

    async def renew(self, stream: str) -> None:
        """Go on with what `stream` has under a new name, numbered from 1; raise JournalError."""
        if stream != self.stream:
            await self._journal.renew(stream)
            return
        self._waiting = {alarm.id: alarm for alarm in self._sent.values()} | self._waiting
        self._sent.clear()
        self._name, self._sequence = _new_name(), 0

    async def changed(self) -> None:
        """Return when a record was appended since the last call."""
        await self._journal.changed()


def _new_name() -> str:
    return f"alarm-{secrets.token_hex(8)}"
