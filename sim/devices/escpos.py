"""The command interpreter of the virtual printer: bytes in, rows of dots and cuts out (protocols 3.1)."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from sim.devices.paper import Font, compose, margin, qr_code

LINE_DOTS = 30
_QR_LEVELS = {0x30: "l", 0x31: "m", 0x32: "q", 0x33: "h"}

Arguments = bytes


class Interpreter:
    """Reads ESC/POS; total on any bytes.

    What is to be printed is left in `output`, one row a time, None for a cut. Questions and settings that are not
    about paper (`1B 40`, `1D 61`, `1D 72`, `1B 76`, `1D 49`, `1D 65`) go to `on_query` with their prefix and argument.
    """

    def __init__(self, width_dots: int, font: Path | None, on_query: Callable[[bytes, int], None]) -> None:
        self.output: deque[bytes | None] = deque()
        self._width_dots = width_dots
        self._font = Font(font)
        self._on_query = on_query
        self._commands: dict[bytes, tuple[int, Callable[[Arguments], None]]] = {
            b"\x1b@": (0, lambda _: self._initialise()),
            b"\x1ba": (1, self._set_align),
            b"\x1bE": (1, self._set_bold),
            b"\x1b!": (1, self._set_mode),
            b"\x1b2": (0, lambda _: self._set_spacing(bytes((LINE_DOTS,)))),
            b"\x1b3": (1, self._set_spacing),
            b"\x1bd": (1, lambda n: self._feed(n[0] * self._spacing)),
            b"\x1bJ": (1, lambda n: self._feed(n[0])),
            b"\x1bc": (2, lambda _: None),
            b"\x1bv": (0, lambda _: self._on_query(b"\x1bv", 1)),
            b"\x1c&": (0, lambda _: self._set_chinese(on=True)),
            b"\x1c.": (0, lambda _: self._set_chinese(on=False)),
            b"\x1c!": (1, self._set_chinese_mode),
            b"\x1cW": (1, self._set_chinese_quad),
            b"\x1d!": (1, self._set_size),
            b"\x1da": (1, lambda n: self._on_query(b"\x1da", n[0])),
            b"\x1dr": (1, lambda n: self._on_query(b"\x1dr", n[0])),
            b"\x1dI": (1, lambda n: self._on_query(b"\x1dI", n[0])),
        }
        self._long_commands: dict[bytes, Callable[[bytearray], int]] = {
            b"\x1dV": self._cut,
            b"\x1dv": self._begin_raster,
            b"\x1d(": self._extended,
            b"\x1de": self._present,
        }
        self.reset()
        self.clear()

    def reset(self) -> None:
        """Set all as after power-on. Chinese mode is on, as in PRC firmware."""
        self._align, self._bold, self._size, self._spacing = 0, False, (1, 1), LINE_DOTS
        self._chinese, self._chinese_size = True, (1, 1)
        self._qr, self._qr_module, self._qr_level = b"", 3, "l"
        self._line: list[Image.Image] = []

    def clear(self) -> None:
        """Forget what is not printed yet."""
        self.output.clear()
        self._line = []
        self._raster_bytes = 0
        self._raster_rows = 0

    def step(self, buffer: bytearray) -> int:
        """Read one command, row of a picture or character; return its length, 0 when it is not complete."""
        if self._raster_rows:
            return self._take_row(buffer)
        if not buffer:
            return 0
        if buffer[0] in (0x1B, 0x1C, 0x1D):
            return self._command(buffer)
        return self._character(buffer) if buffer[0] >= 0x20 else self._control(buffer)

    def _take_row(self, buffer: bytearray) -> int:
        if len(buffer) < self._raster_bytes:
            return 0
        self._raster_rows -= 1
        self._print(bytes(buffer[: self._raster_bytes]), self._raster_bytes * 8)
        return self._raster_bytes

    def _print(self, row: bytes, width_dots: int) -> None:
        """Print one row of a picture; what lies beyond the head is lost."""
        left = margin(width_dots, self._width_dots, self._align)
        bits: int = int.from_bytes(row) << self._width_dots >> left + width_dots
        self.output.append(bits.to_bytes(self._width_dots // 8))

    def _control(self, buffer: bytearray) -> int:
        """Read a control character; a real-time command is passed over, it was done when it arrived."""
        if buffer[0] == 0x0A:
            self._end_line()
        if buffer[0] != 0x10 or (len(buffer) >= 2 and buffer[1] not in (0x04, 0x05)):
            return 1
        return 3 if len(buffer) >= 3 else 0

    def _command(self, buffer: bytearray) -> int:
        if len(buffer) < 2:
            return 0
        prefix = bytes(buffer[:2])
        if prefix in self._long_commands:
            return self._long_commands[prefix](buffer)
        if prefix not in self._commands:
            return 2
        size, act = self._commands[prefix]
        if len(buffer) < 2 + size:
            return 0
        act(bytes(buffer[2 : 2 + size]))
        return 2 + size

    def _cut(self, buffer: bytearray) -> int:
        if len(buffer) < 3 or (buffer[2] in (0x41, 0x42) and len(buffer) < 4):
            return 0
        self._flush()
        if buffer[2] in (0x41, 0x42):
            self._feed(buffer[3])
        self.output.append(None)
        return 4 if buffer[2] in (0x41, 0x42) else 3

    def _present(self, buffer: bytearray) -> int:
        """Read GS e n [m]: the presenter's commands; only 3 has an argument."""
        size = 4 if len(buffer) > 2 and buffer[2] == 0x03 else 3
        if len(buffer) < size:
            return 0
        self._on_query(b"\x1de", buffer[2])
        return size

    def _begin_raster(self, buffer: bytearray) -> int:
        if len(buffer) < 8:
            return 0
        self._flush()
        self._raster_bytes = int.from_bytes(buffer[4:6], "little")
        self._raster_rows = int.from_bytes(buffer[6:8], "little") if self._raster_bytes else 0
        return 8

    def _extended(self, buffer: bytearray) -> int:
        """Read GS ( x pL pH data; of these only the QR code (cn 31h) does something here."""
        size = 5 + int.from_bytes(buffer[3:5], "little")
        if len(buffer) < 5 or len(buffer) < size:
            return 0
        data = bytes(buffer[5:size])
        if buffer[2] == 0x6B and len(data) >= 3 and data[0] == 0x31:
            self._qr_command(data[1], data[2:])
        return size

    def _qr_command(self, function: int, data: bytes) -> None:
        match function:
            case 0x43 if 1 <= data[0] <= 16:
                self._qr_module = data[0]
            case 0x45:
                self._qr_level = _QR_LEVELS.get(data[0], "l")
            case 0x50:
                self._qr = data[1:]
            case 0x51 if self._qr:
                self._flush()
                self._emit(qr_code(self._qr, self._qr_level, self._qr_module, self._width_dots, self._align))

    def _character(self, buffer: bytearray) -> int:
        if buffer[0] < 0x80:
            self._place(chr(buffer[0]), wide=False)
            return 1
        if not self._chinese:
            self._place(buffer[:1].decode("latin-1"), wide=False)
            return 1
        if len(buffer) < 2:
            return 0
        size = 4 if 0x30 <= buffer[1] <= 0x39 else 2
        if len(buffer) < size:
            return 0
        self._place(buffer[:size].decode("gb18030", errors="replace")[0], wide=True)
        return size

    def _place(self, character: str, *, wide: bool) -> None:
        scale = self._size
        if self._chinese:
            scale = (max(scale[0], self._chinese_size[0]), max(scale[1], self._chinese_size[1]))
        glyph = self._font.glyph(character, wide=wide, bold=self._bold, scale=scale)
        if sum(placed.width for placed in self._line) + glyph.width > self._width_dots:
            self._end_line()
        self._line.append(glyph)

    def _flush(self) -> None:
        if self._line:
            self._end_line()

    def _end_line(self) -> None:
        height = max(self._spacing, *(glyph.height for glyph in self._line), 1)
        self._emit(compose(self._line, height, self._width_dots, self._align))
        self._line = []

    def _emit(self, rows: bytes) -> None:
        stride = self._width_dots // 8
        self.output.extend(rows[at : at + stride] for at in range(0, len(rows), stride))

    def _feed(self, dots: int) -> None:
        self._flush()
        self.output.extend([bytes(self._width_dots // 8)] * dots)

    def _initialise(self) -> None:
        self.reset()
        self._on_query(b"\x1b@", 0)

    def _set_align(self, n: Arguments) -> None:
        self._align = n[0] & 0x0F if n[0] & 0x0F <= 2 else 0

    def _set_bold(self, n: Arguments) -> None:
        self._bold = bool(n[0] & 1)

    def _set_mode(self, n: Arguments) -> None:
        self._bold = bool(n[0] & 0x08)
        self._size = (2 if n[0] & 0x20 else 1, 2 if n[0] & 0x10 else 1)

    def _set_size(self, n: Arguments) -> None:
        self._size = ((n[0] >> 4 & 7) + 1, (n[0] & 7) + 1)

    def _set_spacing(self, n: Arguments) -> None:
        self._spacing = n[0]

    def _set_chinese(self, *, on: bool) -> None:
        self._chinese = on

    def _set_chinese_mode(self, n: Arguments) -> None:
        self._chinese_size = (2 if n[0] & 0x04 else 1, 2 if n[0] & 0x08 else 1)

    def _set_chinese_quad(self, n: Arguments) -> None:
        self._chinese_size = (2, 2) if n[0] & 1 else (1, 1)
