"""The colours of a scanned page, and how it is compressed (T2)."""

import cv2
import numpy as np

from vision.models import Image
from vision.page_report import Tone

_BACKGROUND_MM = 1.3
_CLOSED, _SMOOTHED = 5, 5
_INK = 0.72


def toned(page: Image, tone: Tone, dpi: int) -> Image:
    """Return a BGR page in that tone; black and white is 0 and 255, whatever light or shadow lies on the paper."""
    if tone == "colour":
        return page
    grey = cv2.cvtColor(page, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
    return grey if tone == "grey" else _black_white(grey, dpi)


def _black_white(grey: Image, dpi: int) -> Image:
    """Compare each pixel with the paper about it: the lightest thing within some millimetres."""
    height, width = grey.shape
    coarse = max(1.0, _BACKGROUND_MM * dpi / 25.4)
    size = max(1, round(width / coarse)), max(1, round(height / coarse))
    small = cv2.resize(cv2.GaussianBlur(grey, (3, 3), 0), size, interpolation=cv2.INTER_AREA)
    paper = cv2.medianBlur(cv2.dilate(small, np.ones((_CLOSED, _CLOSED), np.uint8)), _SMOOTHED)
    around = cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(grey < around * np.float32(_INK), 0, 255).astype(np.uint8)


def encode_page(page: Image, tone: Tone, quality: int) -> Image:
    """Return the page as the bytes of a JPEG of that quality (1 to 100), or of a 1-bit PNG, in an array."""
    if tone == "black_white":
        _, coded = cv2.imencode(".png", page, [cv2.IMWRITE_PNG_BILEVEL, 1])
    else:
        _, coded = cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return coded.astype(np.uint8, copy=False)


def decode_page(coded: Image) -> Image:
    """Return the page that `encode_page` made these bytes of."""
    page = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED)
    if page is None:
        raise ValueError("a held page was overwritten")
    return page.astype(np.uint8, copy=False)
