"""The camera's thread and its faults (vision/camera.py)."""

import contextlib
import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from vision import camera
from vision.camera import Camera, CameraFeed, V4l2Camera, open_camera
from vision.errors import VisionError
from vision.models import Image


def picture(value: int) -> Image:
    still = np.full((4, 4, 3), value % 251, np.uint8)
    still[0, 0] = 255
    return still


class Played:
    """A camera that gives what it is told, when it is told."""

    def __init__(self, frames: Iterator[Image | OSError]) -> None:
        self._frames = frames
        self.go = threading.Semaphore(0)
        self.closed = threading.Event()

    def read(self) -> Image:
        self.go.acquire()
        frame = next(self._frames)
        if isinstance(frame, OSError):
            raise frame
        return frame

    def close(self) -> None:
        self.closed.set()


@contextmanager
def feeding(played: Played) -> Iterator[CameraFeed]:
    feed = CameraFeed(lambda: played)
    try:
        yield feed
    finally:
        feed._stopped = True
        played.go.release(1000)
        feed.close()
        assert played.closed.is_set()


def test_only_the_newest_frame_is_kept_and_it_is_overwritten_at_the_end() -> None:
    """T20: nothing of a frame is left when the camera is off."""
    played = Played(picture(value) for value in itertools.count())
    with feeding(played) as feed:
        assert feed.newer(0.0, 0.01) is None
        played.go.release()
        first = feed.newer(0.0, 5)
        assert first is not None
        assert first.picture[1, 1, 0] == 0
        assert feed.newer(first.taken_at, 0.01) is None
        seen = first
        for _ in range(3):
            played.go.release()
            newer = feed.newer(seen.taken_at, 5)
            assert newer is not None
            assert newer.taken_at > seen.taken_at
            seen = newer
        assert seen.picture[1, 1, 0] == 3
    assert feed._newest is not None
    assert not feed._newest.picture.any()


def test_a_lost_camera_is_told_of() -> None:
    played = Played(iter([picture(1), OSError("gone")]))
    with feeding(played) as feed:
        played.go.release(2)
        with pytest.raises(VisionError) as caught:
            feed.newer(1e12, 5)
        assert (caught.value.code, caught.value.retry, feed.failed) == ("camera.lost", True, True)


def test_a_lost_camera_holds_on_to_no_picture() -> None:
    """T20: an error's traceback holds the local variables of all that it passed, and the feed holds the error."""

    class Lost:
        def read(self) -> Image:
            raise OSError("gone")

        def close(self) -> None: ...

    feed = CameraFeed(Lost)

    def ask(feed: CameraFeed) -> "weakref.ref[Image]":
        photo = picture(2)
        with contextlib.suppress(VisionError):
            feed.newer(1e12, 5)
        return weakref.ref(photo)

    gc.disable()
    try:
        assert ask(feed)() is None, "what the one who asked held"
        assert feed.failed
        feed._thread.join()
        given_up = weakref.ref(feed)
        del feed
        assert given_up() is None, "the feed and what it held"
    finally:
        gc.enable()


def test_a_repeated_picture_is_no_new_frame() -> None:
    """T9: a camera about to freeze must not be counted as three good frames."""
    played = Played(itertools.chain([picture(1)] * 3, itertools.repeat(picture(2))))
    with feeding(played) as feed:
        played.go.release()
        first = feed.newer(0.0, 5)
        assert first is not None
        played.go.release(2)
        assert feed.newer(first.taken_at, 0.1) is None
        played.go.release()
        assert feed.newer(first.taken_at, 5) is not None


@pytest.mark.parametrize(("still", "code"), [(picture(9), "camera.frozen"), (np.zeros((4, 4, 3), np.uint8), None)])
def test_a_still_picture_is_a_hung_camera_unless_it_is_flat(
    still: Image, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A covered lens gives black frames for ever; that says nothing about the camera."""
    monkeypatch.setattr(camera, "_FROZEN_SECONDS", 0.05)
    played = Played(itertools.repeat(still))
    played.go.release(1_000_000)
    with feeding(played) as feed:
        with feed._changed:
            feed._changed.wait_for(lambda: feed.failed, 0.3)
        found = None
        try:
            assert feed.newer(0.0, 0) is not None
        except VisionError as error:
            found = error.code
        assert found == code


def test_a_camera_that_does_not_come_back_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_CLOSE_SECONDS", 0.05)
    played = Played(iter([picture(1), picture(2)]))
    with feeding(played) as feed:
        with pytest.raises(VisionError) as caught:
            feed.close()
        assert caught.value.code == "camera.stuck"
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("opener", "code"),
    [
        (lambda: open_camera("no-such-camera", rig=False), "camera.missing"),
        (lambda: open_camera("/dev/null", rig=False), "camera.unusable"),
        (lambda: open_camera("rig:/run/camera.sock", rig=False), "camera.not_allowed"),
        (lambda: open_camera("rig:/nowhere/camera.sock", rig=True), "camera.lost"),
    ],
)
def test_a_camera_that_does_not_open(opener: Callable[[], Camera], code: str) -> None:
    """The played camera is refused on a terminal: else one line of configuration would let any video in."""
    feed = CameraFeed(opener)
    with pytest.raises(VisionError) as caught:
        feed.newer(0.0, 5)
    assert caught.value.code == code
    feed.close()


def test_the_capture_is_asked_for_mjpg_then_size_then_one_buffer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Protocols 8: FOURCC first, then the size; the driver substitutes silently, so it is read back."""
    capture = FakeCapture(size=(640, 480))
    monkeypatch.setattr(camera.cv2, "VideoCapture", lambda *_: capture)
    device = tmp_path / "video0"
    device.touch()
    opened = V4l2Camera(device)
    names = [camera.cv2.CAP_PROP_FOURCC, camera.cv2.CAP_PROP_FRAME_WIDTH, camera.cv2.CAP_PROP_FRAME_HEIGHT]
    assert [name for name, _ in capture.asked] == [*names, camera.cv2.CAP_PROP_BUFFERSIZE]
    assert capture.asked[0][1] == 1196444237  # protocols 8: MJPG
    assert opened.read().shape == (480, 640, 3)
    capture.good = False
    with pytest.raises(OSError, match="no frame"):
        opened.read()
    opened.close()
    assert capture.released
    small = FakeCapture(size=(320, 240))
    monkeypatch.setattr(camera.cv2, "VideoCapture", lambda *_: small)
    with pytest.raises(VisionError, match="320x240"):
        V4l2Camera(device)
    assert small.released


class FakeCapture:
    """What cv2.VideoCapture does, as far as it is used."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.asked: list[tuple[int, float]] = []
        self.size = size
        self.good = True
        self.released = False

    def set(self, name: int, value: float) -> bool:
        self.asked.append((name, value))
        return True

    def get(self, name: int) -> float:
        return float(self.size[name == camera.cv2.CAP_PROP_FRAME_HEIGHT])

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        return True

    def read(self) -> tuple[bool, Image]:
        return self.good, np.zeros((self.size[1], self.size[0], 3), np.uint8)

    def release(self) -> None:
        self.released = True
