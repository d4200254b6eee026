"""Signs of a print or a screen around the face: what is beside the head moves with it (T9).

The terminal's camera does not move, so what stands behind a person stays where it is. The paper, the screen and the
room on them follow the face. Hair and clothes do too: nothing close to the head, nor below the chin, is looked at.
Every frame is laid over the others so that the face keeps its place: what follows it stays sharp, the rest blurs.
"""

import cv2
import numpy as np
import numpy.typing as npt

from vision.align import similarity
from vision.attack.result import LayerResult, judged
from vision.models import Floats, Image

_SIDE = 224
_UNIT = 28.0
"""The eyes' distance in the square of `_SIDE` pixels in which the frames are laid over each other."""

_MIDDLE = np.array([_SIDE / 2, _SIDE / 2])
_TEMPLATE = (_MIDDLE + _UNIT * np.array([[-0.5, 0], [0.5, 0], [0, 0.57], [-0.42, 1.15], [0.42, 1.15]])).astype(
    np.float32
)
"""Where the five landmarks of a face lie in the square, in the proportions of `vision.align.TEMPLATE`."""

_CHIN = 1.9
_HEAD = (1.75, 2.0)
"""Hair ends so many eye distances beside and above the middle of the eyes."""

_LEAST_FRAMES = 8
_LEAST_SPREAD = 1.6
"""Standard deviation of the face's place in pixels of the square, below which nothing blurs."""

_LEAST_GRADIENT = 5.0
_COHERENT = 0.72
_STILL = 0.8
_LEAST_TEXTURE = 40
_FOLLOWING_LIMIT = 0.15
_LINE_LENGTH = 1.5
_LEAST_COVER = 0.6
_UPRIGHT = np.sin(np.radians(20))

_Array = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]


class Surround:
    """Lays frames over each other, once by the face and once by the camera; `wipe` overwrites what it kept."""

    def __init__(self) -> None:
        self._by_face = _Gradients()
        self._by_camera = _Gradients()
        self._to_square: Floats | None = None
        self._places: list[_Array] = []

    def look(self, frame: Image, landmarks: Floats) -> None:
        """Use a frame (BGR, all of one size) with the five landmarks (5, 2) of the face."""
        shaped = frame.ndim == 3 and frame.shape[2] == 3 and landmarks.shape == (5, 2) and max(frame.shape) <= 8192
        if not shaped or not np.all(np.abs(landmarks) < 1e5):
            return
        if float(np.hypot(*(landmarks[1] - landmarks[0]))) < 8:
            return
        to_square = similarity(landmarks, _TEMPLATE)
        if not np.all(np.isfinite(to_square)):
            return
        if self._to_square is None:
            self._to_square = to_square
        place = landmarks.mean(axis=0, dtype=np.float64)
        self._places.append(place @ self._to_square[:, :2].T.astype(np.float64))
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
        self._by_face.add(grey, to_square)
        self._by_camera.add(grey, self._to_square)
        grey.fill(0)

    def results(self) -> tuple[LayerResult, LayerResult]:
        """Return the layers `motion` and `border`; undecided until the face moved enough in eight frames."""
        spread = np.std(self._places, axis=0) if self._places else np.zeros(2)
        evidence = {"frames": float(len(self._places)), "across": float(spread[0]), "down": float(spread[1])}
        if len(self._places) < _LEAST_FRAMES or spread.max() < _LEAST_SPREAD:
            reason = "attack.nothing_to_compare"
            return tuple(LayerResult(name, "undecided", None, reason, evidence) for name in ("motion", "border"))  # type: ignore[return-value]
        return self._motion(evidence), self._border(evidence, spread)

    def wipe(self) -> None:
        """Overwrite what was gathered."""
        self._by_face.wipe()
        self._by_camera.wipe()
        self._to_square = None
        self._places.clear()

    def _motion(self, evidence: dict[str, float]) -> LayerResult:
        """Weigh what is sharp only when laid by the face against what is sharp only when laid by the camera."""
        follows, stays = self._by_face.coherence(), self._by_camera.coherence()
        following = _textured(self._by_face) & (follows > _COHERENT) & (stays < _STILL * follows) & _AROUND
        staying = _textured(self._by_camera) & (stays > _COHERENT) & (follows < _STILL * stays) & _AROUND
        counts = [float((following & side).sum()) for side in _SIDES]
        total = sum(counts) + float(staying.sum())
        evidence = evidence | {"following": sum(counts), "staying": float(staying.sum())}
        if total < _LEAST_TEXTURE:
            return LayerResult("motion", "undecided", None, "attack.nothing_to_compare", evidence)
        sides = sum(count >= _LEAST_TEXTURE for count in counts)
        share = sum(counts) / total
        score = min(share / _FOLLOWING_LIMIT, sides / 2)
        return judged("motion", {"attack.surroundings_follow": score}, evidence | {"sides": float(sides)})

    def _border(self, evidence: dict[str, float], spread: _Array) -> LayerResult:
        """Look for long straight edges on two sides of the head that follow it."""
        edges = self._by_face.edges() & _AROUND & (self._by_face.coherence() > _COHERENT)
        left, right, above = (_cover(edges, side) for side in range(3))
        if spread[0] < _LEAST_SPREAD:
            left = right = 0.0  # an upright edge behind the person would stay sharp as well
        if spread[1] < _LEAST_SPREAD:
            above = 0.0
        evidence = evidence | {"left": left, "right": right, "above": above}
        return judged("border", {"attack.border": sorted((left, right, above))[1] / _LEAST_COVER}, evidence)


class _Gradients:
    """Means of the frames' gradients and of their squares, in the square around the face."""

    def __init__(self) -> None:
        self._sum = np.zeros((2, _SIDE, _SIDE), np.float32)
        self._squares = np.zeros((_SIDE, _SIDE), np.float32)
        self._seen = np.zeros((_SIDE, _SIDE), np.float32)

    def add(self, grey: Image, to_square: Floats) -> None:
        square = cv2.warpAffine(grey, to_square, (_SIDE, _SIDE), flags=cv2.INTER_AREA)
        inside = cv2.warpAffine(np.full(grey.shape, 255, np.uint8), to_square, (_SIDE, _SIDE))
        seen = cv2.erode(inside, np.ones((7, 7), np.uint8)) == 255
        smooth = cv2.GaussianBlur(square, (0, 0), 1.0).astype(np.float32)
        across, down = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
        self._sum += np.stack([across, down]) * seen
        self._squares += (across**2 + down**2) * seen
        self._seen += seen
        square.fill(0)
        smooth.fill(0)

    def strength(self) -> Floats:
        """Return the length of the mean gradient, in grey levels a pixel; 0 where half the frames showed nothing."""
        often = self._seen >= max(float(self._seen.max()) / 2, 1)
        return np.where(often, np.hypot(*self._sum) / np.maximum(self._seen, 1), 0).astype(np.float32)

    def coherence(self) -> Floats:
        """Return the mean gradient's length over its root mean square: 1 where every frame shows the same."""
        square = np.sqrt(self._squares / np.maximum(self._seen, 1))
        return (self.strength() / np.maximum(square, 1e-3)).astype(np.float32)

    def edges(self) -> _Mask:
        """Return the thin edges of the mean."""
        mean = np.clip(self._sum / np.maximum(self._seen, 1) * 64, -32000, 32000).astype(np.int16)
        return np.asarray(cv2.Canny(mean[0], mean[1], 64 * 2, 64 * _LEAST_GRADIENT, L2gradient=True) > 0)

    def wipe(self) -> None:
        """Overwrite the sums."""
        for array in (self._sum, self._squares, self._seen):
            array.fill(0)


def _textured(gradients: _Gradients) -> _Mask:
    return np.asarray(gradients.strength() > _LEAST_GRADIENT)


def _cover(edges: _Mask, side: int) -> float:
    """Return how much of the head's height (above: width) the best straight, nearly upright (level) line covers."""
    drawn = (edges & _SIDES[side]).astype(np.uint8) * 255
    lines = cv2.HoughLinesP(drawn, 1, np.pi / 180, 20, minLineLength=0.7 * _UNIT, maxLineGap=5)
    if lines is None:
        return 0.0
    across, down = np.abs((lines.reshape(-1, 4)[:, 2:] - lines.reshape(-1, 4)[:, :2]).astype(np.float64)).T
    length = np.hypot(across, down)
    upright = (across if side < 2 else down) < _UPRIGHT * length
    return float((length * upright).max()) / (_LINE_LENGTH * 2 * _UNIT)


def _around() -> tuple[_Mask, tuple[_Mask, _Mask, _Mask]]:
    """Mark what is outside the head and above the chin, and of it what is left, right and above."""
    down, across = np.mgrid[0:_SIDE, 0:_SIDE] - _SIDE / 2
    beside, above = np.abs(across) > _HEAD[0] * _UNIT, down < -_HEAD[1] * _UNIT
    around = (beside | above) & (down < _CHIN * _UNIT)
    return around, (around & beside & (across < 0), around & beside & (across > 0), around & above)


_AROUND, _SIDES = _around()
