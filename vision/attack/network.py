"""An optional network that judges single frames, supplied by an operator and pinned by its hash (T9)."""

import cv2
import numpy as np

from vision.attack.result import LayerResult, judged
from vision.attack.square import run
from vision.errors import VisionError
from vision.manifest import damaged
from vision.models import Floats, Image, Network

_SHARE = 1.5
_LEAST_FRAMES = 3
_ADVICE = "supply the network that the manifest's row names, or take the row away"


class PassiveNetwork:
    """Gathers the verdicts of the network over a few frames.

    Its input is the face's box, made square and enlarged 1.5 times, mirrored beyond the frame; its output two logits,
    `live` first. A presentation is bona fide while live - spoof > 0.
    """

    def __init__(self, network: Network) -> None:
        """Take the loaded network; VisionError `model.damaged` when its input or output is not what is meant."""
        batch, channels, height, width = network.entry.input_shape
        if (batch, channels) != (1, 3) or height != width:
            raise _unfit(network, f"its input is {network.entry.input_shape}")
        self._network = network
        self._side = width
        self._margins: list[float] = []
        self._margin_of(np.zeros((height, width, 3), np.uint8))

    def look(self, frame: Image, box: Floats) -> None:
        """Use a frame (BGR) in which the face has this box (x, y, width, height)."""
        face = crop(frame, box, self._side)
        if face is None:
            return
        margin = self._margin_of(face)
        face.fill(0)
        if np.isfinite(margin):
            self._margins.append(margin)

    def results(self) -> tuple[LayerResult]:
        """Return the layer `network` from the median of live - spoof; undecided before three frames."""
        if len(self._margins) < _LEAST_FRAMES:
            return (LayerResult("network", "undecided", None, "attack.too_few_frames"),)
        margin = float(np.median(self._margins))
        evidence = {"margin": margin, "frames": float(len(self._margins))}
        return (judged("network", {"attack.network": 1 - margin}, evidence),)

    def wipe(self) -> None:
        """Forget the verdicts."""
        self._margins.clear()

    def _margin_of(self, face: Image) -> float:
        outputs = list(run(self._network, face).values())
        if len(outputs) != 1 or outputs[0].shape != (1, 2):
            raise _unfit(self._network, f"its outputs are {[output.shape for output in outputs]}")
        return float(outputs[0][0, 0] - outputs[0][0, 1])


def crop(frame: Image, box: Floats, side: int) -> Image | None:
    """Return the enlarged square around the box in `side` pixels, mirrored beyond the frame; None when it is no box."""
    if frame.ndim != 3 or frame.shape[2] != 3 or not np.all(np.abs(box) < 1e5):
        return None
    half = max(float(box[2]), float(box[3])) * _SHARE / 2
    x, y = float(box[0] + box[2] / 2), float(box[1] + box[3] / 2)
    height, width = frame.shape[:2]
    if half < 4 or half > 4 * min(width, height) or not (0 <= x < width and 0 <= y < height):
        return None
    places = (np.arange(side, dtype=np.float32) + 0.5) * (2 * half / side) - half - 0.5
    across, down = np.meshgrid(places + x, places + y)
    # Averaging as the scale demands: a smaller frame first, then one sample a pixel.
    scale = min(1.0, side / (2 * half))
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else frame
    across, down = ((grid.astype(np.float32) + 0.5) * scale - 0.5 for grid in (across, down))
    square = cv2.remap(small, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return square.astype(np.uint8, copy=False)


def _unfit(network: Network, detail: str) -> VisionError:
    return damaged(network.entry.name, f"no network for presentation attacks: {detail}", _ADVICE)
