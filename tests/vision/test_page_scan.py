"""The pages of a document: held, put into a PDF of a size, wiped (T2, T20)."""

import subprocess
import sys
from typing import Any

import numpy as np
import pypdfium2
import pytest

from sim.assets import Assets
from sim.desk import Conditions, photograph
from sim.paper import draw
from vision.errors import VisionError
from vision.flatten import flatten
from vision.models import Image
from vision.page_report import Progress, Step
from vision.scan import Scan, Tell
from vision.tone import encode_page, toned
from vision.upright import Reader

MM = 72 / 25.4


@pytest.fixture(scope="module")
def frames(assets: Assets) -> list[Image]:
    kinds = ("notice", "letter", "landscape")
    return [photograph(draw(kind, assets.font, 1), Conditions(turn=4), 1).picture for kind in kinds]


@pytest.fixture
def scan(frames: list[Image]) -> Scan:
    scan = Scan(Reader(), tone="grey", sides=2)
    for frame in frames:
        scan.add(frame)
    return scan


def sizes(pdf: bytes) -> list[tuple[float, float]]:
    document = pypdfium2.PdfDocument(pdf)
    try:
        return [page.get_size() for page in document]
    finally:
        document.close()


def code_of(error: pytest.ExceptionInfo[VisionError]) -> str:
    return error.value.code


def test_sheets_are_turned_over_in_order(frames: list[Image]) -> None:
    scan = Scan(Reader(), sides=2)
    told: list[Progress] = []
    reports = [scan.add(frame, told.append) for frame in frames]
    assert [(report.sheet, report.side) for report in reports] == [(1, "front"), (1, "back"), (2, "front")]
    assert [(report.width, report.height) for report in reports] == [(1654, 2339), (1654, 2339), (2339, 1654)]
    assert told[:4] == [Progress(step, 1, 1) for step in ("find", "judge", "turn", "done")]
    assert scan.page(1).shape == (2339, 1654, 3)
    scan.wipe()


def test_a_page_can_be_taken_again_and_a_refused_one_changes_nothing(scan: Scan, frames: list[Image]) -> None:
    before = scan.page(2)
    with pytest.raises(VisionError) as error:
        scan.add(np.zeros_like(frames[0]), retake=2)
    assert code_of(error) == "document.too_dark"
    assert np.array_equal(scan.page(2), before)
    assert scan.add(frames[0], retake=2).number == 2
    assert len(scan) == 3
    assert not np.array_equal(scan.page(2), before)
    for number in (0, 4):
        with pytest.raises(VisionError) as error:
            scan.add(frames[0], retake=number)
        assert code_of(error) == "document.no_such_page"
        with pytest.raises(VisionError):
            scan.page(number)


def test_a_document_has_an_end(frames: list[Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision.scan.MOST_PAGES", 1)
    scan = Scan(Reader(), tone="grey")
    with pytest.raises(VisionError) as error:
        scan.pdf(10**6)
    assert code_of(error) == "document.empty"
    scan.add(frames[0])
    with pytest.raises(VisionError) as error:
        scan.add(frames[1])
    assert code_of(error) == "document.full"


def test_quality_steps_down_until_the_document_fits(scan: Scan) -> None:
    told: list[Progress] = []
    large = scan.pdf(10**7, told.append)
    assert told == [*(Progress("compress", page, 3) for page in (1, 2, 3)), Progress("assemble", 3, 3)]
    small = scan.pdf(len(large) // 3)
    assert len(small) <= len(large) // 3
    for pdf in (large, small):
        got = sizes(pdf)
        assert got[0] == pytest.approx((210 * MM, 297 * MM), abs=0.1)
        assert got[2] == pytest.approx((297 * MM, 210 * MM), abs=0.1)
    with pytest.raises(VisionError) as error:
        scan.pdf(10_000)
    assert code_of(error) == "document.too_large"


def test_black_and_white_takes_less(frames: list[Image]) -> None:
    scan = Scan(Reader(), tone="black_white")
    scan.add(frames[0])
    pdf = scan.pdf(10**6)
    assert len(pdf) < 200_000
    document = pypdfium2.PdfDocument(pdf)
    shown = document[0].render(scale=1, grayscale=True).to_numpy().copy()
    document.close()
    assert 0.01 < np.mean(shown < 128) < 0.2


def test_both_sides_of_a_card_share_a_page_at_true_size(assets: Assets) -> None:
    scan = Scan(Reader(), paper="card", tone="grey")
    for seed in (1, 2):
        scan.add(photograph(draw("card", assets.font, seed), Conditions(fill=0.34, turn=3), seed).picture)
    document = pypdfium2.PdfDocument(scan.pdf(10**6))
    assert len(document) == 1
    assert document[0].get_size() == pytest.approx((210 * MM, 297 * MM), abs=0.1)
    shown = document[0].render(scale=4, grayscale=True).to_numpy() < 245
    document.close()
    across = np.flatnonzero(shown.any(axis=0))
    down = np.flatnonzero(shown.mean(axis=1) > 0.2)
    dots = 4 * MM
    assert np.ptp(across) / dots == pytest.approx(85.6, abs=1)
    breaks = np.flatnonzero(np.diff(down) > 20 * dots)
    assert len(breaks) == 1
    assert (down[breaks[0]] - down[0]) / dots == pytest.approx(54, abs=1)


def test_wiping_overwrites_every_page(scan: Scan) -> None:
    held = list(scan._pages)
    assert all(page.any() for page in held)
    scan.wipe()
    assert not any(page.any() for page in held)
    assert len(scan) == 0


class Ended(Exception):
    """The work was cancelled at a step."""


@pytest.mark.parametrize("step", ["turn", "done"])
def test_a_scan_that_ends_early_overwrites_what_it_made(
    frames: list[Image], monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    """T20: the flattened page and the finished one, whatever ended the scan."""
    made: list[Image] = []

    def flattened(*arguments: Any) -> Image:
        made.append(flatten(*arguments))
        return made[-1]

    def in_tone(*arguments: Any) -> Image:
        made.append(toned(*arguments))
        return made[-1]

    monkeypatch.setattr("vision.scan.flatten", flattened)
    monkeypatch.setattr("vision.scan.toned", in_tone)
    with pytest.raises(Ended):
        Scan(Reader(), tone="grey").add(frames[0], ending(step))
    assert len(made) == {"turn": 1, "done": 2}[step]
    assert not any(page.any() for page in made)


@pytest.mark.parametrize("step", ["compress", "assemble"])
def test_a_pdf_that_ends_early_overwrites_its_pages(scan: Scan, monkeypatch: pytest.MonkeyPatch, step: Step) -> None:
    """T20."""
    coded: list[Image] = []

    def encoded(*arguments: Any) -> Image:
        coded.append(encode_page(*arguments))
        return coded[-1]

    monkeypatch.setattr("vision.pdf.encode_page", encoded)
    with pytest.raises(Ended):
        scan.pdf(10**7, ending(step, page=3))
    assert len(coded) == {"compress": 2, "assemble": 3}[step]
    assert not any(page.any() for page in coded)


def ending(step: Step, page: int = 1) -> Tell:
    def tell(progress: Progress) -> None:
        if (progress.step, progress.page) == (step, page):
            raise Ended

    return tell


def test_no_file_is_opened_for_writing() -> None:
    """T20: the whole way to the PDF under the guard of the vision process, imports included."""
    program = """
import numpy as np
from vision.guard import refuse_writes
refused = []
refuse_writes(refused.append)
from vision.scan import Scan
from vision.upright import Reader
frame = np.full((1944, 2592, 3), 60, np.uint8)
frame[72:1872, 660:1932] = 240
for tone in ("colour", "grey", "black_white"):
    scan = Scan(Reader(), tone=tone)
    scan.add(frame)
    assert scan.pdf(10**6).startswith(b"%PDF")
assert not refused, refused
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
