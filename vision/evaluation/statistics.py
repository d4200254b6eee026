"""Rates with their uncertainty, after ISO/IEC 19795-1: exact binomial bounds, and a bootstrap over subjects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

_REPLICATES = 1000
_TAIL = 0.05

Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """Two bounds of a rate."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """So many events in so many trials; the rate of no trials is unknown. The bounds are of independent trials."""

    events: int
    trials: int

    @property
    def rate(self) -> float | None:
        """The observed rate."""
        return self.events / self.trials if self.trials else None

    @property
    def interval(self) -> Interval:
        """The two-sided 95 % interval of Clopper and Pearson (1934)."""
        return Interval(lower_bound(self, _TAIL / 2), upper_bound(self, _TAIL / 2))

    @property
    def lower95(self) -> float:
        """The one-sided 95 % lower bound."""
        return lower_bound(self, _TAIL)

    @property
    def upper95(self) -> float:
        """The one-sided 95 % upper bound: the rule of three when nothing was observed."""
        return upper_bound(self, _TAIL)


def lower_bound(rate: Rate, tail: float) -> float:
    """Return the rate at which as many events or more have the probability `tail`; 0 without events."""
    return float(beta.ppf(tail, rate.events, rate.trials - rate.events + 1)) if rate.events else 0.0


def upper_bound(rate: Rate, tail: float) -> float:
    """Return the rate at which as many events or fewer have the probability `tail`; 1 when all trials are events."""
    return float(beta.ppf(1 - tail, rate.events + 1, rate.trials - rate.events)) if rate.events < rate.trials else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class PairEvents:
    """Events among pairs of pictures: the two subjects of each event's pair, one and the same of a genuine pair.

    `trials` gives the number of pairs when subject s counts `weights[s]` times.
    """

    first: Indices
    second: Indices
    trials: Callable[[Weights], float]

    def rate(self, weights: Weights) -> float:
        """Return the rate under these weights, one a subject; NaN without trials."""
        both = np.where(self.first == self.second, 1.0, weights[self.second])
        trials = self.trials(weights)
        return float(np.sum(weights[self.first] * both) / trials) if trials else float("nan")


def bootstrap(subjects: int, events: PairEvents, *, seed: int = 0) -> Interval:
    """Return the 95 % percentile interval of a rate when subjects are drawn anew with replacement.

    Comparisons that share a person are not independent; this interval knows it, Clopper-Pearson's does not. When no
    event was observed it is [0, 0] and says nothing: the exact upper bound does. Without trials it is [0, 1].
    """
    random = np.random.default_rng(seed)
    rates = np.array(
        [
            events.rate(np.bincount(random.integers(subjects, size=subjects), minlength=subjects).astype(np.float64))
            for _ in range(_REPLICATES if subjects else 0)
        ]
    )
    rates = rates[np.isfinite(rates)]
    if not len(rates):
        return Interval(0.0, 1.0)
    low, high = np.quantile(rates, [_TAIL / 2, 1 - _TAIL / 2])
    return Interval(float(low), float(high))
