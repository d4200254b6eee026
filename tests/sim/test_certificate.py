"""The platform's certificates are real pages of the paper's width (T7)."""

import pypdfium2
import pytest

from sim import assets
from sim.people import Population
from sim.platform.certificate import KINDS, WIDTHS_MILLIMETRES, write_certificate
from vision.store import cache_directory

ISSUED_AT = 1_800_000_000
"""2027-01-15 08:00 UTC, the afternoon of the same day in China."""
POINTS_PER_MILLIMETRE = 72 / 25.4


@pytest.fixture(scope="module")
def prepared() -> assets.Assets:
    return assets.prepare(cache_directory() / "assets")


@pytest.mark.parametrize("width", [WIDTHS_MILLIMETRES[0], 48, 72, WIDTHS_MILLIMETRES[-1]])
@pytest.mark.parametrize("name", KINDS)
def test_a_certificate_is_one_page_that_says_what_it_certifies(name: str, width: int, prepared: assets.Assets) -> None:
    citizen = Population().citizen(7)
    pdf = write_certificate(
        KINDS[name], citizen, number="N0123456789", issued_at=ISSUED_AT, width_millimetres=width, font=prepared.font
    )
    with pypdfium2.PdfDocument(pdf) as document:
        assert len(document) == 1
        page = document[0]
        text = page.get_textpage().get_text_range().replace("\r\n", "")
        page_width, page_height = page.get_size()
    assert page_width == pytest.approx(width * POINTS_PER_MILLIMETRE, abs=0.1)
    assert 70 < page_height / POINTS_PER_MILLIMETRE < 250
    for said in (KINDS[name].title, citizen.name, citizen.id_number, "N0123456789", "2027年1月15日", "模拟平台"):
        assert said in text
    assert set(KINDS[name].issuer) <= set(text)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_cut_off_at_the_edges(name: str, prepared: assets.Assets) -> None:
    pdf = write_certificate(
        KINDS[name],
        Population().citizen(399),
        number="D" * 16,
        issued_at=ISSUED_AT,
        width_millimetres=48,
        font=prepared.font,
    )
    with pypdfium2.PdfDocument(pdf) as document:
        picture = document[0].render(scale=4).to_pil().convert("L")
    for edge in (
        (0, 0, 4, picture.height),
        (picture.width - 4, 0, picture.width, picture.height),
        (0, picture.height - 4, picture.width, picture.height),
    ):
        assert min(picture.crop(edge).get_flattened_data()) > 200
