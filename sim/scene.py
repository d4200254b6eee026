"""What the rig's cameras see: people before a background, moving a little, and a page on a desk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sim.assets import Assets
from vision.models import Image

WIDTH, HEIGHT = 640, 480
DOCUMENT_SIZE = 2592, 1944

_EYES_ALONE, _EYES_OF_TWO = 76.0, 62.0
_EYE_LINE = 195.0
_BACKGROUND_FRAMES = 45
_DARK_GAIN, _COVERED_GAIN = 0.07, 0.0
_NOISE_SIGMA = 3.0

_EYES = {"grace_hopper": ((225.0, 195.0), (307.0, 192.0)), "eileen_collins": ((203.0, 107.0), (245.0, 107.0))}


@dataclass(frozen=True)
class Portrait:
    """A picture of one person, BGR, and where the eyes are in it (x, y, the left one in the picture first)."""

    picture: Image
    eyes: tuple[tuple[float, float], tuple[float, float]]


class Scene:
    """Makes the frames; the same seed and the same calls give the same frames."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._phases = self._random.uniform(0, math.tau, 5)
        noise = self._random.normal(128, _NOISE_SIGMA, (HEIGHT + 64, WIDTH + 64, 3))
        self._noise = noise.clip(0, 255).astype(np.uint8)
        self._people: Sequence[Portrait] = ()
        self._number = 0
        self._still = _background(self._random)

    def enter(self, people: Sequence[Portrait]) -> None:
        """Put nobody, one person or two before the camera."""
        self._people = people
        self._still = self._compose()

    def frame(self, *, dark: bool = False, covered: bool = False) -> Image:
        """Return the next frame, 640x480, in about 4 ms."""
        self._number += 1
        if self._number % _BACKGROUND_FRAMES == 0:
            self._still = self._compose()
        turn, grow, right, down, light = np.sin(self._phases + self._number * np.array([0.11, 0.07, 0.09, 0.13, 0.05]))
        move = cv2.getRotationMatrix2D((WIDTH / 2, _EYE_LINE), 4 * turn, 1 + 0.04 * grow)
        move[:, 2] += 8 * right, 5 * down
        moved = cv2.warpAffine(self._still, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        gain = _COVERED_GAIN if covered else _DARK_GAIN if dark else 1 + 0.08 * light
        x, y = self._random.integers(0, 64, 2)
        noise = self._noise[y : y + HEIGHT, x : x + WIDTH]
        return cv2.addWeighted(moved, gain, noise, 1.0, -128.0 if gain >= 0.5 else -120.0).astype(np.uint8, copy=False)

    def _compose(self) -> Image:
        still = _background(self._random)
        places = {1: [(WIDTH / 2, _EYES_ALONE)], 2: [(WIDTH * 0.27, _EYES_OF_TWO), (WIDTH * 0.73, _EYES_OF_TWO)]}
        for portrait, (x, eyes) in zip(self._people, places.get(len(self._people), ()), strict=True):
            still = _stand(still, portrait, x, eyes)
        return still


class DocumentScene:
    """A printed page, askew on a desk, as a camera of 5 megapixels above it sees it."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._still: Image | None = None

    def frame(self, *, dark: bool = False, covered: bool = False) -> Image:
        """Return the next frame, 2592x1944, in about 0.1 s."""
        if self._still is None:
            self._still = _desk(_page())
        gain = _COVERED_GAIN if covered else _DARK_GAIN if dark else 1.0
        noise = np.empty(self._still.shape, np.uint8)
        cv2.setRNGSeed(int(self._random.integers(2**31)))
        cv2.randn(noise, np.full(3, 128.0), np.full(3, _NOISE_SIGMA))
        return cv2.addWeighted(self._still, gain, noise, 1.0, -128.0 if gain >= 0.5 else -120.0).astype(
            np.uint8, copy=False
        )


def _page() -> Image:
    """A4 at 150 dpi, with a heading and lines of text."""
    page = np.full((1754, 1240, 3), 245, np.uint8)
    ink, font = (40, 30, 30), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(page, "GOVTERM SAMPLE", (320, 200), font, 2.2, ink, 6, cv2.LINE_AA)
    for number, top in enumerate(range(340, 1600, 56), 1):
        text = f"{number:02d}  the quick brown fox jumps over the lazy dog 0123456789"
        cv2.putText(page, text, (120, top), font, 0.95, ink, 2, cv2.LINE_AA)
    return page


def _desk(page: Image) -> Image:
    """Lay the page on a wooden desk under a lamp, so that it lies across and fills most of the picture."""
    width, height = DOCUMENT_SIZE
    down, across = page.shape[:2]
    corners = np.array([[0, 0], [across, 0], [across, down], [0, down]], np.float32)
    places = np.array([[2330, 190], [2370, 1700], [260, 1760], [230, 240]], np.float32)
    move = cv2.getPerspectiveTransform(corners, places)
    grain = 6 * np.sin(np.arange(height) / 23.0)[:, None, None]
    lamp = np.linspace(1.0, 0.8, width)[None, :, None]
    desk = ((np.array([70.0, 105.0, 140.0]) + grain) * lamp).astype(np.uint8)
    shown = cv2.warpPerspective(page, move, (width, height), dst=desk, borderMode=cv2.BORDER_TRANSPARENT)
    return shown.astype(np.uint8, copy=False)


def _background(random: np.random.Generator) -> Image:
    """A wall: patches of one hue, far out of focus."""
    patches = random.normal(0, 14, (6, 8, 1)) + random.uniform(90, 170, 3)
    wall = cv2.resize(patches.clip(0, 255).astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return wall.astype(np.uint8, copy=False)


def _stand(still: Image, portrait: Portrait, x: float, eye_distance: float) -> Image:
    """Blend the head and shoulders of a portrait into the still, its eyes level and `eye_distance` apart around `x`."""
    left, right = (np.array(eye) for eye in portrait.eyes)
    across = right - left
    scale = eye_distance / float(np.hypot(*across))
    middle = (left + right) / 2
    move = cv2.getRotationMatrix2D(middle.tolist(), math.degrees(math.atan2(across[1], across[0])), scale)
    move[:, 2] += np.array([x, _EYE_LINE]) - middle
    person = cv2.warpAffine(
        portrait.picture, move, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    head = (round(x), round(_EYE_LINE + 0.2 * eye_distance))
    shoulders = (round(x), round(_EYE_LINE + 4.2 * eye_distance))
    cv2.ellipse(mask, head, (round(1.45 * eye_distance), round(2.1 * eye_distance)), 0, 0, 360, 1.0, cv2.FILLED)
    cv2.ellipse(mask, shoulders, (round(2.6 * eye_distance), round(2.4 * eye_distance)), 0, 0, 360, 1.0, cv2.FILLED)
    share = cv2.GaussianBlur(mask, (0, 0), 0.12 * eye_distance)[:, :, None]
    return (still * (1 - share) + person * share).astype(np.uint8)


def load_people(assets: Assets) -> dict[str, Portrait]:
    """Return the people of the rig's portraits, by the portraits' names."""
    people = {}
    for name, path in assets.portraits.items():
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            text = f"{path} is no picture"
            raise ValueError(text)
        people[name] = Portrait(picture.astype(np.uint8, copy=False), _EYES[name])
    return people
