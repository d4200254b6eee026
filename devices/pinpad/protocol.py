"""SZZT frames of an encrypting PIN pad and the keys between them, without I/O: both halves (T6, protocols 6.1).

    02 | LLL | BODY | 03 | LRC LRC

LLL is three decimal digits, the length of BODY. LRC is the XOR of everything after 02 up to and including 03, as two
hexadecimal digits. A request's BODY is a command; a reply's BODY is a return code and data. Between frames each byte
is a key. No event holds such a byte: a key is one of a fixed set that has no digit, and every digit is the same
`ClearDigit`, whichever it was.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import reduce
from operator import xor

from devices.driver import Damage

STX, ETX = 0x02, 0x03
LONGEST_REQUEST = 999
LONGEST_REPLY = 400
"""More than any reply to a command of `devices.pinpad.commands`."""

_AROUND = 7
"""Bytes of a frame that are not its body."""
_HEAD = 4


class PinKey(Enum):
    """What a pad tells while a PIN is entered: that a digit was pressed, but never which."""

    STAR = "star"
    CLEAR = "clear"
    ENTER = "enter"
    CANCEL = "cancel"
    TIMEOUT = "timeout"


class FunctionKey(Enum):
    """The keys beside the screen."""

    F1 = "F1"
    F2 = "F2"
    F3 = "F3"
    F4 = "F4"
    F5 = "F5"
    F6 = "F6"
    F7 = "F7"
    F8 = "F8"


@dataclass(frozen=True, slots=True)
class ClearDigit:
    """A digit came over the wire in clear: the pad cannot be trusted. It has no field, so it cannot say which."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's body; it may hold an encrypted PIN block and is never printed."""

    body: bytearray = field(repr=False)

    @property
    def code(self) -> int:
        """A reply's return code."""
        return self.body[0]

    @property
    def data(self) -> bytearray:
        """A reply's data: a copy, to be wiped where it matters."""
        return self.body[1:]

    def wipe(self) -> None:
        """Overwrite the body."""
        self.body[:] = bytes(len(self.body))


Event = Frame | PinKey | FunctionKey | ClearDigit
Keys = Mapping[int, PinKey | FunctionKey]

PIN_KEYS: Keys = {
    0x2A: PinKey.STAR,
    0x08: PinKey.CLEAR,
    0x0D: PinKey.ENTER,
    0x1B: PinKey.CANCEL,
    0x80: PinKey.TIMEOUT,
}
"""The keys of a PIN entry. Function keys are not among them: eight keys could carry a digit."""

FUNCTION_KEYS: Keys = {
    0x1B: PinKey.CANCEL,
    0x80: PinKey.TIMEOUT,
    **{0x41 + number: key for number, key in enumerate(FunctionKey)},
}
"""The keys of an entry that waits for a function key; digits are masked then too, and the stars are dropped."""

CLEAR_DIGITS = frozenset((*range(0x30, 0x3A), 0x22))
"""0 to 9, and the key 00."""


def encode(body: bytes) -> bytes:
    """Return the frame around a body of 1 to 999 bytes; raise ValueError for any other."""
    if not 1 <= len(body) <= LONGEST_REQUEST:
        raise ValueError(f"a body has 1 to {LONGEST_REQUEST} bytes, not {len(body)}")
    checked = b"%03d%b\x03" % (len(body), body)
    return b"\x02%b%02X" % (checked, reduce(xor, checked))


class FrameDecoder:
    """Cuts a wire's bytes into frames and keys, whatever the chunks, and finds its way again after damage.

    Keys are heard only between `arm` and `close`, and only after the next whole frame, which is the pad's word that
    the entry has begun: what a damaged reply leaves behind is then no key. It keeps less than one frame between
    calls and overwrites what it drops.
    """

    def __init__(self, *, longest: int = LONGEST_REPLY) -> None:
        """Accept bodies of up to `longest` bytes."""
        self._longest = longest
        self._buffer = bytearray()
        self._armed: Keys | None = None
        self._keys: Keys | None = None

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer)

    def arm(self, keys: Keys) -> None:
        """Hear `keys` from the next whole frame on."""
        self._armed, self._keys = keys, None

    def close(self) -> None:
        """Hear no keys."""
        self._armed = self._keys = None

    def reset(self) -> None:
        """Forget a frame that was begun."""
        self._drop(len(self._buffer))

    def feed(self, data: bytes) -> list[Event | Damage]:
        """Take any bytes; return what they complete, in order."""
        self._buffer += data
        return list(self._events())

    def _events(self) -> Iterator[Event | Damage]:
        while self._buffer:
            start = self._buffer.find(STX)
            if start:
                raw = start if start > 0 else len(self._buffer)
                if self._keys is not None:
                    yield from _keys_of(memoryview(self._buffer)[:raw].toreadonly(), self._keys)
                self._drop(raw)
                continue
            found = self._cut()
            if found is None:
                return
            yield found

    def _cut(self) -> Frame | Damage | None:
        """Cut what begins with STX: a frame or damage; None when the rest is not there yet."""
        length = self._buffer[1:_HEAD]
        digits = len(length) - len(length.lstrip(b"0123456789"))
        if digits < len(length):
            self._drop(1 + digits)
            return Damage("the length is no number")
        if len(length) < _HEAD - 1:
            return None
        size = int(length)
        if not 1 <= size <= self._longest:
            self._drop(_HEAD)
            return Damage("the length is out of bounds")
        end = size + _AROUND
        if len(self._buffer) < end:
            return None
        if not self._is_whole(end):
            self._drop(_HEAD)
            return Damage("the end or the LRC is wrong")
        frame = Frame(self._buffer[_HEAD : end - 3])
        self._drop(end)
        if self._armed is not None:
            self._keys, self._armed = self._armed, None
        return frame

    def _is_whole(self, end: int) -> bool:
        if self._buffer[end - 3] != ETX:
            return False
        with memoryview(self._buffer) as view:
            lrc = reduce(xor, view[1 : end - 2])
        return self._buffer[end - 2 : end] == b"%02X" % lrc

    def _drop(self, count: int) -> None:
        self._buffer[:count] = bytes(count)
        del self._buffer[:count]


def _keys_of(raw: memoryview, keys: Keys) -> list[PinKey | FunctionKey | ClearDigit]:
    """Return the events of raw bytes; one that is neither a key nor a digit is noise."""
    with raw:
        return [keys[byte] if byte in keys else ClearDigit() for byte in raw if byte in keys or byte in CLEAR_DIGITS]
