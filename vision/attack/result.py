"""What one layer of the presentation-attack detection says, by itself (T9; terms after ISO/IEC 30107-3)."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Outcome = Literal["bona_fide", "attack", "undecided", "not_checked"]
"""`undecided`: looked, but not enough was seen to say; `not_checked`: the layer is not there or did not look."""


class LayerResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer's outcome and its evidence by name; no picture, point or template of a person.

    `score` grows with the signs of an attack: 1 is the layer's limit. It is None unless the layer decided.
    `reason` is a stable code (`attack.moire`, `challenge.timeout`, ...), None for a bona fide presentation.
    """

    layer: str
    outcome: Outcome
    score: float | None = None
    reason: str | None = None
    evidence: dict[str, float] = {}


def overall(results: Iterable[LayerResult], *, required: Iterable[str]) -> Outcome:
    """Join the layers: `attack` if any says so; `bona_fide` only if each required one does and at least one looked.

    A layer that is not required and undecided changes nothing; an empty set of layers is `not_checked`.
    """
    outcomes = {result.layer: result.outcome for result in results}
    if "attack" in outcomes.values():
        return "attack"
    needed = [outcomes.get(layer, "not_checked") for layer in required]
    if any(outcome != "bona_fide" for outcome in needed):
        return "not_checked" if set(needed) == {"not_checked"} else "undecided"
    if "bona_fide" in outcomes.values():
        return "bona_fide"
    return "undecided" if "undecided" in outcomes.values() else "not_checked"


def judged(layer: str, scores: dict[str, float], evidence: dict[str, float]) -> LayerResult:
    """Return the layer's outcome from its measures relative to their limits, by the reason that each would be."""
    reason = max(scores, key=scores.__getitem__)
    score = scores[reason]
    if not score < 1:
        return LayerResult(layer, "attack", score, reason, evidence)
    return LayerResult(layer, "bona_fide", score, None, evidence)
