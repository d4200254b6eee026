"""A UVC camera through OpenCV and ioctls (vision/v4l2.py); protocols 8 and the kernel's headers give the numbers."""

import errno
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision import v4l2
from vision.errors import VisionError
from vision.models import Image
from vision.v4l2 import FACE_SIZE, Size, V4l2Camera, capture_node, set_mains_frequency

FIVE_MEGAPIXELS = Size(2592, 1944)
MJPG, YUYV = 0x47504A4D, 0x56595559  # protocols 8
CAPTURE, METADATA, STREAMING, DEVICE_CAPS = 0x00000001, 0x00800000, 0x04000000, 0x80000000


class Kernel:
    """Nodes in a folder, their capabilities, and the ioctls they were asked."""

    def __init__(self, folder: Path) -> None:
        self.dev, self.sysfs = folder / "dev", folder / "sysfs"
        self.dev.mkdir()
        self.nodes: dict[str, tuple[int, int] | int] = {}
        self.controls: list[tuple[int, int]] = []

    def add(self, *nodes: str, caps: int, device_caps: int | None = None, failure: int = 0) -> None:
        for name in nodes:
            (self.dev / name).touch()
            listed = self.sysfs / name / "device"
            listed.mkdir(parents=True)
            (self.sysfs / "all").mkdir(exist_ok=True)
            (self.sysfs / "all" / name).touch()
            (listed / "video4linux").symlink_to(self.sysfs / "all")
            self.nodes[name] = failure or (caps, device_caps or 0)

    def ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes:
        node = self.nodes[Path(f"/proc/self/fd/{descriptor}").readlink().name]
        if isinstance(node, int):
            raise OSError(node, "scripted")
        if request == 0x80685600:  # VIDIOC_QUERYCAP: driver 16, card 32, bus 32, version, capabilities, device_caps
            assert argument == bytes(104)
            return b"uvcvideo".ljust(16, b"\0") + bytes(64) + struct.pack("=III12x", 0x60100, *node)
        assert request == 0xC008561C  # VIDIOC_S_CTRL
        control, value = struct.unpack("=Ii", argument)
        self.controls.append((control, value))
        return argument


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path)
    monkeypatch.setattr(v4l2, "_SYSFS", kernel.sysfs)
    monkeypatch.setattr(v4l2.fcntl, "ioctl", kernel.ioctl)
    return kernel


class FakeCapture:
    """What cv2.VideoCapture does, as far as it is used."""

    def __init__(self, size: Size, fourcc: int = MJPG, *, opens: bool = True) -> None:
        self.asked: list[tuple[int, float]] = []
        self.gives = {v4l2.cv2.CAP_PROP_FRAME_WIDTH: size.width, v4l2.cv2.CAP_PROP_FRAME_HEIGHT: size.height}
        self.gives[v4l2.cv2.CAP_PROP_FOURCC] = fourcc
        self.picture = np.zeros((size.height, size.width, 3), np.uint8)
        self.opens = opens
        self.good = True
        self.released = False

    def set(self, name: int, value: float) -> bool:
        self.asked.append((name, value))
        return True

    def get(self, name: int) -> float:
        return float(self.gives[name])

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        return self.opens

    def read(self) -> tuple[bool, Image]:
        return self.good, self.picture

    def release(self) -> None:
        self.released = True


@pytest.fixture
def plug(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plug in a camera that gives a capture, and return its path."""

    def plug_in(capture: FakeCapture) -> Path:
        kernel.add("video0", caps=CAPTURE | STREAMING)
        opened = []
        monkeypatch.setattr(v4l2.cv2, "VideoCapture", lambda *how: opened.append(how) or capture)
        return kernel.dev / "video0"

    return plug_in


def test_mjpg_then_size_then_rate_then_one_buffer_and_mains_of_50_hertz(plug: Any, kernel: Kernel) -> None:
    """Protocols 8: FOURCC first, then WIDTH, HEIGHT, FPS; power line frequency is 00980900 + 24, 1 is 50 Hz."""
    capture = FakeCapture(FIVE_MEGAPIXELS)
    camera = V4l2Camera(plug(capture), FIVE_MEGAPIXELS)
    assert capture.asked == [(6, MJPG), (3, 2592), (4, 1944), (5, 15), (38, 1)]  # protocols 8: OpenCV's properties
    assert kernel.controls == [(0x00980900 + 24, 1)]
    assert camera.read().shape == (1944, 2592, 3)
    capture.good = False
    with pytest.raises(OSError, match="no frame"):
        camera.read()
    camera.close()
    assert capture.released


@pytest.mark.parametrize("size", [Size(1920, 1080), Size(2592, 1458), Size(2560, 1944)])
def test_less_than_five_megapixels_is_refused(plug: Any, size: Size) -> None:
    """T2; opencv 9540, 12404, 24289: the driver substitutes silently."""
    capture = FakeCapture(size, YUYV)
    path = plug(capture)
    with pytest.raises(VisionError, match=f"gives {size} YUYV, at least 2592x1944") as caught:
        V4l2Camera(path, FIVE_MEGAPIXELS)
    assert caught.value.code == "camera.resolution_too_low"
    assert capture.released


def test_more_than_asked_for_is_taken(plug: Any) -> None:
    capture = FakeCapture(Size(3264, 2448))
    camera = V4l2Camera(plug(capture), FIVE_MEGAPIXELS)
    assert not capture.released
    camera.close()
    assert capture.released


def test_a_camera_that_another_uses_does_not_open(plug: Any) -> None:
    capture = FakeCapture(FACE_SIZE, opens=False)
    path = plug(capture)
    with pytest.raises(VisionError, match="does not open") as caught:
        V4l2Camera(path, FACE_SIZE)
    assert (caught.value.code, caught.value.retry) == ("camera.unusable", True)
    assert capture.released


def test_a_camera_without_the_mains_control_serves_all_the_same(kernel: Kernel) -> None:
    kernel.add("video0", caps=CAPTURE, failure=errno.EINVAL)
    set_mains_frequency(kernel.dev / "video0")
    assert kernel.controls == []


@pytest.mark.parametrize("chosen", ["video0", "video1"])
def test_the_node_with_pictures_is_found_from_either_node(kernel: Kernel, chosen: str) -> None:
    """Protocols 8: there is a metadata node too; `capabilities` is of the whole device, both say capture."""
    kernel.add("video0", caps=CAPTURE | METADATA | DEVICE_CAPS, device_caps=CAPTURE | STREAMING)
    kernel.add("video1", caps=CAPTURE | METADATA | DEVICE_CAPS, device_caps=METADATA | STREAMING)
    link = kernel.dev / "by-id"
    link.symlink_to(kernel.dev / chosen)
    assert capture_node(link) == kernel.dev / "video0"


def test_a_device_without_pictures_is_no_camera(kernel: Kernel) -> None:
    kernel.add("video0", caps=METADATA)
    kernel.add("video1", caps=CAPTURE, failure=errno.ENODEV)
    with pytest.raises(VisionError, match="is no camera") as caught:
        capture_node(kernel.dev / "video0")
    assert caught.value.code == "camera.unusable"


def test_a_node_that_may_not_be_asked_says_why(kernel: Kernel) -> None:
    kernel.add("video0", caps=CAPTURE, failure=errno.EACCES)
    with pytest.raises(VisionError, match="Permission denied"):
        capture_node(kernel.dev / "video0")
