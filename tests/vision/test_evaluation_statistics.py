"""The statistics of an evaluation on counts with known answers (T9)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from vision.evaluation.statistics import Interval, PairEvents, Rate, bootstrap
from vision.evaluation.tail import cut_at

counts = st.integers(1, 2000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


@given(counts)
@settings(max_examples=200, deadline=None)
def test_bounds_are_where_the_binomial_tails_are_five_percent(count: tuple[int, int]) -> None:
    """Clopper and Pearson's duality: the bound is the rate at which what was seen is just about unlikely."""
    rate = Rate(*count)
    if rate.events < rate.trials:
        assert binom.cdf(rate.events, rate.trials, rate.upper95) == pytest.approx(0.05, rel=1e-6)
        assert binom.cdf(rate.events, rate.trials, rate.interval.high) == pytest.approx(0.025, rel=1e-6)
    if rate.events:
        assert binom.sf(rate.events - 1, rate.trials, rate.lower95) == pytest.approx(0.05, rel=1e-6)
        assert binom.sf(rate.events - 1, rate.trials, rate.interval.low) == pytest.approx(0.025, rel=1e-6)
    assert rate.interval.low <= rate.lower95 <= rate.events / rate.trials <= rate.upper95 <= rate.interval.high


def test_known_bounds() -> None:
    assert Rate(0, 672_220).upper95 == pytest.approx(3 / 672_220, rel=0.002)  # the rule of three
    assert Rate(0, 100).upper95 == pytest.approx(1 - 0.05**0.01)
    assert Rate(5, 100).interval == pytest.approx((0.01643, 0.11283), abs=1e-5)  # a textbook's
    assert (Rate(7, 7).upper95, Rate(0, 7).lower95) == (1.0, 0.0)


def test_nothing_tried_nothing_known() -> None:
    nothing = Rate(0, 0)
    assert (nothing.rate, nothing.interval, nothing.upper95) == (None, Interval(0.0, 1.0), 1.0)


def test_the_bootstrap_knows_that_one_person_made_all_errors() -> None:
    """Ten genuine errors of a hundred: of one person in ten the interval is wide, spread over all it is narrow."""
    people = np.repeat(np.arange(10), 10)

    def trials(weights: np.ndarray) -> float:
        return float(10 * weights.sum())

    of_one = bootstrap(10, PairEvents(people[:10], people[:10], trials))
    of_all = bootstrap(10, PairEvents(people[::10], people[::10], trials))
    assert of_one.low == 0.0
    assert of_one.high == pytest.approx(0.3, abs=0.01)
    assert of_all == pytest.approx((0.1, 0.1))
    # Two of ten people made all theirs: drawn five times or more with the probability 0.033, six times with 0.006.
    of_two = bootstrap(10, PairEvents(people[:20], people[:20], trials))
    assert of_two == pytest.approx((0.0, 0.5))
    assert of_one == bootstrap(10, PairEvents(people[:10], people[:10], trials))


def test_a_bootstrap_without_people_or_trials_knows_nothing() -> None:
    nobody = np.empty(0, np.int64)
    assert bootstrap(0, PairEvents(nobody, nobody, lambda _: 0.0)) == (0.0, 1.0)
    assert bootstrap(3, PairEvents(nobody, nobody, lambda _: 0.0)) == (0.0, 1.0)
    assert bootstrap(3, PairEvents(nobody, nobody, lambda _: 9.0)) == (0.0, 0.0)


@given(st.integers(0, 1000), st.sampled_from([1e-4, 1e-5]))
@settings(max_examples=50, deadline=None)
def test_a_counted_threshold_is_reached_at_most_at_the_rate_and_nearly_so(seed: int, rate: float) -> None:
    pairs = 3_000_000
    highest = np.sort(np.random.default_rng(seed).uniform(0.4, 0.6, 3000).astype(np.float32))[::-1]
    cut = cut_at(highest, pairs, rate, proven=False)
    allowed = int(pairs * rate)
    assert not cut.extrapolated
    reached = int(np.sum(highest >= cut.cosine))
    assert reached <= allowed
    # One step lower too many would: the least threshold in steps of 0.0001.
    assert int(np.sum(highest >= cut.cosine - 1e-4)) > allowed


def test_a_proven_threshold_has_its_interval_within_the_rate() -> None:
    """Clopper and Pearson: 3 of 1,000,000 are below 1e-5 with 97.5 %, 4 are not; 299,999 pairs prove nothing."""
    highest = np.linspace(0.9, 0.4, 200).astype(np.float32)
    reached = [
        int(np.sum(highest >= cut_at(highest, pairs, 1e-5, proven=True).cosine)) for pairs in (1_000_000, 299_999)
    ]
    assert reached == [3, 2]


def test_an_extrapolated_threshold_is_the_exponentials() -> None:
    """Scores whose excess over 0.3 has the mean 0.02 reach t with probability 0.001 exp(-(t - 0.3) / 0.02)."""
    quantiles = (np.arange(100) + 0.5) / 100
    highest = (0.3 - 0.02 * np.log(quantiles)).astype(np.float32)
    cut = cut_at(highest, 100_000, 1e-6, proven=True)
    assert cut.extrapolated
    assert cut.cosine == pytest.approx(0.3 + 0.02 * np.log(1000), abs=0.003)


def test_no_threshold_exceeds_the_largest_cosine() -> None:
    assert cut_at(np.linspace(0.99, 0.9, 100).astype(np.float32), 100_000, 1e-6, proven=False).cosine <= 1.0
