"""The rules of the numbers on the four kinds of card (protocols 1.6, 1.8)."""

import re

from devices.idcard import errors
from devices.idcard.layout import CardText, CitizenText, Foreigner2017Text, Foreigner2023Text, PermitText

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS = "10X98765432"
_PERMIT_REGIONS = ("810000", "820000", "830000")
"""Hong Kong, Macao, Taiwan."""


def check_digit(first_seventeen: str) -> str:
    """Return the last character of an ID number for its first 17 digits (GB 11643, ISO 7064 MOD 11-2)."""
    total = sum(int(digit) * weight for digit, weight in zip(first_seventeen, _WEIGHTS, strict=True))
    return _CHECK_DIGITS[total % 11]


def is_digits(value: str, size: int) -> bool:
    """Whether `value` is `size` digits 0 to 9."""
    return len(value) == size and value.isascii() and value.isdigit()


def check_number(text: CardText) -> None:
    """Refuse a number that breaks the rules of its kind, or that birth and sex contradict; raise DeviceError.

    A foreigner's number of 2017 is three letters and twelve digits; how its last digit is made is not attested. In the
    number of 2023 only the first and the last digit are: what is between is not compared with birth and sex.
    """
    number = text.id_number
    if isinstance(text, Foreigner2017Text):
        if not re.fullmatch("[A-Z]{3}[0-9]{12}", number):
            raise errors.bad_record("the permit number is not 3 letters and 12 digits")
        return
    if len(number) != 18 or not is_digits(number[:17], 17) or number[17] not in _CHECK_DIGITS:
        raise errors.bad_record("the ID number is not 17 digits and a check digit")
    if check_digit(number[:17]) != number[17]:
        raise errors.bad_check_digit()
    match text:
        case Foreigner2023Text():
            if number[0] != "9":
                raise errors.bad_record("the ID number is not a foreigner's")
        case PermitText():
            if not number.startswith(_PERMIT_REGIONS):
                raise errors.bad_record("the ID number is of no region that these permits are for")
            _check_holder(text)
        case CitizenText():
            _check_holder(text)


def _check_holder(text: CitizenText | PermitText) -> None:
    """Compare birth and sex with the number."""
    if text.id_number[6:14] != text.birth:
        raise errors.bad_record("birth differs from the ID number")
    if text.sex in {"1", "2"} and int(text.id_number[16]) % 2 != int(text.sex) % 2:
        raise errors.bad_record("sex differs from the ID number")
