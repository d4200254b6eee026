"""A UVC camera through OpenCV, and what OpenCV leaves out: which node gives pictures, and the mains frequency.

Sources: protocols 8; the kernel's `linux/videodev2.h` and `linux/v4l2-controls.h` for the ioctls.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from vision.errors import VisionError
from vision.models import Image

_FRAMES_PER_SECOND = 15
"""Enough for a check (5 a second are used) and a preview (10), on a USB that two cameras share."""

_SYSFS = Path("/sys/class/video4linux")
_QUERYCAP, _CAPABILITY = 0x80685600, struct.Struct("=16s 32s 32s I I I 12x")
_S_CTRL, _CONTROL = 0xC008561C, struct.Struct("=I i")
_CAP_VIDEO_CAPTURE, _CAP_DEVICE_CAPS = 0x00000001, 0x80000000
_POWER_LINE_FREQUENCY, _FIFTY_HERTZ = 0x00980918, 1


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


FACE_SIZE = Size(640, 480)


def refuse_small(given: Size, least: Size, note: str = "") -> None:
    """Raise VisionError `camera.resolution_too_low` when a picture is smaller than the least (T2)."""
    if given.width < least.width or given.height < least.height:
        raise VisionError(
            "camera.resolution_too_low",
            f"the camera gives {given}{note}, at least {least} is needed",
            advice="take a camera that gives this size as MJPG, on a USB port of its own",
            retry=True,
        )


class V4l2Camera:
    """A camera at a path, which gives pictures of `size` or larger.

    OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT=1 must be in the environment before cv2 is imported, or a silent camera holds
    `read` for 10 s. Raises VisionError `camera.missing`, `camera.unusable` or `camera.resolution_too_low`.
    """

    def __init__(self, path: Path, size: Size) -> None:
        if not path.exists():
            raise VisionError(
                "camera.missing", f"no camera at {path}", advice="plug it in, or correct its path", retry=True
            )
        node = capture_node(path)
        self._capture = cv2.VideoCapture(str(node), cv2.CAP_V4L2)
        try:
            if not self._capture.isOpened():
                raise _unusable(f"{path} does not open", "check its rights and who else uses it")
            self._ask(size)
            fourcc = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace")
            refuse_small(self._size(), size, f" {fourcc}")
        except VisionError:
            self._capture.release()
            raise
        set_mains_frequency(node)

    def _ask(self, size: Size) -> None:
        """Ask for MJPG before the size, and the size as a pair: the driver resets once both are set."""
        for name, value in (
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, size.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, size.height),
            (cv2.CAP_PROP_FPS, _FRAMES_PER_SECOND),
            (cv2.CAP_PROP_BUFFERSIZE, 1),
        ):
            self._capture.set(name, value)

    def _size(self) -> Size:
        """Read the size back: the driver substitutes silently."""
        width, height = (self._capture.get(name) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        return Size(int(width), int(height))

    def read(self) -> Image:
        """Return the next frame; raise OSError when none came within the select timeout."""
        good, picture = self._capture.read()
        if not good:
            raise OSError("the camera gives no frame")
        return picture.astype(np.uint8, copy=False)

    def close(self) -> None:
        """Turn the camera off."""
        self._capture.release()


def capture_node(path: Path) -> Path:
    """Return the node behind `path` that gives pictures: a UVC camera has one for metadata as well.

    That is `path` itself, else a neighbour of the same device. Raises VisionError `camera.unusable` when there is none.
    """
    node = path.resolve()
    siblings = _SYSFS / node.name / "device" / "video4linux"
    names = sorted(entry.name for entry in siblings.iterdir()) if siblings.is_dir() else []
    for candidate in (node, *(node.with_name(name) for name in names if name != node.name)):
        try:
            captures = _captures(candidate)
        except OSError as error:
            if candidate == node and error.errno != errno.ENOTTY:
                raise _unusable(f"{path}: {os.strerror(error.errno or 0)}", "check its rights and its cable") from None
            continue
        if captures:
            return candidate
    raise _unusable(f"{path} is no camera", "correct its path; see `ls /dev/v4l/by-id`")


def set_mains_frequency(node: Path) -> None:
    """Have the camera expose for lamps on 50 Hz, China's mains; one without this control shows stripes at worst."""
    with contextlib.suppress(OSError), _opened(node) as descriptor:
        fcntl.ioctl(descriptor, _S_CTRL, _CONTROL.pack(_POWER_LINE_FREQUENCY, _FIFTY_HERTZ))


def _captures(node: Path) -> bool:
    """Ask a node whether it gives pictures; raise OSError when it does not answer as a camera would."""
    with _opened(node) as descriptor:
        answer = fcntl.ioctl(descriptor, _QUERYCAP, bytes(_CAPABILITY.size))
    *_, whole_device, this_node = _CAPABILITY.unpack(answer)
    return bool((this_node if whole_device & _CAP_DEVICE_CAPS else whole_device) & _CAP_VIDEO_CAPTURE)


@contextlib.contextmanager
def _opened(node: Path) -> Iterator[int]:
    """Open a node for ioctls alone: that neither turns the camera on nor is it writing (see `vision.guard`)."""
    descriptor = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unusable(message: str, advice: str) -> VisionError:
    return VisionError("camera.unusable", message, advice=advice, retry=True)
