"""A full picture made into what a card would carry of it: 102x126 pixels in 1 KiB (protocols 1.7).

The card's own codec is closed; WebP of the same size stands in for it. Like the photo that GA 461 asks for, the head
is upright in the middle before a plain background: outside an oval around the head the picture fades to light grey,
or the codec would spend its bytes on a news photo's background.
"""

import io

import cv2
import numpy as np
from PIL import Image as Pillow

from vision.models import Floats, Image
from vision.photo import HEIGHT, WIDTH

CODEC = "webp-1017"
"""Names this stand-in in reports and caches; a change of it is another codec."""

_ROOM_BYTES = 1017
_EYES = (51.0, 46.0)
_EYE_DISTANCE = 25.0
_MOUTH_BELOW_EYES = 1.1
_BACKGROUND = 235.0


def as_chip(picture: Image, landmarks: Floats) -> Image:
    """Return the chip photo of the face with these landmarks, encoded and decoded again: 126x102x3, BGR."""

    photo = _plain_background(_framed(picture, landmarks))
    while not (encoded := _encoded(photo)):  # noise all over: a card's maker would smooth it
        photo = cv2.GaussianBlur(photo, (0, 0), 1.0).astype(np.uint8, copy=False)
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError("a WebP picture just written cannot be read")
    return decoded.astype(np.uint8, copy=False)


def _encoded(photo: Image) -> bytes:
    """Return the photo at the best quality that fits; nothing when none does."""
    pillow = Pillow.fromarray(np.ascontiguousarray(photo[:, :, ::-1]))
    low, high, best = 0, 100, b""
    while low <= high:
        quality = (low + high) // 2
        stream = io.BytesIO()
        pillow.save(stream, "webp", quality=quality, method=6)
        if stream.tell() <= _ROOM_BYTES:
            best, low = stream.getvalue(), quality + 1
        else:
            high = quality - 1
    return best


def _framed(picture: Image, landmarks: Floats) -> Image:
    """Cut the head out; the eyes are 25 px apart, or, seen from the side, the mouth is as far below them as then."""
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    across, down = landmarks[1] - landmarks[0], mouth - eyes
    apart = max(float(np.hypot(*across)), float(np.hypot(*down)) / _MOUTH_BELOW_EYES, 1.0)
    scale = _EYE_DISTANCE / apart
    shift = np.array(_EYES) - scale * eyes
    finer = max(1, int(np.ceil(1 / scale)))
    move = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32) * finer
    kernel = cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC
    size = (WIDTH * finer, HEIGHT * finer)
    large = cv2.warpAffine(picture, move, size, flags=kernel, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _plain_background(photo: Image) -> Image:
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    distance = np.hypot((across - 51) / 33, (down - 54) / 47)
    share = np.clip((distance - 1) / 0.15, 0, 1) * np.clip((96 - down) / 6, 0, 1)
    faded: Image = (photo * (1 - share[..., None]) + _BACKGROUND * share[..., None]).astype(np.uint8)
    return faded
