"""The similarity transform against known ones, OpenCV's own fit and Umeyama's singular-value form."""

from collections.abc import Callable

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vision.align import SIZE, TEMPLATE, align, similarity
from vision.detect import detect
from vision.models import Floats, Image, Models


def umeyama(source: Floats, target: Floats) -> np.ndarray:
    """Umeyama (1991), equations 34 to 43, by singular values."""
    centred, wanted = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(wanted.T @ centred / len(source))
    sign = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = (d * sign).sum() / centred.var(0).sum()
    return np.column_stack([scale * rotation, target.mean(0) - scale * rotation @ source.mean(0)])


@given(st.floats(-3, 3), st.floats(0.1, 5), st.floats(-100, 100), st.floats(-100, 100))
def test_recovers_a_known_transform(turn: float, scale: float, right: float, down: float):
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    known = np.array([[cosine, -sine, right], [sine, cosine, down]])
    moved = TEMPLATE @ known[:, :2].T + known[:, 2]
    assert np.allclose(similarity(TEMPLATE, moved.astype(np.float32)), known, atol=2e-3)


def test_equals_umeyama_on_points_that_fit_no_transform():
    random = np.random.default_rng(5)
    for _ in range(50):
        points = TEMPLATE * 2 + random.normal(0, 8, (5, 2))
        assert np.allclose(similarity(points.astype(np.float32), TEMPLATE), umeyama(points, TEMPLATE), atol=1e-3)


def test_a_turned_face_comes_out_upright(models: Models, hopper: Image, view: Callable[..., Image]):
    for turn in (-12, 0, 12):
        (face,) = detect(models.detector, view(hopper, turn=turn))
        aligned = align(view(hopper, turn=turn), face.landmarks)
        assert aligned.shape == (SIZE, SIZE, 3)
        enlarged = cv2.resize(aligned, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
        (upright,) = detect(models.detector, enlarged)
        assert np.abs(upright.landmarks / 3 - TEMPLATE).max() < 8
