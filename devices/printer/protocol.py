"""ESC/POS for a receipt printer: command bytes, and the bits of what the printer says of itself (protocols 3).

Pure: no clock, no I/O. The rig builds its answers with the same `Condition` that the driver reads.
"""

import re
from dataclasses import dataclass, fields, replace
from enum import IntEnum

from devices.errors import DeviceError

INIT = b"\x1b\x40"
RECOVER_CLEAR = b"\x10\x05\x02"
AUTOMATIC_STATUS_ON = b"\x1d\x61\x0e"
"""Enables automatic status on: offline, error, paper sensor (protocols 3.3). It follows each INIT, which may end it."""
PAPER_QUERY = b"\x1d\x72\x01"
"""GS r 1. It waits in the print queue, so its answer shows that everything before it was executed (protocols 3.6)."""
REAL_TIME_QUERIES = (1, 2, 3, 4)
SERIAL_NUMBER_QUERY = b"\x1d\x49\x44"
"""GS I 68, answered by `5F`, the serial number and `00` (protocols 3.4); it waits in the print queue too."""
RETRACT = b"\x1d\x65\x02"
PRESENTER_QUERY = b"\x1d\x65\x06"
"""GS e, the presenter's commands of the Custom KPM and Reliance manuals; ESC/POS itself has none (protocols 3.6)."""

QR_MODULE_DOTS = 6
_QR_MODEL_2 = bytes.fromhex("1D286B040031413200")
_QR_SIZE = bytes.fromhex("1D286B03003143")
_QR_LEVEL_M = bytes.fromhex("1D286B0300314531")
_QR_PRINT = bytes.fromhex("1D286B0300315130")
_REAL_TIME_COMMAND = re.compile(rb"\x10(?=[\x04\x05\x14])")


class Align(IntEnum):
    """Where a line, picture or QR code stands on the paper."""

    LEFT = 0
    CENTRE = 1
    RIGHT = 2


def align(where: Align) -> bytes:
    """Encode ESC a."""
    return bytes((0x1B, 0x61, where))


def double_size(*, on: bool) -> bytes:
    """Encode double width and height for both sets of characters: GS ! and FS W."""
    return b"\x1d\x21\x11\x1c\x57\x01" if on else b"\x1d\x21\x00\x1c\x57\x00"


def text_line(text: str) -> bytes:
    """Encode one line of text in Chinese mode, with its line feed.

    Raises DeviceError `printer.unprintable_text` for a character that is neither printable ASCII nor of two
    bytes in GBK: many printers print garbage for GB18030's four-byte forms (protocols 3.1).
    """
    return b"\x1c\x26" + b"".join(_character(character) for character in text) + b"\x0a\x1c\x2e"


def _character(character: str) -> bytes:
    if " " <= character <= "~":
        return character.encode("ascii")
    try:
        encoded = character.encode("gbk")
    except UnicodeEncodeError:
        encoded = b""
    if len(encoded) != 2 or encoded != character.encode("gb18030"):
        raise unprintable_text()
    return encoded


def unprintable_text() -> DeviceError:
    """Return the error for text that this printer cannot be trusted to print."""
    return DeviceError(
        "printer.unprintable_text",
        "the text holds a character outside printable ASCII and GBK",
        advice="Send this text as a picture.",
        retry=False,
    )


def raster(width_bytes: int, rows: bytes) -> bytes:
    """Encode GS v 0: rows of `width_bytes` bytes, most significant bit left, 1 is black.

    Some firmwares act on `10 04`, `10 05` and `10 14` inside picture data (protocols 3.6), and a `10 05 02` would
    throw the rest away. There the single dot of `10` is printed two dots wide (`18`): nothing else is changed.
    """
    height = len(rows) // width_bytes
    header = b"\x1d\x76\x30\x00" + width_bytes.to_bytes(2, "little") + height.to_bytes(2, "little")
    return header + _REAL_TIME_COMMAND.sub(b"\x18", rows)


def qr_code(text: str) -> bytes:
    """Encode a QR code, model 2, level M; raise DeviceError `printer.unprintable_text` beyond printable ASCII."""
    if not all(" " <= character <= "~" for character in text):
        raise unprintable_text()
    store = b"\x1d\x28\x6b" + (len(text) + 3).to_bytes(2, "little") + b"\x31\x50\x30" + text.encode("ascii")
    return _QR_MODEL_2 + _QR_SIZE + bytes((QR_MODULE_DOTS,)) + _QR_LEVEL_M + store + _QR_PRINT


def feed_lines(lines: int) -> bytes:
    """Encode ESC d: feed 0 to 255 lines."""
    return bytes((0x1B, 0x64, lines))


def feed_dots(dots: int) -> bytes:
    """Encode ESC J: feed 0 to 255 dots."""
    return bytes((0x1B, 0x4A, dots))


def cut(feed_dots: int) -> bytes:
    """Encode GS V: feed 0 to 255 dots, then cut."""
    return bytes((0x1D, 0x56, 0x41, feed_dots))


def present(steps: int) -> bytes:
    """Encode GS e 3: present the receipt that was cut, by 1 to 255 steps of the model's own length."""
    return bytes((0x1D, 0x65, 0x03, steps))


def real_time_query(n: int) -> bytes:
    """Encode DLE EOT n, n in 1 to 4; the printer answers one byte even while offline."""
    return bytes((0x10, 0x04, n))


_REAL_TIME_BITS: dict[int, dict[str, int]] = {
    1: {"offline": 0x08},
    2: {"cover_open": 0x04, "feeding": 0x08, "paper_stop": 0x20, "error": 0x40},
    3: {"recoverable": 0x04, "cutter_error": 0x08, "unrecoverable": 0x20, "overheated": 0x40},
    4: {"near_end": 0x0C, "paper_end": 0x60},
}
_AUTOMATIC_BITS: tuple[dict[str, int], ...] = (
    {"offline": 0x08, "cover_open": 0x20, "feeding": 0x40},
    {"recoverable": 0x04, "cutter_error": 0x08, "unrecoverable": 0x20, "overheated": 0x40},
    {"near_end": 0x03, "paper_end": 0x0C},
)
_AUTOMATIC_BASE = (0x10, 0x00, 0x00)
_AUTOMATIC_LAST = b"\x0f"


def _write_bits(bits: dict[str, int], values: "Condition") -> int:
    return sum(mask for name, mask in bits.items() if getattr(values, name))


def _read_bits(bits: dict[str, int], byte: int) -> dict[str, bool]:
    return {name: bool(byte & mask) for name, mask in bits.items()}


@dataclass(frozen=True, slots=True)
class Condition:
    """What a printer said of itself; None was not told (protocols 3.2, 3.3)."""

    offline: bool | None = None
    cover_open: bool | None = None
    feeding: bool | None = None
    paper_stop: bool | None = None
    error: bool | None = None
    recoverable: bool | None = None
    cutter_error: bool | None = None
    unrecoverable: bool | None = None
    overheated: bool | None = None
    near_end: bool | None = None
    paper_end: bool | None = None

    @classmethod
    def idle(cls) -> "Condition":
        """Return the condition of a printer that answers everything and has nothing wrong."""
        return cls(**{field.name: False for field in fields(cls)})

    @property
    def fault(self) -> str | None:
        """The code of what keeps the printer from printing, the most telling first; None when nothing is known."""
        causes = (
            (self.cover_open, "printer.cover_open"),
            (self.paper_end or self.paper_stop, "printer.paper_out"),
            (self.cutter_error, "printer.cutter_jam"),
            (self.overheated, "printer.head_hot"),
            (self.unrecoverable or self.recoverable or self.error, "printer.hardware_error"),
            (self.offline, "printer.not_ready"),
        )
        return next((code for is_so, code in causes if is_so), None)

    def after_reply(self, n: int, byte: int) -> "Condition":
        """Return the condition as changed by the answer to DLE EOT n."""
        return replace(self, **_read_bits(_REAL_TIME_BITS[n], byte))

    def reply(self, n: int) -> int:
        """Return the answer of a printer in this condition to DLE EOT n."""
        return 0x12 | _write_bits(_REAL_TIME_BITS[n], self)

    @classmethod
    def from_automatic(cls, frame: bytes) -> "Condition":
        """Read an automatic status of 4 bytes; it tells everything."""
        told: dict[str, bool] = {}
        for bits, byte in zip(_AUTOMATIC_BITS, frame, strict=False):
            told |= _read_bits(bits, byte)
        return cls(**told, paper_stop=told["paper_end"], error=any(_read_bits(_AUTOMATIC_BITS[1], frame[1]).values()))

    def automatic(self) -> bytes:
        """Return the automatic status of a printer in this condition."""
        parts = zip(_AUTOMATIC_BASE, _AUTOMATIC_BITS, strict=True)
        return bytes(base | _write_bits(bits, self) for base, bits in parts) + _AUTOMATIC_LAST
