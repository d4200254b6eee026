"""One face check: frames in, guidance out, and one decision from the best of them (T9).

Detect, align, assess quality, look for a presentation attack, choose; then embed the chosen frames, average, compare,
decide. Each step is a module of its own.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from vision.align import align
from vision.attack.result import LayerResult, overall
from vision.detect import Face, detect
from vision.embed import embed
from vision.errors import VisionError
from vision.models import Floats, Image, Models
from vision.quality import assess, single_face_present, usable
from vision.reference import reference_face
from vision.selection import Candidate, Selection

OPERATING_POINT = "1e-5"
"""The rate of false matches that T9 allows."""

_GONE_SECONDS = 0.5
"""A person who was not seen, or not alone, for longer has left: what was chosen before does not count."""

SAME_PERSON = 0.3
"""Cosine of two frames' embeddings below which they show two people."""

_FRONTAL = "face.look_at_camera"
"""What a layer may ask for without spoiling the frame; while it asks for anything else, none is chosen."""

_LEAST_EMBED_SECONDS = 0.05
_COMPARE_SECONDS = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A frame (BGR) with one usable face; `fit` when it serves the comparison. The frame stays the caller's."""

    frame: Image
    face: Face
    taken_at: float
    fit: bool


class Layer(ABC):
    """One layer of the presentation-attack detection during one check (`vision.attack.layers`)."""

    @property
    def prompt(self) -> str | None:
        """What the person is asked to do for this layer now, a guidance code; None when nothing."""
        return None

    @property
    def over(self) -> bool:
        """Whether nothing that comes can change its results any more."""
        return False

    @property
    def person(self) -> Floats | None:
        """The embedding of whom the results are about, the layer's own; None when it does not know."""
        return None

    @abstractmethod
    def look(self, seen: Sighting) -> None:
        """Take each frame with one usable face."""

    @abstractmethod
    def results(self) -> tuple[LayerResult, ...]:
        """Return what was found so far; called when enough frames are chosen, and at the decision."""

    @abstractmethod
    def wipe(self) -> None:
        """Overwrite what was kept and begin anew: the person left, or the check is over."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A comparison's result and its evidence; nothing of it describes the person.

    `score` and `threshold` are cosines in [-1, 1]. `operating_point` names the false match rate asked for, `bound` is
    the one measured at this threshold and number of `frames` (one-sided upper 95 %, the worst group). `stages` are
    seconds spent, reference included.
    """

    score: float
    threshold: float
    match: bool
    frames: int
    operating_point: str
    bound: float
    model: str
    presentation_attack: Literal["not_checked", "bona_fide", "attack"]
    layers: tuple[LayerResult, ...]
    stages: dict[str, float]


class FaceCheck:
    """Compares the person before the camera with one reference picture, once.

    The caller owns, and wipes, the pictures it gives; everything kept from them here is overwritten by `wipe`.
    """

    def __init__(
        self,
        models: Models,
        reference: Image,
        *,
        frames: int,
        operating_point: str = OPERATING_POINT,
        layers: Sequence[Layer] = (),
        required: Collection[str] = (),
    ) -> None:
        """Take the reference (BGR, 126x102 from a card) and the layers, of which the `required` have to decide.

        VisionError `photo.no_face`, `photo.many_faces`, `picture.unusable`, and `model.no_threshold` when the models
        have none at this operating point for every number of frames up to `frames`.
        """
        self._models = models
        self._thresholds = models.thresholds_of(operating_point, frames)
        self._layers = layers
        self._required = required
        self._stages = dict.fromkeys(("detect", "align", "quality", "attack", "embed", "compare"), 0.0)
        self._selection = Selection(frames)
        self._seen_at: float | None = None
        self._gone = False
        self._decided = False
        with self._timed("detect"):
            face = reference_face(models.detector, reference)
        with self._timed("align"):
            aligned = align(reference, face.landmarks)
        self._reference = models.adaptation.reference(self._embed(aligned))
        aligned.fill(0)

    @property
    def chosen(self) -> int:
        """How many frames are chosen so far."""
        return len(self._selection.chosen)

    @property
    def decide_seconds(self) -> float:
        """How long `decide` will take, from the time that the reference's embedding took."""
        return self.chosen * max(self._stages["embed"], _LEAST_EMBED_SECONDS) + _COMPARE_SECONDS

    def consider(self, frame: Image, taken_at: float) -> str | None:
        """Look at a camera frame (BGR, any size); return what to tell the person, None when nothing.

        That is why the frame cannot serve or what a layer asks for. `taken_at` is on the caller's clock and grows.
        VisionError `picture.unusable`.
        """
        with self._timed("detect"):
            faces = usable(detect(self._models.detector, frame))
        code = single_face_present(frame, faces)
        if code is not None:
            self._gone = True
            return code
        self._stay(taken_at)
        (face,) = faces
        with self._timed("align"):
            aligned = align(frame, face.landmarks)
        with self._timed("quality"):
            quality = assess(frame, face, aligned)
        code = quality.guidance
        with self._timed("attack"):
            for layer in self._layers:
                layer.look(Sighting(frame, face, taken_at, fit=code is None))
            prompt = next((layer.prompt for layer in self._layers if layer.prompt), None)
        if code is None and prompt in (None, _FRONTAL):
            self._selection.offer(Candidate(aligned, quality.unified_quality_score, taken_at))
        else:
            aligned.fill(0)
        if prompt == _FRONTAL:
            return code or prompt
        return prompt or code

    def ready(self, now: float) -> bool:
        """Whether to decide now: enough frames are chosen, and every required layer came to a result, or never will."""
        if not self._selection.complete(now):
            return False
        with self._timed("attack"):
            return self._judged()[0] != "undecided" or any(self._failed(layer) for layer in self._layers)

    def decide(self) -> Decision:
        """Embed the chosen frames, compare them with the reference, and say what came of it: once, then wipe.

        The only look at a score. The bound of a threshold is that of one comparison: whoever compared after each frame
        until one passed would have as many chances of a false match. So frames are chosen by quality alone, and a
        second call is an error of the program. With fewer frames than asked for the threshold is theirs.

        VisionError `face.changed` when the chosen frames show two people, `face.attack_undecided` when a required
        layer came to no result.
        """
        if self._decided or not self.chosen:
            raise RuntimeError("a check decides once, on at least one chosen frame")
        self._decided = True
        try:
            with self._timed("attack"):
                attack, layers = self._judged()
            if attack == "undecided":
                message = "the presentation-attack detection came to no result"
                raise VisionError("face.attack_undecided", message, advice="try again", retry=True)
            score = self._compare(one_person=attack != "attack")
            threshold = self._thresholds[self.chosen - 1]
            return Decision(
                score=score,
                threshold=threshold.cosine,
                match=score >= threshold.cosine,
                frames=self.chosen,
                operating_point=threshold.operating_point,
                bound=threshold.bound,
                model=self._models.identity,
                presentation_attack=attack,
                layers=layers,
                stages=dict(self._stages),
            )
        finally:
            self.wipe()

    def wipe(self) -> None:
        """Overwrite every face and embedding held; nobody resembles the reference afterwards."""
        self._reference.fill(0)
        self._selection.wipe()
        for layer in self._layers:
            layer.wipe()

    def _stay(self, taken_at: float) -> None:
        """Begin anew when the person came back after having left: a decision is about one presentation."""
        if self._gone and self._seen_at is not None and taken_at - self._seen_at > _GONE_SECONDS:
            self._selection.wipe()
            for layer in self._layers:
                layer.wipe()
        self._gone = False
        self._seen_at = taken_at

    def _judged(self) -> tuple[Literal["not_checked", "bona_fide", "attack", "undecided"], tuple[LayerResult, ...]]:
        """Join the layers; `undecided` only when one that is required is, or did not look."""
        results = tuple(result for layer in self._layers for result in layer.results())
        outcome = overall(results, required=self._required)
        if self._required:
            return ("undecided" if outcome == "not_checked" else outcome), results
        return ("not_checked" if outcome == "undecided" else outcome), results

    def _failed(self, layer: Layer) -> bool:
        """Whether a layer that is required ended without a result."""
        unsaid = (result for result in layer.results() if result.outcome not in {"bona_fide", "attack"})
        return layer.over and any(result.layer in self._required for result in unsaid)

    def _compare(self, *, one_person: bool) -> float:
        """Return the cosine of the mean of the chosen frames' adapted embeddings with the reference's.

        `one_person` refuses the frames of two; of an attack it is no news.
        """
        embeddings: list[Floats] = []
        try:
            embeddings += [self._embed(candidate.face) for candidate in self._selection.chosen]
            with self._timed("compare"):
                if one_person:
                    self._expect_one_person(embeddings)
                total = np.zeros_like(self._reference)
                for embedding in embeddings:
                    probe = self._models.adaptation.probe(embedding)
                    total += probe
                    probe.fill(0)
                score = float(total @ self._reference) / max(float(np.linalg.norm(total)), 1e-12)
                total.fill(0)
            return score
        finally:
            for embedding in embeddings:
                embedding.fill(0)

    def _expect_one_person(self, embeddings: list[Floats]) -> None:
        asked = (layer.person for layer in self._layers)
        people = [*embeddings, *(person for person in asked if person is not None)]
        if any(float(one @ other) < SAME_PERSON for one, other in combinations(people, 2)):
            message = "the frames show different people"
            raise VisionError("face.changed", message, advice="one person stays before the camera", retry=True)

    def _embed(self, aligned: Image) -> Floats:
        with self._timed("embed"):
            return embed(self._models.recogniser, aligned)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._stages[stage] += time.perf_counter() - start
