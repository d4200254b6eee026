"""The platform's end of one terminal's sealed line: its keys, and calls and answers in parts."""

from dataclasses import dataclass, field
from typing import TypeVar

from transport.errors import TransportError
from transport.line_keys import OVERLAP_SECONDS
from transport.parts import PART_BYTES, Incoming, Outgoing
from transport.ring import Ends, KeyRing
from transport.uplink import Message
from transport.wire import Answer, Part, PartReceipt, encode, topic

T = TypeVar("T")

MOST_TRANSFERS = 16
"""Calls and answers in parts that a terminal may have under way; the oldest is forgotten for another."""


@dataclass(slots=True, eq=False, repr=False)
class TerminalLine:
    """One terminal's line; it outlives the terminal's connections, its keys do not."""

    terminal: str
    ring: KeyRing = field(default_factory=KeyRing)
    commands_sent_at: float = float("-inf")
    _revoked: Ends | None = None
    _incoming: dict[bytes, Incoming] = field(default_factory=dict)
    _outgoing: dict[bytes, Outgoing] = field(default_factory=dict)

    @property
    def is_revoked(self) -> bool:
        """Whether the keys in force were revoked."""
        return self._revoked is not None and self._revoked is self.ring.in_force

    def revoke(self) -> None:
        """Trust no key any more; those in force stay for the word that the revocation was taken."""
        self._revoked = self.ring.in_force
        self.ring.retire()
        self.ring.withdraw()

    def open(self, stream: str, body: bytes, now: float) -> bytes:
        """Return what the terminal sealed; raise TransportError as the ring does, also for keys that have ended."""
        self.ring.expire(now)
        before_until = now if self.is_revoked else now + OVERLAP_SECONDS
        return self.ring.open(stream, body, before_until=before_until)

    def seal(self, stream: str, plaintext: bytes) -> Message:
        """Return a sealed message for the terminal."""
        return Message(topic(self.terminal, "down", stream), self.ring.seal(stream, plaintext))

    def answer(self, answer: Answer) -> list[Message]:
        """Return the answer, or its first parts when it is large; asked again, the parts that did not arrive."""
        whole = encode(answer)
        if len(whole) <= PART_BYTES:
            return [self.seal("answer", whole)]
        outgoing = self._outgoing.get(answer.key)
        if outgoing is None or outgoing.is_received:
            outgoing = _room(self._outgoing)[answer.key] = Outgoing(answer.key, whole)
        else:
            outgoing.again()
        return self._due(outgoing)

    def take_receipt(self, receipt: PartReceipt) -> list[Message]:
        """Return the next parts of an answer."""
        outgoing = self._outgoing.get(receipt.key)
        return self._due(outgoing) if outgoing is not None and outgoing.receive(receipt) else []

    def take_part(self, part: Part) -> tuple[bytes | None, Message]:
        """Take a part of a call; return the whole after the last, and the receipt. Raises TransportError."""
        incoming = self._incoming.get(part.key)
        if incoming is None or incoming.digest != part.digest:
            incoming = _room(self._incoming)[part.key] = Incoming(part)
        try:
            whole = incoming.add(part)
        except TransportError:
            del self._incoming[part.key]
            raise
        return whole, self.seal("part_receipt", encode(incoming.receipt))

    def _due(self, outgoing: Outgoing) -> list[Message]:
        return [self.seal("part", encode(part)) for part in outgoing.due()]


def _room(transfers: dict[bytes, T]) -> dict[bytes, T]:
    while len(transfers) >= MOST_TRANSFERS:
        del transfers[next(iter(transfers))]
    return transfers
