"""Choose the frames of a check: the best of the stream, apart in time, each another picture (T9).

Only quality chooses; what a frame would score against the reference is not known here.
"""

from dataclasses import dataclass

import cv2

from vision.models import Image

SPACING_SECONDS = 0.2
"""Between two chosen frames: closer ones are nearly one picture, and their mean no better than one."""

EXCELLENT = 0.7
"""Unified quality score of a frame that is not worth bettering: most official portraits have it."""

PATIENCE_SECONDS = 1.5
"""So long after the first good frame better ones are waited for."""

_LEAST_CHANGE = 0.5
"""Mean difference of two faces' pixels, in grey levels, below which they are one picture: noise alone gives more."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A frame that may be chosen: its aligned face, owned by the selection, and its unified quality score."""

    face: Image
    quality: float
    taken_at: float


class Selection:
    """Holds the best `frames` candidates so far, in the order they were taken."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._chosen: list[Candidate] = []
        self._first_at = 0.0

    @property
    def chosen(self) -> tuple[Candidate, ...]:
        """The frames chosen so far."""
        return tuple(self._chosen)

    def offer(self, candidate: Candidate) -> bool:
        """Take a later candidate when it betters the choice; the face of the one that is not chosen is overwritten.

        One that shows the picture of a chosen one again never counts; one too close in time only replaces the other.
        """
        if not self._chosen:
            self._first_at = candidate.taken_at
        loser = self._loser(candidate)
        if loser is not candidate:
            self._chosen.append(candidate)
        if loser is not None:
            loser.face.fill(0)
            self._chosen = [held for held in self._chosen if held is not loser]
        return loser is not candidate

    def complete(self, now: float) -> bool:
        """Whether as many as asked for are chosen, and all are excellent or patience is over."""
        if len(self._chosen) < self._frames:
            return False
        excellent = all(held.quality >= EXCELLENT for held in self._chosen)
        return excellent or now - self._first_at >= PATIENCE_SECONDS

    def wipe(self) -> None:
        """Overwrite every face held and begin anew."""
        for held in self._chosen:
            held.face.fill(0)
        self._chosen.clear()

    def _loser(self, candidate: Candidate) -> Candidate | None:
        """Who has to go: the candidate, one that it replaces, or nobody."""
        if any(_same(candidate.face, held.face) for held in self._chosen):
            return candidate
        last = self._chosen[-1] if self._chosen else None
        if last and candidate.taken_at - last.taken_at < SPACING_SECONDS:
            return min(candidate, last, key=lambda one: one.quality)
        if len(self._chosen) < self._frames:
            return None
        return min(candidate, *self._chosen, key=lambda one: one.quality)


def _same(face: Image, other: Image) -> bool:
    return cv2.norm(face, other, cv2.NORM_L1) < _LEAST_CHANGE * face.size
