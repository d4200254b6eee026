"""ZFM/R30x packets of the fingerprint sensor, without I/O: both halves of the conversation (protocols 2.1 to 2.4).

    EF 01 | address (4) | PID | LEN (2) | payload | SUM (2)

All big-endian. LEN counts payload and SUM; SUM adds PID, LEN and payload, and does not see the address.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from devices.driver import Damage
from devices.personal import wipe

START = bytes.fromhex("EF 01")
DEFAULT_ADDRESS = 0xFFFFFFFF
LONGEST_PAYLOAD = 256
_HEAD = 9
_SUM = 2
PACKET_OVERHEAD = _HEAD + _SUM

PARAMETERS_BYTES = PACKET_OVERHEAD + 17

IMAGE_WIDTH = 256
IMAGE_HEIGHT = 288
IMAGE_BYTES = IMAGE_WIDTH * IMAGE_HEIGHT // 2
LONGEST_RECORD = 2048
"""More than the template of any module of the family, the bound of what is taken for one."""


class Pid(IntEnum):
    """What a packet is."""

    COMMAND = 0x01
    DATA = 0x02
    ACK = 0x07
    LAST = 0x08


_PIDS = frozenset(Pid)


class Command(IntEnum):
    """What the driver asks (protocols 2.2). Nothing that enrols or searches: the terminal keeps nobody's finger."""

    GENERATE_IMAGE = 0x01
    IMAGE_TO_CHARACTERS = 0x02
    MATCH = 0x03
    UPLOAD_CHARACTERS = 0x08
    DOWNLOAD_CHARACTERS = 0x09
    UPLOAD_IMAGE = 0x0A
    SET_PARAMETER = 0x0E
    READ_PARAMETERS = 0x0F
    VERIFY_PASSWORD = 0x13
    HANDSHAKE = 0x40
    CHECK_SENSOR = 0x53


class Code(IntEnum):
    """Confirmation codes (protocols 2.3). READY is the success of CHECK_SENSOR on R30x clones."""

    OK = 0x00
    PACKET_ERROR = 0x01
    NO_FINGER = 0x02
    NOT_IMAGED = 0x03
    MESSY = 0x06
    FEW_FEATURES = 0x07
    NO_MATCH = 0x08
    UPLOAD_FAILED = 0x0D
    CANNOT_RECEIVE = 0x0E
    IMAGE_UPLOAD_FAILED = 0x0F
    WRONG_PASSWORD = 0x13
    NO_IMAGE = 0x15
    FLASH_ERROR = 0x18
    BAD_REGISTER = 0x1A
    WRONG_ADDRESS = 0x20
    NOT_VERIFIED = 0x21
    READY = 0x55


SECURITY_LEVEL = 5
"""The parameter of SET_PARAMETER that holds the security level, 1 to 5."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet; its payload may be somebody's finger and is never printed. A decoded one has at least one byte."""

    pid: int
    payload: bytearray = field(repr=False)
    address: int = DEFAULT_ADDRESS

    @property
    def code(self) -> int:
        """The confirmation code of an acknowledgement, the command of a command."""
        return self.payload[0]

    def wipe(self) -> None:
        """Overwrite the payload."""
        wipe(self.payload)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What READ_PARAMETERS answers."""

    status: int
    system: int
    capacity: int
    security_level: int
    address: int
    packet_bytes: int
    baud: int


def encode_packet(pid: int, payload: bytes | bytearray, address: int = DEFAULT_ADDRESS) -> bytes:
    """Return the packet around a payload of 1 to LONGEST_PAYLOAD bytes."""
    checked = bytes([pid]) + (len(payload) + _SUM).to_bytes(2, "big") + payload
    return START + address.to_bytes(4, "big") + checked + (sum(checked) & 0xFFFF).to_bytes(_SUM, "big")


def encode_command(command: Command, parameters: bytes = b"", address: int = DEFAULT_ADDRESS) -> bytes:
    """Return the request packet of a command."""
    return encode_packet(Pid.COMMAND, bytes([command]) + parameters, address)


def encode_ack(code: Code, data: bytes = b"", address: int = DEFAULT_ADDRESS) -> bytes:
    """Return an acknowledgement, as the rig's sensor says it."""
    return encode_packet(Pid.ACK, bytes([code]) + data, address)


def encode_data(data: bytes | bytearray | memoryview, packet_bytes: int, address: int = DEFAULT_ADDRESS) -> bytes:
    """Return the data packets that carry `data`: PID 02, and 08 for the last."""
    packets = bytearray()
    for start in range(0, len(data), packet_bytes):
        pid = Pid.DATA if start + packet_bytes < len(data) else Pid.LAST
        packets += encode_packet(pid, bytes(data[start : start + packet_bytes]), address)
    return bytes(packets)


def encode_parameters(parameters: Parameters) -> bytes:
    """Return the 16 bytes that READ_PARAMETERS answers, as the rig's sensor says them."""
    head = (parameters.status, parameters.system, parameters.capacity, parameters.security_level)
    size_code = (parameters.packet_bytes // 32).bit_length() - 1
    return (
        b"".join(word.to_bytes(2, "big") for word in head)
        + parameters.address.to_bytes(4, "big")
        + size_code.to_bytes(2, "big")
        + (parameters.baud // 9600).to_bytes(2, "big")
    )


def decode_parameters(packet: Packet) -> Parameters:
    """Return the parameters in an answer that `is_parameters` holds to be one."""
    words = [int.from_bytes(packet.payload[start : start + 2], "big") for start in range(1, 17, 2)]
    status, system, capacity, level, high, low, size_code, baud = words
    return Parameters(status, system, capacity, level, high << 16 | low, 32 << size_code, baud * 9600)


def is_parameters(packet: Packet) -> bool:
    """Whether this is the good answer to READ_PARAMETERS; no other answer has its shape."""
    return (
        packet.pid == Pid.ACK
        and len(packet.payload) == 17
        and packet.code == Code.OK
        and int.from_bytes(packet.payload[13:15], "big") <= 3
    )


def is_plain(packet: Packet) -> bool:
    """Whether this is a code and nothing more, the answer to most commands."""
    return packet.pid == Pid.ACK and len(packet.payload) == 1


def is_score(packet: Packet) -> bool:
    """Whether this can answer MATCH: a code and a score, or the code of a failure alone."""
    return packet.pid == Pid.ACK and (len(packet.payload) == 3 or (is_plain(packet) and packet.code != Code.OK))


class Upload:
    """Gathers what the module sends after UPLOAD_CHARACTERS or UPLOAD_IMAGE: a code, then data packets."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit
        self._begun = False

    def take(self, packet: Packet) -> bool:
        """Take a packet; tell whether it is the end: the last data packet, a refusal, or one packet too many."""
        if packet.pid == Pid.ACK:
            self._begun = self._begun or is_plain(packet)
            return is_plain(packet) and packet.code != Code.OK
        if not self._begun or packet.pid == Pid.COMMAND:
            return False
        self.data += packet.payload
        return packet.pid == Pid.LAST or len(self.data) > self._limit

    def wipe(self) -> None:
        """Overwrite what was gathered."""
        wipe(self.data)


class PacketDecoder:
    """Cuts the bytes of a wire into packets, whatever the chunks, and finds its way again after damage.

    It keeps less than one packet between calls and overwrites what it drops.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their packet."""
        return len(self._buffer)

    def reset(self) -> None:
        """Forget a packet that was begun."""
        self._drop(len(self._buffer))

    def feed(self, data: bytes) -> list[Packet | Damage]:
        """Take any bytes; return the packets that are complete, and where one was damaged."""
        self._buffer += data
        found: list[Packet | Damage] = []
        while self._align():
            length = int.from_bytes(self._buffer[7:_HEAD], "big")
            end = _HEAD + length
            if self._buffer[6] not in _PIDS or not _SUM < length <= _SUM + LONGEST_PAYLOAD:
                found.append(Damage("head"))
                self._drop(1)
            elif len(self._buffer) < end:
                break
            elif sum(memoryview(self._buffer)[6 : end - _SUM]) & 0xFFFF != int.from_bytes(
                self._buffer[end - _SUM : end], "big"
            ):
                found.append(Damage("checksum"))
                self._drop(1)
            else:
                address = int.from_bytes(self._buffer[2:6], "big")
                found.append(Packet(self._buffer[6], self._buffer[_HEAD : end - _SUM], address))
                self._drop(end)
        return found

    def _align(self) -> bool:
        """Drop what comes before the next start; tell whether a whole packet head is there."""
        start = self._buffer.find(START)
        if start < 0:
            start = len(self._buffer) - self._buffer.endswith(START[:1])
        self._drop(start)
        return len(self._buffer) >= _HEAD

    def _drop(self, count: int) -> None:
        self._buffer[:count] = bytes(count)
        del self._buffer[:count]
