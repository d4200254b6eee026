"""Millions of comparisons in seconds: matrix products, a bounded block at a time, nothing kept but counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vision.adaptation import Adaptation
from vision.evaluation.statistics import Indices, Interval, PairEvents, Rate, Weights, bootstrap
from vision.models import Floats

BINS = 4000
"""Bins of the cosine from -1 to 1 in `Impostors.histogram`."""

WORST = 20
"""How many of the highest impostor scores are told."""

_BLOCK_SCORES = 2**22

Booleans = npt.NDArray[np.bool_]
Pairs = npt.NDArray[np.int64]
"""Pairs of pictures (n, 2): reference and probe."""


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """Listed pictures as the recogniser sees them: row i is picture i, of subject `subjects[i]`.

    `references` are the embeddings as a reference, `frames` as one frame of a probe; False in `referable` or `usable`
    is a picture that was not acquired as such.
    """

    subjects: Indices
    references: Floats
    frames: Floats
    referable: Booleans
    usable: Booleans

    def part(self, chosen: Booleans) -> "Described":
        """Return some of the pictures."""
        return Described(
            self.subjects[chosen],
            self.references[chosen],
            self.frames[chosen],
            self.referable[chosen],
            self.usable[chosen],
        )

    def adapted(self, adaptation: Adaptation, *, chips: bool) -> "Described":
        """Return the pictures with their embeddings mapped; references that are no chips take the probe's map."""
        to_reference = adaptation.reference if chips else adaptation.probe
        references, frames = to_reference(self.references.copy()), adaptation.probe(self.frames.copy())
        return Described(self.subjects, references, frames, self.referable, self.usable)


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """What is compared: row i of `references` and of `probes`, in which picture i is the first frame.

    False in `referable` or `probable` is a picture that was not acquired or has too few companions: it takes no part.
    """

    subjects: Indices
    references: Floats
    probes: Floats
    referable: Booleans
    probable: Booleans

    def one_per_subject(self) -> "Templates":
        """Return the first picture of each subject that can be both reference and probe, else of those that can less.

        When subjects have few pictures this is the fairer count: no subject is in more comparisons than another.
        """
        lacking = 2 - self.referable.astype(np.int64) - self.probable
        order = np.lexsort((np.arange(len(self.subjects)), lacking, self.subjects))
        chosen = np.sort(order[np.unique(self.subjects[order], return_index=True)[1]])
        return Templates(
            self.subjects[chosen],
            self.references[chosen],
            self.probes[chosen],
            self.referable[chosen],
            self.probable[chosen],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Impostors:
    """Every pair of pictures of two subjects: the earlier one is the reference, the later one the probe.

    `events` are the false matches; `highest` are the highest scores, the highest first.
    """

    events: PairEvents
    people: int
    histogram: Indices
    highest: Floats

    @property
    def rate(self) -> Rate:
        """The rate of false matches."""
        return Rate(len(self.events.first), int(self.histogram.sum()))

    @property
    def bootstrap(self) -> Interval:
        """Its interval over subjects."""
        return bootstrap(self.people, self.events)


@dataclass(frozen=True, slots=True, eq=False)
class Genuine:
    """Pairs of pictures of one subject: the scores of those acquired, and whose they and the others are.

    `left_out` pairs are of subjects with too few listed pictures for that many frames; they count nowhere.
    """

    scores: Floats
    subjects: Indices
    not_acquired: Indices
    left_out: int

    def missed(self, threshold: float) -> Indices:
        """Return the subject of each pair that does not reach the threshold."""
        return self.subjects[self.scores < threshold]

    def bootstrap(self, threshold: float, people: int, *, generalised: bool) -> Interval:
        """Return the interval over subjects of the rate of misses; generalised, of those not acquired as well."""
        lost = self.not_acquired if generalised else self.not_acquired[:0]
        missed = np.concatenate([self.missed(threshold), lost])
        pairs = np.bincount(np.concatenate([self.subjects, lost]), minlength=people)
        return bootstrap(people, PairEvents(missed, missed, lambda weights: float(weights @ pairs)))


def templates_of(described: Described, frames: int) -> Templates:
    """Make a probe of each picture and the next ones of its subject that were acquired, `frames` in all, in a ring."""
    probes = np.zeros_like(described.frames)
    probable = np.zeros_like(described.usable)
    for own in _by_subject(described.subjects, described.usable).values():
        if len(own) >= frames:
            ring = described.frames[own + own[: frames - 1]]
            sums = np.cumsum(np.vstack([np.zeros_like(ring[:1]), ring]), axis=0, dtype=np.float64)
            probes[own] = _units(sums[frames:] - sums[:-frames])
            probable[own] = True
    return Templates(described.subjects, described.references, probes, described.referable, probable)


def compare_impostors(templates: Templates, threshold: float, *, keep: int = WORST) -> Impostors:
    """Compare every pair of pictures across subjects; a match is a cosine of `threshold` or more."""
    histogram = np.zeros(BINS, np.int64)
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    highest = np.empty(0, np.float32)
    for rows, columns, scores, counted in _blocks(templates):
        values = scores[counted]
        bins = np.clip((values + 1) * (BINS / 2), 0, BINS - 1).astype(np.int32)
        histogram += np.bincount(bins, minlength=BINS)
        least = highest.min() if len(highest) == keep else -np.inf
        highest = np.concatenate([highest, values[values > least]])
        if len(highest) > keep:
            highest = np.partition(highest, len(highest) - keep)[len(highest) - keep :]
        matched = np.argwhere(counted & (scores >= threshold))
        first.append(templates.subjects[rows[matched[:, 0]]])
        second.append(templates.subjects[columns[matched[:, 1]]])
    events = PairEvents(np.concatenate(first), np.concatenate(second), _WeightedPairs(templates))
    people = int(templates.subjects.max()) + 1 if len(templates.subjects) else 0
    return Impostors(events, people, histogram, np.sort(highest)[::-1])


def pairs_within(subjects: Indices) -> Pairs:
    """Return every pair of pictures of one subject, the earlier one as the reference."""
    all_of = _by_subject(subjects, np.ones(len(subjects), np.bool_)).values()
    pairs = [(one, other) for own in all_of for at, one in enumerate(own) for other in own[at + 1 :]]
    return np.array(pairs, np.int64).reshape(-1, 2)


def compare_genuine(described: Described, pairs: Pairs, frames: int) -> Genuine:
    """Compare pairs of one subject: the probe is the pair's second picture and the next ones, the first one left out.

    A frame that was not acquired is passed over, as the terminal does; the pair's own two pictures are not.
    """
    listed = _by_subject(described.subjects, np.ones_like(described.usable))
    usable = _by_subject(described.subjects, described.usable)
    chosen: list[list[int]] = []
    not_acquired: list[int] = []
    left_out = 0
    for reference, probe in pairs.tolist():
        subject = int(described.subjects[probe])
        if len(listed[subject]) - 1 < frames:
            left_out += 1
            continue
        own = usable.get(subject, [])
        at = own.index(probe) if probe in own else len(own)
        ring = [picture for picture in own[at:] + own[:at] if picture != reference][:frames]
        if described.referable[reference] and described.usable[probe] and len(ring) == frames:
            chosen.append([reference, *ring])
        else:
            not_acquired.append(subject)
    rows = np.array(chosen, np.int64).reshape(-1, frames + 1)
    scores = np.empty(len(rows), np.float32)
    step = max(1, _BLOCK_SCORES // (described.frames.shape[1] * frames))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        probes = _units(described.frames[part[:, 1:]].sum(axis=1))
        scores[start : start + step] = np.einsum("ij,ij->i", described.references[part[:, 0]], probes)
    return Genuine(scores, described.subjects[rows[:, 0]], np.array(not_acquired, np.int64), left_out)


class _WeightedPairs:
    """The number of impostor pairs when subject s counts `weights[s]` times."""

    def __init__(self, templates: Templates) -> None:
        order = np.argsort(templates.subjects, kind="stable")
        self._subjects = templates.subjects
        self._referable, self._probable = templates.referable, templates.probable
        self._order = order
        starts = np.unique(templates.subjects[order], return_index=True)[1]
        self._first = np.repeat(starts, np.diff(np.append(starts, len(order))))

    def __call__(self, weights: Weights) -> float:
        drawn = weights[self._subjects]
        references, probes = drawn * self._referable, drawn * self._probable
        pairs = float(np.sum(probes * (np.cumsum(references) - references)))
        references, probes = references[self._order], weights[self._subjects][self._order] * self._probable[self._order]
        before = np.cumsum(references) - references
        return pairs - float(np.sum(probes * (before - before[self._first])))


def _blocks(templates: Templates) -> Iterator[tuple[Indices, Indices, Floats, Booleans]]:
    """Yield the rows and columns of a block, its scores, and which of these are impostor pairs."""
    subjects = templates.subjects
    rows = np.flatnonzero(templates.referable)
    step = max(1, _BLOCK_SCORES // max(1, len(subjects)))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        columns = np.arange(block[0] + 1, len(subjects))
        columns = columns[templates.probable[columns]]
        scores = templates.references[block] @ templates.probes[columns].T
        counted = (columns > block[:, None]) & (subjects[columns] != subjects[block][:, None])
        yield block, columns, scores, counted


def _by_subject(subjects: Sequence[int] | Indices, usable: Booleans) -> dict[int, list[int]]:
    own: dict[int, list[int]] = {}
    for index in np.flatnonzero(usable).tolist():
        own.setdefault(int(subjects[index]), []).append(index)
    return own


def _units(vectors: npt.NDArray[np.floating]) -> Floats:
    lengths = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    units: Floats = (vectors / lengths).astype(np.float32)
    return units
