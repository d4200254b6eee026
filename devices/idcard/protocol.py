"""SDT/SAM-V frames of the ID-card reader, without I/O: both halves of the conversation (protocols 1.2 to 1.5).

    request  AA AA AA 96 69 | LEN (2) | CMD PARA [DATA]    | CHK
    reply    AA AA AA 96 69 | LEN (2) | SW1 SW2 SW3 [DATA] | CHK

LEN is big-endian and counts what follows it, CHK included; CHK makes the XOR of everything after the preamble 0.
"""

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from functools import reduce
from operator import xor

PREAMBLE = bytes.fromhex("AA AA AA 96 69")
LONGEST = 0x0B00
SHORTEST_REQUEST = 2
SHORTEST_REPLY = 4
_HEAD = len(PREAMBLE) + 2

TEXT_BYTES = 256
PHOTO_BYTES = 1024


class Command(IntEnum):
    """What the driver asks: CMD and PARA as one number (protocols 1.3)."""

    RESET = 0x10FF
    STATUS = 0x11FF
    SAM_ID = 0x12FF
    FIND = 0x2001
    SELECT = 0x2002
    READ = 0x3001


class Status(IntEnum):
    """SW3 of a reply (protocols 1.4). FOUND is the success of FIND, OK that of every other command."""

    OK = 0x90
    FOUND = 0x9F
    BAD_CHECKSUM = 0x10
    BAD_LENGTH = 0x11
    BAD_COMMAND = 0x21
    NO_PRIVILEGE = 0x23
    UNKNOWN_ERROR = 0x24
    CERTIFICATE_FAILED = 0x31
    CARD_NOT_GENUINE = 0x32
    SAM_NOT_ACCEPTED = 0x33
    WRONG_CARD_TYPE = 0x40
    READ_FAILED = 0x41
    RANDOM_FAILED = 0x47
    SELF_TEST_FAILED = 0x60
    SAM_NOT_AUTHORISED = 0x66
    NO_CARD = 0x80
    SELECT_FAILED = 0x81
    NO_CONTENT = 0x91


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its SW3 and its data, which may be personal and is never printed."""

    status: int
    data: bytearray = field(repr=False, default_factory=bytearray)

    def wipe(self) -> None:
        """Overwrite and drop the data."""
        self.data[:] = bytes(len(self.data))
        self.data.clear()


class Damage(Enum):
    """Why the decoder refused what looked like a frame."""

    LENGTH = "length"
    CHECKSUM = "checksum"


def encode_frame(body: bytes | bytearray) -> bytes:
    """Return the frame around a body (CMD PARA DATA, or SW1 SW2 SW3 DATA) of at most LONGEST - 1 bytes."""
    checked = (len(body) + 1).to_bytes(2, "big") + body
    return PREAMBLE + checked + bytes([reduce(xor, checked)])


def encode_request(command: Command) -> bytes:
    """Return the request frame of a command (protocols 1.3)."""
    return encode_frame(command.to_bytes(2, "big"))


def encode_reply(status: Status, data: bytes = b"") -> bytes:
    """Return the reply frame that the rig's reader says (protocols 1.4)."""
    return encode_frame(bytes([0, 0, status]) + data)


def decode_reply(body: bytearray) -> Reply:
    """Return the reply in a body of at least 3 bytes, wiping the body. SW1 and SW2 have no known meaning."""
    reply = Reply(body[2], body[3:])
    body[:] = bytes(len(body))
    return reply


def answers(command: Command, reply: Reply) -> bool:
    """Whether `reply` has the shape of an answer to `command`.

    The protocol numbers nothing, so this is how a late answer to an earlier command is told from the right one.
    """
    match reply.status:
        case Status.FOUND | Status.NO_CARD:
            return command is Command.FIND
        case Status.SELECT_FAILED:
            return command is Command.SELECT
        case Status.READ_FAILED:
            return command is Command.READ
        case Status.OK:
            size = len(reply.data)
            return {
                Command.RESET: size == 0,
                Command.STATUS: size == 0,
                Command.SAM_ID: size == 16,
                Command.FIND: False,
                Command.SELECT: size <= 8,
                Command.READ: size > 16,
            }[command]
        case _:
            return True


def join_card(text: bytes, photo: bytes) -> bytes:
    """Return the data of a READ reply: two big-endian sizes, then the blocks (protocols 1.5)."""
    return len(text).to_bytes(2, "big") + len(photo).to_bytes(2, "big") + text + photo


def split_card(data: bytearray) -> tuple[bytearray, bytearray]:
    """Return the text and the photo block of a READ reply's data; raise ValueError when the sizes do not add up."""
    text_size, photo_size = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
    if (text_size, photo_size) != (TEXT_BYTES, PHOTO_BYTES) or len(data) != 4 + text_size + photo_size:
        raise ValueError(f"text {text_size}, photo {photo_size}, {len(data)} bytes in all")
    return data[4 : 4 + text_size], data[4 + text_size :]


def format_sam_id(data: bytearray) -> str:
    """Return the number of the security module as it is printed on it, from 16 bytes (protocols 1.4)."""
    area, kind = int.from_bytes(data[0:2], "little"), int.from_bytes(data[2:4], "little")
    date, serial, check = (int.from_bytes(data[start : start + 4], "little") for start in (4, 8, 12))
    return f"{area:02d}.{kind:02d}-{date:08d}-{serial:010d}-{check:010d}"


class FrameDecoder:
    """Cuts the bytes of a wire into frame bodies, whatever the chunks, and finds its way again after damage.

    It keeps less than one frame between calls (at most LONGEST + 6 bytes) and overwrites what it drops.
    """

    def __init__(self, *, shortest: int) -> None:
        """Accept LEN from `shortest` (SHORTEST_REQUEST or SHORTEST_REPLY) to LONGEST."""
        self._shortest = shortest
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer)

    def reset(self) -> None:
        """Forget a frame that was begun."""
        self._drop(len(self._buffer))

    def feed(self, data: bytes) -> list[bytearray | Damage]:
        """Take any bytes; return the bodies (without LEN and CHK) that are complete, and where one was damaged."""
        self._buffer += data
        found: list[bytearray | Damage] = []
        while self._align():
            length = int.from_bytes(self._buffer[len(PREAMBLE) : _HEAD], "big")
            end = _HEAD + length
            if not self._shortest <= length <= LONGEST:
                found.append(Damage.LENGTH)
                self._drop(1)
            elif len(self._buffer) < end:
                break
            elif reduce(xor, memoryview(self._buffer)[len(PREAMBLE) : end]):
                found.append(Damage.CHECKSUM)
                self._drop(1)
            else:
                found.append(self._buffer[_HEAD : end - 1])
                self._drop(end)
        return found

    def _align(self) -> bool:
        """Drop what comes before the next preamble; tell whether a whole frame head is there."""
        start = self._buffer.find(PREAMBLE)
        if start < 0:
            begun = next(size for size in range(len(PREAMBLE) - 1, -1, -1) if self._buffer.endswith(PREAMBLE[:size]))
            start = len(self._buffer) - begun
        self._drop(start)
        return len(self._buffer) >= _HEAD

    def _drop(self, count: int) -> None:
        self._buffer[:count] = bytes(count)
        del self._buffer[:count]
