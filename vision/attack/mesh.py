"""The face as 468 points in three dimensions (FaceMesh), and what its points say: rotation, mouth, depth (T9).

The mesh hardly follows the lids, so how far the eyes are open comes from the contours of a second network.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vision.attack.square import run
from vision.models import Floats, Image, Network

_POINTS = 468
_SIDE = 192
_BOX_SHARE = 1.5
"""The network sees a square this many times as large as the face's box, its eyes level."""

_LEAST_PRESENCE = 0.5

_NASION, _CHIN, _BROW = 168, 152, 10
_CHEEKS = (234, 454)
_EYES = (33, 133, 362, 263)
"""Corners of the two eyes, from left to right in a picture that is not mirrored."""

_EYE_SIDE = 64
_EYE_SHARE = 2.3
"""The second network sees a square so many times as wide as the eye."""

_EYE_CORNERS = (0, 8)
_LIDS = (slice(9, 16), slice(1, 8))
"""Corners and lids among the 71 points of an eye's contour, the corner at the temple first."""

_EYE_PAIRS = ((_EYES[:2], False), (_EYES[2:], True))
_LIPS, _MOUTH = (13, 14), (78, 308)

_RIGID = (10, 338, 297, 332, 109, 67, 103, 127, 234, 356, 454, 33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 98, 327)
"""Points that no expression moves much: forehead, temples, the sides before the ears, eye corners, the nose."""

_SURFACE = (10, 338, 297, 109, 67, 127, 234, 93, 356, 454, 323, 33, 133, 362, 263, 61, 291, 152, 148, 377)
"""Points around the nose, over the whole face: what a flat picture carries by one homography."""

_RELIEF = (6, 197, 195, 5, 4, 1, 168)
"""The ridge of the nose, which no homography of the rest can carry along."""


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """468 points (x, y, z) in pixels of the frame, z growing away from the camera.

    `presence` in [0, 1] says how sure a face is there; `eyes` how high the lids of the more open eye stand, over the
    eye's width.
    """

    points: Floats
    presence: float
    eyes: float

    def __post_init__(self) -> None:
        """Refuse anything but 468 points: the places of the points are what they mean."""
        if self.points.shape != (_POINTS, 3):
            raise ValueError(f"a mesh has {_POINTS} points in three dimensions, not {self.points.shape}")

    @property
    def sound(self) -> bool:
        """Whether this is a face: finite points, eyes apart, and a network that believes it saw one."""
        if not (self.presence >= _LEAST_PRESENCE and 0 <= self.eyes < 2 and np.all(np.abs(self.points) < 1e5)):
            return False
        return self.eye_distance > 1 and float(np.linalg.norm(self.points[_CHIN] - self.points[_NASION])) > 1

    @property
    def eye_distance(self) -> float:
        """The distance between the middles of the eyes, in pixels, as the head turns not much shorter."""
        corners = self.points[list(_EYES)].astype(np.float64)
        return float(np.linalg.norm(corners[2:].mean(axis=0) - corners[:2].mean(axis=0)))


@dataclass(frozen=True, slots=True)
class Turn:
    """How a head turned since its reference, in degrees; `residual` of the points is in eye distances.

    `yaw` grows to the person's own left, `pitch` downward, `roll` clockwise as the camera sees it.
    """

    yaw: float
    pitch: float
    roll: float
    residual: float


class Mesher:
    """Finds the mesh of a detected face."""

    def __init__(self, mesh: Network, eye: Network) -> None:
        """Take FaceMesh and the eye contours as `govterm models prepare` converted them."""
        self._mesh = mesh
        self._eye = eye

    def find(self, frame: Image, box: Floats, landmarks: Floats) -> Mesh:
        """Return the mesh of the face with that box (x, y, width, height) and the detector's five landmarks (5, 2)."""
        across = landmarks[1] - landmarks[0]
        side = _BOX_SHARE * max(float(box[2]), float(box[3]), 1.0)
        to_square = _to_square(box[:2] + box[2:] * np.float32(0.5), across, side, _SIDE)
        outputs = _run(self._mesh, frame, to_square, mirrored=False)
        raw = outputs["points"].reshape(_POINTS, 3)
        to_frame = cv2.invertAffineTransform(to_square)
        points = np.empty((_POINTS, 3), np.float32)
        points[:, :2] = raw[:, :2] @ to_frame[:, :2].T + to_frame[:, 2]
        points[:, 2] = raw[:, 2] * np.hypot(*to_frame[0, :2])
        presence = 1 / (1 + float(np.exp(-np.clip(outputs["presence"][0, 0], -50, 50))))
        eyes = max(self._opening(frame, points, pair, mirrored=mirrored) for pair, mirrored in _EYE_PAIRS)
        return Mesh(points, presence, eyes)

    def _opening(self, frame: Image, points: Floats, pair: tuple[int, ...], *, mirrored: bool) -> float:
        """Return how far one eye is open; the network knows eyes whose temple is on the left: mirror the others."""
        left, right = points[pair[0], :2], points[pair[1], :2]
        across = right - left
        width = float(np.hypot(*across))
        if not 1 <= width < 1e4:
            return 0.0
        to_square = _to_square((left + right) * np.float32(0.5), across, _EYE_SHARE * width, _EYE_SIDE)
        contour = _run(self._eye, frame, to_square, mirrored=mirrored)["contour"].reshape(-1, 3)
        upper, lower = (contour[lid, :2] for lid in _LIDS)
        corners = contour[list(_EYE_CORNERS), :2]
        height = float((lower - upper)[:, 1].mean())
        return max(height, 0.0) / max(float(np.linalg.norm(corners[1] - corners[0])), 1e-6)


def turn(reference: Mesh, mesh: Mesh) -> Turn:
    """Return the rotation that best takes the reference's rigid points to the mesh's (Kabsch 1976, with scale)."""
    chosen = list(_RIGID)
    source, target = (points[chosen].astype(np.float64) for points in (reference.points, mesh.points))
    source, target = source - source.mean(axis=0), target - target.mean(axis=0)
    left, sizes, right = np.linalg.svd(target.T @ source)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ flip @ right
    scale = float(sizes @ np.diag(flip)) / max(float((source**2).sum()), 1e-12)
    missed = target - scale * source @ rotation.T
    residual = float(np.sqrt((missed**2).sum(axis=1).mean())) / max(reference.eye_distance * scale, 1e-6)
    yaw = np.degrees(np.arcsin(np.clip(-rotation[0, 2], -1, 1)))
    pitch = np.degrees(np.arctan2(rotation[1, 2], rotation[2, 2]))
    roll = np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0]))
    return Turn(float(yaw), float(-pitch), float(roll), residual)


def mouth_open(mesh: Mesh) -> float:
    """Return the opening of the mouth: height between the lips over its width."""
    return _apart(mesh, *_LIPS) / max(_apart(mesh, *_MOUTH), 1e-6)


def relief(reference: Mesh, mesh: Mesh) -> float:
    """Return how far the ridge of the nose left the place that a flat picture would carry it to, in eye distances.

    The points around the nose of the reference give the homography to the mesh; of a photo or a screen, however it is
    turned, the nose follows it. The nose of a head stands out and moves more than the eyes and less goes unseen.
    """
    around, ridge = ([*chosen] for chosen in (_SURFACE, _RELIEF))
    homography: npt.NDArray[Any] | None = cv2.findHomography(
        np.ascontiguousarray(reference.points[around, :2]), np.ascontiguousarray(mesh.points[around, :2])
    )[0]
    if homography is None:
        return 0.0
    carried = cv2.perspectiveTransform(reference.points[None, ridge, :2].astype(np.float64), homography)[0]
    missed = np.linalg.norm(carried - mesh.points[ridge, :2], axis=1)
    value = float(missed.mean()) / max(mesh.eye_distance, 1e-6)
    return value if np.isfinite(value) else 0.0


def stretch(reference: Mesh, mesh: Mesh) -> float:
    """Return how much more the face shrank in one direction than in the other since the reference: 1 when alike."""
    around = [*_SURFACE]
    source, target = (points[around, :2].astype(np.float64) for points in (reference.points, mesh.points))
    source, target = source - source.mean(axis=0), target - target.mean(axis=0)
    affine, *_ = np.linalg.lstsq(source, target, rcond=None)
    sizes = np.linalg.svd(affine, compute_uv=False)
    return float(sizes[0] / max(float(sizes[1]), 1e-6))


def pose(mesh: Mesh) -> tuple[float, float]:
    """Return yaw and pitch in degrees from the mesh alone: the slopes of its cheeks and of its midline."""
    across = mesh.points[_CHEEKS[1]].astype(np.float64) - mesh.points[_CHEEKS[0]]
    down = mesh.points[_CHIN].astype(np.float64) - mesh.points[_BROW]
    yaw = np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1])))
    return float(yaw), float(np.degrees(np.arctan2(down[2], np.hypot(down[0], down[1]))))


def _apart(mesh: Mesh, one: int, other: int) -> float:
    return float(np.linalg.norm(mesh.points[one].astype(np.float64) - mesh.points[other]))


def _to_square(middle: Floats, across: Floats, side: float, pixels: int) -> Floats:
    """Return the 2x3 transform that puts a square of the picture upright into one of `pixels`."""
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    move = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), angle, pixels / side)
    found = move.astype(np.float32)
    found[:, 2] += np.float32(pixels / 2) - middle
    return found


def _run(network: Network, frame: Image, to_square: Floats, *, mirrored: bool) -> dict[str, Floats]:
    """Run a network on a square of the frame; what is outside the frame is black."""
    side = network.entry.input_shape[-1]
    square = cv2.warpAffine(frame, to_square, (side, side), flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    outputs = run(network, square[:, ::-1] if mirrored else square)
    square.fill(0)
    return outputs
