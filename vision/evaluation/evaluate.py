"""Measure the face check on listed pictures, at a threshold fixed beforehand in the manifest (T9)."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vision.evaluation.acquire import Acquired, Cache, Reference, acquire
from vision.evaluation.comparisons import (
    WORST,
    Described,
    Genuine,
    Impostors,
    Pairs,
    compare_genuine,
    compare_impostors,
    pairs_within,
    templates_of,
)
from vision.evaluation.images import Listed, read_images, read_pairs
from vision.evaluation.statistics import Rate
from vision.manifest import Threshold
from vision.models import Models


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure: `genuine` is a list of pairs, or None for every pair within an identity."""

    images: Path
    root: Path
    genuine: Path | None = None
    reference: Reference = "chip"
    frames: int = 1
    operating_point: str = "1e-5"


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What was measured; nothing in it tells who is in the pictures."""

    task: Task
    threshold: Threshold
    model: str
    pictures: int
    people: int
    impostors: Impostors
    one_per_identity: Impostors
    genuine: Genuine
    probes_left_out: int
    failures: Counter[str]
    milliseconds: dict[str, float]

    @property
    def missed(self) -> Rate:
        """False non-matches of the pairs that could be compared."""
        return Rate(len(self.genuine.missed(self.threshold.cosine)), len(self.genuine.scores))

    @property
    def missed_or_not_acquired(self) -> Rate:
        """False non-matches when a pair that could not be acquired is one as well."""
        lost = len(self.genuine.not_acquired)
        return Rate(self.missed.events + lost, self.missed.trials + lost)

    @property
    def not_acquired(self) -> Rate:
        """Failures to acquire."""
        return Rate(self.failures.total(), self.pictures)


def evaluate(models: Models, cache: Cache, task: Task, progress: Callable[[int, int], object]) -> Evaluation:
    """Measure; `progress` is told how many of how many pictures were described.

    VisionError `model.no_threshold`, `images.malformed`, `images.missing`.
    """
    threshold = models.threshold(task.operating_point, task.frames)
    listed = read_images(task.images)
    listed_pairs = None if task.genuine is None else _as_pairs(read_pairs(task.genuine, listed))
    acquired = _acquire(models, cache, task, listed, progress)
    described = acquired.described.adapted(models.adaptation, chips=task.reference == "chip")
    begun = time.thread_time()
    templates = templates_of(described, task.frames)
    impostors = compare_impostors(templates, threshold.cosine)
    one = compare_impostors(templates.one_per_subject(), threshold.cosine)
    pairs = pairs_within(described.subjects) if listed_pairs is None else listed_pairs
    genuine = compare_genuine(described, pairs, task.frames)
    return Evaluation(
        task=task,
        threshold=threshold,
        model=models.identity,
        pictures=len(listed),
        people=len(np.unique(described.subjects)),
        impostors=impostors,
        one_per_identity=one,
        genuine=genuine,
        probes_left_out=_too_few(described, task.frames),
        failures=Counter(acquired.failures.values()),
        milliseconds=acquired.milliseconds | {"all_comparisons": (time.thread_time() - begun) * 1000},
    )


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures under the names of `govterm face evaluate --json`."""
    return {
        "fmr": _matches(evaluation.impostors),
        "fmr_one_per_identity": _matches(evaluation.one_per_identity),
        "fnmr": _misses(evaluation, evaluation.missed, generalised=False),
        "fnmr_generalised": _misses(evaluation, evaluation.missed_or_not_acquired, generalised=True),
        "failure_to_acquire": {
            "pictures": evaluation.pictures,
            "failures": evaluation.not_acquired.events,
            "rate": evaluation.not_acquired.rate,
            "interval": evaluation.not_acquired.interval,
            "reasons": dict(sorted(evaluation.failures.items())),
        },
        "left_out": {"probes": evaluation.probes_left_out, "genuine_pairs": evaluation.genuine.left_out},
        "operating_point": float(evaluation.task.operating_point),
        "threshold": evaluation.threshold.cosine,
        "frames": evaluation.task.frames,
        "reference": evaluation.task.reference,
        "model": evaluation.model,
        "people": evaluation.people,
        "worst_impostor_scores": [round(float(score), 4) for score in evaluation.impostors.highest[:WORST]],
        "milliseconds": {stage: round(spent, 3) for stage, spent in evaluation.milliseconds.items()},
    }


def _matches(impostors: Impostors) -> dict[str, Any]:
    rate = impostors.rate
    return {
        "pairs": rate.trials,
        "matches": rate.events,
        "rate": rate.rate,
        "lower95": rate.lower95,
        "upper95": rate.upper95,
        "interval": rate.interval,
        "bootstrap": impostors.bootstrap,
    }


def _misses(evaluation: Evaluation, rate: Rate, *, generalised: bool) -> dict[str, Any]:
    cosine, people = evaluation.threshold.cosine, evaluation.people
    return {
        "pairs": rate.trials,
        "misses": rate.events,
        "rate": rate.rate,
        "interval": rate.interval,
        "bootstrap": evaluation.genuine.bootstrap(cosine, people, generalised=generalised),
    }


def _acquire(
    models: Models, cache: Cache, task: Task, listed: Sequence[Listed], progress: Callable[[int, int], object]
) -> Acquired:
    def done(count: int) -> None:
        progress(count, len(listed))

    return acquire(models, cache, task.root, listed, reference=task.reference, progress=done)


def _as_pairs(pairs: Sequence[tuple[int, int]]) -> Pairs:
    return np.array(pairs, np.int64).reshape(-1, 2)


def _too_few(described: Described, frames: int) -> int:
    """Return how many pictures are of people with too few listed pictures for a probe."""
    counts = np.bincount(described.subjects)
    return int(np.sum(counts[counts < frames]))
