"""Bring a face to the recogniser's 112x112 frame by the similarity transform that fits its five landmarks best."""

import cv2
import numpy as np

from vision.models import Floats, Image

SIZE = 112
TEMPLATE: Floats = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where ArcFace training puts the landmarks in a 112x112 face."""


def similarity(source: Floats, target: Floats) -> Floats:
    """Return the 2x3 rotation, scale and shift that maps points (n, 2) on others with the least squared error.

    The closed form of Umeyama (1991) without reflection, written in complex numbers: w = az + b.
    """
    z = source.astype(np.float64) @ (1, 1j)
    w = target.astype(np.float64) @ (1, 1j)
    centred = z - z.mean()
    a = np.vdot(centred, w - w.mean()) / np.vdot(centred, centred)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], np.float32)


def align(image: Image, landmarks: Floats) -> Image:
    """Return the 112x112 face, upright and centred, that the landmarks (5, 2) mark in a picture."""
    aligned = cv2.warpAffine(image, similarity(landmarks, TEMPLATE), (SIZE, SIZE), flags=cv2.INTER_LINEAR)
    return aligned.astype(np.uint8, copy=False)
