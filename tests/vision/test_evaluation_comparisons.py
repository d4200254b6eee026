"""Comparisons in blocks are those of a plain double loop: counts, worst scores, resampled pairs (T9)."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.adaptation import identity
from vision.evaluation import comparisons
from vision.evaluation.comparisons import (
    Described,
    compare_genuine,
    compare_impostors,
    pairs_within,
    templates_of,
)
from vision.evaluation.evaluate import _too_few


def rows_of_unit_length(random: np.random.Generator, count: int) -> np.ndarray:
    rows = random.normal(size=(count, 4))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def some_pictures(seed: int, count: int = 25, people: int = 8) -> Described:
    random = np.random.default_rng(seed)
    return Described(
        random.integers(people, size=count),
        rows_of_unit_length(random, count),
        rows_of_unit_length(random, count),
        random.random(count) < 0.85,
        random.random(count) < 0.85,
    )


def ring(described: Described, first: int, frames: int, but: int | None = None) -> list[int] | None:
    """Return the frames of a probe as the help text says it."""
    own = [at for at in np.flatnonzero(described.subjects == described.subjects[first]) if described.usable[at]]
    if first not in own:
        return None
    start = own.index(first)
    turned = [at for at in (*own[start:], *own[:start]) if at != but]
    return turned[:frames] if len(turned) >= frames else None


def cosine(described: Described, reference: int, frames: list[int]) -> float:
    total = described.frames[frames].sum(axis=0)
    return float(described.references[reference] @ total / np.linalg.norm(total))


@given(st.integers(0, 10_000), st.integers(1, 3), st.floats(-0.5, 0.95))
@settings(max_examples=100, deadline=None)
def test_impostors_are_every_pair_across_people(seed: int, frames: int, threshold: float) -> None:
    described = some_pictures(seed)
    scores = {
        (a, b): cosine(described, a, probe)
        for a, b in itertools.combinations(range(len(described.subjects)), 2)
        if described.subjects[a] != described.subjects[b]
        and described.referable[a]
        and (probe := ring(described, b, frames)) is not None
    }
    block, comparisons._BLOCK_SCORES = comparisons._BLOCK_SCORES, 60
    try:
        found = compare_impostors(templates_of(described, frames), threshold, keep=5)
    finally:
        comparisons._BLOCK_SCORES = block
    assert found.rate.trials == len(scores)
    matched = [score for score in scores.values() if score >= threshold]
    if min((abs(score - threshold) for score in scores.values()), default=1.0) > 1e-5:
        assert found.rate.events == len(matched)
    assert found.highest == pytest.approx(sorted(scores.values(), reverse=True)[:5], abs=1e-5)
    assert found.histogram.sum() == len(scores)
    # Every subject drawn once is the plain count; one drawn twice counts twice in each of its pairs.
    weights = np.ones(8)
    assert found.events.trials(weights) == len(scores)
    weights[:3] = (0, 2, 3)
    weighted = sum(weights[described.subjects[a]] * weights[described.subjects[b]] for a, b in scores)
    assert found.events.trials(weights) == pytest.approx(weighted)
    if weighted and len(matched) == found.rate.events:
        twice = [score >= threshold for score in scores.values()]
        both = [weights[described.subjects[a]] * weights[described.subjects[b]] for a, b in scores]
        assert found.events.rate(weights) == pytest.approx(np.dot(twice, both) / weighted)


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_genuine_pairs_are_those_within_a_person(seed: int, frames: int) -> None:
    described = some_pictures(seed)
    pairs = [
        (a, b)
        for a, b in itertools.combinations(range(len(described.subjects)), 2)
        if described.subjects[a] == described.subjects[b]
    ]
    found = compare_genuine(described, pairs_within(described.subjects), frames)
    listed = np.bincount(described.subjects, minlength=8)
    kept = [(a, b) for a, b in pairs if listed[described.subjects[a]] - 1 >= frames]
    probes = [(a, ring(described, b, frames, but=a)) for a, b in kept]
    expected = [cosine(described, a, probe) for a, probe in probes if probe is not None and described.referable[a]]
    assert sorted(found.scores) == pytest.approx(sorted(expected), abs=1e-5)
    assert found.left_out == len(pairs) - len(kept)
    assert len(found.not_acquired) == len(kept) - len(expected)
    lost = [described.subjects[a] for a, probe in probes if probe is None or not described.referable[a]]
    assert sorted(found.not_acquired) == sorted(lost)
    assert sorted([*found.subjects, *found.not_acquired]) == sorted(described.subjects[a] for a, _ in kept)
    assert _too_few(described, frames) == sum(1 for subject in described.subjects if listed[subject] < frames)


def test_one_picture_a_person_is_one_that_can_be_both() -> None:
    described = some_pictures(3, count=200, people=30)
    both = {int(subject) for subject in described.subjects[described.referable & described.usable]}
    one = templates_of(described, 1).one_per_subject()
    assert sorted(one.subjects) == list(range(30))
    assert set(one.subjects[one.referable & one.probable].tolist()) == both
    assert len(both) < 30
    # Two that can be both are a pair; so is one with an earlier reference or a later probe.
    expected = sum(bool(one.referable[a] and one.probable[b]) for a, b in itertools.combinations(range(30), 2))
    assert compare_impostors(one, 2.0).rate.trials == expected


def test_references_that_are_no_chips_take_the_probes_map() -> None:
    described = some_pictures(4)
    maps = identity(4)
    turned = type(maps)(maps.probe_mean, maps.probe_map[::-1].copy(), maps.reference_mean, maps.reference_map)
    chips, full = (described.adapted(turned, chips=chips) for chips in (True, False))
    assert np.allclose(chips.references, described.references, atol=1e-6)
    assert np.allclose(full.references, described.references[:, ::-1], atol=1e-6)
    assert np.allclose(full.frames, described.frames[:, ::-1], atol=1e-6)


def test_a_score_of_exactly_the_threshold_is_a_match() -> None:
    alike = np.eye(1, 4, dtype=np.float32).repeat(4, axis=0)
    described = Described(np.array([0, 0, 1, 1]), alike, alike, *[np.ones(4, np.bool_)] * 2)
    matched = compare_impostors(templates_of(described, 1), 1.0)
    assert (matched.rate.events, matched.rate.trials) == (4, 4)
    assert compare_genuine(described, pairs_within(described.subjects), 1).missed(1.0).tolist() == []


def test_nobody_is_compared_with_nobody() -> None:
    nobody = Described(
        np.empty(0, np.int64), np.empty((0, 4), np.float32), np.empty((0, 4), np.float32), *[np.empty(0, np.bool_)] * 2
    )
    templates = templates_of(nobody, 1)
    assert compare_impostors(templates.one_per_subject(), 0.5).rate.trials == 0
    assert len(compare_genuine(nobody, pairs_within(nobody.subjects), 1).scores) == 0
