"""How sharp a captured page is (vision/document.py)."""

import cv2
import numpy as np
import pytest

from sim.scene import DOCUMENT_SIZE, DocumentScene
from vision.document import sharpness
from vision.models import Image


@pytest.fixture(scope="module")
def page() -> Image:
    return DocumentScene(1).frame()


def test_the_rigs_page_has_five_megapixels(page: Image) -> None:
    """T2."""
    assert page.shape == (1944, 2592, 3)
    assert DOCUMENT_SIZE == (2592, 1944)


def test_a_blurred_page_is_less_sharp_and_a_dim_one_is_not(page: Image) -> None:
    measured = [sharpness(cv2.GaussianBlur(page, (0, 0), blur).astype(np.uint8)) for blur in (0.5, 1.5, 3.0, 6.0)]
    assert measured == sorted(measured, reverse=True)
    assert measured[0] > 4 * measured[2]
    dim = (page * 0.6).astype(np.uint8)
    assert sharpness(dim) == pytest.approx(sharpness(page), rel=0.1)


def test_a_picture_without_contrast_has_no_sharpness() -> None:
    assert sharpness(np.full((10, 10, 3), 90, np.uint8)) == 0
