"""Printed pages, drawn with a font: what citizens lay under the document camera (T2)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from vision.models import Image

DOTS_PER_MM = 8.0
"""Resolution of a drawn page: 203 dpi."""

A4_MM, CARD_MM = (210.0, 297.0), (85.6, 54.0)

Kind = Literal["letter", "notice", "form", "certificate", "landscape", "card"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_HAN = [bytes((row, cell)).decode("gb2312") for row in range(0xB0, 0xD7) for cell in range(0xA1, 0xFF)]
_LETTERS = "eeeeeeeeeeeetttttttttaaaaaaaaooooooooiiiiiiinnnnnnnsssssshhhhhhrrrrrrddddllllcccuuummmwwffggyyppbbvkxjqz"
_FIRST_INK = 20, 60


class _Pen:
    """Draws on one page; positions and sizes are millimetres."""

    def __init__(self, size_mm: tuple[float, float], font: Path, paper: int, random: np.random.Generator) -> None:
        self.width, self.height = size_mm
        size = round(self.width * DOTS_PER_MM), round(self.height * DOTS_PER_MM)
        self.random = random
        self._font = font
        self._fonts: dict[float, ImageFont.FreeTypeFont] = {}
        self.picture = Pictures.new("RGB", size, (paper, paper, paper))
        self._draw = ImageDraw.Draw(self.picture)
        self.ink = (int(random.integers(*_FIRST_INK)),) * 3

    def _face(self, height: float) -> ImageFont.FreeTypeFont:
        if height not in self._fonts:
            self._fonts[height] = ImageFont.truetype(self._font, round(height * DOTS_PER_MM))
        return self._fonts[height]

    def text(self, x: float, y: float, text: str, height: float, *, anchor: str = "la") -> float:
        """Write from (x, y), the top left of the line by default, and return how wide it came out."""
        face = self._face(height)
        self._draw.text((x * DOTS_PER_MM, y * DOTS_PER_MM), text, self.ink, face, anchor=anchor)
        return self.length(text, height)

    def length(self, text: str, height: float) -> float:
        return float(self._face(height).getlength(text)) / DOTS_PER_MM

    def line(self, *places: float, width: float = 0.25, fill: tuple[int, int, int] | None = None) -> None:
        dots = [place * DOTS_PER_MM for place in places]
        self._draw.line(dots, fill or self.ink, max(1, round(width * DOTS_PER_MM)))

    def box(self, left: float, top: float, right: float, bottom: float, fill: tuple[int, int, int]) -> None:
        self._draw.rectangle([place * DOTS_PER_MM for place in (left, top, right, bottom)], fill)

    def disc(self, x: float, y: float, radius: float, fill: tuple[int, int, int], width: float) -> None:
        box = [(place + off) * DOTS_PER_MM for off in (-radius, radius) for place in (x, y)]
        self._draw.ellipse(box, outline=fill, width=round(width * DOTS_PER_MM))


def draw(kind: Kind, font: Path, seed: int, *, paper: int = 245) -> Image:
    """Return a page of that kind, BGR, upright; the same seed gives the same page. `paper` is its grey level."""
    random = np.random.default_rng(seed)
    size = {"card": CARD_MM, "landscape": A4_MM[::-1]}.get(kind, A4_MM)
    pen = _Pen(size, font, paper, random)
    _DRAWN[kind](pen)
    bgr = cv2.cvtColor(np.asarray(pen.picture), cv2.COLOR_RGB2BGR)
    return bgr.astype(np.uint8, copy=False)


def _word(random: np.random.Generator) -> str:
    return "".join(random.choice(list(_LETTERS), int(random.integers(1, 10))))


def latin(random: np.random.Generator, words: int) -> str:
    """Return made-up words with the letters of English, capitals and stops."""
    parts = []
    for number in range(words):
        word = _word(random)
        parts.append(word.capitalize() if number % 9 == 0 else word + ("." if number % 9 == 8 else ""))
    return " ".join(parts)


def chinese(random: np.random.Generator, characters: int) -> str:
    """Return characters of GB 2312's first level with commas and stops between them."""
    text = list(random.choice(_HAN, characters))
    for place in range(11, characters, 13):
        text[place] = "，" if place % 3 else "。"
    return "".join(text)


def _paragraphs(pen: _Pen, top: float, bottom: float, height: float, make: Sequence[str]) -> None:
    """Set text ragged right, between the margins, until it or the page ends."""
    left, right, y = 25.0, pen.width - 22.0, top
    for paragraph in make:
        line, x = "", left + 2 * height
        pieces = paragraph.split(" ") if " " in paragraph else list(paragraph)
        space = " " if " " in paragraph else ""
        for piece in pieces:
            if x + pen.length(line + piece, height) > right:
                pen.text(x, y, line, height)
                line, x, y = "", left, y + 1.6 * height
                if y + height > bottom:
                    return
            line += piece + space
        pen.text(x, y, line, height)
        y += 2.1 * height
        if y + height > bottom:
            return


def _letter(pen: _Pen) -> None:
    pen.text(25, 22, latin(pen.random, 3), 6.0)
    texts = [latin(pen.random, int(pen.random.integers(30, 110))) for _ in range(12)]
    _paragraphs(pen, 45, float(pen.random.uniform(150, 275)), float(pen.random.uniform(3.4, 4.4)), texts)


def _notice(pen: _Pen) -> None:
    pen.text(pen.width / 2, 25, chinese(pen.random, 9), 7.5, anchor="ma")
    texts = [chinese(pen.random, int(pen.random.integers(50, 180))) for _ in range(12)]
    _paragraphs(pen, 48, float(pen.random.uniform(150, 275)), float(pen.random.uniform(3.7, 5.2)), texts)


def _form(pen: _Pen) -> None:
    pen.text(pen.width / 2, 20, chinese(pen.random, 8), 6.5, anchor="ma")
    rows, top, tall = int(pen.random.integers(10, 18)), 38.0, 13.0
    for row in range(rows + 1):
        pen.line(20, top + row * tall, 190, top + row * tall)
    for x in (20, 60, 105, 145, 190):
        pen.line(x, top, x, top + rows * tall)
    for row in range(rows):
        y = top + row * tall + 4.5
        pen.text(23, y, chinese(pen.random, 5), 4.0)
        pen.text(63, y, latin(pen.random, 2)[:14], 4.0)
        pen.text(108, y, chinese(pen.random, 6), 4.0)
        pen.text(148, y, str(pen.random.integers(10**8, 10**12)), 4.0)


def _certificate(pen: _Pen) -> None:
    """Draw few lines, a frame, a seal: little to go by."""
    for inset in (10.0, 12.0):
        far = pen.width - inset, pen.height - inset
        pen.line(inset, inset, far[0], inset, *far, inset, far[1], inset, inset, width=0.6, fill=(170, 40, 40))
    pen.text(pen.width / 2, 40, chinese(pen.random, 5), 12, anchor="ma")
    for number in range(6):
        pen.text(35, 85 + 16 * number, chinese(pen.random, int(pen.random.integers(9, 24))), 5.0)
    pen.text(120, 215, chinese(pen.random, 10), 5.0)
    pen.disc(150, 225, 20, (200, 50, 50), 1.2)


def _landscape(pen: _Pen) -> None:
    pen.text(pen.width / 2, 18, chinese(pen.random, 12), 6.5, anchor="ma")
    texts = [latin(pen.random, 60) if number % 2 else chinese(pen.random, 120) for number in range(7)]
    _paragraphs(pen, 40, 190, 4.2, texts)


def _card(pen: _Pen) -> None:
    """Draw the face of a card: a tint, labels, a number and a grey portrait."""
    pen.box(0, 0, pen.width, pen.height, (222, 232, 240))
    for number in range(14):
        pen.line(0, 4 * number, pen.width, 4 * number + 3, width=0.12, fill=(190, 210, 225))
    for number in range(4):
        pen.text(6, 6 + 8 * number, chinese(pen.random, int(pen.random.integers(6, 12))), 3.2)
    pen.text(6, 45, chinese(pen.random, 6) + " " + str(pen.random.integers(10**17, 10**18)), 3.4)
    pen.box(60, 9, 80, 36, (150, 150, 155))
    pen.box(65, 14, 75, 26, (110, 100, 100))


_DRAWN = {
    "letter": _letter,
    "notice": _notice,
    "form": _form,
    "certificate": _certificate,
    "landscape": _landscape,
    "card": _card,
}
