"""How a wire is cut into pieces that may be kept.

Each kind's codec cuts both directions. What a codec does not understand, or does not know to be harmless, is replaced
by synthetic values of the same length and encoded anew, checksum included; bytes of no frame become zeros.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from devices.driver import Damage


class Piece(NamedTuple):
    """A frame, a signal or noise as it may be kept. Its first `head` bytes tell what it is and hold no field."""

    data: bytes
    head: int

    def __str__(self) -> str:
        shown = self.data[: self.head].hex(" ").upper()
        rest = len(self.data) - self.head
        return f"{shown}{' + ' if shown and rest else ''}{f'{rest} bytes' if rest else ''}"


Cut = Callable[[bytes], list[Piece]]
"""Takes bytes in any chunks and returns the pieces they complete."""


class Mask(Protocol):
    """One kind's codec for a recording."""

    @property
    def to_device(self) -> Cut:
        """Cuts what the terminal says."""

    @property
    def to_host(self) -> Cut:
        """Cuts what the device says."""


def zeros(raw: bytes) -> bytes:
    """Return as many zeros."""
    return bytes(len(raw))


class FrameCutter:
    """Cuts one direction with a kind's own decoder, byte by byte, so that each byte is a frame's or noise.

    `encode` returns the piece to keep for a decoded frame, of the same length. A frame that is begun is not kept yet.
    """

    def __init__(
        self, decoder: Any, encode: Callable[[Any], Piece], *, noise: Callable[[bytes], bytes] = zeros
    ) -> None:
        self._decoder = decoder
        self._encode = encode
        self._noise = noise
        self._raw = bytearray()

    def __call__(self, data: bytes) -> list[Piece]:
        """Take bytes in any chunks and return the pieces they complete."""
        return [piece for byte in data for piece in self._take(byte)]

    def _take(self, byte: int) -> Iterator[Piece]:
        self._raw.append(byte)
        found = self._decoder.feed(bytes([byte]))
        pieces = [self._encode(frame) for frame in found if not isinstance(frame, Damage)]
        done = len(self._raw) - self._decoder.pending
        lost = done - sum(len(piece.data) for piece in pieces)
        if lost > 0:
            yield Piece(self._noise(bytes(self._raw[:lost])), 0)
        yield from pieces
        self._raw[:done] = bytes(done)
        del self._raw[:done]
