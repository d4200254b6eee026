"""Calls and answers that are too large for one message, in parts (docs/wire-format.md). Pure: no clock, no I/O.

A part is small, so that an alarm never waits for a scanned page; a receipt says from where to go on.
"""

from transport.errors import TransportError
from transport.sm import sm3
from transport.wire import Part, PartReceipt

PART_BYTES = 65_536
"""The longest message that travels whole, and the length of each part but the last."""
MAX_WHOLE_BYTES = 32 * 1024 * 1024
WINDOW = 2
"""Parts on their way at once."""


class Outgoing:
    """A whole that is sent in parts."""

    def __init__(self, key: bytes, whole: bytes) -> None:
        """Cut `whole`; raise TransportError (`call.unfit`) over MAX_WHOLE_BYTES."""
        if len(whole) > MAX_WHOLE_BYTES:
            raise TransportError(
                "call.unfit",
                f"{len(whole)} bytes, limit {MAX_WHOLE_BYTES}",
                advice="send fewer or smaller pages",
                retry=False,
            )
        self._key = key
        self._whole = whole
        self._digest = sm3(whole)
        self._count = -(-len(whole) // PART_BYTES)
        self._received = 0
        self._sent = 0

    @property
    def received_bytes(self) -> int:
        """How much of the whole the other end has."""
        return min(self._received * PART_BYTES, len(self._whole))

    @property
    def is_received(self) -> bool:
        """Whether the other end has the whole."""
        return self._received == self._count

    def due(self) -> list[Part]:
        """Return the parts to send now, in order; each is returned once until `again`."""
        until = min(self._received + WINDOW, self._count)
        parts = [self._part(index) for index in range(self._sent, until)]
        self._sent = max(self._sent, until)
        return parts

    def receive(self, receipt: PartReceipt) -> bool:
        """Note a receipt and say whether it is of this whole; fewer parts than before means: again from there.

        It may be of more than was sent here: a sender that began anew goes on where its receiver is.
        """
        if receipt.digest != self._digest or receipt.next_index > self._count:
            return False
        if receipt.next_index < self._received or receipt.next_index > self._sent:
            self._sent = receipt.next_index
        self._received = receipt.next_index
        return True

    def again(self) -> None:
        """Send again what was not received, or the last part when all was: it asks for the answer once more."""
        self._sent = min(self._received, self._count - 1)

    def _part(self, index: int) -> Part:
        body = self._whole[index * PART_BYTES : (index + 1) * PART_BYTES]
        return Part(self._key, index, self._count, self._digest, body)


class Incoming:
    """A whole that arrives in parts, in order; held in one buffer that `wipe` clears."""

    def __init__(self, first: Part) -> None:
        """Begin with any part; raise TransportError (`part.malformed`) for a whole over MAX_WHOLE_BYTES."""
        if first.count * PART_BYTES > MAX_WHOLE_BYTES + PART_BYTES:
            raise _malformed(f"{first.count} parts")
        self.digest = first.digest
        self._key = first.key
        self._count = first.count
        self._next = 0
        self._buffer = bytearray()

    @property
    def receipt(self) -> PartReceipt:
        """What the other end is to be told after each part."""
        return PartReceipt(self._key, self.digest, self._next)

    def add(self, part: Part) -> bytes | None:
        """Take a part and return the whole after the last one, and again when that one is repeated.

        Any other out of turn changes nothing.
        Raises TransportError (`part.malformed`) for a part of another whole, of a wrong length, or when the digest of
        the whole is wrong: then it starts anew.
        """
        if (part.digest, part.count) != (self.digest, self._count) or part.index >= self._count:
            raise _malformed("not of this whole")
        if part.index == self._count - 1 and self._next == self._count:
            return bytes(self._buffer)
        if part.index != self._next:
            return None
        is_last = part.index == self._count - 1
        if not part.body or len(part.body) > PART_BYTES or (len(part.body) < PART_BYTES and not is_last):
            raise _malformed(f"a part of {len(part.body)} bytes")
        self._buffer += part.body
        self._next += 1
        if not is_last:
            return None
        whole = bytes(self._buffer)
        if sm3(whole) != self.digest:
            self.wipe()
            self._next = 0
            raise _malformed("the digest of the whole is wrong")
        return whole

    def wipe(self) -> None:
        """Clear what has arrived."""
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer.clear()


def _malformed(message: str) -> TransportError:
    return TransportError("part.malformed", message, advice="bring both ends to one wire format", retry=False)
