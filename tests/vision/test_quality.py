"""Each way a frame can be unfit has its guidance code (T9)."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from vision.detect import detect
from vision.models import Image, Models
from vision.quality import assess, usable


def code_of(models: Models, frame: Image) -> str | None:
    return assess(frame, usable(detect(models.detector, frame)))


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({}, None),
        ({"scale": 0.62}, None),
        ({"scale": 1.5}, None),
        ({"turn": 10}, None),
        ({"gain": 0.5, "noise": 6}, None),
        ({"face_at": (0.3, 0.5)}, None),
        ({"smear": 5}, None),
        ({"scale": 0.4}, "face.come_closer"),
        ({"scale": 1.9}, "face.move_back"),
        ({"face_at": (0.5, 0.08)}, "face.center"),
        ({"face_at": (0.95, 0.5)}, "face.center"),
        ({"face_at": (0.05, 0.5)}, "face.center"),
        ({"face_at": (0.5, 0.95)}, "face.center"),
        ({"gain": 0.2}, "face.too_dark"),
        ({"gain": 0.02}, "face.too_dark"),
        ({"gain": 3.0}, "face.too_bright"),
        ({"gain": 40.0}, "face.too_bright"),
        ({"turn": 32}, "face.look_at_camera"),
        ({"smear": 31}, "face.hold_still"),
    ],
)
def test_guidance(models: Models, hopper: Image, view: Callable[..., Image], how: dict[str, float], code: str | None):
    assert code_of(models, view(hopper, **how)) == code


def test_nobody(models: Models):
    assert code_of(models, np.full((480, 640, 3), 120, np.uint8)) == "face.none"


def test_two_people(models: Models, hopper: Image, collins: Image, view: Callable[..., Image]):
    frame = np.hstack([view(hopper)[:, 160:480], view(collins)[:, 160:480]])
    assert code_of(models, frame) == "face.many"


def test_a_bystander_far_behind_does_not_disturb(
    models: Models, hopper: Image, collins: Image, view: Callable[..., Image]
):
    frame = view(hopper, face_at=(0.35, 0.5))
    small = cv2.resize(collins[:700, 150:750], (130, 152), interpolation=cv2.INTER_AREA)
    frame[20:172, 500:630] = small
    faces = detect(models.detector, frame)
    assert len(faces) == 2
    assert len(usable(faces)) == 1
    assert code_of(models, frame) is None


def test_a_head_turned_away(models: Models, hopper: Image, view: Callable[..., Image]):
    """A face squeezed on one side of the nose has the landmarks of a turned head."""
    frame = view(hopper)
    (face,) = usable(detect(models.detector, frame))
    for shift in ((0.35, 0.0), (-0.35, 0.0), (0.0, 0.4), (0.0, -0.4)):
        turned = type(face)(face.box, face.landmarks.copy(), face.score)
        turned.landmarks[2] += np.float32(shift) * face.eye_distance
        assert assess(frame, [turned]) == "face.look_at_camera"


def test_defocus(models: Models, hopper: Image, view: Callable[..., Image]):
    assert code_of(models, cv2.GaussianBlur(view(hopper), (0, 0), 6)) == "face.hold_still"
