"""The synthetic population: deterministic, checkable, and nobody's (T20)."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.people import REGION, Population, check_digit


@pytest.mark.parametrize("number", ["11010519491231002X", "440524188001010014", "110101199003074514"])
def test_check_digits_of_protocols_1_8(number: str) -> None:
    assert check_digit(number[:17]) == number[17]


@given(st.integers(0, 399), st.integers(0, 2**32))
def test_a_citizen_holds_together_and_fits_the_card(index: int, seed: int) -> None:
    citizen = Population(seed).citizen(index)
    assert citizen == Population(seed).citizen(index)
    assert check_digit(citizen.id_number[:17]) == citizen.id_number[17]
    assert citizen.id_number.startswith(REGION)
    assert citizen.id_number[6:14] == citizen.birth
    assert (int(citizen.id_number[16]) % 2 == 1) == (citizen.sex == "1")
    for day in (citizen.birth, citizen.valid_from, citizen.valid_to):
        assert datetime.datetime.strptime(day, "%Y%m%d").strftime("%Y%m%d") == day  # noqa: DTZ007 - a date of a card
    assert citizen.birth < citizen.valid_from < citizen.valid_to
    assert len(citizen.name) <= 15
    assert len(citizen.address) <= 35
    assert len(citizen.issuer) <= 15
    assert citizen.nation_name
    assert citizen.sex_name in "男女"


def test_numbers_are_unique_and_found_with_their_name_only() -> None:
    people = Population()
    everybody = [people.citizen(index) for index in range(people.size)]
    assert len({citizen.id_number for citizen in everybody}) == people.size
    assert people.find(everybody[3].name, everybody[3].id_number) == everybody[3]
    assert people.find("别人", everybody[3].id_number) is None
    assert people.find(everybody[3].name, "990101200001010000") is None


@pytest.mark.parametrize("index", [-1, 400])
def test_outside_the_population_is_nobody(index: int) -> None:
    with pytest.raises(ValueError, match="the population has"):
        Population().citizen(index)
