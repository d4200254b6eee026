"""The rig's camera: what it plays, at what pace, and how its cable behaves (sim/camera.py, sim/scene.py)."""

import asyncio
import math
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from sim.camera import FRAMES_PER_SECOND, CameraServer, DocumentCameraServer, RigCamera, open_camera
from sim.scene import DocumentScene, Portrait, Scene
from vision.models import Image

EYES = ((180.0, 210.0), (300.0, 190.0))


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    """A grey head with a red and a green eye, held askew."""
    picture = np.full((600, 480, 3), 120, np.uint8)
    for (x, y), colour in zip(EYES, ((0, 0, 255), (0, 255, 0)), strict=True):
        cv2.circle(picture, (round(x), round(y)), 14, colour, cv2.FILLED)
    return Portrait(picture, EYES)


def eyes_in(frame: Image) -> list[tuple[float, float]]:
    """Return the middles of what is clearly red and clearly green."""
    blue, green, red = (frame[:, :, channel].astype(int) for channel in range(3))
    found = []
    for mask in (red - green - blue > 40, green - red - blue > 40):
        rows, columns = np.nonzero(mask)
        found.append((float(columns.mean()), float(rows.mean())))
    return found


def test_the_face_has_a_natural_size_and_moves_a_little(portrait: Portrait) -> None:
    scene = Scene(seed=1)
    scene.enter([portrait])
    distances, rolls, places = [], [], []
    for _ in range(120):
        left, right = eyes_in(scene.frame())
        distances.append(math.dist(left, right))
        rolls.append(math.degrees(math.atan2(right[1] - left[1], right[0] - left[0])))
        places.append((left[0] + right[0]) / 2)
    assert 60 < min(distances) < 74
    assert 78 < max(distances) < 90
    assert -5 < min(rolls) < -3
    assert 3 < max(rolls) < 5
    assert 300 < min(places) < max(places) < 340


def test_the_same_seed_plays_the_same_frames_and_another_does_not(portrait: Portrait) -> None:
    def played(seed: int) -> list[Image]:
        scene = Scene(seed)
        scene.enter([portrait])
        return [scene.frame() for _ in range(50)]

    first = played(1)
    assert np.array_equal(first, played(1))
    assert not np.array_equal(first, played(2))
    assert len({frame.tobytes() for frame in first}) == 50, "noise makes every frame another"


def test_the_background_and_the_light_change() -> None:
    scene = Scene(seed=4)
    frames = [scene.frame() for _ in range(200)]
    corners = np.array([frame[:60, :60].mean(axis=(0, 1)) for frame in frames])
    assert np.ptp(corners, axis=0).max() > 15


def test_light_and_lens() -> None:
    scene = Scene(seed=4)
    assert scene.frame().mean() > 80
    assert scene.frame(dark=True).mean() < 30
    covered = scene.frame(covered=True)
    assert covered.mean() < 15
    assert covered.std() > 1, "a sensor behind a cap still has noise"


async def reading(camera: RigCamera) -> Image:
    with ThreadPoolExecutor(1) as thread:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().run_in_executor(thread, camera.read)


async def test_frames_are_served_at_the_cameras_pace(tmp_path: Path, portrait: Portrait) -> None:
    server = CameraServer({"a": portrait}, seed=1)
    server.show("a")
    async with server.serve(tmp_path / "camera.sock"):
        camera = open_camera(str(tmp_path / "camera.sock"))
        begun = asyncio.get_running_loop().time()
        frames = [await reading(camera) for _ in range(8)]
        assert asyncio.get_running_loop().time() - begun >= 7 / FRAMES_PER_SECOND - 0.01
        assert {frame.shape for frame in frames} == {(480, 640, 3)}
        assert server.watched
        camera.close()


async def test_a_frozen_camera_repeats_itself(tmp_path: Path) -> None:
    server = CameraServer({}, seed=1)
    async with server.serve(tmp_path / "camera.sock"):
        camera = open_camera(str(tmp_path / "camera.sock"))
        await reading(camera)
        server.freeze()
        frames = [await reading(camera) for _ in range(3)]
        assert np.array_equal(frames[1], frames[2])
        server.freeze(on=False)
        assert not np.array_equal(await reading(camera), await reading(camera))
        camera.close()


async def test_an_unplugged_camera_is_lost_until_it_is_plugged_in(tmp_path: Path) -> None:
    server = CameraServer({}, seed=1)
    async with server.serve(tmp_path / "camera.sock"):
        first = open_camera(str(tmp_path / "camera.sock"))
        await reading(first)
        server.unplug()
        with pytest.raises(OSError, match=r"unplugged|Broken pipe|reset"):
            await reading(first)
        first.close()
        server.unplug()
        assert not (tmp_path / "camera.sock").exists(), "the name goes, as udev's does"
        with pytest.raises(OSError, match="No such file"):
            open_camera(str(tmp_path / "camera.sock"))
        server.plug()
        server.plug()
        third = open_camera(str(tmp_path / "camera.sock"))
        assert (await reading(third)).shape == (480, 640, 3)
        third.close()
    with pytest.raises(OSError, match="No such file"):
        open_camera(str(tmp_path / "camera.sock"))
    assert list(tmp_path.iterdir()) == []


async def test_the_document_camera_plays_a_page_of_five_megapixels(tmp_path: Path) -> None:
    """T2; its verbs are those of the face camera, without the people."""
    server = DocumentCameraServer(seed=1)
    assert server.verbs.keys() == CameraServer({}, seed=1).verbs.keys() - {"show", "nobody", "two_people"}
    async with server.serve(tmp_path / "document.sock"):
        camera = open_camera(str(tmp_path / "document.sock"))
        first, second = await reading(camera), await reading(camera)
        assert first.shape == (1944, 2592, 3)
        assert not np.array_equal(first, second), "a sensor's noise"
        assert first[900:1000, 300:2300].mean() > 180, "paper"
        assert first[20:120, 300:2300].mean() < 130, "desk"
        server.low_resolution()
        assert (await reading(camera)).shape == (972, 1296, 3)
        server.low_resolution(on=False)
        server.dark()
        assert (await reading(camera)).mean() < 40
        server.cover()
        assert (await reading(camera)).mean() < 12
        server.freeze()
        assert np.array_equal(await reading(camera), await reading(camera))
        camera.close()


def test_the_same_seed_plays_the_same_page() -> None:
    first, second, other = (DocumentScene(seed).frame() for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff\xff\xff\xff", b"\0\0\0\4ABCD", b"\0\0\0\x09half", b"\0\0\0\0"],
    ids=lambda b: b.hex() or "none",
)
async def test_a_damaged_answer_is_a_lost_camera(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "camera.sock"))
        listener.listen()
        camera = open_camera(str(tmp_path / "camera.sock"))
        served, _ = listener.accept()
        served.sendall(answer)
        served.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match=r"unplugged|announced|no JPEG"):
            await reading(camera)
        served.close()
        camera.close()


async def test_a_silent_camera_is_lost_after_a_second(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "camera.sock"))
        listener.listen()
        camera = open_camera(str(tmp_path / "camera.sock"))
        begun = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await reading(camera)
        assert 0.9 < asyncio.get_running_loop().time() - begun < 2
        camera.close()


def test_the_verbs_are_the_methods(portrait: Portrait) -> None:
    server = CameraServer({"a": portrait, "b": portrait}, seed=1)
    arguments: dict[str, dict[str, object]] = {"show": {"person": "a"}, "two_people": {"first": "a", "second": "b"}}
    for name, verb in server.verbs.items():
        call: Callable[..., object] = verb
        assert call(**arguments.get(name, {})) is None
    with pytest.raises(KeyError):
        server.show("nobody we know")
