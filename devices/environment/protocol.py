"""Modbus RTU without I/O: both halves of the conversation, as far as a sensor needs it (T14).

    request  unit | function | address (2) | count (2)     | CRC (2)
    answer   unit | function | bytes (1)   | data (bytes)  | CRC (2)
    refusal  unit | function + 80h | exception code (1)    | CRC (2)

After the MODBUS Application Protocol Specification V1.1b3 and MODBUS over Serial Line V1.02: words are big-endian,
the CRC is little-endian. The function code gives the length, so the silence between frames (t3.5) is not needed.
"""

from dataclasses import dataclass
from enum import IntEnum

from devices.driver import Damage

MOST_REGISTERS = 125
"""In one request (function 04)."""
_MOST_BYTES = 2 * MOST_REGISTERS
_REQUEST_BYTES = 8
_HEAD = 3
_CRC = 2
_REFUSED = 0x80


class Function(IntEnum):
    """What the driver asks. Nothing that writes."""

    READ_DISCRETE_INPUTS = 0x02
    READ_INPUT_REGISTERS = 0x04


_FUNCTIONS = frozenset(Function)


class ExceptionCode(IntEnum):
    """Why a unit refuses (7 of the application protocol)."""

    ILLEGAL_FUNCTION = 0x01
    ILLEGAL_ADDRESS = 0x02
    ILLEGAL_VALUE = 0x03
    DEVICE_FAILURE = 0x04
    ACKNOWLEDGE = 0x05
    BUSY = 0x06


@dataclass(frozen=True, slots=True)
class Request:
    """A question to a unit."""

    unit: int
    function: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a unit answers: registers, or inputs, eight a byte, the first in the lowest bit."""

    unit: int
    function: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A unit refuses a function."""

    unit: int
    function: int
    code: int


def _table() -> tuple[int, ...]:
    table = []
    for entry in range(256):
        value = entry
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _table()


def crc16(data: bytes | bytearray | memoryview) -> int:
    """Return CRC-16/MODBUS (serial line specification 6.2.2: start FFFF, polynomial A001)."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value


def encode_request(request: Request) -> bytes:
    """Return a request as the terminal sends it."""
    words = request.address.to_bytes(2, "big") + request.count.to_bytes(2, "big")
    return _sealed(bytes([request.unit, request.function]) + words)


def encode_answer(answer: Answer | Refusal) -> bytes:
    """Return an answer or a refusal, as the rig's unit says it."""
    if isinstance(answer, Refusal):
        return _sealed(bytes([answer.unit, answer.function | _REFUSED, answer.code]))
    return _sealed(bytes([answer.unit, answer.function, len(answer.data)]) + answer.data)


class AnswerDecoder:
    """Cuts the bytes of a wire into what one unit answers, whatever the chunks; keeps less than one frame."""

    def __init__(self, unit: int) -> None:
        self._unit = unit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer)

    def reset(self) -> None:
        """Forget a frame that was begun."""
        self._buffer.clear()

    def feed(self, data: bytes) -> list[Answer | Refusal | Damage]:
        """Take any bytes; return the answers that are complete, and where one was damaged."""
        buffer = self._buffer
        buffer += data
        found: list[Answer | Refusal | Damage] = []
        start = 0
        while (start := buffer.find(self._unit, start)) >= 0 and len(buffer) - start >= _HEAD:
            size = _answer_bytes(buffer[start + 1], buffer[start + 2])
            if size is None:
                start += 1
            elif len(buffer) - start < size:
                break
            elif crc16(frame := buffer[start : start + size]):
                found.append(Damage("crc"))
                start += 1
            else:
                found.append(_decode_answer(bytes(frame)))
                start += size
        del buffer[: len(buffer) if start < 0 else start]
        return found


class RequestDecoder:
    """Cuts what the terminal says into requests, for the rig; all have eight bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Request]:
        """Take any bytes; return the requests that are complete. A unit is silent about a damaged one."""
        buffer = self._buffer
        buffer += data
        found: list[Request] = []
        while len(buffer) >= _REQUEST_BYTES:
            frame = buffer[:_REQUEST_BYTES]
            good = not crc16(frame)
            if good:
                address, count = (int.from_bytes(frame[at : at + 2], "big") for at in (2, 4))
                found.append(Request(frame[0], frame[1], address, count))
            del buffer[: _REQUEST_BYTES if good else 1]
        return found


def _answer_bytes(function: int, count: int) -> int | None:
    """Return the size of the answer that begins like this; None when none does."""
    if function in _FUNCTIONS:
        return _HEAD + count + _CRC if 0 < count <= _MOST_BYTES else None
    return _HEAD + _CRC if function & ~_REFUSED in _FUNCTIONS else None


def _decode_answer(frame: bytes) -> Answer | Refusal:
    if frame[1] & _REFUSED:
        return Refusal(frame[0], frame[1] & ~_REFUSED, frame[2])
    return Answer(frame[0], frame[1], frame[_HEAD:-_CRC])


def _sealed(body: bytes) -> bytes:
    return body + crc16(body).to_bytes(_CRC, "little")
