"""Which frames a live check uses (vision/check.py)."""

import itertools
import time
from itertools import pairwise

import numpy as np

from vision.camera import CameraFeed
from vision.check import Job, run_check
from vision.models import Image
from vision.pipeline import Decision, FaceCheck


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
    feed, check = CameraFeed(Quick), EveryFrameServes()
    try:
        assert run_check(Job(time.monotonic() + 5), check, feed, lambda _: None) is DECISION
    finally:
        feed.close()
    assert all(0.19 < later - earlier < 1 for earlier, later in pairwise(check.used))
