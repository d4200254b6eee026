"""A camera, a real one or the rig's, and the thread that keeps its newest frame and judges what it sees."""

import importlib.metadata
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from vision.errors import VisionError
from vision.memory_lock import give_back
from vision.models import Image
from vision.sight import Sight
from vision.v4l2 import Size, V4l2Camera, refuse_small
from vision.verifier import CameraState

_FROZEN_SECONDS = 1.0
_SILENT_SECONDS = 5.0
_CLOSE_SECONDS = 2.0


class Camera(Protocol):
    """An open camera; whoever opened it reads it from one thread."""

    def read(self) -> Image:
        """Return the next frame, waiting at most about a second; raise OSError when the camera is gone."""

    def close(self) -> None:
        """Turn the camera off."""


def open_camera(address: str, size: Size, *, rig: bool) -> Camera:
    """Open `address`: a path (one under /dev/v4l/by-id stays the same camera), or `rig:SOCKET` when `rig` is true.

    Raises VisionError `camera.not_allowed`, `camera.missing`, `camera.unusable` or `camera.resolution_too_low`, and
    OSError from the rig's camera.
    """
    if not address.startswith("rig:"):
        return V4l2Camera(Path(address), size)
    plug_ins = importlib.metadata.entry_points(group="govterm.rig", name="camera")
    if not rig or not plug_ins:
        raise VisionError(
            "camera.not_allowed", "a played camera on a terminal", advice="set `camera` to a real one", retry=False
        )
    opener: Callable[[str], Camera] = next(iter(plug_ins)).load()
    return opener(address.removeprefix("rig:"))


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture and when it was taken, on time.monotonic()."""

    taken_at: float
    picture: Image


class CameraFeed:
    """A camera, opened and read by a thread of its own, of which only the newest frame is kept.

    `before` is the thread that held this camera last (another feed's `holder`): the camera is opened when it is done.
    """

    def __init__(self, opener: Callable[[], Camera], least: Size, before: threading.Thread | None = None) -> None:
        self._opener = opener
        self._least = least
        self._before = before
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: VisionError | None = None
        self._stopped = False
        self._sight = Sight()
        self._begun = time.monotonic()
        self.first_at: float | None = None
        self.holder = threading.Thread(target=self._run, name="capture", daemon=True)
        self.holder.start()

    @property
    def on(self) -> bool:
        """Whether it gives frames, or soon will; when not, a new feed may."""
        return self._error is None and not self._stopped

    def newer(self, than: float, seconds: float) -> Frame | None:
        """Wait up to `seconds` for a frame taken after `than`; None when there is none. A repeated one is none.

        Raises VisionError `camera.lost`, `camera.frozen`, `camera.resolution_too_low` or what `open_camera` raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or (self._newest and self._newest.taken_at > than), seconds)
            if error := self._error:  # a new one each time: a raised exception holds on to its callers' pictures
                raise VisionError(error.code, str(error), advice=error.advice, retry=error.retry)
            return self._newest if self._newest and self._newest.taken_at > than else None

    def health(self) -> tuple[CameraState, str | None] | None:
        """Return how the camera is and the code of its error; None while that is not known (L17, L20)."""
        with self._changed:
            if error := self._error:
                return "frozen" if error.code == "camera.frozen" else "lost", error.code
            if self._stopped:
                return None
            last = self._newest.taken_at if self._newest else self._begun
            if time.monotonic() - last > _SILENT_SECONDS:
                return "frozen", "camera.frozen"
            return (self._sight.state, None) if self._sight.state else None

    def stop(self) -> None:
        """Have the camera turned off and the newest frame overwritten, soon."""
        self._stopped = True

    def close(self) -> None:
        """Turn the camera off and overwrite the newest frame; blocks up to 2 s.

        Raises VisionError `camera.stuck` when the camera does not come back from its driver.
        """
        self.stop()
        self.holder.join(_CLOSE_SECONDS)
        if self.holder.is_alive():
            raise _stuck()

    def _run(self) -> None:
        try:
            self._wait_for_camera()
            with closing(self._opener()) as camera:
                self._capture(camera)
        except VisionError as error:
            self._fail(error)
        except (OSError, cv2.error) as error:
            self._fail(VisionError("camera.lost", str(error), advice="check the camera and its cable", retry=True))
        with self._changed:
            newest, self._newest = self._newest, None
        if newest and self._stopped:  # after a failure a check may still be at work on it
            newest.picture.fill(0)
        del newest
        give_back()

    def _wait_for_camera(self) -> None:
        before, self._before = self._before, None
        if before:
            before.join(_CLOSE_SECONDS)
            if before.is_alive():
                self.holder = before
                raise _stuck()

    def _capture(self, camera: Camera) -> None:
        changed_at = time.monotonic()
        while not self._stopped:
            picture = camera.read()
            now = time.monotonic()
            previous = self._newest
            if previous and _same(picture, previous.picture):
                if now - changed_at > _FROZEN_SECONDS:
                    raise VisionError("camera.frozen", "the picture stands still", advice="replug it", retry=True)
                continue
            changed_at = now
            height, width = picture.shape[:2]
            refuse_small(Size(width, height), self._least)
            self.first_at = self.first_at or now
            with self._changed:
                if previous:  # one frame is no proof of life: a hung camera gives one too
                    self._sight.look(picture, now)
                self._newest = Frame(now, picture)
                self._changed.notify_all()

    def _fail(self, error: VisionError) -> None:
        with self._changed:
            self._error = error.with_traceback(None)  # its frames hold the last picture
            self._changed.notify_all()


def _same(picture: Image, previous: Image) -> bool:
    """Whether two frames are one picture; a flat one (covered lens, clipped) says nothing about the camera.

    The first rows are compared first: noise makes them differ nearly always.
    """
    if not np.array_equal(picture[0], previous[0]) or not np.array_equal(picture, previous):
        return False
    return bool(np.any(picture != picture.flat[0]))


def _stuck() -> VisionError:
    return VisionError("camera.stuck", "the camera does not close", advice="replug it", retry=True)
