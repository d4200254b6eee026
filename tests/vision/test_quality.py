"""Each way a frame can be unfit has its guidance code (T9)."""

from collections.abc import Callable
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.align import TEMPLATE, align, similarity
from vision.detect import Face, detect
from vision.models import Floats, Image, Models
from vision.quality import LIMITS, Quality, assess, pose, single_face_present, usable


def quality_of(frame: Image, face: Face) -> Quality:
    return assess(frame, face, align(frame, face.landmarks))


def code_of(models: Models, frame: Image) -> str | None:
    faces = usable(detect(models.detector, frame))
    return single_face_present(frame, faces) or quality_of(frame, faces[0]).guidance


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


def test_a_poster_behind_does_not_disturb_and_one_as_large_is_a_second_person(
    models: Models, hopper: Image, collins: Image, view: Callable[..., Image]
):
    for side, code in ((110, None), (260, "face.many")):
        frame = view(hopper, face_at=(0.3, 0.5))
        poster = cv2.resize(collins[:600, 180:780], (side, side), interpolation=cv2.INTER_AREA)
        cv2.rectangle(frame, (370, 40), (380 + side, 50 + side), (250, 250, 250), cv2.FILLED)
        frame[45 : 45 + side, 375 : 375 + side] = poster
        assert len(detect(models.detector, frame)) == 2
        assert code_of(models, frame) == code


SKULL = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.67, -0.55], [-0.41, 1.155, -0.1], [0.41, 1.155, -0.1]])
"""A mean head's points in distances between the eyes, z away from the camera."""


def turned(yaw: float, pitch: float, roll: float, *, distance: float = 1e6) -> Floats:
    """The points as a camera sees them, `distance` (in distances between the eyes) before a head turned by degrees."""
    y, p, r = np.radians((yaw, pitch, roll))
    around = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    lean = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    points = SKULL @ (lean @ nod @ around).T
    return (300 + 100 * points[:, :2] * distance / (distance + points[:, 2:])).astype(np.float32)


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_the_pose_of_a_mean_head_is_its_own(angle: float, roll: float):
    assert np.allclose(pose(turned(angle, 0, 0)), (angle, 0, 0), atol=0.2)
    assert np.allclose(pose(turned(0, angle, 0)), (0, angle, 0), atol=0.2)
    assert np.allclose(pose(turned(0, 0, roll)), (0, 0, roll), atol=0.2)
    assert np.allclose(pose(turned(angle / 2, 0, roll)), (angle / 2, 0, roll), atol=0.2)
    assert np.allclose(pose(turned(angle / 2, angle / 2, 0)), (angle / 2, angle / 2, 0), atol=6)


def test_the_pose_of_a_near_head_is_nearly_its_own():
    """At 0.5 m, eight distances between the eyes."""
    for angle in (-25, -10, 0, 10, 25):
        assert np.allclose(pose(turned(angle, 0, 0, distance=8)), (angle, 2.5, 0), atol=3)


@pytest.mark.parametrize("angles", [(26, 0, 0), (-26, 0, 0), (0, 26, 0), (0, -26, 0), (0, 0, 24), (0, 0, -24)])
def test_a_head_turned_away(angles: tuple[float, float, float]):
    frame = np.random.default_rng(1).integers(60, 200, (700, 640, 3)).astype(np.uint8)
    points = turned(*angles)
    face = Face(np.array([220, 200, 240, 300], np.float32), points, 0.95)
    assert quality_of(frame, face).guidance == "face.look_at_camera"


def test_defocus(models: Models, hopper: Image, view: Callable[..., Image]):
    assert code_of(models, cv2.GaussianBlur(view(hopper), (0, 0), 6)) == "face.hold_still"


def clothed(view: Image, landmarks: Floats, colour: tuple[int, int, int]) -> Image:
    """Put a face mask on: folded cloth from the bridge of the nose to the chin, shaded as the face is."""
    outline = [[14, 66], [38, 68], [50, 60], [62, 60], [74, 68], [98, 66], [96, 95], [78, 112], [34, 112], [16, 95]]
    share = np.zeros((112, 112), np.float32)
    cv2.fillPoly(share, [np.array(outline, np.int32)], 1.0)
    return dressed(view, landmarks, share, colour, 0.0)


def in_dark_glasses(view: Image, landmarks: Floats) -> Image:
    share = np.zeros((112, 112), np.float32)
    for across in (37, 75):
        cv2.ellipse(share, (across, 53), (16, 12), 0, 0, 360, 1.0, cv2.FILLED)
    cv2.line(share, (50, 49), (62, 49), 1.0, 3)
    return dressed(view, landmarks, share, (14, 14, 14), 0.12)


def dressed(view: Image, landmarks: Floats, share: Floats, colour: tuple[int, int, int], through: float) -> Image:
    height, width = view.shape[:2]
    move = similarity(TEMPLATE, landmarks)
    covered = cv2.warpAffine(share, move, (width, height))[:, :, None]
    light = cv2.GaussianBlur(cv2.cvtColor(view, cv2.COLOR_BGR2GRAY), (0, 0), 25).astype(np.float32)[:, :, None]
    noise = np.random.default_rng(3).normal(0, 2.5, view.shape)
    cloth = np.array(colour) * np.clip(light / np.median(light), 0.6, 1.3) + view * through + noise
    return np.clip(view * (1 - covered) + cloth * covered, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("colour", [(205, 180, 150), (215, 215, 215), (38, 36, 38), (190, 180, 225)])
def test_a_mask(
    models: Models, hopper: Image, collins: Image, view: Callable[..., Image], colour: tuple[int, int, int]
):
    for portrait in (hopper, collins):
        (face,) = usable(detect(models.detector, view(portrait)))
        assert quality_of(view(portrait), face).mouth_occlusion_prevention > 1.5
        masked = quality_of(clothed(view(portrait), face.landmarks, colour), face)
        assert masked.mouth_occlusion_prevention < 1
        assert masked.guidance == "face.take_off_mask"


def test_dark_glasses(models: Models, hopper: Image, collins: Image, view: Callable[..., Image]):
    for portrait in (hopper, collins):
        (face,) = usable(detect(models.detector, view(portrait)))
        assert quality_of(view(portrait), face).eyes_visible > 1.5
        hidden = quality_of(in_dark_glasses(view(portrait), face.landmarks), face)
        assert hidden.eyes_visible < 1
        assert hidden.guidance == "face.take_off_glasses"


def test_a_camera_without_colour_serves(models: Models, hopper: Image, view: Callable[..., Image]):
    grey = cv2.cvtColor(cv2.cvtColor(view(hopper), cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR).astype(np.uint8)
    assert code_of(models, grey) is None


def test_the_unified_score_falls_with_each_defect(models: Models, hopper: Image, view: Callable[..., Image]):
    """It chooses frames: a sharper, more frontal one is better, and light or place alone change little."""

    def score(frame: Image) -> float:
        (face,) = usable(detect(models.detector, frame))
        return quality_of(frame, face).unified_quality_score

    good = score(view(hopper))
    assert good > 0.7
    assert score(view(hopper, smear=9)) < good - 0.1
    assert score(cv2.GaussianBlur(view(hopper), (0, 0), 4).astype(np.uint8)) < good - 0.1
    assert abs(score(view(hopper, gain=0.8)) - good) < 0.2
    (face,) = usable(detect(models.detector, view(hopper)))
    aside = Face(face.box, face.landmarks.copy(), face.score)
    aside.landmarks[2, 0] += 0.2 * face.eye_distance
    assert quality_of(view(hopper), aside).unified_quality_score < good - 0.2
    unsure = Face(face.box, face.landmarks, 0.82)
    assert quality_of(view(hopper), unsure).unified_quality_score < 0.3


def test_every_measure_has_a_limit_and_no_number_is_refused():
    best = Quality(0.95, 90, 0.5, 0.5, 120, 1, 1, 0, 0, 0, 0.1, 2, 2)
    assert best.guidance is None
    assert best.unified_quality_score == 1
    measures = {field.name for field in fields(Quality)} - {"confidence"}
    assert {limit.measure for limit in LIMITS} == measures
    for limit in LIMITS:
        missed = replace(best, **{limit.measure: limit.least - 0.001 if limit.most == np.inf else limit.most + 0.001})
        assert missed.guidance == limit.code or limit.most == 1.0
        assert replace(best, **{limit.measure: float("nan")}).guidance is not None
