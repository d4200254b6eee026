"""How a live check goes from frame to frame to its one decision (vision/check.py)."""

import itertools
import threading
import time
from collections.abc import Iterator
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

DECISION = Decision(0.9, 0.5, True, 3, "1e-5", 1e-5, "model", "not_checked", (), {})


class Scripted(FaceCheck):
    """A check that says of each frame what the script says, chooses the good ones, and is ready after `enough`."""

    def __init__(self, *script: str | None, enough: int = 3, takes: float = 0.0) -> None:
        self.script = itertools.chain(script, itertools.repeat(script[-1]))
        self.enough = enough
        self.takes = takes
        self.decided_at: list[float] = []
        self.times: list[float] = []

    @property
    def chosen(self) -> int:
        return len(self.times)

    @property
    def decide_seconds(self) -> float:
        return self.takes

    def consider(self, frame: Image, taken_at: float) -> str | None:
        code = next(self.script)
        if code is None:
            self.times.append(taken_at)
        return code

    def ready(self, now: float) -> bool:
        return self.chosen >= self.enough

    def decide(self) -> Decision:
        self.decided_at.append(time.monotonic())
        return DECISION


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


@pytest.fixture
def feed() -> Iterator[CameraFeed]:
    camera = CameraFeed(Quick, Size(1, 1))
    yield camera
    camera.close()


def test_decides_once_as_soon_as_it_is_ready_on_new_frames_only(feed: CameraFeed) -> None:
    """T9: what stood before the camera earlier does not count, nor does a frame count twice."""
    assert feed.newer(0, 1), "the camera was on before"
    check, begun = Scripted("face.none", None), time.monotonic()
    guidance: list[str] = []
    assert run_check(Job(begun + 5), check, feed, guidance.append) is DECISION
    assert len(check.decided_at) == 1
    assert check.decided_at[0] < begun + 1
    assert check.times == sorted(set(check.times))
    assert check.times[0] > begun
    assert guidance == ["face.none"]


def test_the_deadline_decides_with_the_frames_there_are(feed: CameraFeed) -> None:
    """T13: and leaves time for it."""
    check, begun = Scripted(None, "face.hold_still", takes=0.1), time.monotonic()
    assert run_check(Job(begun + 0.5), check, feed, lambda _: None) is DECISION
    assert check.chosen == 1
    assert 0.2 < check.decided_at[0] - begun < 0.45


@pytest.mark.parametrize("code", ["face.many", "face.too_dark", "face.take_off_mask"])
def test_the_deadline_without_a_good_frame_ends_with_its_reason(feed: CameraFeed, code: str) -> None:
    check = Scripted(code)
    with pytest.raises(VisionError) as caught:
        run_check(Job(time.monotonic() + 0.3), check, feed, lambda _: None)
    assert (caught.value.code, check.decided_at) == (code, [])


def test_good_frames_that_were_not_chosen_are_a_timeout(feed: CameraFeed) -> None:
    class NeverChosen(Scripted):
        chosen = 0

    with pytest.raises(VisionError) as caught:
        run_check(Job(time.monotonic() + 0.2), NeverChosen(None), feed, lambda _: None)
    assert caught.value.code == "face.timeout"


def test_guidance_comes_at_most_three_times_a_second(feed: CameraFeed) -> None:
    told: list[tuple[float, str]] = []
    check = Scripted(*("face.none", "face.many") * 100)
    with pytest.raises(VisionError):
        run_check(Job(time.monotonic() + 1.2), check, feed, lambda code: told.append((time.monotonic(), code)))
    assert 2 <= len(told) <= 4
    assert all(later[0] - earlier[0] > 0.32 and later[1] != earlier[1] for earlier, later in pairwise(told))


def test_nobody_waits_for_a_cancelled_check(feed: CameraFeed) -> None:
    job = Job(time.monotonic() + 5)
    job.cancel()
    with pytest.raises(VisionError) as caught:
        run_check(job, check := Scripted(None), feed, lambda _: None)
    assert (caught.value.code, check.decided_at) == ("vision.cancelled", [])


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
