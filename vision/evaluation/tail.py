"""From the highest impostor scores to a threshold: counted where there are enough, extrapolated where not."""

from dataclasses import dataclass
from math import floor, log

from vision.evaluation.statistics import Rate
from vision.models import Floats

FEWEST_PAIRS = 10_000
"""A group with fewer comparisons says nothing of rare events and sets no threshold."""

MANY_PAIRS = 1_000_000
"""A group with fewer comparisons does not tell how averaging frames moves the rarest scores."""

TAIL = 100
"""So many of a group's scores, the highest, the tail is extrapolated from."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A cosine that impostors reach at some rate: counted, or extrapolated from the tail of their scores."""

    cosine: float
    extrapolated: bool


def cut_at(highest: Floats, pairs: int, rate: float, *, proven: bool) -> Cut:
    """Return the least threshold, in steps of 0.0001, that at most `rate` of a group's `pairs` reach.

    `highest` holds the highest scores in descending order, TAIL at least and more than may reach the threshold. As many
    may as the rate says; `proven`, where there are pairs enough, as leave the upper end of the 95 % interval within it.
    Where that is not even one, what the highest hundred exceed the lowest of them by is taken as exponentially
    distributed and carried on to the rate.
    """
    allowed = _allowed(pairs, rate) if proven else int(pairs * rate)
    if allowed:
        return Cut(_above(float(highest[allowed])), extrapolated=False)
    tail = highest[:TAIL].astype(float)
    excess = float((tail - tail[-1]).mean())
    return Cut(_above(float(tail[-1]) + excess * log(len(tail) / pairs / rate)), extrapolated=True)


def _allowed(pairs: int, rate: float) -> int:
    """Return how many matches prove the rate; what the rate says where not even none would."""
    expected = int(pairs * rate)
    proven = [matches for matches in range(expected + 1) if Rate(matches, pairs).interval.high <= rate]
    return proven[-1] if proven else expected


def _above(cosine: float) -> float:
    """Return the next step of 0.0001 above."""
    return min(1.0, (floor(cosine * 10_000) + 1) / 10_000)
