"""SFace through ONNX Runtime says what OpenCV's own FaceRecognizerSF says."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision.align import align
from vision.detect import detect
from vision.embed import embed, unit
from vision.folding import fold
from vision.manifest import read_manifest
from vision.models import Floats, Image, Models
from vision.store import fetch


@pytest.fixture(scope="module")
def oracle(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> cv2.FaceRecognizerSF:
    """OpenCV's recogniser on a model of its own batch size."""
    path = tmp_path_factory.mktemp("zoo") / "sface.onnx"
    path.write_bytes(fold(fetch(read_manifest().recogniser.container, model_directory / "wheels"), (1, 3, 112, 112)))
    return cv2.FaceRecognizerSF.create(str(path), "")


def test_equals_opencv_from_landmarks_to_embedding(
    models: Models, oracle: cv2.FaceRecognizerSF, hopper: Image, collins: Image, view: Callable[..., Image]
):
    for frame in (view(hopper, turn=5), view(collins)):
        (face,) = detect(models.detector, frame)
        row = np.hstack([face.box, face.landmarks.ravel(), face.score]).astype(np.float32)
        expected = oracle.alignCrop(frame, row)
        aligned = align(frame, face.landmarks)
        assert np.abs(aligned.astype(int) - expected).max() <= 2
        features: list[Floats] = [oracle.feature(crop)[0] for crop in (expected, expected[:, ::-1].copy())]
        assert embed(models.recogniser, aligned) @ unit(unit(features[0]) + unit(features[1])) > 0.9999


def test_a_face_and_its_mirror_image_are_alike(models: Models, hopper: Image, view: Callable[..., Image]):
    frame = view(hopper)
    (face,) = detect(models.detector, frame)
    aligned = align(frame, face.landmarks)
    embedding = embed(models.recogniser, aligned)
    assert embedding.shape == (128,)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)
    assert embedding @ embed(models.recogniser, aligned[:, ::-1]) == pytest.approx(1, abs=1e-5)


def test_nothing_resembles_zero():
    assert not unit(np.zeros(128, np.float32)).any()
