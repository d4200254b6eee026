"""Put scanned pages into a PDF, in memory, within a size (T2)."""

from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np

from vision.flatten import PAPERS
from vision.models import Image
from vision.page_refusal import refusal
from vision.page_report import PaperName, Tone
from vision.tone import decode_page, encode_page

_POINTS_PER_MM = 72 / 25.4
_CARD_TOPS_MM = (60.0, 160.0)
_LADDER = ((1.0, 90), (1.0, 75), (1.0, 60), (0.75, 70), (0.75, 50), (0.5, 60), (0.5, 40), (0.4, 30))
"""Share of the scan's resolution and JPEG quality, the best first; the last is still to be read at 200 dpi."""

_PDF_BYTES, _PAGE_BYTES = 1024, 1024

Told = Callable[[Literal["compress", "assemble"], int, int], None]


def assemble(pages: Sequence[Image], *, paper: PaperName, tone: Tone, dpi: int, most_bytes: int, tell: Told) -> bytes:
    """Return the PDF of these pages (as `vision.tone.encode_page` coded them) in the best quality that fits.

    Cards share an A4 page at their true size, the front above the back. VisionError `document.too_large`.
    """
    import img2pdf  # its libraries are not needed to be ready

    sheets = [pages[at : at + 2] for at in range(0, len(pages), 2)] if paper == "card" else [[page] for page in pages]
    format_mm = PAPERS["a4" if paper == "card" else paper]

    def layout(width: int, height: int, _: object) -> tuple[float, float, float, float]:
        short, long = format_mm.short_mm * _POINTS_PER_MM, format_mm.long_mm * _POINTS_PER_MM
        size = (long, short) if width > height else (short, long)
        return *size, *size

    for share, quality in _steps(tone):
        coded: list[Image] = []
        try:
            if not _compress(
                sheets, coded, paper=paper, tone=tone, dpi=dpi, share=share, quality=quality, most=most_bytes, tell=tell
            ):
                continue
            tell("assemble", len(sheets), len(sheets))
            made = img2pdf.convert(
                [each.tobytes() for each in coded], layout_fun=layout, engine=img2pdf.Engine.internal, nodate=True
            )
        finally:
            for each in coded:
                each.fill(0)
        pdf = bytes(made)
        if len(pdf) <= most_bytes:
            return pdf
    raise refusal("document.too_large", f"{len(pages)} pages in {most_bytes} bytes")


def _steps(tone: Tone) -> list[tuple[float, int]]:
    """Return the ladder's steps that differ in this tone: black and white has no quality but its resolution."""
    return list(dict(reversed(_LADDER)).items())[::-1] if tone == "black_white" else list(_LADDER)


def _compress(
    sheets: Sequence[Sequence[Image]],
    coded: list[Image],
    *,
    paper: PaperName,
    tone: Tone,
    dpi: int,
    share: float,
    quality: int,
    most: int,
    tell: Told,
) -> bool:
    """Append every sheet to `coded`, compressed at this quality; False as soon as they cannot fit."""
    left = most - _PDF_BYTES
    for number, sheet in enumerate(sheets, 1):
        tell("compress", number, len(sheets))
        pictures = [_scaled(decode_page(page), share, tone) for page in sheet]
        picture = _card_sheet(pictures, dpi * share) if paper == "card" else pictures[0]
        coded.append(encode_page(picture, tone, quality))
        for each in (*pictures, picture):
            each.fill(0)
        left -= len(coded[-1]) + _PAGE_BYTES
        if left < 0:
            return False
    return True


def _scaled(page: Image, share: float, tone: Tone) -> Image:
    if share == 1:
        return page
    small = cv2.resize(page, None, fx=share, fy=share, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    page.fill(0)
    return np.where(small < 160, 0, 255).astype(np.uint8) if tone == "black_white" else small


def _card_sheet(cards: Sequence[Image], dpi: float) -> Image:
    """Lay one or two cards on a white A4 page, upright, at their true size."""
    a4, dots = PAPERS["a4"], dpi / 25.4
    sheet = np.full((round(a4.long_mm * dots), round(a4.short_mm * dots), *cards[0].shape[2:]), 255, np.uint8)
    for card, top_mm in zip(cards, _CARD_TOPS_MM, strict=False):
        height, width = card.shape[:2]
        top, left = round(top_mm * dots), (sheet.shape[1] - width) // 2
        sheet[top : top + height, left : left + width] = card
    return sheet
