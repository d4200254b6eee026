"""Turn the picture of a page into the page: seen from straight above, cropped, at a resolution (T2)."""

from dataclasses import dataclass

import cv2
import numpy as np

from vision.models import Floats, Image
from vision.page_report import PaperName


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper format: its sides in millimetres, and the least share of the camera's picture that it takes."""

    long_mm: float
    short_mm: float
    least_area: float

    @property
    def ratio(self) -> float:
        """The long side by the short one."""
        return self.long_mm / self.short_mm


PAPERS: dict[PaperName, Paper] = {
    "a4": Paper(297.0, 210.0, 0.08),
    "a5": Paper(210.0, 148.0, 0.04),
    "card": Paper(85.6, 53.98, 0.015),
}
"""ISO 216, and ISO/IEC 7810 ID-1 for the resident's identity card."""


def flatten(picture: Image, corners: Floats, paper: Paper, dpi: int) -> Image:
    """Return the page between these corners (clockwise, the first becomes the top left), `dpi` dots an inch.

    The longer sides of the picture become the long sides of the paper.
    """
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    lying = sides[0] + sides[2] > sides[1] + sides[3]
    long, short = (round(side * dpi / 25.4) for side in (paper.long_mm, paper.short_mm))
    width, height = (long, short) if lying else (short, long)
    flat = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    move = cv2.getPerspectiveTransform(corners, flat)
    return cv2.warpPerspective(
        picture, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.uint8, copy=False)


def captured_dpi(corners: Floats, paper: Paper) -> float:
    """Return how many pixels an inch of the page got where it got fewest."""
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    one, other = min(sides[0], sides[2]), min(sides[1], sides[3])
    return 25.4 * float(min(max(one, other) / paper.long_mm, min(one, other) / paper.short_mm))
