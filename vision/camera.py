"""The face camera: V4L2 through OpenCV (protocols 8) or the rig's, and the thread that keeps its newest frame."""

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
from vision.models import Image

WIDTH, HEIGHT = 640, 480
_FROZEN_SECONDS = 1.0
_CLOSE_SECONDS = 2.0


class Camera(Protocol):
    """An open camera; whoever opened it reads it from one thread."""

    def read(self) -> Image:
        """Return the next frame, waiting at most about a second; raise OSError when the camera is gone."""

    def close(self) -> None:
        """Turn the camera off."""


class V4l2Camera:
    """A UVC camera through OpenCV.

    OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT=1 must be in the environment before cv2 is imported, or a silent camera holds
    `read` for 10 s. Raises VisionError `camera.missing` or `camera.unusable`.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise VisionError(
                "camera.missing", f"no camera at {path}", advice="plug it in, or correct `camera`", retry=True
            )
        self._capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_V4L2)
        # MJPG before the size, the size as a pair: the driver resets once both are set, and may substitute.
        self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, WIDTH)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, HEIGHT)
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not self._capture.isOpened() or width < WIDTH or height < HEIGHT:
            opened = self._capture.isOpened()
            self._capture.release()
            reason = f"gives {width}x{height}, {WIDTH}x{HEIGHT} is needed" if opened else "does not open"
            raise VisionError(
                "camera.unusable",
                f"{path} {reason}",
                advice="check its rights and who else uses it",
                retry=True,
            )

    def read(self) -> Image:
        """Return the next frame; raise OSError when none came within the select timeout."""
        good, picture = self._capture.read()
        if not good:
            raise OSError("the camera gives no frame")
        return picture.astype(np.uint8, copy=False)

    def close(self) -> None:
        """Turn the camera off."""
        self._capture.release()


def open_camera(address: str, *, rig: bool) -> Camera:
    """Open `address`: a path (one under /dev/v4l/by-id stays the same camera), or `rig:SOCKET` when `rig` is true.

    Raises VisionError `camera.not_allowed`, `camera.missing` or `camera.unusable`, and OSError from the rig's camera.
    """
    if not address.startswith("rig:"):
        return V4l2Camera(Path(address))
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
    """A camera, opened and read by a thread of its own, of which only the newest frame is kept."""

    def __init__(self, opener: Callable[[], Camera]) -> None:
        self._opener = opener
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: VisionError | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether the camera gave up; a new feed may do better."""
        return self._error is not None

    def newer(self, than: float, seconds: float) -> Frame | None:
        """Wait up to `seconds` for a frame taken after `than`; None when there is none. A repeated one is none.

        Raises VisionError `camera.lost`, `camera.frozen` or what `open_camera` raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or (self._newest and self._newest.taken_at > than), seconds)
            if error := self._error:  # a new one each time: a raised exception holds on to its callers' pictures
                raise VisionError(error.code, str(error), advice=error.advice, retry=error.retry)
            return self._newest if self._newest and self._newest.taken_at > than else None

    def close(self) -> None:
        """Turn the camera off and overwrite the newest frame; blocks up to 2 s.

        Raises VisionError `camera.stuck` when the camera does not come back from its driver.
        """
        self._stopped = True
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            raise VisionError("camera.stuck", "the camera does not close", advice="replug it", retry=True)
        if self._newest:
            self._newest.picture.fill(0)

    def _run(self) -> None:
        try:
            with closing(self._opener()) as camera:
                self._capture(camera)
        except VisionError as error:
            self._fail(error)
        except (OSError, cv2.error) as error:
            self._fail(VisionError("camera.lost", str(error), advice="check the camera and its cable", retry=True))

    def _capture(self, camera: Camera) -> None:
        changed_at = time.monotonic()
        while not self._stopped:
            picture = camera.read()
            now = time.monotonic()
            if self._newest and _same(picture, self._newest.picture):
                if now - changed_at > _FROZEN_SECONDS:
                    raise VisionError("camera.frozen", "the picture stands still", advice="replug it", retry=True)
                continue
            changed_at = now
            with self._changed:
                self._newest = Frame(now, picture)
                self._changed.notify_all()

    def _fail(self, error: VisionError) -> None:
        with self._changed:
            self._error = error.with_traceback(None)  # its frames hold the last picture
            self._changed.notify_all()


def _same(picture: Image, previous: Image) -> bool:
    """Whether two frames are one picture; a flat one (covered lens, clipped) says nothing about the camera."""
    return np.array_equal(picture, previous) and bool(np.any(picture != picture.flat[0]))
