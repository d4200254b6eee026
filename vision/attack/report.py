"""Error rates of presentation-attack detection, by the terms of ISO/IEC 30107-3 (T9)."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from vision.attack.result import Outcome
from vision.evaluation.statistics import Rate


@dataclass(frozen=True, slots=True)
class Presentation:
    """One labelled trial: `species` of the attack, None for a bona fide one, and what the detection said."""

    species: str | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AttackReport:
    """The rates with their exact intervals: `apcer` by species, `bpcer`, and the shares without an answer.

    `worst_apcer` names the species whose rate is the highest: the one that counts. A presentation without a decision
    (`undecided`, `not_checked`) is a non-response: it is no error of classification, and counts in `apnrr` (by
    species) and `bpnrr` instead.
    """

    apcer: dict[str, Rate]
    worst_apcer: str | None
    bpcer: Rate
    apnrr: dict[str, Rate]
    bpnrr: Rate


def evaluate_attacks(presentations: Iterable[Presentation]) -> AttackReport:
    """Return the rates of labelled presentations."""
    attacks: dict[str, list[Outcome]] = defaultdict(list)
    bona_fide: list[Outcome] = []
    for presentation in presentations:
        (bona_fide if presentation.species is None else attacks[presentation.species]).append(presentation.outcome)
    apcer = {species: _errors(outcomes, "bona_fide") for species, outcomes in sorted(attacks.items())}
    rated = {species: rate.rate for species, rate in apcer.items() if rate.rate is not None}
    return AttackReport(
        apcer=apcer,
        worst_apcer=max(rated, key=rated.__getitem__, default=None),
        bpcer=_errors(bona_fide, "attack"),
        apnrr={species: _no_response(outcomes) for species, outcomes in sorted(attacks.items())},
        bpnrr=_no_response(bona_fide),
    )


def _errors(outcomes: list[Outcome], error: Outcome) -> Rate:
    return Rate(outcomes.count(error), sum(outcome in {"bona_fide", "attack"} for outcome in outcomes))


def _no_response(outcomes: list[Outcome]) -> Rate:
    return Rate(sum(outcome in {"undecided", "not_checked"} for outcome in outcomes), len(outcomes))
