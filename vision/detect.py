"""Find faces with YuNet: one letterboxed 640x480 input, three strides decoded, overlaps suppressed."""

from dataclasses import dataclass

import cv2
import numpy as np

from vision.errors import VisionError
from vision.models import Floats, Image, Network

WIDTH, HEIGHT = 640, 480
SCORE_THRESHOLD = 0.7
_OVERLAP = 0.3
_STRIDES = (8, 16, 32)
_LONGEST = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in pixels of its picture: box (x, y, width, height), five landmarks (5, 2) and a score in [0, 1].

    The landmarks are the eye, eye, nose tip, mouth corner, mouth corner, each pair from left to right in the picture.
    """

    box: Floats
    landmarks: Floats
    score: float

    @property
    def eye_distance(self) -> float:
        """The distance between the eyes, in pixels."""
        return float(np.hypot(*(self.landmarks[1] - self.landmarks[0])))


def detect(network: Network, image: Image, *, least_score: float = SCORE_THRESHOLD) -> list[Face]:
    """Return the faces of a picture, the highest score first (ties by position).

    VisionError `picture.unusable` unless it is height x width x 3 bytes, no side empty or above 16,384 pixels.
    """
    _refuse_unusable(image)
    scale = min(WIDTH / image.shape[1], HEIGHT / image.shape[0])
    batch = letterbox(image, scale)
    outputs = network.run(batch)
    batch.fill(0)
    rows = np.concatenate([_decode(outputs, stride, least_score) for stride in _STRIDES])
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0], -rows[:, 14]))]
    kept = _suppress_overlaps(rows)
    kept[:, :14] /= scale
    return [Face(row[:4], row[4:14].reshape(5, 2), float(row[14])) for row in kept]


def letterbox(image: Image, scale: float) -> Floats:
    """Scale a picture into the upper left of the network's input; the rest is black."""
    width, height = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = image if scale == 1 else cv2.resize(image, (width, height), interpolation=method)
    batch = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    batch[0, :, :height, :width] = scaled.transpose(2, 0, 1)
    return batch


def _refuse_unusable(image: Image) -> None:
    shape = image.shape
    if image.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or not 0 < min(shape) <= max(shape) <= _LONGEST:
        message = f"a picture of {'x'.join(str(side) for side in shape)} {image.dtype} cannot be looked at"
        advice = "give height x width x 3 bytes, BGR"
        raise VisionError("picture.unusable", message, advice=advice, retry=False)


def _decode(outputs: dict[str, Floats], stride: int, least_score: float) -> Floats:
    """Turn one stride's outputs of that score or more into rows of box, landmarks and score, in pixels of the input."""
    sureness = np.clip(outputs[f"cls_{stride}"][0, :, 0], 0, 1) * np.clip(outputs[f"obj_{stride}"][0, :, 0], 0, 1)
    score = np.sqrt(sureness)
    (sure,) = np.nonzero(score >= least_score)
    cells = np.stack([sure % (WIDTH // stride), sure // (WIDTH // stride)], axis=1).astype(np.float32)
    box = outputs[f"bbox_{stride}"][0, sure]
    size = np.exp(box[:, 2:]) * stride
    corner = (cells + box[:, :2]) * stride - size / 2
    landmarks = (outputs[f"kps_{stride}"][0, sure].reshape(-1, 5, 2) + cells[:, None]) * stride
    return np.hstack([corner, size, landmarks.reshape(-1, 10), score[sure, None]])


def _suppress_overlaps(rows: Floats) -> Floats:
    """Keep each row that overlaps no better one by more than 0.3 (intersection over union)."""
    kept: list[int] = []
    lower, upper, area = rows[:, :2], rows[:, :2] + rows[:, 2:4], rows[:, 2] * rows[:, 3]
    for index in range(len(rows)):
        common = np.clip(np.minimum(upper[kept], upper[index]) - np.maximum(lower[kept], lower[index]), 0, None)
        shared = common[:, 0] * common[:, 1]
        if not np.any(shared > _OVERLAP * (area[kept] + area[index] - shared)):
            kept.append(index)
    return rows[kept]
