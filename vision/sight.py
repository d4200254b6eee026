"""Tell from a camera's frames whether it sees anything: a lit scene, a dark one, or the inside of a cover (L17)."""

from typing import Literal

import cv2
import numpy as np

from vision.models import Image

SETTLE_SECONDS = 1.5
"""Automatic exposure takes this long after the camera is turned on, and a passing hand leaves within it."""

_JUDGE_SECONDS = 0.2
_CELLS = (32, 24)
_BLACK = 12
"""Every cell of the picture is darker, and so than video's black (16, ITU-R BT.601): nothing reaches the sensor."""
_DARK, _LIT = 45, 55
"""Nine tenths of the cells are darker: too dark for a face check (`vision.quality`); light again a little above."""

_RANK = {"covered": 0, "dark": 1, "online": 2}

Seen = Literal["online", "dark", "covered"]


class Sight:
    """What the camera has seen lately: the best of it, since light appears at once and darkness has to last."""

    def __init__(self) -> None:
        self.state: Seen | None = None
        self._judged_at = -1.0
        self._begun: float | None = None
        self._seen_at: dict[Seen, float] = {}

    def look(self, picture: Image, now: float) -> None:
        """Take a frame of the time `now`; not every frame is looked at."""
        if now - self._judged_at < _JUDGE_SECONDS:
            return
        self._judged_at = now
        if self._begun is None:
            self._begun = now
        self._seen_at[judge(picture, lit=_LIT if self.state == "dark" else _DARK)] = now
        lately = [seen for seen, at in self._seen_at.items() if now - at < SETTLE_SECONDS]
        best = max(lately, key=_RANK.__getitem__)
        if best == "online" or now - self._begun >= SETTLE_SECONDS:
            self.state = best


def judge(picture: Image, *, lit: float = _DARK) -> Seen:
    """Judge one frame by the brightness of its cells; averaging a cell takes the sensor's noise away."""
    cells = cv2.cvtColor(cv2.resize(picture, _CELLS, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    if cells.max() < _BLACK:
        return "covered"
    return "dark" if np.percentile(cells, 90) < lit else "online"
