"""What the rig borrows from public packages: a Chinese font and two portraits in the public domain, fetched by hash."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sim import photo
from vision.manifest import Container
from vision.models import Image
from vision.store import fetch, write_whole

_MANYLINUX = ("manylinux2014_x86_64", "3.11")

_FONT = Container(
    requirement="paperang-p2-fonts-cjk==0.1.0",
    sha256="dfbbaccd48c012581a8f328b6e68033fa83e40ce609ae524fe2eeba3f3c75955",
    member="paperang_p2_fonts_cjk/fonts/wqy-microhei.ttc",
    member_sha256="2420e8078af796b19a3f6ef13de527a1a91c1e7171eea115926c614ced1009b3",
)


@dataclass(frozen=True, slots=True)
class _Portrait:
    container: Container
    head: tuple[int, int, int]
    """Left, top and width in pixels of the part that an ID photo shows."""


_PORTRAITS = {
    "grace_hopper": _Portrait(
        Container(
            requirement="matplotlib==3.10.7",
            sha256="2222c7ba2cbde7fe63032769f6eb7e83ab3227f47d997a8453377709b7fe3a5a",
            member="matplotlib/mpl-data/sample_data/grace_hopper.jpg",
            member_sha256="a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
            platform=_MANYLINUX,
        ),
        head=(124, 70, 280),
    ),
    "eileen_collins": _Portrait(
        Container(
            requirement="scikit-image==0.25.2",
            sha256="24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641",
            member="skimage/data/astronaut.png",
            member_sha256="88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
            platform=_MANYLINUX,
        ),
        head=(138, 2, 172),
    ),
}


@dataclass(frozen=True, slots=True)
class Assets:
    """The rig's font, and its portraits by name (`grace_hopper`, `eileen_collins`)."""

    font: Path
    portraits: dict[str, Path]


def prepare(directory: Path) -> Assets:
    """Fetch what is not in `directory` yet; VisionError as `vision.store.fetch`."""
    portraits = {name: _fetched(portrait.container, directory) for name, portrait in _PORTRAITS.items()}
    return Assets(_fetched(_FONT, directory), portraits)


def chip_photo(assets: Assets, name: str) -> bytes:
    """Return the 1,024-byte photo block of a card that carries the portrait of that name."""
    return photo.encode(head_and_shoulders(assets, name))


def head_and_shoulders(assets: Assets, name: str) -> Image:
    """Return the portrait of that name as an ID photo: 126x102x3, BGR."""
    picture = cv2.imread(str(assets.portraits[name]), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{assets.portraits[name]} is no picture")
    left, top, width = _PORTRAITS[name].head
    height = width * photo.HEIGHT // photo.WIDTH
    head = picture[top : top + height, left : left + width]
    return cv2.resize(head, (photo.WIDTH, photo.HEIGHT), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _fetched(container: Container, directory: Path) -> Path:
    path = directory / Path(container.member).name
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != container.member_sha256:
        write_whole(path, fetch(container, directory / "wheels"))
    return path
