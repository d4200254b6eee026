"""Fit the recogniser's embeddings to their use: a card's chip photo against camera frames, in the population at hand.

Affine maps, learned by `govterm face calibrate` from statistics of many people; no person's embedding is in them. A
recogniser crowds together what it saw little of, a chip photo lies elsewhere than the same face in full, and some
directions vary more within a person than others: the means are taken off, the chip's embedding is moved to where the
full picture's would lie, and directions are weighed by how steady a person is in them (docs/biometrics.md).
"""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """The maps of probes (camera frames) and of references (chip photos): means (d,) and matrices (d, d)."""

    probe_mean: Floats
    probe_map: Floats
    reference_mean: Floats
    reference_map: Floats

    def probe(self, embedding: Floats) -> Floats:
        """Return the unit vector of a camera frame's embedding (..., d); the given one is overwritten with zeros."""
        return _mapped(embedding, self.probe_mean, self.probe_map)

    def reference(self, embedding: Floats) -> Floats:
        """Return the unit vector of a chip photo's embedding (..., d); the given one is overwritten with zeros."""
        return _mapped(embedding, self.reference_mean, self.reference_map)

    def encode(self) -> bytes:
        """Return the file's content: the same bytes for the same maps."""
        stream = io.BytesIO()
        parts = {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in self.__slots__}
        np.savez(stream, allow_pickle=False, **parts)
        return stream.getvalue()


def decode(data: bytes) -> Adaptation:
    """Read what `Adaptation.encode` wrote; the caller has compared its hash."""
    with np.load(io.BytesIO(data), allow_pickle=False) as parts:
        return Adaptation(*(parts[name] for name in Adaptation.__slots__))


def identity(numbers: int) -> Adaptation:
    """Return the adaptation of embeddings of so many numbers that changes nothing."""
    mean, same = np.zeros(numbers, np.float32), np.eye(numbers, dtype=np.float32)
    return Adaptation(mean, same, mean, same)


def _mapped(embedding: Floats, mean: Floats, matrix: Floats) -> Floats:
    """Map and scale to length 1 in place: a freed copy of under 1 KiB would keep its content (`vision.embed.unit`)."""
    embedding -= mean
    mapped: Floats = np.matmul(embedding, matrix)
    embedding.fill(0)
    mapped /= np.maximum(np.linalg.norm(mapped, axis=-1, keepdims=True), 1e-12)
    return mapped
