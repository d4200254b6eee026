"""A captured document: how sharp it is (T2)."""

import cv2
import numpy as np

from vision.models import Image


def sharpness(picture: Image) -> float:
    """Return how fine the picture's detail is: its second differences at half size, against its contrast.

    It is the same at any light; 0 for a picture without contrast.
    """
    grey = cv2.cvtColor(cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    contrast = float(np.std(grey))
    return float(np.std(cv2.Laplacian(grey, cv2.CV_16S))) / contrast if contrast else 0.0
