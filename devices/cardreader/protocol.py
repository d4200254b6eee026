"""The wire of the CRT-310 card reader, without I/O: both halves of the conversation (protocols 5.1).

    STX 02 | LEN (2) | CM PM [data] | ETX 03 | BCC

LEN is big-endian and counts CM, PM and data; BCC is the XOR of everything from STX to ETX. The host sends a frame,
the reader acknowledges it (ACK, or NAK to have it again), the host says ENQ, the reader executes and replies with
CM and PM echoed, or with CM `N`, the CM it refuses, and why. EOT from the host cancels; the reader answers EOT.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import reduce
from operator import xor

from devices.driver import Damage

STX, ETX = 0x02, 0x03
LONGEST = 266
"""The longest LEN: CM, PM and 264 bytes of data."""
_HEAD = 3
_TAIL = 2

NEGATIVE = 0x4E
"""CM of a negative reply: its PM is the CM that was refused, its data begins with the reason."""

RESENDS = 3
"""How often a frame is sent again that the reader did not take (NAK); the document names no number."""


class Signal(IntEnum):
    """What both sides say outside frames."""

    EOT = 0x04
    ENQ = 0x05
    ACK = 0x06
    NAK = 0x15


_SIGNALS = frozenset(Signal)


class Outcome(IntEnum):
    """The operation status P that begins the data of most positive replies."""

    OK = 0x59
    OK_T1 = 0x5A
    FAILED = 0x4E
    NO_CARD = 0x45
    WRONG_POSITION = 0x57


class Reason(IntEnum):
    """Why a command was refused (E of a negative reply)."""

    BAD_COMMAND = 0x00
    BAD_PARAMETER = 0x01
    NOT_NOW = 0x02
    BAD_DATA = 0x04
    SUPPLY_VOLTAGE = 0x05
    ABNORMAL_CARD = 0x06
    POWER_LOST = 0x07


ENTRY_PROHIBITED = 0x4E
"""S2 (front) and S3 (rear) of a status reply when no card gets in there."""


class Position(IntEnum):
    """Where the card is (S1 of a status reply)."""

    TOO_LONG = 0x46
    TOO_SHORT = 0x47
    GATE_LOOSE = 0x48
    GATE_HELD = 0x49
    INSIDE = 0x4A
    CONTACT = 0x4B
    REAR_HELD = 0x4C
    CAPTURED = 0x4D
    NONE = 0x4E


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of either side. Its data may be personal and is never printed."""

    cm: int
    pm: int
    data: bytearray = field(repr=False, default_factory=bytearray)

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
        """Whether this is the reply: CM and PM echoed, or this CM refused."""
        return isinstance(heard, Frame) and (
            (heard.cm, heard.pm) == (self.cm, self.pm) or (heard.cm, heard.pm) == (NEGATIVE, self.cm)
        )


RESET = Request(0x30, 0x30)
SERIAL_NUMBER = Request(0x30, 0x3A)
STATUS = Request(0x31, 0x30)
STOP_INSIDE = Request(0x2E, 0x32)
ALLOW_ENTRY = Request(0x2F, 0x33, b"\x31")
"""Front entry by the switch, for any card; rear entry prohibited (the defaults after a reset allow it)."""
PROHIBIT_ENTRY = Request(0x2F, 0x31, b"\x31")
EJECT = Request(0x32, 0x30)
CAPTURE = Request(0x32, 0x33, repeats=False)
"""Not repeated: "no card" to a second one would not tell whether the first moved it or a hand took it."""
TO_CONTACT = Request(0x32, 0x2F)
POWER_ON = Request(0x33, 0x30)
POWER_OFF = Request(0x33, 0x31)
COLD_RESET = Request(0x37, 0x30)
WARM_RESET = Request(0x37, 0x2F)
READ_TRACKS = Request(0x45, 0x30, b"\x30\x37")
"""All three tracks, in ASCII."""
SEEK_CONTACTLESS = Request(0x35, 0x30)


def apdu(command: bytes, *, t1: bool) -> Request:
    """Return the request that carries a command APDU; never repeated, since a card counts what it is asked."""
    return Request(0x37, 0x32 if t1 else 0x31, len(command).to_bytes(2, "big") + command, repeats=False)


def encode_frame(cm: int, pm: int, data: bytes | bytearray = b"") -> bytes:
    """Return the frame around CM, PM and at most 264 bytes of data; raise ValueError when they are more."""
    length = 2 + len(data)
    if length > LONGEST:
        raise ValueError(f"{len(data)} bytes do not fit a frame")
    checked = bytes([STX, *length.to_bytes(2, "big"), cm, pm]) + data + bytes([ETX])
    return checked + bytes([reduce(xor, checked)])


def encode(request: Request) -> bytes:
    """Return a request's frame."""
    return encode_frame(request.cm, request.pm, request.data)


def encode_refusal(cm: int, reason: Reason) -> bytes:
    """Return the negative reply that the rig's reader says."""
    return encode_frame(NEGATIVE, cm, bytes([reason]))


def counted(data: bytearray) -> bytearray | None:
    """Return the bytes behind P and a two-byte length (an ATR, a response APDU); None when the length is wrong."""
    return data[3:] if len(data) >= 3 and int.from_bytes(data[1:3], "big") == len(data) - 3 else None


class FrameDecoder:
    """Cuts the bytes of the wire into frames and signals, whatever the chunks, and finds its way after damage.

    It keeps less than one frame between calls and overwrites what it drops. Bytes that belong to nothing are dropped.
    """

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
            if first == STX:
                if (item := self._frame()) is None:
                    break
                found.append(item)
                continue
            if first in _SIGNALS:
                found.append(Signal(first))
            self._drop(1)
        return found

    def _frame(self) -> Frame | Damage | None:
        """Take the frame that the buffer begins with; None when it is not all there."""
        if len(self._buffer) < _HEAD:
            return None
        length = int.from_bytes(self._buffer[1:_HEAD], "big")
        end = _HEAD + length + _TAIL
        if not 2 <= length <= LONGEST:
            self._drop(1)
            return Damage("length")
        if len(self._buffer) < end:
            return None
        if self._buffer[end - _TAIL] != ETX or reduce(xor, memoryview(self._buffer)[:end]):
            self._drop(1)
            return Damage("checksum")
        frame = Frame(self._buffer[3], self._buffer[4], self._buffer[5 : end - _TAIL])
        self._drop(end)
        return frame

    def _drop(self, count: int) -> None:
        self._buffer[:count] = bytes(count)
        del self._buffer[:count]


class Handshake:
    """The host's way through one command: frame, ACK, ENQ, reply.

    `to_send` is what to say now. A reply is taken whenever it comes: some readers execute without waiting for ENQ
    (protocols 11). It keeps no time: silence is the caller's business.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.to_send = encode(request)
        self.taken = False
        """Whether the reader acknowledged the frame."""
        self.reply: Frame | None = None
        self.given_up = False
        """Whether the reader refused the frame (NAK) once too often."""
        self._resends = RESENDS

    def hear(self, heard: Frame | Signal) -> bool:
        """Take what the reader said; tell whether it went a step on: `to_send`, `reply` or `given_up` is new."""
        if self.reply is not None:
            return False
        if self.request.answered_by(heard):
            self.reply = heard if isinstance(heard, Frame) else None
            return True
        if heard is Signal.ACK and not self.taken:
            self.taken = True
            self.to_send = bytes([Signal.ENQ])
            return True
        if heard is Signal.NAK and not self.taken:
            self._resends -= 1
            self.given_up = self._resends < 0
            return True
        return False


TRACK_FAULTS = {
    0xE0: "not requested",
    0xE1: "no start sentinel",
    0xE2: "no end sentinel",
    0xE3: "parity",
    0xE4: "checksum",
    0xE5: "blank",
}
_TRACK = 0x1F
_TRACKS_OF = {0x31: (1,), 0x32: (2,), 0x33: (3,), 0x34: (1, 2), 0x35: (2, 3), 0x36: (1, 3), 0x37: (1, 2, 3)}
"""The track selector is no bit mask."""


def split_tracks(data: bytearray) -> tuple[dict[int, bytearray], dict[int, str]]:
    """Return the tracks in the data of a READ_TRACKS reply, by number, and what is wrong with the others.

    Raises ValueError when the records do not fit the tracks that were asked for.
    """
    numbers = _TRACKS_OF.get(data[1], ()) if len(data) >= 2 else ()
    rest = data[2:]
    before, *records = rest.split(bytes([_TRACK]))
    read: dict[int, bytearray] = {}
    faults: dict[int, str] = {}
    try:
        if before or len(records) not in {len(numbers), 3} or not numbers:
            raise ValueError(f"{len(records)} records for {len(numbers)} tracks")
        for number, record in zip(numbers if len(records) == len(numbers) else (1, 2, 3), records, strict=True):
            if record[:1] == b"Y":
                read[number] = record[1:]
            else:
                faults[number] = TRACK_FAULTS.get(record[1], "unreadable") if len(record) > 1 else "unreadable"
    finally:
        for part in (rest, before, *records):
            part[:] = bytes(len(part))
    return read, faults


def join_tracks(selector: int, records: Sequence[bytes | int]) -> bytes:
    """Return the data of a READ_TRACKS reply: for each track its characters, or the code of its fault (the rig's)."""
    parts = [b"\x1fY" + record if isinstance(record, bytes) else bytes([_TRACK, 0x4E, record]) for record in records]
    return bytes([0x30, selector]) + b"".join(parts)
