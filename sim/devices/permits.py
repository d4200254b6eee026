"""Synthetic holders of residence permits, one for each number (protocols 1.6): nobody's names, nobody's numbers."""

import datetime
import random

from devices.idcard.layout import CardText, Foreigner2017Text, Foreigner2023Text, PermitText, Variant
from devices.idcard.numbers import check_digit

_REGIONS = {"810000": "H", "820000": "M", "830000": ""}
"""Hong Kong, Macao, Taiwan, and how the number of a travel permit from there starts."""
_NATIONALITY = "XXX"
"""Unspecified nationality (ISO 3166-1 leaves it to its users): no state's."""
_SURNAMES, _GIVEN = ("SAMPLE", "EXAMPLE", "SPECIMEN"), ("ALEX", "ROBIN", "SASHA")


def make_permit(variant: Variant, holder: int = 0) -> CardText:
    """Return what is written on a permit of this kind; the same for the same number.

    Raises ValueError for a citizen's card, whose people are `sim.people`.
    """
    source = random.Random(f"permit {variant} {holder}")
    birth = f"{datetime.date(1960, 1, 1) + datetime.timedelta(days=source.randrange(40 * 365)):%Y%m%d}"
    sex = source.choice("12")
    english_name = f"{source.choice(_SURNAMES)}, {source.choice(_GIVEN)}"
    serial = f"{holder % 500 * 2 + (sex == '1'):03d}"
    valid_from, valid_to = "20240101", "20281231"
    match variant:
        case Variant.HK_MACAO_TAIWAN:
            region = source.choice(tuple(_REGIONS))
            return PermitText(
                name=source.choice("样例示") + source.choice("甲乙丙"),
                sex=sex,
                birth=birth,
                address=f"示例省样本市模拟路{holder + 1}号",
                id_number=_with_check_digit(region + birth + serial),
                issuer="样本市公安局",
                valid_from=valid_from,
                valid_to=valid_to,
                pass_number=f"{_REGIONS[region]}{holder:08d}",
                issue_count="01",
            )
        case Variant.FOREIGNER_2017:
            return Foreigner2017Text(
                english_name=english_name,
                sex=sex,
                id_number=f"{_NATIONALITY}9901{birth[2:]}{serial[-1]}0",
                nationality=_NATIONALITY,
                chinese_name="",
                valid_from=valid_from,
                valid_to=valid_to,
                birth=birth,
                version="01",
                authority="9901",
            )
        case Variant.FOREIGNER_2023:
            return Foreigner2023Text(
                chinese_name="样本",
                sex=sex,
                renewals="00",
                birth=birth,
                english_name=english_name,
                id_number=_with_check_digit(f"999999{birth}{serial}"),
                valid_from=valid_from,
                valid_to=valid_to,
                nationality=_NATIONALITY,
                previous="",
            )
        case Variant.CITIZEN:
            raise ValueError("a citizen's card is no permit")


def _with_check_digit(first_seventeen: str) -> str:
    return first_seventeen + check_digit(first_seventeen)
