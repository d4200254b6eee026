"""The adaptation maps embeddings to unit vectors, leaves none behind, and is stored as the same bytes (T9, T20)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.adaptation import Adaptation, decode, identity
from vision.models import Floats


def some_adaptation(seed: int, numbers: int = 8) -> Adaptation:
    random = np.random.default_rng(seed)
    mean, matrix = (numbers,), (numbers, numbers)
    return Adaptation(*(random.normal(size=size).astype(np.float32) for size in (mean, matrix, mean, matrix)))


def random_unit(seed: int, numbers: int = 8) -> Floats:
    vector = np.random.default_rng(seed).normal(size=numbers)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_maps_as_it_says_and_wipes_what_it_was_given(seed: int) -> None:
    adaptation, embedding = some_adaptation(seed), random_unit(seed + 1)
    for to, mean, matrix in (
        (adaptation.probe, adaptation.probe_mean, adaptation.probe_map),
        (adaptation.reference, adaptation.reference_mean, adaptation.reference_map),
    ):
        expected = (embedding.astype(float) - mean) @ matrix.astype(float)
        given_away = embedding.copy()
        mapped = to(given_away)
        assert np.allclose(mapped, expected / np.linalg.norm(expected), atol=1e-5)
        assert mapped.dtype == np.float32
        assert not given_away.any()


def test_many_at_once_are_as_one_by_one() -> None:
    adaptation = some_adaptation(1)
    rows = np.stack([random_unit(seed) for seed in range(5)])
    together = adaptation.probe(rows.copy())
    assert np.allclose(together, [adaptation.probe(row.copy()) for row in rows], atol=1e-6)


def test_the_identity_changes_nothing_and_nobody_stays_nobody() -> None:
    embedding = random_unit(3)
    assert np.allclose(identity(8).reference(embedding.copy()), embedding)
    assert not identity(8).probe(np.zeros(8, np.float32)).any()


def test_stored_as_the_same_bytes_and_read_back() -> None:
    adaptation = some_adaptation(5)
    data = adaptation.encode()
    assert data == some_adaptation(5).encode()
    again = decode(data)
    assert again.encode() == data
    assert np.array_equal(again.reference_map, adaptation.reference_map)
