"""Megatec (Q1, QS) without I/O: both halves of the conversation (protocols 4.1, 4.2).

ASCII lines that end with CR, no checksum. The only protection is the shape: a status has 46 characters in columns.
"""

import math
import re
from dataclasses import dataclass
from enum import IntFlag

from devices.driver import Damage

LONGEST = 128
"""What is kept of a line: more than any has, so that noise before a good one does no harm."""
RETURN_MINUTES = 3
"""Between the cut and the return at the earliest: the board must see the cut even when the mains is back already."""
SHORTEST_DELAY_SECONDS = 12
LONGEST_DELAY_SECONDS = 600


class Bits(IntFlag):
    """The status bits b7 to b0."""

    UTILITY_FAIL = 0x80
    BATTERY_LOW = 0x40
    BYPASS = 0x20
    """Bypass, or the voltage regulator at work."""
    FAILED = 0x10
    LINE_INTERACTIVE = 0x08
    TESTING = 0x04
    SHUTTING_DOWN = 0x02
    BEEPER = 0x01


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to Q1 and QS; a figure that the UPS does not measure ("--.-") is None.

    `battery_volts` are of one cell when `per_cell`, as on-line models say them.
    """

    input_volts: float | None
    fault_volts: float | None
    output_volts: float | None
    load_percent: int | None
    hertz: float | None
    battery_volts: float | None
    per_cell: bool
    temperature: float | None
    bits: Bits


@dataclass(frozen=True, slots=True)
class Ratings:
    """The answer to F."""

    volts: float
    amperes: int
    battery_volts: float
    hertz: float


@dataclass(frozen=True, slots=True)
class Identity:
    """The answer to I."""

    company: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Line:
    """Any other line: the echo of an unknown command, ACK, NAK."""

    text: str


Frame = Status | Ratings | Identity | Line

_STATUS = re.compile(
    rb"\((\d{3}\.\d|---\.-) (\d{3}\.\d|---\.-) (\d{3}\.\d|---\.-) (\d{3}|---) (\d\d\.\d|--\.-)"
    rb" (\d\d\.\d|\d\.\d\d|--\.-) (\d\d\.\d|-\d\.\d|--\.-) ([01]{8})$"
)
_IDENTITY = re.compile(rb"#([ -~]{15}) ([ -~]{10}) ([ -~]{9,10})$")
_END = re.compile(rb"\r|#(\d{3}\.\d) (\d{3}) (\d{3}\.\d) (\d\d\.\d)")
"""What ends a line. An answer to F ends itself: some units send it without CR (NUT issue 608)."""
_TEXT = re.compile(rb"[ -~]+$")


def encode_command(text: str) -> bytes:
    """Return a command as the terminal sends it."""
    return text.encode("ascii") + b"\r"


def shutdown_command(delay_seconds: float) -> str:
    """Return the command that cuts the output not before `delay_seconds` and gives it again later with the mains.

    Raises ValueError above LONGEST_DELAY_SECONDS; a delay under SHORTEST_DELAY_SECONDS becomes that.
    """
    if not 0 <= delay_seconds <= LONGEST_DELAY_SECONDS:
        raise ValueError(f"a delay of {delay_seconds} s is not between 0 and {LONGEST_DELAY_SECONDS} s")
    tenths = max(2, math.ceil(delay_seconds / 6))
    delay = f".{tenths}" if tenths <= 9 else f"{math.ceil(delay_seconds / 60):02d}"
    return f"S{delay}R{RETURN_MINUTES:04d}"


def encode_status(status: Status) -> bytes:
    """Return the answer to Q1, as the rig's UPS says it."""
    volts = (status.input_volts, status.fault_volts, status.output_volts)
    battery = "--.-" if status.battery_volts is None else f"{status.battery_volts:04.{1 + status.per_cell}f}"
    columns = [
        *("---.-" if each is None else f"{each:05.1f}" for each in volts),
        "---" if status.load_percent is None else f"{status.load_percent:03d}",
        "--.-" if status.hertz is None else f"{status.hertz:04.1f}",
        battery,
        "--.-" if status.temperature is None else f"{status.temperature:04.1f}",
        f"{int(status.bits):08b}",
    ]
    return f"({' '.join(columns)}\r".encode("ascii")


def encode_ratings(ratings: Ratings) -> bytes:
    """Return the answer to F, as the rig's UPS says it."""
    volts, battery = f"{ratings.volts:05.1f}", f"{ratings.battery_volts:05.1f}"
    return f"#{volts} {ratings.amperes:03d} {battery} {ratings.hertz:04.1f}\r".encode("ascii")


def encode_identity(identity: Identity) -> bytes:
    """Return the answer to I, as the rig's UPS says it."""
    return f"#{identity.company:15.15} {identity.model:10.10} {identity.version:10.10}\r".encode("ascii")


class LineDecoder:
    """Cuts the bytes of a wire into answers, whatever the chunks; keeps at most LONGEST bytes between calls."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their line."""
        return len(self._buffer)

    def reset(self) -> None:
        """Forget a line that was begun."""
        self._buffer = b""

    def feed(self, data: bytes) -> list[Frame | Damage]:
        """Take any bytes; return the answers that are complete, and where a line is none."""
        buffer = self._buffer + data
        found: list[Frame | Damage] = []
        start = 0
        for end in _END.finditer(buffer):
            if end[1] is not None:
                found.append(Ratings(float(end[1]), int(end[2]), float(end[3]), float(end[4])))
            elif line := buffer[max(start, end.start() - LONGEST) : end.start()]:
                found.append(_decode_line(line))
            start = end.end()
        self._buffer = buffer[start:][-LONGEST:]
        return found


class CommandDecoder:
    """Cuts what the terminal says into commands, for the rig; keeps at most LONGEST bytes."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[str]:
        """Take any bytes; return the commands that are complete."""
        *lines, rest = (self._buffer + data).split(b"\r")
        self._buffer = rest[-LONGEST:]
        return [line[-LONGEST:].decode("ascii", "replace") for line in lines]


def _decode_line(line: bytes) -> Frame | Damage:
    """Decode a line from its end, so that noise or half an answer before a good one is nothing."""
    if status := _STATUS.search(line):
        first, fault, output, load, hertz, battery, temperature, bits = status.groups()
        return Status(
            _figure(first),
            _figure(fault),
            _figure(output),
            None if load == b"---" else int(load),
            _figure(hertz),
            _figure(battery),
            battery[1:2] == b".",
            _figure(temperature),
            Bits(int(bits, 2)),
        )
    if identity := _IDENTITY.search(line):
        return Identity(*(part.decode("ascii").strip() for part in identity.groups()))
    if line[:1] not in {b"(", b"#"} and _TEXT.match(line):
        return Line(line.decode("ascii"))
    return Damage("line")


def _figure(text: bytes) -> float | None:
    """Return a figure; None for the dashes of one that is not measured."""
    return None if text.endswith(b"-") else float(text)
