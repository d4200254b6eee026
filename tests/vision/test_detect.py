"""YuNet through ONNX Runtime finds what OpenCV's own FaceDetectorYN finds."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision.detect import SCORE_THRESHOLD, detect
from vision.manifest import read_manifest
from vision.models import Image, Models
from vision.store import fetch


@pytest.fixture(scope="module")
def oracle(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> cv2.FaceDetectorYN:
    """OpenCV's detector on the zoo's file as it came."""
    source = tmp_path_factory.mktemp("zoo") / "yunet.onnx"
    source.write_bytes(fetch(read_manifest().detector.container, model_directory / "wheels"))
    return cv2.FaceDetectorYN.create(str(source), "", (640, 480), SCORE_THRESHOLD, 0.3, 5000)


def test_equals_opencv(
    models: Models, oracle: cv2.FaceDetectorYN, hopper: Image, collins: Image, view: Callable[..., Image]
):
    both = np.hstack([view(hopper)[:, 160:480], view(collins)[:, 160:480]])
    frames = [
        view(hopper, turn=7),
        view(collins, scale=0.5),
        view(hopper, gain=0.3, noise=8),
        both,
        np.zeros_like(both),
    ]
    for frame in frames:
        _, expected = oracle.detect(frame)
        faces = detect(models.detector, frame)
        expected = np.empty((0, 15)) if expected is None else expected
        assert len(faces) == len(expected)
        for face, row in zip(faces, sorted(expected, key=lambda row: -row[14]), strict=True):
            assert np.abs(face.box - row[:4]).max() < 0.1
            assert np.abs(face.landmarks - row[4:14].reshape(5, 2)).max() < 0.1
            assert abs(face.score - row[14]) < 1e-4
    assert len(detect(models.detector, both)) == 2
    assert not detect(models.detector, np.zeros_like(both))


def test_finds_the_same_place_at_any_size(models: Models, hopper: Image, view: Callable[..., Image]):
    frame = view(hopper)
    (face,) = detect(models.detector, frame)
    for factor, tolerance in ((2.0, 2.0), (0.5, 7.0)):
        (other,) = detect(models.detector, cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
        assert np.abs(other.landmarks / factor - face.landmarks).max() < tolerance
    (tall,) = detect(models.detector, np.ascontiguousarray(frame[:, 180:480]))
    assert np.abs(tall.landmarks - (face.landmarks - (180, 0))).max() < 8


def test_landmarks_are_named_from_left_to_right(models: Models, hopper: Image, view: Callable[..., Image]):
    (face,) = detect(models.detector, view(hopper))
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert face.eye_distance == pytest.approx(np.linalg.norm(right_eye - left_eye))


def test_leaves_the_frame_as_it_was(models: Models, hopper: Image, view: Callable[..., Image]):
    frame = view(hopper)
    before = frame.copy()
    detect(models.detector, frame)
    assert np.array_equal(frame, before)
