"""Receipt numbers: random, and a typo is found (T11, H2)."""

import pytest

from runtime.services.receipts import _ALPHABET, new_receipt, read_receipt


@pytest.mark.parametrize(("kind", "letter"), [("application", "A"), ("hotline", "H"), ("payment", "P")])
def test_a_number_says_its_kind_and_reads_as_itself(kind, letter):
    number = new_receipt(kind)
    assert len(number) == 13
    assert number.startswith(f"{letter}-")
    assert read_receipt(number) == number


def test_numbers_are_random():
    assert len({new_receipt("application") for _ in range(1_000)}) == 1_000


def test_however_it_is_typed():
    """Crockford: case, hyphens and spaces do not matter; O is 0, I and L are 1."""
    number = next(one for one in (new_receipt("hotline") for _ in range(10_000)) if "0" in one and "1" in one)
    for typed in (
        number.lower(),
        number.replace("-", ""),
        number.replace("-", " "),
        number.replace("0", "O").replace("1", "l"),
    ):
        assert read_receipt(typed) == number


def test_every_wrong_character_is_found():
    number = new_receipt("application")
    for index, right in enumerate(number):
        for wrong in set(_ALPHABET) - {right}:
            if right != "-":
                assert read_receipt(number[:index] + wrong + number[index + 1 :]) is None


def test_every_two_characters_that_changed_places_are_found():
    for _ in range(50):
        number = new_receipt("application").replace("-", "")
        for one in range(1, len(number)):
            for other in range(one + 1, len(number)):
                if number[one] != number[other]:
                    typed = list(number)
                    typed[one], typed[other] = typed[other], typed[one]
                    assert read_receipt("".join(typed)) is None


@pytest.mark.parametrize("typed", ["", "A", "A-0000-0000", "B-0000-0000-0", "A-0000-000U-0", "甲" * 10, "A" * 10_000])
def test_what_is_no_number(typed):
    assert read_receipt(typed) is None
