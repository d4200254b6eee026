"""Finds thousands of byte strings at once, and templates of one face whatever their bytes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from sim.scan import Needle
from vision.models import Floats

_ANCHOR = 4
_BITS = 22
_MIX = np.uint32(2_654_435_761)
_LEAST_NUMBER, _MOST_NUMBER = 1e-9, 1e3
"""Between these lie the numbers of a template: pointers, counts and texts read as numbers mostly lie outside."""


class Likeness:
    """Finds templates of one person: vectors of 32-bit numbers near to a known one by cosine.

    A template that was made of other pictures of the same person has other numbers, and is as personal. By chance a
    vector of 128 numbers has a cosine of 0.09, and one of 10^11 a cosine of 0.6.
    """

    def __init__(self, template: Floats, least: float = 0.6) -> None:
        """Seek vectors with a cosine of at least `least` to `template`, or at most -`least`."""
        self._template = (template / np.linalg.norm(template)).astype(np.float32)
        self._least = least

    def find(self, data: bytes) -> Iterator[tuple[int, float]]:
        """Give the place and the cosine of every such vector that lies at a multiple of four bytes."""
        size = len(self._template)
        numbers = np.frombuffer(data, np.float32, len(data) // 4)
        magnitudes = np.abs(numbers)
        usual = (magnitudes > _LEAST_NUMBER) & (magnitudes < _MOST_NUMBER)
        edges = np.flatnonzero(np.diff(usual, prepend=False, append=False)).reshape(-1, 2)
        for start, end in edges[edges[:, 1] - edges[:, 0] >= size]:
            vectors = numbers[start:end]
            energy = np.cumsum(np.square(vectors, dtype=np.float64))
            energy[size:] -= energy[:-size].copy()
            products = np.abs(np.correlate(vectors, self._template, "valid"))
            for place in np.flatnonzero(products >= self._least * np.sqrt(np.maximum(energy[size - 1 :], 0))):
                vector = vectors[place : place + size]
                cosine = float(vector @ self._template) / float(np.linalg.norm(vector))
                if abs(cosine) >= self._least:
                    yield 4 * int(start + place), cosine


class Finder:
    """Finds many needles at once: four bytes of each are looked up at every place, and only there is compared."""

    def __init__(self, needles: Iterable[Needle], likeness: Likeness | None = None) -> None:
        self.needles = list({needle.data: needle for needle in needles}.values())
        self._likeness = likeness
        self._table = np.zeros(1 << _BITS, np.bool_)
        self._by_anchor: dict[bytes, list[tuple[int, Needle]]] = defaultdict(list)
        for needle in self.needles:
            at = _anchor(needle.data)
            anchor = needle.data[at : at + _ANCHOR]
            self._by_anchor[anchor].append((at, needle))
            self._table[_hashed(np.frombuffer(anchor, "<u4"))] = True

    def find(self, data: bytes) -> Iterator[tuple[int, str, str]]:
        """Give every place where something stands, what it is, and in which form."""
        for shift in range(min(_ANCHOR, max(0, len(data) - _ANCHOR + 1))):
            words = np.frombuffer(data, "<u4", (len(data) - shift) // _ANCHOR, shift)
            for index in np.flatnonzero(self._table[_hashed(words)]):
                place = shift + _ANCHOR * int(index)
                for at, needle in self._by_anchor.get(data[place : place + _ANCHOR], ()):
                    if place >= at and data.startswith(needle.data, place - at):
                        yield place - at, needle.what, needle.form
        if self._likeness is not None:
            for place, cosine in self._likeness.find(data):
                yield place, "template", f"cosine {cosine:.2f}"


def _anchor(data: bytes) -> int:
    """Return where the four bytes of a needle begin that tell most: the last of those with most different values."""
    return max(range(len(data) - _ANCHOR + 1), key=lambda at: (len(set(data[at : at + _ANCHOR])), at))


def _hashed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (words * _MIX) >> np.uint32(32 - _BITS)
