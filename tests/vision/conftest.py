"""The real models, the two portraits, and frames as a camera would see the people on them."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sim import assets as rig_assets
from sim.assets import Assets
from sim.camera import CameraServer
from sim.scene import load_people
from tests.vision.bench import HOPPER, Bench
from vision import models as model_store
from vision import store
from vision.config import Vision
from vision.models import Image, Models

CACHE = Path(os.environ.get("GOVTERM_CACHE", Path(__file__).parents[2] / ".cache" / "govterm"))


@pytest.fixture(scope="session")
def model_directory() -> Path:
    """Where the models lie, fetched and prepared when they do not yet."""
    store.prepare(CACHE / "models")
    return CACHE / "models"


@pytest.fixture(scope="session")
def models(model_directory: Path) -> Models:
    return model_store.load(model_directory)


@pytest.fixture(scope="session")
def assets() -> Assets:
    return rig_assets.prepare(CACHE / "assets")


@pytest.fixture(scope="session")
def hopper(assets: Assets) -> Image:
    return read(assets.portraits["grace_hopper"])


@pytest.fixture(scope="session")
def collins(assets: Assets) -> Image:
    """Eileen Collins, enlarged so that her eyes are as far apart as Grace Hopper's."""
    return cv2.resize(read(assets.portraits["eileen_collins"]), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


def read(path: Path) -> Image:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture.astype(np.uint8)


@pytest.fixture
def view() -> Callable[..., Image]:
    return frame_of


def frame_of(
    portrait: Image,
    *,
    scale: float = 0.9,
    turn: float = 0.0,
    face_at: tuple[float, float] = (0.5, 0.5),
    gain: float = 1.0,
    noise: float = 0.0,
    smear: int = 0,
    seed: int = 1,
) -> Image:
    """Return a 640x480 camera frame of a portrait: scaled, turned by degrees, its face at a place in the frame.

    `gain` is the exposure, `noise` a standard deviation in grey levels, `smear` the length of a motion blur in pixels.
    """
    height, width = portrait.shape[:2]
    face = (width * 0.52, height * 0.37) if height > width else (width * 0.435, height * 0.24)
    matrix = cv2.getRotationMatrix2D(face, turn, scale)
    matrix[:, 2] += (640 * face_at[0] - face[0], 480 * face_at[1] - face[1])
    frame = cv2.warpAffine(portrait, matrix, (640, 480), borderMode=cv2.BORDER_CONSTANT, borderValue=(90, 110, 120))
    light = frame.astype(np.float32) * gain
    if smear:
        light = cv2.blur(light, (smear, 1)).astype(np.float32)
    light += np.random.default_rng(seed).normal(0, noise, light.shape) if noise else 0
    return np.clip(light, 0, 255).astype(np.uint8)


@pytest.fixture
async def bench(tmp_path: Path, model_directory: Path, assets: Assets) -> AsyncIterator[Bench]:
    camera = CameraServer(load_people(assets), seed=1)
    camera.show(HOPPER)
    path = tmp_path / "camera.sock"
    settings = Vision(
        camera=f"rig:{path}", model_directory=str(model_directory), photo_decoder="rig", challenge=0, hung_seconds=20.0
    )
    async with camera.serve(path):
        yield Bench(camera, settings, assets)
