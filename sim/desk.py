"""A synthetic photographer: lays a drawn page on a desk and photographs it, and knows where its corners are (T2).

Pinhole camera, plane page, no lens distortion. Lengths are millimetres on the desk and pixels in the picture.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from sim.paper import DOTS_PER_MM
from vision.models import Floats, Image

FRAME = 2592, 1944
"""Width and height of the picture: 5 megapixels."""

Desk = Literal["dark", "wood", "grey", "light", "white", "checks", "stripes", "clutter"]
DESKS: tuple[Desk, ...] = get_args(Desk)


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the photograph is taken.

    `turn` and `tilt` are degrees; `fill` is the share of the frame that the page may take; `blur` is the defocus (a
    standard deviation, pixels of the picture), `smear` a movement in pixels; `glare` is the radius of a lamp's
    reflection as a share of the page's diagonal, `glare_level` its grey levels; `shadow` is how much light is left in a
    shadow across the page (1: none); `away` moves the page out of the middle by shares of the frame.
    """

    desk: Desk = "wood"
    turn: float = 0.0
    tilt: float = 0.0
    tilt_towards: float = 0.0
    fill: float = 0.9
    blur: float = 0.6
    smear: int = 0
    glare: float = 0.0
    glare_level: float = 220.0
    shadow: float = 1.0
    lamp: float = 0.9
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    exposure: float = 0.95
    noise: float = 2.0
    jpeg: int = 88
    away: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture, and the corners of the upright page in it: top left, top right, bottom right, bottom left."""

    picture: Image
    corners: Floats


def photograph(page: Image, conditions: Conditions, seed: int) -> Photograph:
    """Photograph the page; the same arguments give the same picture."""
    random = np.random.default_rng(seed)
    cv2.setRNGSeed(seed)
    corners = _corners(page, conditions)
    down, across = page.shape[:2]
    flat = np.array([[0, 0], [across, 0], [across, down], [0, down]], np.float32)
    move = cv2.getPerspectiveTransform(flat - 0.5, corners - 0.5)
    desk = _desk(conditions.desk, random)
    desk = _page_shadow(desk, corners, random)
    scene = cv2.warpPerspective(page, move, FRAME, dst=desk, borderMode=cv2.BORDER_TRANSPARENT)
    return Photograph(_expose(scene.astype(np.float32), corners, conditions, random), corners)


def _corners(page: Image, conditions: Conditions) -> Floats:
    """Project the page's corners; the camera stands as far off as `fill` asks."""
    down, across = page.shape[:2]
    half = np.array([across, down]) / (2 * DOTS_PER_MM)
    flat = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * np.append(half, 1)
    turn, towards, tilt = (math.radians(angle) for angle in (conditions.turn, conditions.tilt_towards, conditions.tilt))
    axis = np.array([math.cos(towards), math.sin(towards), 0.0])
    tilted = cv2.Rodrigues(axis * tilt)[0] @ cv2.Rodrigues(np.array([0.0, 0.0, turn]))[0]
    placed = flat @ tilted.T
    focal = 1.2 * FRAME[0]
    room = conditions.fill * np.array(FRAME)
    near, far = 100.0, 5000.0
    for _ in range(40):
        distance = (near + far) / 2
        seen = focal * placed[:, :2] / (placed[:, 2:] + distance)
        if np.all(np.ptp(seen, axis=0) <= room):
            far = distance
        else:
            near = distance
    middle = (seen.max(axis=0) + seen.min(axis=0)) / 2
    centre = np.array(FRAME) * (0.5 + np.array(conditions.away))
    placed_at: Floats = (seen - middle + centre).astype(np.float32)
    return placed_at


def _desk(kind: Desk, random: np.random.Generator) -> Image:
    height = FRAME[1]
    if kind in ("checks", "stripes"):
        return _pattern(random, checked=kind == "checks")
    base = {
        "dark": (45, 45, 48),
        "wood": (70, 105, 140),
        "grey": (125, 125, 125),
        "light": (200, 212, 218),
        "white": (222, 222, 222),
        "clutter": (85, 100, 110),
    }[kind]
    coarse = random.normal(0, 1, (9, 12))
    grain = cv2.resize(coarse, FRAME, interpolation=cv2.INTER_CUBIC)[:, :, None] * 4
    if kind == "wood":
        rows = np.repeat(random.normal(0, 7, height // 6), 6)
        grain = grain + cv2.GaussianBlur(np.resize(rows, (height, 1)), (1, 9), 0)[:, :, None]
    desk = (np.array(base, np.float32) + grain).clip(0, 255).astype(np.uint8)
    if kind == "clutter":
        for _ in range(9):
            centre = tuple(int(value) for value in random.uniform((0, 0), FRAME))
            size = tuple(float(value) for value in random.uniform(60, 700, 2))
            box = cv2.boxPoints((centre, size, float(random.uniform(0, 180)))).astype(np.int32)
            cv2.fillConvexPoly(desk, box, tuple(int(value) for value in random.uniform(30, 190, 3)), cv2.LINE_AA)
    return desk


def _pattern(random: np.random.Generator, *, checked: bool) -> Image:
    """Draw a cloth: stripes or checks of two colours, turned by a chance angle."""
    width, height = FRAME
    angle, pitch = random.uniform(0, math.pi), random.uniform(60, 220)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    along = np.sin((x * math.cos(angle) + y * math.sin(angle)) * math.pi / pitch) > 0
    if checked:
        along ^= np.sin((y * math.cos(angle) - x * math.sin(angle)) * math.pi / pitch) > 0
    colours = random.uniform((40, 40, 40), (120, 120, 130)), random.uniform((110, 110, 110), (205, 205, 205))
    return np.where(along[:, :, None], *colours).astype(np.uint8)


def _page_shadow(desk: Image, corners: Floats, random: np.random.Generator) -> Image:
    """Darken the desk beside the page a little: paper lies not quite flat."""
    mask = np.zeros((FRAME[1] // 4, FRAME[0] // 4), np.float32)
    moved = (corners + random.uniform(-7, 7, 2)) / 4
    cv2.fillConvexPoly(mask, np.round(moved * 16).astype(np.int32), 1.0, cv2.LINE_AA, 4)
    soft = cv2.resize(cv2.GaussianBlur(mask, (0, 0), 1.6), FRAME)
    return (desk * (1 - 0.22 * soft[:, :, None])).astype(np.uint8)


def _expose(scene: Floats, corners: Floats, conditions: Conditions, random: np.random.Generator) -> Image:
    """Light the scene, let the lens and the sensor have their way with it, and compress it."""
    width, height = FRAME
    small = (width // 4, height // 4)
    x, y = np.meshgrid(np.linspace(-1, 1, small[0], dtype=np.float32), np.linspace(-1, 1, small[1], dtype=np.float32))
    way = random.uniform(0, math.tau)
    light = 1 - (1 - conditions.lamp) * (0.5 + 0.5 * (x * math.cos(way) + y * math.sin(way)))
    light *= 1 - 0.08 * (x * x + y * y)
    if conditions.shadow < 1:
        way, soft = random.uniform(0, math.tau), random.uniform(0.02, 0.12)
        edge = x * math.cos(way) + y * math.sin(way) - random.uniform(-0.35, 0.35)
        light *= conditions.shadow + (1 - conditions.shadow) / (1 + np.exp(-edge / soft))
    lit = scene * cv2.resize(light, FRAME)[:, :, None]
    lit *= np.array(conditions.cast, np.float32) * conditions.exposure
    if conditions.glare:
        lit += cv2.resize(_glare(corners, conditions, random), FRAME)[:, :, None]
    if conditions.blur:
        lit = cv2.GaussianBlur(lit, (0, 0), conditions.blur).astype(np.float32, copy=False)
    if conditions.smear:
        lit = cv2.filter2D(lit, -1, _smear(conditions.smear, random.uniform(0, math.pi))).astype(np.float32, copy=False)
    noise = np.empty(lit.shape, np.float32)
    cv2.randn(noise, np.zeros(3), np.full(3, conditions.noise))
    picture = (lit + noise).clip(0, 255).astype(np.uint8)
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, conditions.jpeg])
    shown = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    if shown is None:
        raise ValueError("the picture cannot be decoded")
    return shown.astype(np.uint8, copy=False)


def _glare(corners: Floats, conditions: Conditions, random: np.random.Generator) -> Floats:
    """Draw a lamp's reflection somewhere in the middle half of the page: a bright core with a soft rim."""
    mask = np.zeros((FRAME[1] // 4, FRAME[0] // 4), np.float32)
    across, down = random.uniform(0.3, 0.7, 2)
    top, bottom = (corners[a] + across * (corners[b] - corners[a]) for a, b in ((0, 1), (3, 2)))
    place = (top + down * (bottom - top)) / 4
    diagonal = float(np.linalg.norm(corners[0] - corners[2])) / 4
    axes = diagonal * conditions.glare * random.uniform(0.8, 1.25, 2)
    box = (place.tolist(), (2 * axes).tolist(), float(random.uniform(0, 180)))
    cv2.ellipse(mask, box, conditions.glare_level, cv2.FILLED)
    return cv2.GaussianBlur(mask, (0, 0), max(1.0, 0.25 * float(axes.min()))).astype(np.float32)


def _smear(length: int, angle: float) -> Floats:
    size = length | 1
    kernel = np.zeros((size, size), np.float32)
    middle, reach = size // 2, (length - 1) / 2
    ends = [
        (round(middle + sign * reach * math.cos(angle)), round(middle + sign * reach * math.sin(angle)))
        for sign in (-1, 1)
    ]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    smear: Floats = (kernel / kernel.sum()).astype(np.float32)
    return smear
