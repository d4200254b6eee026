"""The camera's thread and its faults (vision/camera.py)."""

import contextlib
import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from vision import camera
from vision.camera import Camera, CameraFeed, open_camera
from vision.errors import VisionError
from vision.models import Image
from vision.v4l2 import FACE_SIZE, Size

ANY = Size(1, 1)


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
        self.last = frame
        return frame

    def close(self) -> None:
        self.closed.set()


@contextmanager
def feeding(played: Played) -> Iterator[CameraFeed]:
    feed = CameraFeed(lambda: played, ANY)
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
    assert not played.last.any()
    assert feed._newest is None


def test_a_lost_camera_is_told_of() -> None:
    played = Played(iter([picture(1), OSError("gone")]))
    with feeding(played) as feed:
        played.go.release(2)
        with pytest.raises(VisionError) as caught:
            feed.newer(1e12, 5)
        assert (caught.value.code, caught.value.retry, feed.on) == ("camera.lost", True, False)


def test_a_lost_camera_holds_on_to_no_picture() -> None:
    """T20: an error's traceback holds the local variables of all that it passed, and the feed holds the error."""

    class Lost:
        def read(self) -> Image:
            raise OSError("gone")

        def close(self) -> None: ...

    feed = CameraFeed(Lost, ANY)

    def ask(feed: CameraFeed) -> "weakref.ref[Image]":
        photo = picture(2)
        with contextlib.suppress(VisionError):
            feed.newer(1e12, 5)
        return weakref.ref(photo)

    gc.disable()
    try:
        assert ask(feed)() is None, "what the one who asked held"
        assert not feed.on
        feed.holder.join()
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
            feed._changed.wait_for(lambda: not feed.on, 0.3)
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
        (lambda: open_camera("no-such-camera", FACE_SIZE, rig=False), "camera.missing"),
        (lambda: open_camera("/dev/null", FACE_SIZE, rig=False), "camera.unusable"),
        (lambda: open_camera("rig:/run/camera.sock", FACE_SIZE, rig=False), "camera.not_allowed"),
        (lambda: open_camera("rig:/nowhere/camera.sock", FACE_SIZE, rig=True), "camera.lost"),
    ],
)
def test_a_camera_that_does_not_open(opener: Callable[[], Camera], code: str) -> None:
    """The played camera is refused on a terminal: else one line of configuration would let any video in."""
    feed = CameraFeed(opener, FACE_SIZE)
    with pytest.raises(VisionError) as caught:
        feed.newer(0.0, 5)
    assert caught.value.code == code
    feed.close()


def test_a_picture_that_is_too_small_is_refused() -> None:
    """T2: whatever the driver says of its size, the picture is what counts."""
    played = Played(iter([picture(1)]))
    played.go.release()
    feed = CameraFeed(lambda: played, Size(5, 4))
    with pytest.raises(VisionError, match="gives 4x4, at least 5x4 is needed") as caught:
        feed.newer(0.0, 5)
    assert (caught.value.code, caught.value.retry) == ("camera.resolution_too_low", True)
    assert feed.health() == ("lost", "camera.resolution_too_low")
    feed.close()


def test_one_frame_is_no_proof_of_life() -> None:
    """L17: a hung camera gives its last frame too, so the second, different one is what counts."""
    played = Played(picture(value) for value in (100, 100, *range(101, 200)))
    with feeding(played) as feed:
        played.go.release(2)
        first = feed.newer(0.0, 5)
        assert first
        assert feed.health() is None
        played.go.release()
        assert feed.newer(first.taken_at, 5)
        assert feed.health() == ("online", None)


def test_a_frame_that_grows_old_is_a_frozen_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """L20: the driver may block for ever."""
    played = Played(picture(value) for value in itertools.count())
    with feeding(played) as feed:
        assert feed.health() is None
        monkeypatch.setattr(camera, "_SILENT_SECONDS", 0.0)
        assert feed.health() == ("frozen", "camera.frozen")
        feed.stop()
        assert feed.health() is None, "it is off"


def test_a_camera_is_opened_again_only_when_it_was_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """V4L2 gives a camera to one at a time; and a driver that hangs costs one thread, however often it is tried."""
    monkeypatch.setattr(camera, "_CLOSE_SECONDS", 0.05)
    played = Played(picture(value) for value in itertools.count())
    with feeding(played) as stuck:
        stuck.stop()
        before = stuck.holder
        for _ in range(2):
            feed = CameraFeed(lambda: pytest.fail("opened twice"), ANY, before)
            with pytest.raises(VisionError) as caught:
                feed.newer(0.0, 5)
            assert caught.value.code == "camera.stuck"
            before = feed.holder
            assert before is stuck.holder
        monkeypatch.undo()
    again = Played(picture(value) for value in itertools.count())
    again.go.release(1_000_000)
    feed = CameraFeed(lambda: again, ANY, before)
    assert feed.newer(0.0, 5)
    feed.close()
