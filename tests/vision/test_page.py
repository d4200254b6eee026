"""A page photographed on a desk becomes an upright page or a coded refusal (T2)."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.assets import Assets
from sim.desk import DESKS, Conditions, photograph
from sim.paper import draw
from sim.scan_sweep import MOST_CORNER_ERROR, likeness, run, trials
from sim.scene import DocumentScene
from vision.errors import VisionError
from vision.flatten import PAPERS
from vision.models import Image
from vision.page import find_page
from vision.page_quality import judge_page
from vision.page_report import Tone
from vision.scan import scan_page
from vision.tone import toned
from vision.upright import Reader

A4 = PAPERS["a4"]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


@pytest.fixture(scope="module")
def letter(assets: Assets) -> Image:
    return draw("notice", assets.font, 3)


def refused(frame: Image, reader: Reader) -> str:
    with pytest.raises(VisionError) as error:
        scan_page(frame, A4, reader, tone="grey")
    assert error.value.advice
    return error.value.code


def test_a_small_sweep(assets: Assets) -> None:
    """The long one is `python -m sim.scan_sweep`."""
    sweep = run(trials(10, 11), assets.font)
    assert [outcome for outcome in sweep.good() if not outcome.success] == []
    assert [outcome for outcome in sweep.bad() if not outcome.success] == []
    assert min(len(sweep.good()), len(sweep.bad())) >= 3
    assert any("good photographs" in line for line in sweep.lines())


def test_the_sweep_tells_a_failure(assets: Assets) -> None:
    """Sweeps that cannot fail prove nothing: a good photograph declared bad is one that was taken."""
    (trial,) = trials(1, 11, bad_share=0.0)
    sweep = run([trial, dataclasses.replace(trial, fault="glare")], assets.font)
    assert [outcome.success for outcome in sweep.outcomes] == [True, False]


@pytest.mark.parametrize("turns", range(4))
def test_every_quarter_turn_is_undone(letter: Image, reader: Reader, turns: int) -> None:
    taken = photograph(letter, Conditions(turn=90 * turns + 5, desk=DESKS[turns], tilt=12), turns)
    made = scan_page(taken.picture, A4, reader, tone="grey")
    assert made.turns == -turns % 4
    assert made.picture.shape == (2339, 1654)
    diagonal = np.linalg.norm(taken.corners[0] - taken.corners[2])
    found = np.array(made.corners)
    errors = [np.linalg.norm(np.roll(found, -turn, axis=0) - taken.corners, axis=1).max() for turn in range(4)]
    assert min(errors) < MOST_CORNER_ERROR * diagonal


@pytest.mark.parametrize("turn", [0, 90])
@pytest.mark.parametrize("tone", ["colour", "grey", "black_white"])
def test_the_page_is_what_was_drawn(letter: Image, reader: Reader, turn: int, tone: Tone) -> None:
    made = scan_page(photograph(letter, Conditions(turn=turn), 2).picture, A4, reader, tone=tone)
    assert likeness(made, -turn // 90 % 4, letter) > 0.7
    assert made.picture.ndim == (3 if tone == "colour" else 2)


def test_the_rigs_page_is_scanned(reader: Reader) -> None:
    made = scan_page(DocumentScene(1).frame(), A4, reader, tone="colour")
    assert made.turns == 3  # it lies across
    assert made.confidence > 0.8


def test_a_blank_page_is_taken_as_it_lies(reader: Reader) -> None:
    blank = np.full((2376, 1680, 3), 240, np.uint8)
    made = scan_page(photograph(blank, Conditions(), 1).picture, A4, reader, tone="grey")
    assert made.quality.blank
    assert made.turns is None


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        (Conditions(blur=5), "document.blurred"),
        (Conditions(smear=30), "document.blurred"),
        (Conditions(glare=0.1), "document.glare"),
        (Conditions(exposure=0.05), "document.too_dark"),
        (Conditions(away=(0.2, 0.0), turn=90), "document.cut_off"),
        (Conditions(away=(0.0, -0.2)), "document.cut_off"),
        (Conditions(fill=0.45), "document.too_small"),
        (Conditions(fill=0.01), "document.no_page"),
        (Conditions(exposure=1.25, lamp=1.0), "document.too_bright"),
    ],
)
def test_a_bad_photograph_is_refused_with_the_reason(
    letter: Image, reader: Reader, conditions: Conditions, code: str
) -> None:
    assert refused(photograph(letter, conditions, 4).picture, reader) == code


def test_less_than_five_megapixels_are_refused(letter: Image, reader: Reader) -> None:
    frame = cv2.resize(photograph(letter, Conditions(), 1).picture, (2560, 1920)).astype(np.uint8)
    assert refused(frame, reader) == "document.resolution_too_low"


@pytest.mark.parametrize("frame", [np.zeros((1944, 2592, 3), np.float32), np.zeros((1944, 2592, 4), np.uint8)])
def test_what_is_no_picture_is_refused(reader: Reader, frame: Image) -> None:
    assert refused(frame, reader) == "document.unreadable"


def test_a_grey_frame_is_a_picture(letter: Image, reader: Reader) -> None:
    grey = cv2.cvtColor(photograph(letter, Conditions(), 1).picture, cv2.COLOR_BGR2GRAY).astype(np.uint8)
    assert scan_page(grey, A4, reader, tone="colour").turns == 0


def test_black_and_white_survives_a_shadow(letter: Image) -> None:
    shade = np.linspace(0.35, 1, letter.shape[1])[None, :, None]
    clean, shaded = (toned(page.astype(np.uint8), "black_white", 203) for page in (letter, letter * shade))
    assert set(np.unique(shaded)) == {0, 255}
    assert np.mean(clean != shaded) < 0.01
    assert 0.01 < np.mean(clean == 0) < 0.3


pictures = st.tuples(
    st.integers(1, 700), st.integers(1, 700), st.sampled_from(["noise", "flat", "frame"]), st.integers(0, 255)
)


def test_a_frame_longer_than_a_warp_takes_is_refused(reader: Reader) -> None:
    frame = np.full((2300, 36000, 3), 60, np.uint8)
    frame[80:2200, 2000:5360] = 240
    with pytest.raises(VisionError) as error:
        scan_page(frame, PAPERS["card"], reader, tone="grey")
    assert error.value.code == "document.unreadable"


@settings(max_examples=40, deadline=None)
@given(pictures)
def test_any_picture_gets_an_answer(reader: Reader, shape: tuple[int, int, str, int]) -> None:
    height, width, kind, level = shape
    picture = np.full((height, width, 3), level, np.uint8)
    if kind == "noise":
        picture = np.random.default_rng(level).integers(0, 256, picture.shape).astype(np.uint8)
    elif kind == "frame":
        picture[height // 4 : -height // 4 or None, width // 4 : -width // 4 or None] = 255 - level
    found = find_page(picture, ratio=None)
    if found is not None:
        assert found.corners.shape == (4, 2)
        assert np.all(np.isfinite(found.corners))
        assert 0 <= found.confidence <= 1
    quality = judge_page(picture)
    assert 0 <= quality.blurred <= 1
    assert reader.read(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.uint8)).turns in (None, 0, 1, 2, 3)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([(1, 5_100_000), (5_100_000, 1), (30, 170_000), (2000, 2600)]), st.integers(0, 255))
def test_any_large_frame_is_refused_by_a_code(shape: tuple[int, int], level: int) -> None:
    frame = np.full((*shape, 3), level, np.uint8)
    with pytest.raises(VisionError) as error:
        scan_page(frame, A4, Reader(), tone="grey")
    assert error.value.code in {"document.no_page", "document.too_dark", "document.unreadable"}
