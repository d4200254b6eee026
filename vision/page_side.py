"""Measure the sides of a page that was found in a small picture, in the full one (T2)."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vision.models import Floats, Image

_POINTS = 72
_BLUR = 1.5
_ROUNDS = 6
_TOLERANCE = 2.0
_FINE, _COARSE = 1.0, 4.0

_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sides:
    """The corners measured again, the worst side's share of agreeing points and the second worst's blur (pixels)."""

    corners: _Doubles
    agreeing: float
    blur: float


def measure_sides(picture: Image, corners: _Doubles, *, reach: float) -> Sides:
    """Measure the four sides, `reach` pixels about where they were seen; corners that run away stay where they were."""
    measured = [_side(picture, corners[number], corners[(number + 1) % 4], reach) for number in range(4)]
    lines = [line for line, _, _ in measured]
    agreeing = min(share for _, share, _ in measured)
    # A movement blurs two sides at least, a thing beside one only one.
    blur = sorted(wide for _, _, wide in measured)[2]
    crossed = np.cross(lines, np.roll(lines, 1, axis=0))
    found = crossed[:, :2] / np.where(crossed[:, 2:] == 0, np.inf, crossed[:, 2:])
    near = np.all(np.linalg.norm(found - corners, axis=1) < 4 * reach)
    return Sides(found if near else corners, agreeing, blur)


def _side(picture: Image, begin: _Doubles, end: _Doubles, reach: float) -> tuple[_Doubles, float, float]:
    """Return the homogeneous line of the steepest steps across one side, how many points lie on it, and its blur."""
    length = float(np.linalg.norm(end - begin))
    way = (end - begin) / length
    normal = np.array([way[1], -way[0]])
    shares = np.linspace(-0.46, 0.46, _POINTS)
    points = (begin + end) / 2 + shares[:, None] * (end - begin)
    half = int(np.ceil(2 * reach))
    offsets = np.arange(-half, half + 1)
    light = cv2.GaussianBlur(_profiles(picture, points, normal, offsets), (0, 0), sigmaX=_BLUR, sigmaY=1.0)
    steps = (light[:, :-2] - light[:, 2:]).astype(np.float64)
    if np.median(steps.sum(axis=1)) < 0:
        steps = -steps
    rows, column = np.arange(_POINTS), np.argmax(steps, axis=1)
    inner = np.clip(column, 1, steps.shape[1] - 2)
    left, peak, right = steps[rows, inner - 1], steps[rows, inner], steps[rows, inner + 1]
    bend = np.minimum(left - 2 * peak + right, -1e-6)
    away = offsets[1 + inner] + np.clip(0.5 * (left - right) / bend, -1, 1)
    slope, height, agreeing = _fit(shares, away, np.maximum(steps[rows, column], 0.0))
    on_line = points + (slope * shares + height)[:, None] * normal
    profile = np.median(_profiles(picture, on_line, normal, offsets), axis=0)
    first, last = (point + (slope * share + height) * normal for point, share in ((begin, -0.5), (end, 0.5)))
    return np.cross(np.append(first, 1.0), np.append(last, 1.0)), agreeing, _blur(profile)


def _profiles(picture: Image, points: _Doubles, normal: _Doubles, offsets: npt.NDArray[np.int64]) -> Floats:
    """Return the light across a side, white things brighter than coloured ones: a row for each point."""
    places = (points[:, None, :] + offsets[None, :, None] * normal).astype(np.float32)
    colours = cv2.remap(
        picture, places[:, :, 0], places[:, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float32)
    light: Floats = (0.5 * colours.mean(axis=2) + 0.5 * colours.min(axis=2)).astype(np.float32)
    return light


def _blur(profile: Floats) -> float:
    """Return the standard deviation of the blur of a step, from how much a known blur takes off its steepest place."""
    fine, coarse = (
        float(np.abs(np.diff(cv2.GaussianBlur(profile[None, :].astype(np.float32), (0, 0), sigma))).max())
        for sigma in (_FINE, _COARSE)
    )
    lost = max(fine / max(coarse, 1e-6), 1.0 + 1e-3) ** 2
    return float(np.sqrt(max(0.0, (_COARSE**2 - lost * _FINE**2) / (lost - 1))))


def _fit(along: _Doubles, away: _Doubles, weight: _Doubles) -> tuple[float, float, float]:
    """Fit a line to most of the points: first the pair of points that most agree with, then all that do."""
    random = np.random.default_rng(0)
    pairs = random.integers(0, len(along), (160, 2))
    pairs = pairs[np.abs(along[pairs[:, 0]] - along[pairs[:, 1]]) > 0.2]
    slopes = (away[pairs[:, 1]] - away[pairs[:, 0]]) / (along[pairs[:, 1]] - along[pairs[:, 0]])
    heights = away[pairs[:, 0]] - slopes * along[pairs[:, 0]]
    gaps = np.abs(away - slopes[:, None] * along - heights[:, None])
    best = int(np.argmax((weight * (gaps < _TOLERANCE)).sum(axis=1)))
    slope, height = float(slopes[best]), float(heights[best])
    for _ in range(_ROUNDS):
        near = np.abs(away - slope * along - height) < _TOLERANCE
        if near.sum() < 3 or not weight[near].any():
            break
        slope, height = (float(value) for value in np.polyfit(along[near], away[near], 1, w=np.sqrt(weight[near])))
    near = np.abs(away - slope * along - height) < _TOLERANCE
    return slope, height, float(near.mean())
