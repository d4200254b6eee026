"""The whole check on two people: the one on the card is recognised, the other refused (T9, T13)."""

from collections.abc import Callable

import numpy as np
import pytest

from sim.assets import Assets, chip_photo
from sim.photo import decode
from vision.errors import VisionError
from vision.models import Image, Models, read_manifest
from vision.pipeline import OPERATING_POINT, FaceCheck

Frames = Callable[[Image, int], list[Image]]


@pytest.fixture(scope="module")
def card(assets: Assets) -> Image:
    """Grace Hopper's photo as a card carries it."""
    return decode(chip_photo(assets, "grace_hopper"))


@pytest.fixture
def live(view: Callable[..., Image]) -> Frames:
    """Frames of somebody who moves a little before a noisy camera in changing light."""

    def play(portrait: Image, count: int) -> list[Image]:
        random = np.random.default_rng(7)
        return [
            view(
                portrait,
                scale=random.uniform(0.7, 1.1),
                turn=random.uniform(-7, 7),
                face_at=(random.uniform(0.42, 0.58), random.uniform(0.45, 0.55)),
                gain=random.uniform(0.7, 1.15),
                noise=4,
                seed=number,
            )
            for number in range(count)
        ]

    return play


def test_the_person_of_the_card_matches(models: Models, card: Image, hopper: Image, live: Frames):
    check = FaceCheck(models, card, frames=3)
    for frame in live(hopper, 3):
        assert check.decision() is None
        assert check.consider(frame) is None
    decision = check.decision()
    assert decision is not None
    assert decision.match
    assert decision.score > 0.7
    assert decision.threshold == read_manifest().thresholds[OPERATING_POINT] == 0.5064
    assert (decision.frames, decision.operating_point) == (3, "fmr-1e-5-provisional")
    assert (decision.model, decision.presentation_attack) == (models.identity, "not_checked")
    assert set(decision.stages) == {"detect", "quality", "align", "embed", "compare"}
    assert all(seconds > 0 for seconds in decision.stages.values())


def test_another_person_is_refused(models: Models, card: Image, collins: Image, live: Frames):
    check = FaceCheck(models, card, frames=3)
    assert [check.consider(frame) for frame in live(collins, 3)] == [None, None, None]
    decision = check.decision()
    assert decision is not None
    assert not decision.match
    assert decision.score < 0.35


def test_bad_frames_are_told_and_not_used(models: Models, card: Image, hopper: Image, view: Callable[..., Image]):
    check = FaceCheck(models, card, frames=1)
    good = view(hopper)
    twice = np.hstack([good[:, 160:480], good[:, 160:480]])
    bad = {"face.none": np.full_like(good, 120), "face.many": twice, "face.too_dark": view(hopper, gain=0.1)}
    for code, frame in bad.items():
        assert check.consider(frame) == code
        assert check.last_guidance == code
        assert check.decision() is None
    assert check.consider(good) is None
    assert check.last_guidance is None
    decision = check.decision()
    assert decision is not None
    assert decision.frames == 1


def test_a_card_photo_without_one_face_is_refused(models: Models, hopper: Image, collins: Image):
    nobody = np.full((126, 102, 3), 128, np.uint8)
    both = np.hstack([hopper[:, :512], collins[:600, 180:700]])
    for photo, code in ((nobody, "photo.no_face"), (both, "photo.many_faces")):
        with pytest.raises(VisionError) as caught:
            FaceCheck(models, photo, frames=3)
        assert (caught.value.code, caught.value.retry) == (code, False)


def test_wiping_overwrites_what_was_kept(models: Models, card: Image, hopper: Image, live: Frames):
    """T20: what is held is zero afterwards, not merely forgotten, and nothing can be decided any more."""
    check = FaceCheck(models, card, frames=2)
    for frame in live(hopper, 2):
        check.consider(frame)
    kept = [check._reference, check._total]
    assert all(array.any() for array in kept)
    check.wipe()
    assert not any(array.any() for array in kept)
    assert check.decision() is None
    for frame in live(hopper, 2):
        check.consider(frame)
    decision = check.decision()
    assert decision is not None
    assert not decision.match


def test_no_embedding_stays_in_what_numpy_keeps_of_freed_arrays(
    models: Models, card: Image, hopper: Image, live: Frames
):
    """T20: malloc overwrites what is freed, but numpy hands arrays below 1 KiB out again as they were."""
    check = FaceCheck(models, card, frames=2)
    for frame in live(hopper, 2):
        check.consider(frame)
    assert check.decision() is not None
    person = check._reference.copy()
    check.wipe()
    del check
    with np.errstate(all="ignore"):
        freed = np.stack([np.empty(128, np.float32) for _ in range(64)]).astype(np.float64)
        likeness = freed @ person / np.linalg.norm(freed, axis=1)
    assert not np.any(likeness > 0.4)


def test_pictures_given_are_left_alone(models: Models, card: Image, hopper: Image, live: Frames):
    """They belong to the caller, who wipes them."""
    (frame,) = live(hopper, 1)
    before = card.copy(), frame.copy()
    FaceCheck(models, card, frames=1).consider(frame)
    assert np.array_equal(card, before[0])
    assert np.array_equal(frame, before[1])
