"""Tell which way up a page lies, from the shapes of its print (T2).

Each piece of ink the size of a letter or of a part of a Chinese character is looked at in all four turns by one small
network that says how upright it seems; the turn that all pieces together favour is the page's, when they favour it
clearly. `sim.upright` trained the network on drawn pages; `docs/documents.md` has its figures.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vision.models import Floats, Image

SEEN_DPI = 200
"""What a page must be flattened at to be looked at."""

PATCH = 24
_WEIGHTS = Path(__file__).with_name("upright.npz")
_LEAST_MM, _MOST_MM = 0.9, 9.0
_WINDOW = 1.5
_MOST_PIECES, _LEAST_PIECES = 700, 10
_CLEAR = 5.0
_INK_BLOCK, _INK_BELOW = 41, 16


@dataclass(frozen=True, slots=True)
class Upright:
    """How many quarter turns clockwise make the page upright (0 to 3), None when its print does not say.

    `clearness` is by how many standard errors the pieces prefer that turn to the next best.
    """

    turns: int | None
    clearness: float
    pieces: int


def pieces(grey: Image) -> Floats:
    """Return what is about each piece of print of a grey page at `SEEN_DPI`: n x PATCH x PATCH, ink 1 and paper 0."""
    block = min(_INK_BLOCK, (min(grey.shape) - 1) | 1)
    if block < 3:
        return np.zeros((0, PATCH, PATCH), np.float32)
    mean, inverted = cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV
    ink = cv2.adaptiveThreshold(grey, 255, mean, inverted, block, _INK_BELOW).astype(np.uint8, copy=False)
    _, _, found, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    widths, heights, areas = found[:, cv2.CC_STAT_WIDTH], found[:, cv2.CC_STAT_HEIGHT], found[:, cv2.CC_STAT_AREA]
    longest, shortest = np.maximum(widths, heights), np.minimum(widths, heights)
    dots = SEEN_DPI / 25.4
    fits = (longest > _LEAST_MM * dots) & (longest < _MOST_MM * dots) & (shortest > 0.3 * longest)
    fits &= areas < 0.85 * widths * heights
    kept = np.flatnonzero(fits)
    if len(kept) > _MOST_PIECES:
        kept = kept[np.linspace(0, len(kept) - 1, _MOST_PIECES).astype(np.int64)]
    return (
        np.stack([_window(ink, found[each]) for each in kept]) if len(kept) else np.zeros((0, PATCH, PATCH), np.float32)
    )


def _window(ink: Image, found: npt.NDArray[np.int32]) -> Floats:
    left, top, width, height = (int(value) for value in found[:4])
    side = round(_WINDOW * max(width, height))
    centre = left + (width - 1) / 2, top + (height - 1) / 2
    cut = cv2.getRectSubPix(ink, (side, side), centre)
    share: Floats = cv2.resize(cut, (PATCH, PATCH), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    return share


class Reader:
    """The network; loading it reads one file."""

    def __init__(self) -> None:
        with np.load(_WEIGHTS) as stored:
            self._layers = [stored[name].astype(np.float32) for name in ("inner", "inner_bias", "outer")]

    def read(self, grey: Image) -> Upright:
        """Tell which way up a grey page lies that was flattened at `SEEN_DPI`."""
        patches = pieces(grey)
        if len(patches) < _LEAST_PIECES:
            return Upright(None, 0.0, len(patches))
        said = log_shares(scores(patches, *self._layers))
        order = np.argsort(said.sum(axis=0))
        lead = said[:, order[-1]] - said[:, order[-2]]
        clearness = float(lead.mean() / (lead.std() / np.sqrt(len(lead)) + 1e-9))
        return Upright(int(order[-1]) if clearness >= _CLEAR else None, clearness, len(patches))


def scores(patches: Floats, inner: Floats, inner_bias: Floats, outer: Floats) -> Floats:
    """Return how upright each patch seems after 0 to 3 quarter turns clockwise: n x 4."""
    turned = np.stack([np.rot90(patches, -turns, axes=(1, 2)) for turns in range(4)], axis=1)
    flat = turned.reshape(-1, PATCH * PATCH) - np.float32(0.3)
    return (np.maximum(flat @ inner + inner_bias, 0) @ outer).reshape(-1, 4).astype(np.float32)


def log_shares(scored: Floats) -> Floats:
    """Return the logarithm of each turn's probability (softmax)."""
    away = scored - scored.max(axis=1, keepdims=True)
    shares: Floats = (away - np.log(np.exp(away).sum(axis=1, keepdims=True))).astype(np.float32)
    return shares
