"""What a thermal print head leaves on paper: glyphs, QR codes, and the piece that is cut off."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import segno
from PIL import Image, ImageDraw, ImageFont

DOTS_PER_INCH = 203
GLYPH_DOTS = 24
_BASELINE_DOTS = 20
_MILLIMETRES_PER_INCH = 25.4


def millimetres(dots: int) -> float:
    """Return the length of `dots` at the resolution of the head."""
    return dots / DOTS_PER_INCH * _MILLIMETRES_PER_INCH


@dataclass(frozen=True, slots=True)
class Paper:
    """A piece of paper: rows of width_dots / 8 bytes, most significant bit left, 1 is black."""

    width_dots: int
    rows: bytes = field(repr=False)

    @property
    def height_dots(self) -> int:
        """The length of the piece in dots."""
        return len(self.rows) * 8 // self.width_dots

    @property
    def millimetres(self) -> float:
        """The length of the piece."""
        return millimetres(self.height_dots)

    def seconds_at(self, millimetres_per_second: float) -> float:
        """Return how long a mechanism of that speed needs for the piece (T4)."""
        return self.millimetres / millimetres_per_second

    @property
    def blank(self) -> bool:
        """Whether nothing is printed on it."""
        return not any(self.rows)

    def png(self) -> bytes:
        """Return the piece as a PNG, black on white, in the resolution of the head."""
        inverted = bytes(byte ^ 0xFF for byte in self.rows)
        picture = Image.frombytes("1", (self.width_dots, self.height_dots), inverted)
        file = io.BytesIO()
        picture.save(file, "PNG", dpi=(DOTS_PER_INCH, DOTS_PER_INCH))
        return file.getvalue()


class Font:
    """The character generator: 12x24 dots for Latin, 24x24 for Chinese, from a font file or Pillow's own font."""

    def __init__(self, path: Path | None) -> None:
        self._font = ImageFont.load_default(GLYPH_DOTS) if path is None else ImageFont.truetype(path, GLYPH_DOTS)

    def glyph(self, character: str, *, wide: bool, bold: bool, scale: tuple[int, int]) -> Image.Image:
        """Draw one character as its cell, `scale` times as wide and high."""
        cell = Image.new("1", (GLYPH_DOTS if wide else GLYPH_DOTS // 2, GLYPH_DOTS))
        draw = ImageDraw.Draw(cell)
        natural = max(1, round(draw.textlength(character, self._font)))
        if natural > cell.width:
            drawn = Image.new("1", (natural, GLYPH_DOTS))
            ImageDraw.Draw(drawn).text((0, _BASELINE_DOTS), character, 1, self._font, anchor="ls")
            cell.paste(drawn.resize(cell.size))
        else:
            draw.text(((cell.width - natural) // 2, _BASELINE_DOTS), character, 1, self._font, anchor="ls")
        if bold:
            cell.paste(1, (1, 0), cell.crop((0, 0, cell.width - 1, cell.height)))
        return cell.resize((cell.width * scale[0], cell.height * scale[1]))


def compose(glyphs: list[Image.Image], height: int, width_dots: int, align: int) -> bytes:
    """Set glyphs into a line of `height` dots, on a common bottom, and return its rows."""
    line = Image.new("1", (width_dots, height))
    left = margin(sum(glyph.width for glyph in glyphs), width_dots, align)
    tallest = max((glyph.height for glyph in glyphs), default=0)
    for glyph in glyphs:
        line.paste(glyph, (left, tallest - glyph.height))
        left += glyph.width
    return line.tobytes()


def margin(width: int, width_dots: int, align: int) -> int:
    """Return the dots to the left of something `width` wide: align 0 left, 1 centre, 2 right."""
    return max(0, width_dots - width) * min(align, 2) // 2


def qr_code(data: bytes, level: str, module_dots: int, width_dots: int, align: int) -> bytes:
    """Return the rows of a QR code without a quiet zone; nothing when `data` is none, too much, or too wide."""
    try:
        modules = segno.make_qr(data, error=level, boost_error=False).matrix
    except ValueError:
        return b""
    size = len(modules) * module_dots
    if size > width_dots:
        return b""
    small = Image.new("1", (len(modules), len(modules)))
    small.putdata([module for row in modules for module in row])
    whole = Image.new("1", (width_dots, size))
    whole.paste(small.resize((size, size)), (margin(size, width_dots, align), 0))
    return whole.tobytes()
