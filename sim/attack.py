"""Heads, prints and screens before the rig's camera: a synthetic stand-in for people and for those who imitate them.

Nothing here is a photograph of an attack. A head is one portrait on the relief of its own face mesh; a print or a
screen is the portrait on a plane (or a bent sheet) that moves in three dimensions.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from vision.attack.mesh import Mesh
from vision.models import Image

WIDTH, HEIGHT = 640, 480

Species = Literal["print", "cut_out", "bent_print", "screen", "replay"]
SPECIES: tuple[Species, ...] = get_args(Species)
"""Print with a margin, print cut out around the head, bent print, still on a screen, moving head on a screen."""

_DISTANCE = 8.0
"""From the camera to the face, in eye distances: half a metre."""

_SUPERSAMPLE = 2
_NOISE_SIGMA = 3.0
_REACTION_FRAMES = _BLINK_FRAMES = 4
_UPPER_LIDS = (159, 158, 160, 161, 157, 246, 173, 386, 385, 387, 388, 384, 466, 398)
_LOWER_LIDS = (145, 153, 144, 163, 154, 7, 155, 374, 380, 373, 390, 381, 249, 382)
_LOWER_LIP = (14, 87, 178, 88, 95, 317, 402, 318, 324, 15, 16, 17, 86, 85, 84, 316, 315, 314)
_LID_CREASES = (247, 30, 29, 27, 28, 56, 190, 467, 260, 259, 257, 258, 286, 414)
_INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_MOUTH_CORNERS = (61, 291)

_Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how something is held: degrees as in `vision.attack.mesh.Turn`, shifts in pixels, size as a factor.

    `blink` closes the eyes and `mouth` opens the mouth of a head, each from 0 to 1.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    right: float = 0.0
    down: float = 0.0
    size: float = 1.0
    blink: float = 0.0
    mouth: float = 0.0


_MOVEMENTS = {
    "face.turn_left": Pose(yaw=22),
    "face.turn_right": Pose(yaw=-22),
    "face.nod": Pose(pitch=17),
    "face.blink": Pose(blink=1),
    "face.open_mouth": Pose(mouth=1),
}


class Head:
    """A head with the relief of a portrait's mesh, before a plain wall."""

    def __init__(self, portrait: Image, mesh: Mesh, *, eye_distance: float = 76.0) -> None:
        """Take a frontal portrait (BGR) and its mesh; the eyes of a head of size 1 are `eye_distance` pixels apart."""
        self._portrait = np.dstack([portrait, _outline(portrait, mesh)])
        self._eye_distance = eye_distance
        points = mesh.points.astype(np.float64)
        self._source: _Points = np.vstack([points[:, :2], _rim(portrait)])
        depth = np.full(len(self._source), points[:, 2].max())
        depth[: len(points)] = points[:, 2]
        middle = points[168]
        self._solid: _Points = np.column_stack([self._source - middle[:2], depth - middle[2]]) / mesh.eye_distance
        self._triangles = _triangulate(self._source, portrait)

    def seen(self, pose: Pose, wall: Image) -> Image:
        """Return the head in this pose before a wall of the frame's size."""
        solid = _grimace(self._solid, pose)
        places, depth = _project(solid, pose, self._eye_distance)
        canvas = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        order = np.argsort(-depth[self._triangles].mean(axis=1))
        for corners in self._triangles[order]:
            _paint(canvas, self._portrait, self._source[corners], places[corners])
        if pose.mouth:
            lips = places[list(_INNER_LIPS)]
            cv2.fillPoly(canvas, [np.round(lips * 16).astype(np.int32)], (25, 20, 45, 255), cv2.LINE_AA, 4)
        share = canvas[:, :, 3:].astype(np.float32) / 255
        return (canvas[:, :, :3] * share + wall * (1 - share)).astype(np.uint8)


class Actor:
    """Somebody who does what is asked, one frame after the other; asked for nothing, looks at the camera."""

    def __init__(self, portrait: Image, mesh: Mesh, *, seed: int) -> None:
        """Take a frontal portrait (BGR) and its mesh."""
        self._head, self._wall = Head(portrait, mesh), wall(seed)
        self._random = np.random.default_rng(seed)
        self._seen: dict[Pose, Image] = {}
        self._asked, self._frames = "", 0

    def ask(self, code: str) -> None:
        """Ask for what a guidance code says."""
        self._asked, self._frames = code, 0

    def frame(self) -> Image:
        """Return the next frame: a moment of rest, then the movement; closed eyes open again, and close."""
        self._frames += 1
        eyes_open = self._asked == "face.blink" and self._frames // _BLINK_FRAMES % 2 == 0
        resting = self._frames < _REACTION_FRAMES or eyes_open
        pose = Pose() if resting else _MOVEMENTS.get(self._asked, Pose())
        if pose not in self._seen:
            self._seen[pose] = self._head.seen(pose, self._wall)
        return expose(self._seen[pose], self._random)


class Sheet:
    """A flat or bent picture, held before a wall."""

    def __init__(self, picture: Image, *, middle: tuple[float, float], unit: float, bend: float = 0.0) -> None:
        """Take the picture (BGR); the point `middle` of it is held where a face is, `unit` of its pixels being 1.

        `bend` is the curvature about the vertical axis, in radians per unit: the sides go away from the camera.
        """
        self._picture = picture
        self._middle, self._unit, self._bend = np.array(middle), unit, bend

    def seen(self, pose: Pose, wall: Image, *, unit_pixels: float = 76.0) -> Image:
        """Return the sheet in this pose, its unit `unit_pixels` of the frame."""
        height, width = self._picture.shape[:2]
        columns = np.linspace(0, width, 17 if self._bend else 2)
        fine = cv2.resize(wall, None, fx=_SUPERSAMPLE, fy=_SUPERSAMPLE)
        for left, right in itertools.pairwise(columns):
            corners = np.array([[left, 0], [right, 0], [right, height], [left, height]])
            places, _ = _project(self._solid(corners), pose, unit_pixels)
            # Half a source pixel of overlap keeps the wall from showing between two strips.
            move = cv2.getPerspectiveTransform(corners.astype(np.float32), (places * _SUPERSAMPLE).astype(np.float32))
            strip = slice(max(0, int(left) - 1), min(width, int(right) + 2))
            shift = np.array([[1, 0, strip.start], [0, 1, 0], [0, 0, 1]], np.float64)
            cv2.warpPerspective(
                np.ascontiguousarray(self._picture[:, strip]),
                move @ shift,
                (WIDTH * _SUPERSAMPLE, HEIGHT * _SUPERSAMPLE),
                dst=fine,
                borderMode=cv2.BORDER_TRANSPARENT,
            )
        return cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)

    def _solid(self, corners: npt.NDArray[np.float64]) -> _Points:
        flat = (corners - self._middle) / self._unit
        if not self._bend:
            return np.column_stack([flat, np.zeros(len(flat))])
        angle = flat[:, 0] * self._bend
        return np.column_stack([np.sin(angle) / self._bend, flat[:, 1], (1 - np.cos(angle)) / self._bend])


def wall(seed: int, *, textured: bool = False) -> Image:
    """Return a wall of one hue, out of focus; with texture, one with edges and spots to see against."""
    random = np.random.default_rng(seed)
    cells = (24, 32, 1) if textured else (6, 8, 1)
    patches = random.normal(0, 30 if textured else 14, cells) + random.uniform(90, 170, 3)
    kernel = cv2.INTER_NEAREST if textured else cv2.INTER_CUBIC
    return cv2.resize(patches.clip(0, 255).astype(np.uint8), (WIDTH, HEIGHT), interpolation=kernel).astype(np.uint8)


def printed(picture: Image, *, margin: float = 0.08, paper: int = 238) -> Image:
    """Return a picture as printed: less contrast, less colour, black no blacker than ink, on paper with a margin."""
    ink = picture.astype(np.float32)
    grey = ink.mean(axis=2, keepdims=True)
    dull = ((ink - grey) * 0.75 + grey) * 0.72 + 38
    return _framed(dull.clip(0, paper), margin, paper)


def displayed(picture: Image, *, texels: int = 6, bezel: float = 0.06) -> Image:
    """Return a picture as a screen shows it, each of its pixels `texels` wide: red, green and blue stripes, a grid,
    light from behind the black, a black bezel.
    """
    large = np.kron(picture, np.ones((texels, texels, 1), np.uint8)).astype(np.float32)
    mask = np.full((texels, texels, 3), 0.5, np.float32)
    third = texels // 3
    for stripe, channel in enumerate((2, 1, 0)):
        mask[: texels - 1, stripe * third : (stripe + 1) * third, channel] = 2.4
    lit = (large + 10) * np.tile(mask, (*picture.shape[:2], 1))
    return _framed(lit.clip(0, 255), bezel, 12)


def _framed(picture: npt.NDArray[np.float32], share: float, level: int) -> Image:
    """Put a border of one grey level around a picture, `share` of its longer side wide."""
    border = round(share * max(picture.shape[:2]))
    height, width = picture.shape[:2]
    framed = np.full((height + 2 * border, width + 2 * border, 3), level, np.uint8)
    framed[border : border + height, border : border + width] = picture.astype(np.uint8)
    return framed


def expose(frame: Image, random: np.random.Generator) -> Image:
    """Add the sensor's noise."""
    return (frame + random.normal(0, _NOISE_SIGMA, frame.shape)).clip(0, 255).astype(np.uint8)


def sway(seed: int, count: int) -> Iterator[Pose]:
    """Yield the poses of somebody, or of a hand, that keeps almost still."""
    phases = np.random.default_rng(seed).uniform(0, math.tau, 6)
    for number in range(count):
        yaw, pitch, roll, right, down, size = np.sin(phases + number * np.array([0.21, 0.17, 0.11, 0.19, 0.15, 0.07]))
        yield Pose(5 * yaw, 4 * pitch, 3 * roll, 14 * right, 9 * down, 1 + 0.04 * size)


def live_frames(portrait: Image, mesh: Mesh, *, seed: int, count: int) -> Iterator[Image]:
    """Yield frames of a head that keeps almost still before a wall that does not move."""
    head, behind, random = Head(portrait, mesh), wall(seed, textured=bool(seed % 2)), np.random.default_rng(seed)
    for pose in sway(seed, count):
        yield expose(head.seen(pose, behind), random)


def attack_frames(species: Species, portrait: Image, mesh: Mesh, *, seed: int, count: int) -> Iterator[Image]:
    """Yield frames of an attack of that species with that portrait."""
    behind, random = wall(seed, textured=bool(seed % 2)), np.random.default_rng(seed)
    head = Head(portrait, mesh)
    for pose in sway(seed, count):
        sheet = _held(species, portrait, mesh, head, pose)
        hand = replace(pose, blink=0.0, mouth=0.0)
        yield expose(sheet.seen(hand, behind), random)


def _held(species: Species, portrait: Image, mesh: Mesh, head: Head, pose: Pose) -> Sheet:
    """Return what the attacker holds up, framed around the head."""
    left, top, right, bottom = _around(portrait, mesh)
    shown = portrait[top:bottom, left:right]
    middle = mesh.points[168, :2] - (left, top)
    unit = mesh.eye_distance
    if species == "replay":
        shown = head.seen(
            replace(pose, yaw=2 * pose.yaw, right=0.0, down=0.0), np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        )
        shown, middle, unit = shown[20:460, 140:500], np.array([180.0, 190.0]), 76.0
    if species in {"screen", "replay"}:
        across = 0.8 * 76.0 / unit  # a screen pixel is 1.25 pixels of the frame
        small = cv2.resize(shown, None, fx=across, fy=across, interpolation=cv2.INTER_AREA).astype(np.uint8)
        screen = displayed(small)
        border = (screen.shape[1] - small.shape[1] * 6) / 2
        return Sheet(screen, middle=tuple(middle * across * 6 + border), unit=unit * across * 6)
    sheet = printed(shown, margin=0.0 if species == "cut_out" else 0.08)
    border = (sheet.shape[1] - shown.shape[1]) / 2
    return Sheet(sheet, middle=tuple(middle + border), unit=unit, bend=0.35 if species == "bent_print" else 0.0)


def _around(portrait: Image, mesh: Mesh) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the head with its hair, within the portrait."""
    x, y = mesh.points[168, :2]
    height, width = portrait.shape[:2]
    reach = mesh.eye_distance
    left, right = max(0, round(x - 1.7 * reach)), min(width, round(x + 1.7 * reach))
    return left, max(0, round(y - 2 * reach)), right, min(height, round(y + 2.4 * reach))


def _grimace(solid: _Points, pose: Pose) -> _Points:
    moved = solid.copy()
    upper, lower = list(_UPPER_LIDS), list(_LOWER_LIDS)
    close = pose.blink * (solid[lower] - solid[upper])
    moved[upper] += close
    for crease in _LID_CREASES:
        nearest = int(np.abs(solid[upper, :2] - solid[crease, :2]).sum(axis=1).argmin())
        moved[crease] += 0.8 * close[nearest]
    corner = solid[list(_MOUTH_CORNERS), 1].mean()
    jaw = np.zeros(len(solid))
    jaw[:468] = np.clip((solid[:468, 1] - corner) / 0.3, 0, 1)
    jaw[list(_LOWER_LIP)] = 1
    moved[:, 1] += 0.55 * pose.mouth * jaw
    return moved


def _project(solid: _Points, pose: Pose, unit_pixels: float) -> tuple[_Points, _Points]:
    """Turn about the point between the eyes and project; return places in the frame, and depths."""
    yaw, pitch, roll = np.radians([pose.yaw, pose.pitch, pose.roll])
    about_y = np.array([[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    about_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    turned = solid @ (about_z @ about_x @ about_y).T
    depth = turned[:, 2] + _DISTANCE / pose.size
    places = turned[:, :2] * (_DISTANCE / depth)[:, None] * unit_pixels
    return places + np.array([WIDTH / 2 + pose.right, 0.42 * HEIGHT + pose.down]), depth


def _outline(portrait: Image, mesh: Mesh) -> Image:
    """Return which part of a portrait is the person, softly: an ellipse for the head and one for the shoulders."""
    unit = mesh.eye_distance
    x, y = (float(value) for value in mesh.points[168, :2])
    mask = np.zeros(portrait.shape[:2], np.uint8)
    for down, across, high in ((0.35, 1.4, 2.0), (4.3, 2.6, 2.3)):
        middle, axes = (round(x), round(y + down * unit)), (round(across * unit), round(high * unit))
        cv2.ellipse(mask, middle, axes, 0, 0, 360, 255, cv2.FILLED)
    return cv2.GaussianBlur(mask, (0, 0), 0.12 * unit).astype(np.uint8, copy=False)


def _rim(portrait: Image) -> _Points:
    """Return points along the edge of the picture."""
    height, width = portrait.shape[:2]
    across, down = np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9)
    rows = [(x, y) for y in (0, height - 1) for x in across]
    return np.array([*rows, *((x, y) for x in (0, width - 1) for y in down[1:-1])], np.float64)


def _triangulate(points: _Points, portrait: Image) -> npt.NDArray[np.intp]:
    """Return the Delaunay triangles as indices of their corners."""
    height, width = portrait.shape[:2]
    plane = cv2.Subdiv2D((-1, -1, width + 2, height + 2))
    for point in points:
        plane.insert((float(point[0]), float(point[1])))
    corners = np.asarray(plane.getTriangleList(), np.float64).reshape(-1, 3, 2)
    inside = np.all((corners > -0.5) & (corners < (width, height)), axis=(1, 2))
    apart = np.abs(corners[inside][:, :, None] - points[None, None]).sum(axis=3)
    return np.asarray(apart.argmin(axis=2), np.intp)


def _paint(frame: Image, portrait: Image, source: _Points, target: _Points) -> None:
    """Draw one triangle of the portrait into the frame."""
    lower = np.floor(target.min(axis=0)).astype(int).clip(0, (WIDTH, HEIGHT))
    upper = np.ceil(target.max(axis=0) + 1).astype(int).clip(0, (WIDTH, HEIGHT))
    width, height = (int(size) for size in upper - lower)
    if width <= 0 or height <= 0:
        return
    move = cv2.getAffineTransform(source.astype(np.float32), (target - lower).astype(np.float32))
    if not np.all(np.isfinite(move)):
        return
    patch = cv2.warpAffine(portrait, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, np.round((target - lower) * 16).astype(np.int32), 1, cv2.LINE_8, 4)
    region = frame[lower[1] : upper[1], lower[0] : upper[0]]
    region[mask > 0] = patch[mask > 0]
