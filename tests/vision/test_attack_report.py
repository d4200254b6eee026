"""Error rates of attack detection with known answers (ISO/IEC 30107-3; T9)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.attack.report import Presentation, evaluate_attacks
from vision.attack.result import Outcome
from vision.evaluation.statistics import Rate


def trials(species: str | None, **counts: int) -> list[Presentation]:
    outcomes: dict[str, Outcome] = {"ok": "bona_fide", "attack": "attack", "unsure": "undecided", "off": "not_checked"}
    return [Presentation(species, outcomes[name]) for name, count in counts.items() for _ in range(count)]


def test_rates_by_species():
    attacks = trials("print", ok=1, attack=99) + trials("replay", ok=3, attack=17, unsure=5)
    report = evaluate_attacks(attacks + trials(None, ok=95, attack=5, off=4))
    assert report.apcer == {"print": Rate(1, 100), "replay": Rate(3, 20)}
    assert report.worst_apcer == "replay"
    assert report.bpcer == Rate(5, 100)
    assert report.bpcer.interval == pytest.approx((0.01643, 0.11284), abs=1e-5)
    assert report.apnrr == {"print": Rate(0, 100), "replay": Rate(5, 25)}
    assert report.bpnrr == Rate(4, 104)


def test_nobody_and_no_answers():
    empty = evaluate_attacks([])
    assert (empty.apcer, empty.worst_apcer, empty.bpcer.rate) == ({}, None, None)
    silent = evaluate_attacks(trials("print", unsure=3))
    assert (silent.apcer["print"].rate, silent.worst_apcer, silent.apnrr["print"].rate) == (None, None, 1.0)


@settings(max_examples=100, deadline=None)
@given(
    presentations=st.lists(
        st.builds(
            Presentation,
            species=st.sampled_from([None, "print", "replay"]),
            outcome=st.sampled_from(["bona_fide", "attack", "undecided", "not_checked"]),
        )
    )
)
def test_every_presentation_is_counted_once(presentations: list[Presentation]):
    report = evaluate_attacks(presentations)
    answered = report.bpcer.trials + sum(rate.trials for rate in report.apcer.values())
    silent = report.bpnrr.events + sum(rate.events for rate in report.apnrr.values())
    assert answered + silent == len(presentations)
    assert report.bpnrr.trials + sum(rate.trials for rate in report.apnrr.values()) == len(presentations)
