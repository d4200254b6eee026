"""Which frames of a stream are chosen (vision/selection.py)."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.models import Image
from vision.selection import EXCELLENT, PATIENCE_SECONDS, SPACING_SECONDS, Candidate, Selection


def face(seed: int) -> Image:
    return np.random.default_rng(seed).integers(1, 255, (112, 112, 3)).astype(np.uint8)


def offered(selection: Selection, *frames: tuple[float, float]) -> list[bool]:
    """Offer frames by time and quality, each another picture."""
    return [selection.offer(Candidate(face(round(at * 1e6)), quality, at)) for at, quality in frames]


def qualities(selection: Selection) -> list[float]:
    return [candidate.quality for candidate in selection.chosen]


def test_excellent_frames_end_the_search_at_once() -> None:
    selection = Selection(3)
    assert offered(selection, (0.0, 0.9), (0.2, 0.9)) == [True, True]
    assert not selection.complete(99.0), "two are not three"
    offered(selection, (0.4, EXCELLENT))
    assert selection.complete(0.4)


def test_middling_frames_are_bettered_until_patience_is_over() -> None:
    selection = Selection(2)
    offered(selection, (0.0, 0.5), (0.25, 0.3))
    assert not selection.complete(0.3)
    assert offered(selection, (0.5, 0.2), (0.75, 0.6), (1.0, 0.4)) == [False, True, False]
    assert qualities(selection) == [0.5, 0.6]
    assert not selection.complete(PATIENCE_SECONDS - 0.1)
    assert selection.complete(PATIENCE_SECONDS)
    offered(selection, (1.25, 0.9), (1.5, 0.8))
    assert qualities(selection) == [0.9, 0.8]


def test_frames_of_one_moment_are_one_frame_the_better() -> None:
    """T9: the mean of nearly identical frames is no better than one of them."""
    selection = Selection(3)
    assert offered(selection, (0.0, 0.5), (0.05, 0.4), (0.1, 0.8), (0.15, 0.7)) == [True, False, True, False]
    assert qualities(selection) == [0.8]


def test_a_repeated_picture_never_counts_twice() -> None:
    """A stream that stands still, or plays the same few frames over and over."""
    selection = Selection(3)
    for number in range(40):
        picture = face(number % 2)
        assert selection.offer(Candidate(picture, 0.9, float(number))) == (number < 2)
        assert picture.any() == (number < 2), "what is not chosen is overwritten"
    assert len(selection.chosen) == 2
    assert not selection.complete(99.0)


def test_noise_makes_another_picture_of_a_still_scene() -> None:
    selection, scene = Selection(2), np.full((112, 112, 3), 120.0)
    for number in range(2):
        noise = np.random.default_rng(number).normal(0, 1, scene.shape)
        assert selection.offer(Candidate((scene + noise).astype(np.uint8), 0.9, float(number)))


def test_wiping_overwrites_the_faces_and_begins_anew() -> None:
    selection = Selection(2)
    offered(selection, (0.0, 0.9), (1.0, 0.9))
    held = [candidate.face for candidate in selection.chosen]
    selection.wipe()
    assert not any(picture.any() for picture in held)
    assert selection.chosen == ()
    offered(selection, (5.0, 0.5), (6.0, 0.5))
    assert not selection.complete(6.0), "patience begins anew too"


@given(
    st.lists(st.tuples(st.floats(0.01, 0.5), st.floats(0, 1)), max_size=30),
    st.integers(1, 5),
)
@settings(max_examples=100)
def test_the_choice_is_spaced_and_none_left_out_is_better_without_a_reason(
    stream: list[tuple[float, float]], count: int
) -> None:
    selection, now, frames = Selection(count), 0.0, []
    for number, (pause, quality) in enumerate(stream):
        now += pause
        picture = face(number)
        frames.append((now, quality, picture))
        selection.offer(Candidate(picture, quality, now))
    times = [candidate.taken_at for candidate in selection.chosen]
    assert all(later - earlier >= SPACING_SECONDS for earlier, later in pairwise(times))
    assert len(times) <= count
    assert bool(times) == bool(stream)
    best = max((quality for _, quality, _ in frames), default=0.0)
    assert best in [*qualities(selection), 0.0], "the best frame is always among the chosen"
    kept = {id(candidate.face) for candidate in selection.chosen}
    assert all(picture.any() == (id(picture) in kept) for _, _, picture in frames)
