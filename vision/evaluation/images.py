"""What is compared: lists of pictures and of pairs, and pictures of any kind read safely."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from vision.errors import VisionError
from vision.models import Image

_LARGEST_BYTES = 64 * 2**20
_LARGEST_PIXELS = 50_000_000
_LONGEST_SIDE = 1280
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_LIST_ADVICE = "one picture a line: its identity, a tab, its path below --root"
_PAIRS_ADVICE = "one pair a line: two paths of the list, a tab between them"


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture of the list: whose it is, and its path below the root as the list writes it."""

    subject: str
    path: str


def read_images(file: Path) -> list[Listed]:
    """Read `images.tsv`; VisionError `images.malformed` names the line or what is wrong."""
    listed = [Listed(*fields) for fields in _rows(file, _LIST_ADVICE)]
    repeated = len(listed) - len({picture.path for picture in listed})
    if repeated or not listed:
        message = f"{file}: {repeated} pictures are listed twice" if repeated else f"{file}: no picture"
        raise VisionError("images.malformed", message, advice=_LIST_ADVICE, retry=False)
    return listed


def read_pairs(file: Path, listed: Sequence[Listed]) -> list[tuple[int, int]]:
    """Read pairs of pictures of one person, reference and probe, as indices into the list; an empty file means none.

    VisionError `images.malformed` names what is wrong with a pair.
    """
    index = {picture.path: at for at, picture in enumerate(listed)}
    pairs = []
    for first, second in _rows(file, _PAIRS_ADVICE):
        mistake = None
        if missing := [path for path in (first, second) if path not in index]:
            mistake = f"{missing[0]} is not in the list of pictures"
        elif first == second:
            mistake = f"{first} is paired with itself"
        elif listed[index[first]].subject != listed[index[second]].subject:
            mistake = f"{first} and {second} are of two identities"
        if mistake:
            raise VisionError("images.malformed", f"{file}: {mistake}", advice=_PAIRS_ADVICE, retry=False)
        pairs.append((index[first], index[second]))
    return pairs


def decode_picture(data: bytes) -> Image | Literal["unreadable", "too_large"]:
    """Return the picture in these bytes as a face camera would give it, or why there is none.

    BGR, upright by its EXIF, at most 1,280 pixels long; grey and CMYK become BGR, of an animation it is the first
    picture.
    """
    if len(data) > _LARGEST_BYTES:
        return "too_large"
    try:
        with Pillow.open(io.BytesIO(data), formats=_FORMATS) as opened:
            if opened.width * opened.height > _LARGEST_PIXELS:
                return "too_large"
            opened.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith("I"):  # grey of 16 bits: convert() would clip it to 255
                upright = Pillow.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
            picture = np.asarray(upright.convert("RGB"))
    except Pillow.DecompressionBombError:
        return "too_large"
    except Exception:  # noqa: BLE001  a library's error on foreign data: it has many
        return "unreadable"
    height, width = picture.shape[:2]
    if (scale := _LONGEST_SIDE / max(height, width)) < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)


def _rows(file: Path, advice: str) -> list[list[str]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise VisionError("images.malformed", f"{file}: {error}", advice=advice, retry=False) from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) != 2 or not all(field.strip() for field in fields):
            raise VisionError("images.malformed", f"{file}, line {number}: {advice}", advice=advice, retry=False)
        rows.append([field.strip() for field in fields])
    return rows
