"""Learn the adaptation of the recogniser's embeddings, and score people it was not learned on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vision.adaptation import Adaptation
from vision.errors import VisionError
from vision.evaluation.comparisons import Booleans, Described, Pairs
from vision.evaluation.statistics import Indices

FOLDS = 5
"""People are dealt into so many folds; those of a comparison are never among those its adaptation was learned on."""

_CENTRE = 1.2
"""How many times the mean is taken off: a little more than all of it keeps crowded faces further apart."""

_RIDGE = 1.0
"""How much the map from chip to full is held to the identity, in mean variances of an embedding's number."""

_SHRINKAGE = 0.6
"""How much the scatter within people is drawn towards the same in every direction."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What to learn from: pictures as chip references and in full, not adapted; the folds of their people.

    `population` marks the pictures whose mean is taken off: of the people whom the recogniser crowds together.
    `genuine` are pairs of pictures of one person.
    """

    described: Described
    folds: Indices
    population: Booleans
    genuine: Pairs

    @property
    def acquired(self) -> Booleans:
        """Pictures that have both embeddings."""
        both: Booleans = self.described.referable & self.described.usable
        return both


def fit(material: Material, training: Booleans) -> Adaptation:
    """Learn the maps from the pictures marked in `training`; VisionError `calibration.too_little`."""
    training = training & material.acquired
    typical = training & material.population
    genuine = material.genuine[training[material.genuine].all(axis=1)]
    if not typical.any() or not len(genuine):
        message = "no picture of --population, or no genuine pair, to learn from"
        advice = "give larger sets: every fold of their people needs some"
        raise VisionError("calibration.too_little", message, advice=advice, retry=False)
    chip, full = (part.astype(np.float64) for part in (material.described.references, material.described.frames))
    reference_mean = _CENTRE * chip[typical].mean(axis=0)
    probe_mean = _CENTRE * full[typical].mean(axis=0)
    chip -= reference_mean
    full -= probe_mean
    to_full = _ridge(chip[training], full[training])
    # Both ways round: each picture of a pair as the chip.
    chips, fulls = np.vstack([genuine, genuine[:, ::-1]]).T
    weigh = _whitening(_units(chip[chips] @ to_full) - _units(full[fulls]))
    single = [part.astype(np.float32) for part in (probe_mean, weigh, reference_mean, to_full @ weigh)]
    return Adaptation(*single)


def folds_of(people: Sequence[str], subjects: Indices) -> Indices:
    """Deal people into folds by their names, the same in every run; return each picture's."""
    order = {name: at % FOLDS for at, name in enumerate(sorted(people))}
    return np.array([order[name] for name in people], np.int64)[subjects]


def held_out(material: Material) -> Iterator[tuple[Booleans, Indices, Adaptation]]:
    """Yield, for each two folds, their pictures, whose comparisons are new, and an adaptation learned on the others.

    Two pictures are to be compared only if the numbers given for them differ: those are the people within a fold, and
    the folds themselves between two.
    """
    folds = material.folds
    for one in range(FOLDS):
        for other in range(one, FOLDS):
            pictures = (folds == one) | (folds == other)
            yield pictures, material.described.subjects if one == other else folds, fit(material, ~pictures)


def _ridge(source: Doubles, target: Doubles) -> Doubles:
    """Return the matrix that brings source rows to target rows with the least squares, drawn towards the identity."""
    numbers = source.shape[1]
    towards = _RIDGE / numbers * np.eye(numbers)
    solved: Doubles = np.linalg.solve(
        source.T @ source / len(source) + towards, source.T @ target / len(source) + towards
    )
    return solved


def _whitening(differences: Doubles) -> Doubles:
    """Return the inverse square root of the shrunk scatter, which makes a person equally steady in all directions."""
    scatter = differences.T @ differences / len(differences)
    mean = np.trace(scatter) / len(scatter) * np.eye(len(scatter))
    values, vectors = np.linalg.eigh((1 - _SHRINKAGE) * scatter + _SHRINKAGE * mean)
    whitening: Doubles = vectors * values**-0.5 @ vectors.T
    return whitening


def _units(vectors: Doubles) -> Doubles:
    units: Doubles = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return units
