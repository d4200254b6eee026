"""Which frames a live check uses (vision/check.py)."""

import itertools
import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from vision import check as check_module
from vision.camera import CameraFeed
from vision.check import Job, newest, run_check
from vision.errors import VisionError
from vision.models import Image
from vision.pipeline import Decision, FaceCheck
from vision.v4l2 import Size


class EveryFrameServes(FaceCheck):
    """A check that uses what it is given and decides after three frames."""

    def __init__(self) -> None:
        self.used: list[float] = []

    def consider(self, frame: Image) -> str | None:
        self.used.append(time.monotonic())
        return None

    def decision(self) -> Decision | None:
        return DECISION if len(self.used) == 3 else None


DECISION = Decision(0.9, 0.5, True, 3, "point", "model", "not_checked", {})


class Quick:
    """A camera of 100 frames a second, each another."""

    def __init__(self) -> None:
        self._number = itertools.count()

    def read(self) -> Image:
        time.sleep(0.01)
        frame = np.zeros((2, 2, 3), np.uint8)
        frame[0, 0] = 1 + next(self._number) % 250
        return frame

    def close(self) -> None: ...


def test_three_frames_of_one_moment_do_not_count_as_three() -> None:
    """T9: the mean of nearly identical frames is no better than one of them."""
    feed, check = CameraFeed(Quick, Size(1, 1)), EveryFrameServes()
    try:
        assert run_check(Job(time.monotonic() + 5), check, feed, lambda _: None) is DECISION
    finally:
        feed.close()
    assert all(0.19 < later - earlier < 1 for earlier, later in pairwise(check.used))


def test_a_capture_is_of_now_and_exposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """T2: not a frame from before the citizen asked, nor one taken while the exposure still settles."""
    monkeypatch.setattr(check_module, "SETTLE_SECONDS", 0.3)
    begun = time.monotonic()
    feed = CameraFeed(Quick, Size(1, 1))
    try:
        assert newest(Job(begun + 5), feed).taken_at > begun + 0.3
        asked = time.monotonic()
        assert asked < newest(Job(asked + 5), feed).taken_at < asked + 0.2, "settled long ago"
    finally:
        feed.close()


class Silent:
    """A camera without a frame until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def read(self) -> Image:
        self.go.wait()
        raise OSError("gone")

    def close(self) -> None: ...


@pytest.mark.parametrize(("cancelled", "code"), [(False, "camera.lost"), (True, "vision.cancelled")])
def test_a_capture_ends_in_time(cancelled: bool, code: str) -> None:
    silent = Silent()
    feed = CameraFeed(lambda: silent, Size(1, 1))
    job = Job(time.monotonic() + 0.1)
    if cancelled:
        job.cancel()
    try:
        with pytest.raises(VisionError) as caught:
            newest(job, feed)
        assert caught.value.code == code
    finally:
        silent.go.set()
        feed.close()
