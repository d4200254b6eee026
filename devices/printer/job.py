"""What a receipt is made of, and the bytes and millimetres it takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from devices.errors import DeviceError
from devices.printer import protocol
from devices.printer.protocol import Align

BAND_ROWS = 24
"""Rows of a picture sent at a time: 1,728 bytes on 80 mm paper, 0.15 s at 115,200 bit/s."""
GOAL_MILLIMETRES_PER_SECOND = 100.0
"""What the terminal agreement asks of the printer (T4)."""
CUT_FEED_DOTS = 96
LINE_DOTS = 30
_DOUBLE_LINE_DOTS = 48
_COLUMN_DOTS = 12
_LONGEST_DOTS = 16_384
_MARGIN_SECONDS = 10.0
_SLOWEST_MILLIMETRES_PER_SECOND = 40.0
_MILLIMETRES_PER_INCH = 25.4
_QUIET_DOTS = 4 * protocol.QR_MODULE_DOTS
_QR_BYTES = (14, 26, 42, 62, 84, 106, 122, 152, 180, 213, 251)
"""Bytes that a QR code of version 1, 2, ... holds at level M (ISO/IEC 18004); version 11 still fits 58 mm paper.

A text with a small letter, as every URL has, is coded in bytes; digits and capitals alone may take a smaller code.
"""


@dataclass(frozen=True, slots=True)
class Text:
    """One line of a fixed caption; longer than the paper is wide, it wraps."""

    text: str = field(repr=False)
    align: Align = Align.LEFT
    double: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: rows of ceil(width_dots / 8) bytes, most significant bit left, 1 is black.

    The rows are read in place and never copied whole, so their owner can wipe them after the job (T20).
    """

    width_dots: int
    height_dots: int
    rows: bytes | bytearray | memoryview = field(repr=False)


@dataclass(frozen=True, slots=True)
class Qr:
    """A QR code, centred, with the quiet zone that ISO/IEC 18004 asks for: 1 to 251 printable ASCII characters."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Feed:
    """Blank lines, 0 to 255."""

    lines: int


Item = Text | Picture | Qr | Feed
Job = Sequence[Item]
"""The items of one receipt, top down; a cut ends every job."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job; never a guess (L16).

    `printed`: the printer executed it to the cut and no fault was seen. `not_printed`: no byte was sent. `unknown`:
    anything else; `code` says why. `millimetres` is the paper fed, known only when printed (else 0.0); `seconds`
    run from the first byte to the outcome.
    """

    outcome: Literal["printed", "not_printed", "unknown"]
    code: str | None = None
    millimetres: float = 0.0
    seconds: float = 0.0

    @property
    def millimetres_per_second(self) -> float | None:
        """The achieved speed (T4), None when nothing is known to be printed."""
        return self.millimetres / self.seconds if self.outcome == "printed" and self.seconds > 0 else None


def length_dots(job: Job, width_dots: int) -> int:
    """Return the paper that `job` feeds, its cut included, at the printer's default line spacing.

    Raises DeviceError: `printer.unprintable_text`, or `printer.bad_job` for what the paper cannot hold.
    """
    total = CUT_FEED_DOTS + sum(_item_dots(item, width_dots) for item in job)
    if total > _LONGEST_DOTS:
        raise _bad_job(f"a receipt of {total} dots is longer than {_LONGEST_DOTS}")
    return total


def chunks(job: Job, end: bytes = b"") -> Iterator[bytes]:
    """Yield the bytes of a job that `length_dots` accepted, in pieces that end between two commands; `end` follows."""
    yield protocol.INIT + protocol.AUTOMATIC_STATUS_ON
    for item in job:
        yield from _encode(item)
    yield protocol.cut(CUT_FEED_DOTS) + end


def longest_seconds(job: Job, millimetres: float, bytes_per_second: float | None) -> float:
    """Return how long a job may take: its bytes at the link's rate, then its paper at 40 mm/s, and 10 s."""
    seconds = _MARGIN_SECONDS + millimetres / _SLOWEST_MILLIMETRES_PER_SECOND
    return seconds + (_most_bytes(job) / bytes_per_second if bytes_per_second else 0.0)


def _most_bytes(job: Job) -> int:
    """Return about how many bytes `chunks` yields, and never fewer than the pictures take."""
    return sum(len(item.rows) * 5 // 4 + 512 if isinstance(item, Picture) else 512 for item in job)


def millimetres(dots: int, dots_per_inch: int) -> float:
    """Return the length of so many dots."""
    return dots / dots_per_inch * _MILLIMETRES_PER_INCH


def needed_bytes_per_second(width_dots: int, dots_per_inch: int) -> float:
    """Return what a full-width picture takes at GOAL_MILLIMETRES_PER_SECOND: 57,543 at 576 dots and 203 dpi (T4)."""
    return width_dots / 8 * dots_per_inch / _MILLIMETRES_PER_INCH * GOAL_MILLIMETRES_PER_SECOND


def _item_dots(item: Item, width_dots: int) -> int:
    match item:
        case Text(text, _, double):
            protocol.text_line(text)
            columns = width_dots // (_COLUMN_DOTS * (2 if double else 1))
            return _lines(text, columns) * (_DOUBLE_LINE_DOTS if double and text else LINE_DOTS)
        case Picture(width, height, rows):
            if not 1 <= width <= width_dots or height < 0 or len(rows) != (width + 7) // 8 * height:
                raise _bad_job(f"a picture of {width}x{height} dots in {len(rows)} bytes on {width_dots} dots")
            return height
        case Qr(text):
            protocol.qr_code(text)
            return _qr_modules(len(text)) * protocol.QR_MODULE_DOTS + 2 * _QUIET_DOTS
        case Feed(lines):
            if not 0 <= lines <= 255:
                raise _bad_job(f"a feed of {lines} lines")
            return lines * LINE_DOTS


def _lines(text: str, columns: int) -> int:
    lines, used = 1, 0
    for character in text:
        width = 1 if character <= "~" else 2
        if used + width > columns:
            lines, used = lines + 1, 0
        used += width
    return lines


def _qr_modules(size: int) -> int:
    version = next((number for number, held in enumerate(_QR_BYTES, 1) if size <= held), None)
    if version is None or size == 0:
        raise _bad_job(f"a QR code of {size} characters")
    return 17 + 4 * version


def _encode(item: Item) -> Iterator[bytes]:
    match item:
        case Text(text, where, double):
            line = protocol.align(where) + protocol.text_line(text)
            yield protocol.double_size(on=True) + line + protocol.double_size(on=False) if double else line
        case Picture(width, _, rows):
            yield protocol.align(Align.LEFT)
            yield from _bands(memoryview(rows), (width + 7) // 8)
        case Qr(text):
            quiet = protocol.feed_dots(_QUIET_DOTS)
            yield quiet + protocol.align(Align.CENTRE) + protocol.qr_code(text) + quiet
        case Feed(lines):
            yield protocol.feed_lines(lines)


def _bands(rows: memoryview, stride: int) -> Iterator[bytes]:
    """Cut a picture into bands; white at a band's right edge is not sent, which the serial line thanks for."""
    for start in range(0, len(rows), BAND_ROWS * stride):
        band = rows[start : start + BAND_ROWS * stride]
        lines = [bytes(band[at : at + stride]) for at in range(0, len(band), stride)]
        used = max(1, *(len(line.rstrip(b"\0")) for line in lines))
        yield protocol.raster(used, b"".join(line[:used] for line in lines))


def _bad_job(message: str) -> DeviceError:
    return DeviceError("printer.bad_job", message, advice="Mend the program that made this job.", retry=False)
