"""The wire of the CRT-591, without I/O: F2 frames, both halves of the conversation.

    F2 | ADDR | LEN (2) | 'C' CM PM [data]             | 03 | BCC      what the host asks
    F2 | ADDR | LEN (2) | 'P' CM PM st0 st1 st2 [data] | 03 | BCC      done
    F2 | ADDR | LEN (2) | 'N' CM PM e1 e0              | 03 | BCC      not done

LEN is big-endian and counts what stands between it and 03; BCC is the XOR from F2 to 03. Each side acknowledges the
other's frames: ACK, or NAK to have the last one again. EOT from the host aborts; the reader answers EOT.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import reduce
from operator import xor

from devices.driver import Damage

COMMAND, POSITIVE, NEGATIVE = b"CPN"
LONGEST = 512
"""The longest LEN taken: the longest APDU and its frame are shorter."""
_START, _END = 0xF2, 0x03
_HEAD, _TAIL = 4, 2
_STATES = 3


class Signal(IntEnum):
    """What both sides say outside frames."""

    EOT = 0x04
    ACK = 0x06
    NAK = 0x15


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of either side: `kind` is COMMAND, POSITIVE or NEGATIVE. Its data may be personal: it is not printed."""

    kind: int
    cm: int
    pm: int
    data: bytearray = field(repr=False, default_factory=bytearray)

    @property
    def states(self) -> bytes:
        """The three state bytes of a positive reply."""
        return bytes(self.data[:_STATES])

    @property
    def result(self) -> bytearray:
        """What follows the state bytes of a positive reply."""
        return self.data[_STATES:]

    def wipe(self) -> None:
        """Overwrite and drop the data."""
        self.data[:] = bytes(len(self.data))
        self.data.clear()


@dataclass(frozen=True, slots=True)
class Request:
    """What the host asks. `repeats`: whether asking twice does no harm when an answer was lost."""

    cm: int
    pm: int
    data: bytes = field(repr=False, default=b"")
    repeats: bool = True

    def answered_by(self, heard: "Frame | Signal") -> bool:
        """Whether this is the reply to it."""
        return isinstance(heard, Frame) and heard.kind != COMMAND and (heard.cm, heard.pm) == (self.cm, self.pm)


INIT_NO_MOVE = Request(0x30, 0x33)
STATUS = Request(0x31, 0x30)
TO_CONTACT = Request(0x32, 0x31)
TO_BIN = Request(0x32, 0x33, repeats=False)
"""Not repeated: "no card" to a second one would not tell whether the first moved it or a hand took it."""
EJECT = Request(0x32, 0x39)
ENABLE_ENTRY = Request(0x33, 0x30)
DISABLE_ENTRY = Request(0x33, 0x31)
COLD_RESET = Request(0x51, 0x30)
CHIP_OFF = Request(0x51, 0x31)
WARM_RESET = Request(0x51, 0x38)
SERIAL_NUMBER = Request(0xA2, 0x30)


def apdu(command: bytes) -> Request:
    """Return the request that carries an APDU; the reader chooses T=0 or T=1 itself. Never repeated: a card counts."""
    return Request(0x51, 0x39, command, repeats=False)


def encode_frame(kind: int, cm: int, pm: int, data: bytes | bytearray = b"", *, address: int = 0) -> bytes:
    """Return the frame of either side."""
    body = bytes([kind, cm, pm]) + data
    checked = bytes([_START, address, *len(body).to_bytes(2, "big")]) + body + bytes([_END])
    return checked + bytes([reduce(xor, checked)])


def encode(request: Request) -> bytes:
    """Return a request's frame."""
    return encode_frame(COMMAND, request.cm, request.pm, request.data)


class FrameDecoder:
    """Cuts the bytes of the wire into frames and signals, whatever the chunks; keeps less than one frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer)

    def reset(self) -> None:
        """Forget a half frame."""
        self._drop(len(self._buffer))

    def feed(self, data: bytes) -> Sequence[Frame | Signal | Damage]:
        """Take any bytes; return the frames and signals that are complete, and where one was damaged."""
        self._buffer += data
        found: list[Frame | Signal | Damage] = []
        while self._buffer:
            first = self._buffer[0]
            if first == _START:
                if (item := self._frame()) is None:
                    break
                found.append(item)
                continue
            if first in {Signal.EOT, Signal.ACK, Signal.NAK}:
                found.append(Signal(first))
            self._drop(1)
        return found

    def _frame(self) -> Frame | Damage | None:
        """Take the frame that the buffer begins with; None when it is not all there."""
        if len(self._buffer) < _HEAD:
            return None
        length = int.from_bytes(self._buffer[2:_HEAD], "big")
        end = _HEAD + length + _TAIL
        if not 3 <= length <= LONGEST:
            self._drop(1)
            return Damage("length")
        if len(self._buffer) < end:
            return None
        if self._buffer[end - _TAIL] != _END or reduce(xor, memoryview(self._buffer)[:end]):
            self._drop(1)
            return Damage("checksum")
        kind, cm, pm = self._buffer[_HEAD : _HEAD + 3]
        frame = Frame(kind, cm, pm, self._buffer[_HEAD + 3 : end - _TAIL])
        self._drop(end)
        return frame

    def _drop(self, count: int) -> None:
        self._buffer[:count] = bytes(count)
        del self._buffer[:count]
