"""Signs of a print or a screen within the face's own pixels: a grid or moiré, colour that is missing, glare (T9).

Limits come from bona fide photographs; docs/presentation-attack.md has the counts. Lengths are pixels of the frame.
"""

import cv2
import numpy as np
import numpy.typing as npt

from vision.attack.result import LayerResult, judged
from vision.models import Floats, Image

LEAST_FRAMES = 3
_TILE = 128
_REACH = 1.2
"""The tiles cover the face's box, enlarged so many times: at most three across and three down."""

_BAND = (0.06, 0.48)
"""Cycles a pixel among which a grid is looked for."""

_BLOCKS = 8
"""Video and JPEG code blocks of so many pixels: their frequencies on the axes say nothing."""

_FLOOR = 1e4
"""Power in a tile under which a frequency cannot be told from the sensor's noise: about 2 grey levels."""

_GRID_LIMIT = 2.2
_LEAST_CHROMA = 2.0
_MOST_GLARE = 0.35
_COLOURLESS = 0.5
"""Below it the camera gives no colour at all."""

_LEAST_DETAIL = 1.0
"""Standard deviation of the light over a tile: below it there is nothing to see."""

_WINDOW: Floats = np.outer(np.hanning(_TILE), np.hanning(_TILE)).astype(np.float32)
_MARGIN = 8


class Texture:
    """Gathers measures of one face's pixels; a grid's frequency moves from frame to frame, so each counts apart."""

    def __init__(self) -> None:
        self._peaks: list[tuple[float, float]] = []
        self._chroma: list[float] = []
        self._glare: list[float] = []

    def look(self, frame: Image, box: Floats) -> None:
        """Use a frame (BGR) in which the face has this box (x, y, width, height); one too small is passed over."""
        if not _usable(frame, box):
            return
        tiles, count = spectrum(frame, box)
        if count:
            self._peaks.append(peak(tiles / np.float32(count)))
            tiles.fill(0)
        chroma, glare = colours(frame, box)
        self._chroma.append(chroma)
        self._glare.append(glare)

    def results(self) -> tuple[LayerResult, LayerResult]:
        """Return the layers `grid` and `colour`; each needs three frames."""
        return self._grid(), self._colour()

    def wipe(self) -> None:
        """Forget the measures."""
        self._peaks.clear()
        self._chroma.clear()
        self._glare.clear()

    def _grid(self) -> LayerResult:
        if len(self._peaks) < LEAST_FRAMES:
            return LayerResult("grid", "undecided", reason="attack.too_few_frames")
        height, cycles = (float(value) for value in np.median(self._peaks, axis=0))
        evidence = {"peak": height, "cycles_per_pixel": cycles, "frames": float(len(self._peaks))}
        return judged("grid", {"attack.grid": height / _GRID_LIMIT}, evidence)

    def _colour(self) -> LayerResult:
        if len(self._chroma) < LEAST_FRAMES:
            return LayerResult("colour", "undecided", reason="attack.too_few_frames")
        chroma, glare = float(np.median(self._chroma)), float(np.median(self._glare))
        evidence = {"chroma": chroma, "glare": glare, "frames": float(len(self._chroma))}
        if chroma < _COLOURLESS:
            return LayerResult("colour", "undecided", None, "attack.camera_without_colour", evidence)
        scores = {"attack.no_colour": _LEAST_CHROMA / chroma, "attack.glare": glare / _MOST_GLARE}
        return judged("colour", scores, evidence)


def spectrum(frame: Image, box: Floats) -> tuple[Floats, int]:
    """Return the sum of the tiles' log power spectra (zero frequency in the middle) and the number of tiles.

    The logarithm of each tile counts, not the power: a grid is everywhere, a grating behind the face in one tile.
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(np.float32)
    total = np.zeros((_TILE, _TILE), np.float32)
    count = 0
    lower, upper = _enlarged(frame, box, _REACH)
    for y in _starts(lower[1], upper[1], frame.shape[0]):
        for x in _starts(lower[0], upper[0], frame.shape[1]):
            tile = grey[y : y + _TILE, x : x + _TILE]
            if float(tile.std()) < _LEAST_DETAIL:
                continue
            waves = cv2.dft((tile - tile.mean()) * _WINDOW, flags=cv2.DFT_COMPLEX_OUTPUT)
            power = np.fft.fftshift(waves[:, :, 0] ** 2 + waves[:, :, 1] ** 2)
            total += np.log(cv2.GaussianBlur(power, (3, 3), 0.7) + _FLOOR)
            count += 1
    grey.fill(0)
    return total, count


def peak(mean: Floats) -> tuple[float, float]:
    """Return how far the highest peak stands over its surroundings, in nepers of power, and its cycles a pixel."""
    wide = cv2.copyMakeBorder(mean, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_REFLECT)
    around = cv2.blur(cv2.medianBlur(wide, 5), (7, 7))[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    heights = np.where(_LOOKED_AT, mean - around, -np.inf)
    at = np.unravel_index(int(heights.argmax()), heights.shape)
    return float(heights[at]), float(_RADIUS[at])


def colours(frame: Image, box: Floats) -> tuple[float, float]:
    """Return the spread of the colour over the face, in levels of Cr and Cb, and the share of burnt-out pixels."""
    lower, upper = _enlarged(frame, box, 0.8)
    face = frame[int(lower[1]) : int(upper[1]), int(lower[0]) : int(upper[0])]
    small = cv2.resize(face, (64, 64), interpolation=cv2.INTER_AREA)
    chroma = cv2.cvtColor(small, cv2.COLOR_BGR2YCrCb)[:, :, 1:].reshape(-1, 2).astype(np.float64)
    glare = float((small.min(axis=2) >= 250).mean())
    small.fill(0)
    return float(np.sqrt(chroma.var(axis=0).sum())), glare


def _usable(frame: Image, box: Floats) -> bool:
    if frame.ndim != 3 or frame.shape[2] != 3 or min(frame.shape[:2]) < _TILE or not np.all(np.isfinite(box)):
        return False
    lower, upper = _enlarged(frame, box, 0.8)
    return bool(np.all(upper - lower >= 16))


def _enlarged(frame: Image, box: Floats, times: float) -> tuple[Floats, Floats]:
    """Return the corners of the box, enlarged about its middle and cut at the frame's edge."""
    middle, half = box[:2] + box[2:] / 2, box[2:] / 2 * times
    size = np.array([frame.shape[1], frame.shape[0]], np.float32)
    return np.clip(middle - half, 0, size), np.clip(middle + half, 0, size)


def _starts(lower: float, upper: float, length: int) -> list[int]:
    """Return where one to three tiles begin that cover a range as well as they can, within the frame."""
    first = min(max(int((lower + upper - _TILE) / 2), 0), length - _TILE)
    spare = upper - lower - _TILE
    if spare < _TILE / 4:
        return [first]
    begin, end = max(0, int(lower)), min(int(upper), length) - _TILE
    return [begin, end] if spare < _TILE / 2 else [begin, first, end]


def _frequencies() -> tuple[Floats, Floats, Floats]:
    line = np.fft.fftshift(np.fft.fftfreq(_TILE)).astype(np.float32)
    across, down = np.meshgrid(np.abs(line), np.abs(line))
    return across, down, np.hypot(across, down)


def _looked_at() -> npt.NDArray[np.bool_]:
    """Mark the band, without the frequencies of the coding blocks on the axes."""
    near = 2.5 / _TILE
    marked = (_BAND[0] <= _RADIUS) & (_BAND[1] >= _RADIUS)
    for one, other in ((_ACROSS, _DOWN), (_DOWN, _ACROSS)):
        multiple = np.round(one * _BLOCKS) / _BLOCKS
        marked &= ~((np.abs(one - multiple) < near) & (other < near))
    return marked


_ACROSS, _DOWN, _RADIUS = _frequencies()
_LOOKED_AT = _looked_at()
