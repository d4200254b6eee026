"""One face check: frames in, guidance out, and a decision once enough good frames were seen (T9).

Detect, assess quality, align, embed, compare. A detector of presentation attacks belongs between quality and align;
until one is configured every decision says `not_checked`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vision.align import align
from vision.detect import detect
from vision.embed import embed
from vision.errors import VisionError
from vision.models import Floats, Image, Models
from vision.quality import assess, usable

OPERATING_POINT = "fmr-1e-5-provisional"
"""The row of the manifest's threshold table that decisions are taken at."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A comparison's result and its evidence: cosine `score` in [-1, 1], `stages` in seconds, reference included."""

    score: float
    threshold: float
    match: bool
    frames: int
    operating_point: str
    model: str
    presentation_attack: Literal["not_checked", "bona_fide", "attack"]
    stages: dict[str, float]


class FaceCheck:
    """Compares the person before the camera with one reference picture.

    The caller owns, and wipes, the pictures it gives; everything kept from them here is overwritten by `wipe`.
    """

    def __init__(self, models: Models, reference: Image, *, frames: int) -> None:
        """Take the reference (BGR, 126x102 from a card); VisionError `photo.no_face`, `photo.many_faces`."""
        self._models = models
        self._frames = frames
        self._stages = dict.fromkeys(("detect", "quality", "align", "embed", "compare"), 0.0)
        self._used = 0
        self.last_guidance: str | None = None
        with self._timed("detect"):
            faces = usable(detect(models.detector, reference))
        if len(faces) != 1:
            code = "photo.many_faces" if faces else "photo.no_face"
            advice = "read the card again; if it stays so, the citizen goes to the counter"
            raise VisionError(code, f"{len(faces)} faces in the card's photo", advice=advice, retry=False)
        self._reference = self._describe(reference, faces[0].landmarks)
        self._total = np.zeros_like(self._reference)

    def consider(self, frame: Image) -> str | None:
        """Use a camera frame (BGR, any size); return the guidance code when it cannot serve, None when it was used."""
        with self._timed("detect"):
            faces = usable(detect(self._models.detector, frame))
        with self._timed("quality"):
            self.last_guidance = assess(frame, faces)
        if self.last_guidance is None:
            embedding = self._describe(frame, faces[0].landmarks)
            self._total += embedding
            embedding.fill(0)
            self._used += 1
        return self.last_guidance

    def decision(self) -> Decision | None:
        """Return the decision once as many frames were used as asked for, else None."""
        if self._used < self._frames:
            return None
        with self._timed("compare"):
            score = float(self._total @ self._reference) / max(float(np.linalg.norm(self._total)), 1e-12)
        threshold = self._models.thresholds[OPERATING_POINT]
        return Decision(
            score=score,
            threshold=threshold,
            match=score >= threshold,
            frames=self._used,
            operating_point=OPERATING_POINT,
            model=self._models.identity,
            presentation_attack="not_checked",
            stages=dict(self._stages),
        )

    def wipe(self) -> None:
        """Overwrite every embedding held and forget the frames; nobody resembles the reference afterwards."""
        self._reference.fill(0)
        self._total.fill(0)
        self._used = 0

    def _describe(self, picture: Image, landmarks: Floats) -> Floats:
        with self._timed("align"):
            aligned = align(picture, landmarks)
        with self._timed("embed"):
            embedding = embed(self._models.recogniser, aligned)
        aligned.fill(0)
        return embedding

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._stages[stage] += time.perf_counter() - start
