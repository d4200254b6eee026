"""SDT/SAM-V frames of the ID-card reader, without I/O: both halves of the conversation (protocols 1.2 to 1.5).

    request  AA AA AA 96 69 | LEN (2) | CMD PARA [DATA]    | CHK
    reply    AA AA AA 96 69 | LEN (2) | SW1 SW2 SW3 [DATA] | CHK

LEN is big-endian and counts what follows it, CHK included; CHK makes the XOR of everything after the preamble 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import reduce
from operator import xor
from typing import NamedTuple

from devices.driver import Damage
from devices.personal import wipe

PREAMBLE = bytes.fromhex("AA AA AA 96 69")
LONGEST = 0x0B00
SHORTEST_REQUEST = 2
SHORTEST_REPLY = 4
_HEAD = len(PREAMBLE) + 2

TEXT_BYTES = 256
PHOTO_BYTES = 1024
ADDRESS_BYTES = 70
MOST_ADDRESSES = 4
MANAGEMENT_BYTES = 28
SAM_ID_BYTES = 16


class Command(IntEnum):
    """What the driver asks: CMD and PARA as one number (protocols 1.3)."""

    RESET = 0x10FF
    STATUS = 0x11FF
    SAM_ID = 0x12FF
    FIND = 0x2001
    SELECT = 0x2002
    READ = 0x3001
    ADDRESS = 0x3003
    MANAGEMENT = 0x3005
    READ_FINGERS = 0x3010


_DATA_SIZES = {
    Command.RESET: range(1),
    Command.STATUS: range(1),
    Command.SAM_ID: range(SAM_ID_BYTES, SAM_ID_BYTES + 1),
    Command.FIND: range(0),
    Command.SELECT: range(9),
    Command.READ: range(MOST_ADDRESSES * ADDRESS_BYTES + 1, LONGEST),
    Command.ADDRESS: range(ADDRESS_BYTES, MOST_ADDRESSES * ADDRESS_BYTES + 1, ADDRESS_BYTES),
    Command.MANAGEMENT: range(MANAGEMENT_BYTES, MANAGEMENT_BYTES + 1),
    Command.READ_FINGERS: range(MOST_ADDRESSES * ADDRESS_BYTES + 1, LONGEST),
}
"""How many bytes of data a reply "90" to each command can have; FIND succeeds with "9F" only."""

_CARD_COMMANDS = frozenset({Command.READ, Command.ADDRESS, Command.MANAGEMENT, Command.READ_FINGERS})


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
        wipe(self.data)
        self.data.clear()


class BadLength(Damage):
    """LEN is out of its bounds."""


class BadChecksum(Damage):
    """CHK is wrong."""


class CardBlocks(NamedTuple):
    """What a card is read as. `fingers` is None when the reader was not asked for them, empty when there are none."""

    text: bytearray
    photo: bytearray
    fingers: bytearray | None

    def wipe(self) -> None:
        """Overwrite all of it."""
        for block in filter(None, self):
            wipe(block)


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
    wipe(body)
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
            return command in _CARD_COMMANDS
        case Status.NO_CONTENT:
            return command in _CARD_COMMANDS - {Command.READ}
        case Status.OK:
            return len(reply.data) in _DATA_SIZES[command]
        case _:
            return True


def join_card(text: bytes, photo: bytes, fingers: bytes | None = None) -> bytes:
    """Return the data of a READ or READ_FINGERS reply: big-endian sizes, then the blocks (protocols 1.5)."""
    blocks = (text, photo) if fingers is None else (text, photo, fingers)
    return b"".join(len(block).to_bytes(2, "big") for block in blocks) + b"".join(blocks)


def split_card(data: bytearray) -> CardBlocks:
    """Return the blocks in the data of a READ or READ_FINGERS reply; its two or three size words say where they are.

    Raises ValueError when neither two nor three sizes add up to what is there.
    """
    for words in (2, 3):
        sizes = [int.from_bytes(data[at : at + 2], "big") for at in range(0, 2 * words, 2)]
        if 2 * words + sum(sizes) == len(data):
            text, photo, *fingers = _cut(data, 2 * words, sizes)
            return CardBlocks(text, photo, fingers[0] if fingers else None)
    raise ValueError(f"the sizes do not add up to {len(data)} bytes")


def _cut(data: bytearray, start: int, sizes: Sequence[int]) -> list[bytearray]:
    parts = []
    for size in sizes:
        parts.append(data[start : start + size])
        start += size
    return parts


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
                found.append(BadLength("length"))
                self._drop(1)
            elif len(self._buffer) < end:
                break
            elif reduce(xor, memoryview(self._buffer)[len(PREAMBLE) : end]):
                found.append(BadChecksum("checksum"))
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


class ReplyDecoder:
    """Cuts what a reader says into replies."""

    def __init__(self) -> None:
        self._frames = FrameDecoder(shortest=SHORTEST_REPLY)

    def feed(self, data: bytes) -> list[Reply | Damage]:
        """Take any bytes; return the replies that are complete, and where one was damaged."""
        return [found if isinstance(found, Damage) else decode_reply(found) for found in self._frames.feed(data)]

    def reset(self) -> None:
        """Forget a reply that was begun."""
        self._frames.reset()
