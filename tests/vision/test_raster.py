"""PDF pages for the print head: right size, crisp, and every bad PDF a coded error."""

import contextlib

import fpdf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.assets import Assets
from vision.errors import VisionError
from vision.raster import MAXIMUM_HEIGHT_DOTS, MAXIMUM_PDF_BYTES, rasterise
from vision.verifier import Raster


def make_pdf(pages: int = 1, *, width: float = 72, height: float = 100, font: Assets | None = None) -> fpdf.FPDF:
    """A page with a black square of 10 mm at (9 mm, 18 mm), and a line of Chinese when there is a font."""
    document = fpdf.FPDF(unit="mm", format=(width, height))
    for _ in range(pages):
        document.add_page()
        document.rect(9, 18, 10, 10, style="F")
        if font is not None:
            document.add_font("song", fname=font.font)
            document.set_font("song", size=12)
            document.text(9, 60, "社会保险参保证明")
    return document


PDF = bytes(make_pdf().output())


def dots(raster: Raster) -> np.ndarray:
    packed = np.frombuffer(raster.rows, np.uint8).reshape(raster.height_dots, raster.width_dots // 8)
    return np.unpackbits(packed, axis=1)


def test_a_page_fills_the_width_of_the_head():
    for width in (384, 576, 640):
        (raster,) = rasterise(PDF, width, 1)
        assert raster.width_dots == width
        assert abs(raster.height_dots - width * 100 / 72) <= 1
        assert len(raster.rows) == raster.height_dots * width // 8


def test_black_is_where_the_page_is_black():
    (raster,) = rasterise(PDF, 576, 1)
    ink = dots(raster)
    assert ink[146:222, 74:150].all()
    ink[142:226, 70:154] = 0
    assert not ink.any()


def test_strokes_of_chinese_characters_stay_apart(assets: Assets):
    """At 203 dpi about a fifth of a 12-point character's square is ink: neither blobs nor missing strokes."""
    (raster,) = rasterise(bytes(make_pdf(font=assets).output()), 576, 1)
    text = dots(raster)[448:484, 72:340]
    assert 0.12 < text.mean() < 0.35
    assert np.abs(np.diff(text.astype(int), axis=1)).sum(axis=1).max() > 40


def test_pages_come_in_order():
    document = make_pdf(2)
    document.rect(9, 60, 30, 30, style="F")
    first, second = rasterise(bytes(document.output()), 576, 2)
    assert dots(first).sum() < dots(second).sum()


def test_nothing_is_kept_between_pages():
    """The same page twice gives the same dots: no buffer is shared with what was wiped."""
    first, second = rasterise(bytes(make_pdf(2).output()), 576, 2)
    assert first == second
    assert any(first.rows)


@pytest.mark.parametrize(
    ("pdf", "code"),
    [
        (b"", "pdf.damaged"),
        (b"not a PDF at all", "pdf.damaged"),
        (PDF[: len(PDF) // 2], "pdf.damaged"),
        (PDF + bytes(MAXIMUM_PDF_BYTES), "pdf.too_large"),
        (bytes(make_pdf(3).output()), "pdf.too_many_pages"),
        (bytes(make_pdf(height=72 * MAXIMUM_HEIGHT_DOTS / 576 + 10).output()), "pdf.page_too_long"),
        (bytes(make_pdf(width=20, height=5000).output()), "pdf.page_too_long"),
    ],
    ids=["empty", "text", "cut", "large", "pages", "metre", "strip"],
)
def test_bad_pdfs_are_refused(pdf: bytes, code: str):
    with pytest.raises(VisionError) as caught:
        rasterise(pdf, 576, 2)
    assert (caught.value.code, caught.value.retry) == (code, False)


def test_an_encrypted_pdf_is_refused():
    document = make_pdf()
    document.set_encryption(owner_password="owner", user_password="user")
    with pytest.raises(VisionError) as caught:
        rasterise(bytes(document.output()), 576, 1)
    assert caught.value.code == "pdf.encrypted"


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(PDF) - 1), st.integers(1, 255))
def test_a_damaged_byte_gives_a_picture_or_a_coded_error(position: int, change: int):
    damaged = bytearray(PDF)
    damaged[position] ^= change
    with contextlib.suppress(VisionError):
        rasters = rasterise(bytes(damaged), 384, 2)
        assert all(len(raster.rows) == raster.height_dots * 48 for raster in rasters)
