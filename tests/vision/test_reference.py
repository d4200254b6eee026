"""The card's photo: exactly one face, found even where the codec left little (vision/reference.py)."""

import numpy as np
import pytest

from sim.assets import Assets, chip_photo
from sim.photo import decode
from vision.detect import SCORE_THRESHOLD, detect
from vision.errors import VisionError
from vision.models import Image, Models
from vision.reference import reference_face


@pytest.fixture(scope="module")
def card(assets: Assets) -> Image:
    """Grace Hopper's photo as a card carries it."""
    return decode(chip_photo(assets, "grace_hopper"))


def test_a_plain_photo_gives_what_the_detector_finds(models: Models, card: Image) -> None:
    (expected,) = detect(models.detector, card)
    assert np.array_equal(reference_face(models.detector, card).landmarks, expected.landmarks)


def test_a_photo_too_poor_for_the_detector_is_looked_at_again(models: Models, card: Image) -> None:
    """The face lies where it lies in the photo as it was."""
    plain = reference_face(models.detector, card)
    poor = (card * 0.1 + 120).astype(np.uint8)
    assert detect(models.detector, poor) == []
    found = reference_face(models.detector, poor)
    assert np.abs(found.landmarks - plain.landmarks).max() < 0.25 * plain.eye_distance


@pytest.mark.parametrize(
    "photo",
    [
        np.full((126, 102, 3), 128, np.uint8),
        np.zeros((126, 102, 3), np.uint8),
        np.random.default_rng(1).integers(0, 256, (126, 102, 3)).astype(np.uint8),
        np.zeros((1, 1, 3), np.uint8),
    ],
    ids=["grey", "black", "noise", "tiny"],
)
def test_a_photo_of_nobody(models: Models, photo: Image) -> None:
    with pytest.raises(VisionError) as caught:
        reference_face(models.detector, photo)
    assert (caught.value.code, caught.value.retry) == ("photo.no_face", False)


def test_a_photo_of_two(models: Models, hopper: Image, collins: Image) -> None:
    with pytest.raises(VisionError) as caught:
        reference_face(models.detector, np.hstack([hopper[:, :512], collins[:600, 180:700]]))
    assert (caught.value.code, caught.value.retry) == ("photo.many_faces", False)


def test_a_photo_upside_down_or_with_a_strange_face_is_nobodys(
    models: Models, card: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A less sure face has to lie as a frontal one does."""
    from vision import reference as module

    (face,) = detect(models.detector, card)
    strange = face.landmarks.copy()
    strange[2] += 0.9 * face.eye_distance

    def unsure(*_: object, least_score: float = SCORE_THRESHOLD) -> list[object]:
        return [] if least_score == SCORE_THRESHOLD else [type(face)(face.box, strange, 0.6)]

    monkeypatch.setattr(module, "detect", unsure)
    with pytest.raises(VisionError, match="0 faces"):
        reference_face(models.detector, card)
