"""Find a page in a photograph of a desk (T2).

A page is four long straight steps from bright to dark, all with the bright side inside (or, for a dark card on a white
desk, all with the dark side inside). Steps are taken in the logarithm of the light, so that a shadow changes nothing:
each pixel with a step votes for the lines it could lie on, the lines that a step follows longest make quadrangles, and
the quadrangle whose sides are steps from end to end, near the line and farther off, is the page. Its sides are then
measured in the full picture. A drawn frame is no page: it has paper on both sides.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vision.models import Floats, Image
from vision.page_side import measure_sides

_LONG_SIDE = 640
_LEAST_SHORT_SIDE = 32
_LIGHT_OFFSET = 20.0
_STEPS, _NOISES, _QUARTILE = (0.02, 0.05), 5.0, 0.319
_VOTING_DEGREES = 3
_RHO_BIN = 2.0
_MOST_PEAKS, _MOST_LINES, _MOST_PAIRS = 600, 90, 700
_LEAST_RUN = 6
_NEAR, _FAR, _FAR_SHARE = 3.0, 8.0, 0.06
_FEW_SAMPLES, _SAMPLES, _MOST_QUADS = 10, 48, 600
_LEAST_SUPPORT = 0.72
_BORDER_WORTH, _SLACK = 0.6, 3.0
_OPPOSITE_DEGREES, _CORNER_DEGREES = 35.0, 32.0
_RATIO_SLACK = 1.28
_OUTSIDE = 1.0
_REACH = 0.25
_FIRST_REACH = 4.0

_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Where a page is: its corners in pixels of the picture, clockwise from the one nearest the picture's top left.

    `confidence` is the share of its worst side that is an edge (0 to 1), `blur` how unsharp its second
    worst side is (a standard deviation, pixels); `cut_off` when it leaves the picture.
    """

    corners: Floats
    confidence: float
    blur: float
    cut_off: bool


def find_page(picture: Image, *, ratio: float | None = None, least_area: float = 0.12) -> FoundPage | None:
    """Return the page of a BGR picture, None when there is none.

    `ratio` is the long side by the short one when it is known, `least_area` the least share of the picture that a page
    takes.
    """
    scale = _LONG_SIDE / max(picture.shape[:2])
    if min(picture.shape[:2]) * min(scale, 1.0) < _LEAST_SHORT_SIDE:
        return None
    if scale < 1:
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    else:
        scale, small = 1.0, picture
    light = _light(small)
    best = _Search(light, ratio, least_area).best() or _Search(-light, ratio, least_area).best()
    if best is None:
        return None
    corners, support = best
    if np.all((corners >= 0) & (corners < small.shape[1::-1])):
        corners = measure_sides(small, corners, reach=_FIRST_REACH).corners  # the votes' angles are whole degrees
    return _measured(picture, corners, scale, support)


def _measured(picture: Image, corners: _Doubles, scale: float, support: float) -> FoundPage:
    full = (corners + 0.5) / scale - 0.5
    if _leaves(full, picture, scale):
        seen: Floats = full.astype(np.float32)
        return FoundPage(seen, support, blur=0.0, cut_off=True)
    sides = measure_sides(picture, full, reach=_NEAR / scale)
    first = int(np.argmin(sides.corners.sum(axis=1)))
    turned: Floats = np.roll(sides.corners, -first, axis=0).astype(np.float32)
    return FoundPage(turned, support * sides.agreeing, sides.blur, _leaves(sides.corners, picture, scale))


def _leaves(corners: _Doubles, picture: Image, scale: float) -> bool:
    """Tell whether a corner lies outside the picture."""
    size, slack = np.array(picture.shape[1::-1]), _OUTSIDE / scale
    return bool(np.any(corners < -slack) or np.any(corners > size - 1 + slack))


def _light(picture: Image) -> Floats:
    """Return the logarithm of the light, coloured things darker than white ones of the same brightness."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    white = 0.5 * grey + 0.5 * picture.min(axis=2)
    light: Floats = np.log(cv2.GaussianBlur(white, (0, 0), 1.0) + _LIGHT_OFFSET).astype(np.float32)
    return light


class _Search:
    """One search for a page that is brighter than what it lies on.

    A line is an outward unit normal and its distance from the picture's middle.
    """

    def __init__(self, light: Floats, ratio: float | None, least_area: float) -> None:
        self._light = light
        self._ratio = ratio
        self._least_area = least_area
        height, width = light.shape
        self._far = float(np.clip(_FAR_SHARE * np.sqrt(least_area * height * width), _NEAR, _FAR))
        self._size = np.array([width, height], np.float64)
        self._middle = (self._size - 1) / 2
        fine = light - cv2.GaussianBlur(light, (0, 0), 2.0)
        noise = float(np.percentile(np.abs(fine), 25)) / _QUARTILE
        self._least_step = float(np.clip(_NOISES * noise, *_STEPS))

    def best(self) -> tuple[_Doubles, float] | None:
        """Return the corners of the best quadrangle, clockwise, and the support of its worst side."""
        angles, rhos, weights = self._supported(*self._peaks())
        if len(angles) < 2:
            return None
        borders = np.radians([0.0, 90.0, 180.0, 270.0])
        angles = np.append(angles, borders)
        rhos = np.append(rhos, np.array([*self._middle, *self._middle]))
        border = np.arange(len(angles)) >= len(angles) - 4
        quads, lines = self._quads(angles, rhos, np.append(weights, [0.0] * 4))
        if not len(quads):
            return None
        rough, _ = self._scores(quads, border[lines], (_NEAR,), _FEW_SAMPLES)
        likely = np.argsort(rough)[::-1][:_MOST_QUADS]
        quads, on_border = quads[likely], border[lines[likely]]
        score, worst = self._scores(quads, on_border, (_NEAR, self._far), _SAMPLES)
        score[worst < _LEAST_SUPPORT] = 0
        best = int(np.argmax(score))
        if not score[best]:
            return None
        corners = quads[best]
        if on_border[best].any():  # the page ends where the picture does: tell it by a corner outside
            corners = corners + (corners - corners.mean(axis=0)) * 0.05
        return corners, float(worst[best])

    def _peaks(self) -> tuple[_Doubles, _Doubles, _Doubles]:
        """Let the steps vote for lines: return the angles, the distances and the votes of the first."""
        across = cv2.Scharr(self._light, cv2.CV_32F, 1, 0) / 32
        down = cv2.Scharr(self._light, cv2.CV_32F, 0, 1) / 32
        size = cv2.magnitude(across, down)
        along = np.abs(across) > np.abs(down)
        left_right = (size >= np.roll(size, 1, 1)) & (size > np.roll(size, -1, 1))
        up_down = (size >= np.roll(size, 1, 0)) & (size > np.roll(size, -1, 0))
        steep = (size > self._least_step / 4) & np.where(along, left_right, up_down)
        y, x = np.nonzero(steep)
        weight = np.minimum(size[y, x], 0.15)
        outward = np.degrees(np.arctan2(-down[y, x], -across[y, x]))
        reach = float(np.hypot(*self._middle))
        bins = int(2 * reach / _RHO_BIN) + 2
        votes = np.zeros((360, bins), np.float32)
        for turn in range(-_VOTING_DEGREES, _VOTING_DEGREES + 1):
            degree = np.round(outward).astype(np.int64) + turn
            angle = np.radians(degree)
            rho = (x - self._middle[0]) * np.cos(angle) + (y - self._middle[1]) * np.sin(angle)
            place = (degree % 360) * bins + ((rho + reach) / _RHO_BIN).astype(np.int64)
            votes += np.bincount(place, weight, 360 * bins).astype(np.float32).reshape(360, bins)
        votes = cv2.GaussianBlur(votes, (3, 3), 0).astype(np.float32, copy=False)
        top = votes >= cv2.dilate(votes, np.ones((5, 5), np.uint8))
        degrees, place = np.nonzero(top & (votes > 0.02))
        order = np.argsort(votes[degrees, place])[::-1][:_MOST_PEAKS]
        degrees, place = degrees[order], place[order]
        got: _Doubles = votes[degrees, place].astype(np.float64)
        distances = (place.astype(np.float64) + 0.5) * _RHO_BIN - reach
        return np.radians(degrees.astype(np.float64)), distances, got

    def _supported(self, angles: _Doubles, rhos: _Doubles, votes: _Doubles) -> tuple[_Doubles, _Doubles, _Doubles]:
        """Keep the lines with most votes and along which a step runs longest without a break; return their weights."""
        if not len(angles):
            return angles, rhos, votes
        normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        ways = np.stack([-normals[:, 1], normals[:, 0]], axis=1)
        reach = float(np.hypot(*self._middle))
        places = np.arange(-reach, reach, 4.0)
        points = self._middle + rhos[:, None, None] * normals[:, None, :] + places[None, :, None] * ways[:, None, :]
        steps = self._steps(points, normals[:, None, :], np.full((len(angles), 1), self._far))
        held = cv2.blur((steps > self._least_step).astype(np.float32), (5, 1), borderType=cv2.BORDER_CONSTANT) > 0.75
        runs = np.zeros(len(held))
        run = np.zeros(len(held))
        for column in held.T:
            run = (run + 1) * column
            runs = np.maximum(runs, run)
        weights = votes / votes.max() + runs / max(float(runs.max()), 1.0)
        weights[runs < _LEAST_RUN] = 0
        order = np.argsort(weights)[::-1][:_MOST_LINES]
        order = order[weights[order] > 0]
        return angles[order], rhos[order], weights[order]

    def _quads(self, angles: _Doubles, rhos: _Doubles, weights: _Doubles) -> tuple[_Doubles, npt.NDArray[np.int64]]:
        """Put opposite lines together, and crossing pairs of them; a line without weight is the picture's border."""
        border = weights == 0
        turn = np.degrees(angles[:, None] - angles[None, :]) % 360
        wide = rhos[:, None] + rhos[None, :]
        least = 0.5 * self._least_area**0.5 * float(self._size.min())
        first, second = np.nonzero(
            np.triu((np.abs(turn - 180) < _OPPOSITE_DEGREES) & (wide > least) & ~(border[:, None] & border[None, :]))
        )
        order = np.argsort(-(weights[first] + weights[second]), kind="stable")[:_MOST_PAIRS]
        first, second = first[order], second[order]
        one, other = np.triu_indices(len(first), 1)
        ring = np.stack([first[one], first[other], second[one], second[other]], axis=1)
        between = np.degrees(angles[ring[:, 1]] - angles[ring[:, 0]]) % 360
        swapped = between > 180
        ring[swapped] = ring[swapped][:, [0, 3, 2, 1]]
        turns = np.degrees(np.roll(angles[ring], -1, axis=1) - angles[ring]) % 360
        ring = ring[np.all(np.abs(turns - 90) < _CORNER_DEGREES, axis=1)]
        corners = self._crossings(angles[ring], rhos[ring])
        return self._sensible(corners, ring)

    def _crossings(self, angles: _Doubles, rhos: _Doubles) -> _Doubles:
        """Return where each side meets the one before it: the side's two ends are its corner and the next."""
        before, rho_before = np.roll(angles, 1, axis=1), np.roll(rhos, 1, axis=1)
        across = np.sin(angles - before)
        x = (rho_before * np.sin(angles) - rhos * np.sin(before)) / across
        y = (rhos * np.cos(before) - rho_before * np.cos(angles)) / across
        return np.stack([x, y], axis=2) + self._middle

    def _sensible(self, corners: _Doubles, ring: npt.NDArray[np.int64]) -> tuple[_Doubles, npt.NDArray[np.int64]]:
        """Keep what has the size and shape of the page and lies more or less in the picture."""
        reach = _REACH * self._size
        inside = np.all((corners > -reach) & (corners < self._size + reach), axis=(1, 2))
        large = _areas(corners) >= self._least_area * float(np.prod(self._size))
        keep = inside & large
        if self._ratio is not None:
            keep &= np.abs(np.log(_ratios(corners) / self._ratio)) < np.log(_RATIO_SLACK)
        return corners[keep], ring[keep]

    def _scores(
        self, quads: _Doubles, on_border: npt.NDArray[np.bool_], offsets: tuple[float, ...], samples: int
    ) -> tuple[_Doubles, _Doubles]:
        """Return how good each quadrangle is, and the support of its worst side that is not the picture's border."""
        real = np.where(on_border, np.nan, self._support(quads, offsets, samples))
        area = _areas(quads) / float(np.prod(self._size))
        worst: _Doubles = np.nanmin(real, axis=1)
        leaving = np.any((quads < -_SLACK) | (quads > self._size - 1 + _SLACK), axis=(1, 2))
        worth = np.where(on_border.any(axis=1) | leaving, _BORDER_WORTH, 1.0)
        return (worst * np.nanmean(real, axis=1)) ** 2 * area**0.25 * worth, worst

    def _support(self, quads: _Doubles, offsets: tuple[float, ...], samples: int) -> _Doubles:
        """Return for each side the share of it (in the picture) that is a step, near and farther off."""
        begin, end = quads, np.roll(quads, -1, axis=1)
        way = end - begin
        length = np.linalg.norm(way, axis=2)
        normals = np.stack([way[:, :, 1], -way[:, :, 0]], axis=2) / length[:, :, None]
        shares = np.linspace(0.03, 0.97, samples)
        points = begin[:, :, None, :] + shares[None, None, :, None] * way[:, :, None, :]
        seen = np.all((points > 1) & (points < self._size - 2), axis=3)
        support = np.ones(length.shape)
        for distance in offsets:
            off = np.full((*length.shape, 1), distance)
            held = self._steps(points, normals[:, :, None, :], off) > self._least_step
            support = np.minimum(support, (held & seen).sum(axis=2) / np.maximum(seen.sum(axis=2), 1))
        support[seen.mean(axis=2) < 0.25] = 0
        return support

    def _steps(self, points: _Doubles, normals: _Doubles, off: _Doubles) -> _Doubles:
        """Return how much brighter it is inside each point than outside, `off` pixels to either side."""
        moved = normals * off[..., None]
        return self._at(points - moved) - self._at(points + moved)

    def _at(self, points: _Doubles) -> _Doubles:
        flat = points.reshape(-1, 2)
        x = np.clip(np.rint(flat[:, 0]), 0, self._size[0] - 1).astype(np.int64)
        y = np.clip(np.rint(flat[:, 1]), 0, self._size[1] - 1).astype(np.int64)
        return self._light[y, x].reshape(points.shape[:-1]).astype(np.float64)


def _areas(quads: _Doubles) -> _Doubles:
    x, y = quads[:, :, 0], quads[:, :, 1]
    areas: _Doubles = 0.5 * np.abs((x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1))
    return areas


def _ratios(quads: _Doubles) -> _Doubles:
    sides = np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2)
    one, other = sides[:, 0] + sides[:, 2], sides[:, 1] + sides[:, 3]
    ratios: _Doubles = np.maximum(one, other) / np.maximum(np.minimum(one, other), 1e-9)
    return ratios
