"""Judge a flattened page: light, glare, and how sharp its print is (T2).

Everything is measured over cells of the page at `PAGE_DPI`, so that a fault in one part shows. A glare is where no
detail can be left: every colour of the sensor at its end. The sharpness of a cell is how much steeper its print is than
the same print blurred by 0.3 mm, across or down, whichever is less (a movement blurs one way only).
"""

import cv2
import numpy as np

from vision.models import Floats, Image
from vision.page_report import Fault, PageQuality

PAGE_DPI = 200
"""What a page must be flattened at to be judged."""

_CELL = 48
_DARK = 50.0
_SATURATED, _SATURATED_BOX = 249.0, 9
_GLARE_SHARE, _WHITE_SHARE = 0.006, 0.4
_FINE, _COARSE = 0.8, 2.4
_STEEP_SHARE, _LEAST_SLOPE = 0.97, 0.055
_LEAST_SHARPNESS = 1.45
_BLURRED_SHARE = 0.45
_LEAST_CELLS = 3


def judge_page(page: Image) -> PageQuality:
    """Judge a BGR page that was flattened at `PAGE_DPI`."""
    grey = cv2.cvtColor(page, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
    paper = float(np.percentile(grey[::4, ::4], 70))
    saturated = cv2.blur(page.min(axis=2), (_SATURATED_BOX, _SATURATED_BOX)) >= _SATURATED
    glare = float(saturated.mean())
    sharpness = _sharpness(grey)
    printed = sharpness > 0
    count = int(printed.sum())
    blank = count < _LEAST_CELLS
    blurred = 0.0 if blank else float((sharpness[printed] < _LEAST_SHARPNESS).mean())
    median = 0.0 if blank else float(np.median(sharpness[printed]))
    fault: Fault | None = None
    if paper < _DARK:
        fault = "document.too_dark"
    elif glare > _WHITE_SHARE:
        fault = "document.too_bright"
    elif glare > _GLARE_SHARE:
        fault = "document.glare"
    elif blurred > _BLURRED_SHARE:
        fault = "document.blurred"
    return PageQuality(glare, blurred, median, paper, 0.0 if blank else float(printed.mean()), fault)


def _sharpness(grey: Image) -> Floats:
    """Return for each cell how much steeper its print is than when blurred again, across or down; 0 without print."""
    rows, columns = grey.shape[0] // _CELL, grey.shape[1] // _CELL
    if not rows or not columns:
        return np.zeros((0, 0), np.float32)
    whole = grey[: rows * _CELL, : columns * _CELL]
    fine, coarse = (cv2.GaussianBlur(whole, (0, 0), sigma).astype(np.uint8, copy=False) for sigma in (_FINE, _COARSE))
    light = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    least = np.full((rows, columns), np.inf, np.float32)
    for across in (1, 0):
        steep, blurred = (_steepest(picture, across, rows, columns) for picture in (fine, coarse))
        there = blurred > _LEAST_SLOPE * np.maximum(light, 1)
        least = np.where(there, np.minimum(least, steep / np.maximum(blurred, 1)), least)
    least[[0, -1]] = least[:, [0, -1]] = np.inf  # the desk looks in at a page's rim
    return np.where(np.isinf(least), 0, least).astype(np.float32)


def _steepest(picture: Image, across: int, rows: int, columns: int) -> Floats:
    """Return the slope that a few in a hundred of a cell's pixels exceed."""
    slopes = cv2.convertScaleAbs(cv2.Sobel(picture, cv2.CV_16S, across, 1 - across, ksize=3), alpha=0.5)
    cells = _cells(slopes.astype(np.uint8, copy=False), rows, columns)
    place = int(_STEEP_SHARE * cells.shape[2])
    return np.partition(cells, place, axis=2)[:, :, place].astype(np.float32)


def _cells(picture: Image, rows: int, columns: int) -> Image:
    return picture.reshape(rows, _CELL, columns, _CELL).swapaxes(1, 2).reshape(rows, columns, _CELL * _CELL)
