"""The rig's fingerprint sensor: the other half of the ZFM/R30x conversation (protocols 2), and synthetic fingers."""

import math
import random
from dataclasses import replace
from typing import NamedTuple

from devices.driver import Damage
from devices.fingerprint.protocol import (
    DEFAULT_ADDRESS,
    IMAGE_BYTES,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    SECURITY_LEVEL,
    Code,
    Command,
    Packet,
    PacketDecoder,
    Parameters,
    Pid,
    encode_ack,
    encode_data,
    encode_parameters,
)
from sim.wire import Verbs

READY_BYTE = b"\x55"
"""What R503 parts say when they have power (protocols 2.1)."""

_MINUTIAE = 40
_LOST_SHARE = 0.1
_THRESHOLDS = {1: 20, 2: 30, 3: 40, 4: 50, 5: 60}
"""The score a match needs at each security level; the rig's own."""


class Minutia(NamedTuple):
    """Where a ridge ends or forks; `row` counts in pairs of pixels, `angle` 256 to the circle."""

    column: int
    row: int
    angle: int


def press(finger: str, count: int, share: float) -> list[Minutia]:
    """Return the minutiae of the `count`-th press of a finger of which `share` is on the plate: each press differs."""
    grown, noise = random.Random(f"finger {finger}"), random.Random(f"press {finger} {count}")
    found = []
    for _ in range(_MINUTIAE):
        real = Minutia(grown.randrange(30, 226), grown.randrange(15, 129), grown.randrange(256))
        moved = Minutia(*(value + noise.randint(-2, 2) for value in real))
        if noise.random() < share * (1 - _LOST_SHARE):
            found.append(moved._replace(angle=moved.angle % 256))
    return found


def encode_record(minutiae: list[Minutia], size: int) -> bytes:
    """Return the rig's template: the number of minutiae, then three bytes each, zeros to `size`."""
    return (bytes([len(minutiae)]) + b"".join(map(bytes, minutiae))).ljust(size, b"\0")


def score(first: bytes, second: bytes) -> int:
    """Compare two templates of the rig, or any bytes: 0 for nothing alike to 200 for the same."""
    one, other = (
        [Minutia(*record[start : start + 3]) for start in range(1, len(record) - 2, 3)][: record[0] if record else 0]
        for record in (first, second)
    )
    larger, left = max(len(one), len(other), 1), list(other)
    for minutia in one:
        near = next((each for each in left if _near(minutia, each)), None)
        if near is not None:
            left.remove(near)
    return 200 * (len(other) - len(left)) // larger


def _near(one: Minutia, other: Minutia) -> bool:
    turn = abs(one.angle - other.angle)
    return abs(one.column - other.column) <= 5 and abs(one.row - other.row) <= 5 and min(turn, 256 - turn) <= 8


def picture(finger: str | None) -> bytes:
    """Return a picture of 4 bits a pixel: ridges round a core of the finger's own, white where it does not touch."""
    if finger is None:
        return b"\xff" * IMAGE_BYTES
    grown = random.Random(f"ridges {finger}")
    core_x, core_y = grown.uniform(100, 156), grown.uniform(110, 180)
    pitch, twist, squeeze = grown.uniform(7.5, 10), grown.choice((-2, -1, 1, 2)), grown.uniform(0.6, 1.0)

    def shade(x: int, y: int) -> int:
        if ((x - IMAGE_WIDTH / 2) / 115) ** 2 + ((y - IMAGE_HEIGHT / 2) / 135) ** 2 > 1:
            return 15
        across, down = x - core_x, (y - core_y) * squeeze
        phase = math.tau * math.hypot(across, down) / pitch + twist * math.atan2(down, across)
        return round(7.5 + 6.5 * math.sin(phase))

    rows = range(IMAGE_HEIGHT)
    return bytes(shade(x, y) << 4 | shade(x + 1, y) for y in rows for x in range(0, IMAGE_WIDTH, 2))


class VirtualFingerprintSensor:
    """A module and the finger on it. It answers only what it is asked, once its password was verified."""

    def __init__(
        self,
        *,
        address: int = DEFAULT_ADDRESS,
        packet_bytes: int = 128,
        record_bytes: int = 512,
        handshake: Command = Command.HANDSHAKE,
    ) -> None:
        self.parameters = Parameters(0, 9, 1000, 3, address, packet_bytes, 57600)
        self.buffers: dict[int, bytes] = {}
        self._record_bytes = record_bytes
        self._handshake = handshake
        self._decoder = PacketDecoder()
        self._password = bytes(4)
        self._verified = self._silent = False
        self._finger: str | None = None
        self._pictured: str | None = None
        self._share, self._presses = 1.0, 0
        self._plate = Code.OK
        self._receiving: int | None = None
        self._received = b""
        self._unsaid = b""

    @property
    def verbs(self) -> Verbs:
        """What a hand can do at the sensor."""
        return {
            "place_finger": self.place_finger,
            "lift_finger": self.lift_finger,
            "dirty": self.dirty,
            "dry": self.dry,
            "wipe": self.wipe,
            "silent": self.silent,
            "wrong_password": self.wrong_password,
            "power_cycle": self.power_cycle,
        }

    def place_finger(self, finger: str, *, share: float = 1.0) -> None:
        """Lay down the finger of that name, `share` of it on the plate; the same name is the same finger."""
        self._finger, self._share = finger, share
        self._presses += 1

    def lift_finger(self) -> None:
        """Lift the finger; without one it is nothing."""
        self._finger = None

    def dirty(self) -> None:
        """Let pictures be too messy (06) until `wipe`."""
        self._plate = Code.MESSY

    def dry(self) -> None:
        """Let pictures have too few features (07) until `wipe`."""
        self._plate = Code.FEW_FEATURES

    def wipe(self) -> None:
        """Wipe plate and finger: pictures are good again."""
        self._plate = Code.OK

    def silent(self, *, silent: bool = True) -> None:
        """Let the module hear and say nothing, or end that."""
        self._silent = silent

    def wrong_password(self, *, wrong: bool = True) -> None:
        """Give the module another password than the one it came with, or that one again."""
        self._password, self._verified = bytes((0, 0, 0, wrong)), False

    def power_cycle(self) -> None:
        """Take the power for a moment: the module forgets, and says that it is ready."""
        self._verified, self._receiving, self._pictured = False, None, None
        self.buffers.clear()
        self._decoder.reset()
        self._unsaid = READY_BYTE

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return the replies."""
        replies = b"".join(map(self._reply, self._decoder.feed(data)))
        said, self._unsaid = self._unsaid + replies, b""
        return b"" if self._silent else said

    def _reply(self, found: Packet | Damage) -> bytes:
        if isinstance(found, Damage):
            return self._ack(Code.PACKET_ERROR)
        if found.address != self.parameters.address or found.pid == Pid.ACK:
            return b""
        if found.pid != Pid.COMMAND:
            self._receive(found)
            return b""
        self._receiving = None
        asked, argument = found.code, bytes(found.payload[1:])
        if asked == Command.VERIFY_PASSWORD:
            self._verified = argument == self._password
            return self._ack(Code.OK if self._verified else Code.WRONG_PASSWORD)
        if not self._verified:
            return self._ack(Code.NOT_VERIFIED)
        return self._obey(asked, argument)

    def _obey(self, asked: int, argument: bytes) -> bytes:
        code, data, following = Code.OK, b"", b""
        match asked, *argument:
            case (Command.GENERATE_IMAGE,):
                self._pictured = self._finger
                code = Code.NO_FINGER if self._finger is None else Code.OK
            case Command.IMAGE_TO_CHARACTERS, (1 | 2) as buffer:
                code = self._extract(buffer)
            case (Command.MATCH,):
                code, data = self._match()
            case Command.UPLOAD_CHARACTERS, (1 | 2) as buffer if buffer not in self.buffers:
                code = Code.UPLOAD_FAILED
            case Command.UPLOAD_CHARACTERS, (1 | 2) as buffer:
                following = self.buffers[buffer]
            case Command.DOWNLOAD_CHARACTERS, (1 | 2) as buffer:
                self._receiving, self._received = buffer, b""
            case (Command.UPLOAD_IMAGE,):
                following = picture(self._pictured)
            case Command.SET_PARAMETER, parameter, level if parameter == SECURITY_LEVEL and 1 <= level <= 5:
                self.parameters = replace(self.parameters, security_level=level)
            case Command.SET_PARAMETER, *_:
                code = Code.BAD_REGISTER
            case (Command.READ_PARAMETERS,):
                data = encode_parameters(self.parameters)
            case (self._handshake,):
                code = Code.OK if asked == Command.HANDSHAKE else Code.READY
            case _:
                code = Code.PACKET_ERROR
        return self._ack(code, data) + encode_data(following, self.parameters.packet_bytes, self.parameters.address)

    def _extract(self, buffer: int) -> Code:
        if self._pictured is None:
            return Code.NO_IMAGE
        if self._plate is Code.OK:
            minutiae = press(self._pictured, self._presses, self._share)
            self.buffers[buffer] = encode_record(minutiae, self._record_bytes)
        return self._plate

    def _match(self) -> tuple[Code, bytes]:
        found = score(self.buffers.get(1, b""), self.buffers.get(2, b""))
        if found < _THRESHOLDS[self.parameters.security_level]:
            return Code.NO_MATCH, b""
        return Code.OK, found.to_bytes(2, "big")

    def _receive(self, packet: Packet) -> None:
        if self._receiving is not None:
            self._received = (self._received + packet.payload)[: self._record_bytes]
            if packet.pid == Pid.LAST:
                self.buffers[self._receiving] = self._received.ljust(self._record_bytes, b"\0")
                self._receiving = None

    def _ack(self, code: Code, data: bytes = b"") -> bytes:
        return encode_ack(code, data, self.parameters.address)
