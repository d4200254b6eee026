"""One live face check, frame by frame to the decision, on the inference thread (T9)."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from vision.camera import CameraFeed, Frame
from vision.errors import VisionError
from vision.pipeline import Decision, FaceCheck
from vision.sight import SETTLE_SECONDS

_GUIDANCE_SECONDS = 0.33
_FRAME_SECONDS = 0.2

_ADVICE = {
    "face.timeout": "the person was seen, but not well enough in time; try again",
    "camera.lost": "check the camera and its cable",
    "vision.cancelled": "nobody waits for this answer",
}


@dataclass(slots=True)
class Job:
    """A piece of work on the inference thread; `deadline` is on time.monotonic()."""

    deadline: float
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Have the work stop at its next step; it is overdue from now on."""
        self.deadline = min(self.deadline, time.monotonic())
        self.cancelled.set()


def run_check(job: Job, check: FaceCheck, feed: CameraFeed, guide: Callable[[str], None]) -> Decision:
    """Look at frames until the check can decide, or until the deadline leaves just the time for it; decide once.

    `guide` gets a guidance code when it changes, at most 3 a second. Raises VisionError: at a deadline without a chosen
    frame with the last guidance as its code, `face.timeout` when there was none, `camera.lost` when there was no
    frame; before it `camera.*`, `vision.cancelled`; and what `FaceCheck.decide` raises.
    """
    seen, code = time.monotonic(), "camera.lost"  # what stood before the camera earlier does not count
    told, told_at = "", 0.0
    took = 0.0
    while not job.cancelled.is_set():
        now = time.monotonic()
        left = job.deadline - now - took - check.decide_seconds  # another frame would come too late
        if check.ready(now) or (left <= 0 and check.chosen):
            return check.decide()
        if left <= 0:
            raise _ended(code)
        frame = feed.newer(seen, min(left, _FRAME_SECONDS))
        if frame is None:
            continue
        seen, begun = frame.taken_at, time.monotonic()
        guidance = check.consider(frame.picture, frame.taken_at)
        now = time.monotonic()
        took = now - begun
        code = guidance or "face.timeout"
        if guidance and guidance != told and now - told_at >= _GUIDANCE_SECONDS:
            guide(guidance)
            told, told_at = guidance, now
    raise _ended("vision.cancelled")


def newest(job: Job, feed: CameraFeed) -> Frame:
    """Wait for a frame taken from now on, its exposure settled.

    Raises VisionError: `camera.*`, `camera.lost` when there was none by the deadline, or `vision.cancelled`.
    """
    asked = time.monotonic()
    while not job.cancelled.is_set():
        left = job.deadline - time.monotonic()
        if left <= 0:
            raise _ended("camera.lost")
        settled = SETTLE_SECONDS + feed.first_at if feed.first_at else float("inf")
        frame = feed.newer(max(asked, settled), min(left, _FRAME_SECONDS))
        if frame:
            return frame
    raise _ended("vision.cancelled")


def _ended(code: str) -> VisionError:
    advice = _ADVICE.get(code, "the person did not do what the guidance asked; try again")
    return VisionError(code, f"the check ended without a decision: {code}", advice=advice, retry=True)
