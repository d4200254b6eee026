"""Synthetic citizens: made-up names and addresses, and ID numbers that no office issues but that check (protocols 1.8).

Every number starts with the region 990101: no province has the code 99, so none can belong to a living person.
"""

import datetime
import random
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

_SURNAMES = "王李张刘陈杨赵黄周吴徐孙朱马胡郭林何高梁"
_GIVEN = "安样例示模拟演试测验虚构空白明清和平远山川云石木禾"
DISTRICTS = ("样本区", "模拟区", "演示区", "虚构区")
_ROADS = ("测试路", "示例街", "样板大道", "空想巷")
_NATIONS = {"01": "汉", "03": "回", "05": "维吾尔", "08": "壮", "11": "满"}
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS = "10X98765432"

REGION = "990101"
"""The administrative division that starts every synthetic ID number; GB/T 2260 has no province 99."""


def check_digit(first_seventeen: str) -> str:
    """Return the last character of an ID number (GB 11643, ISO 7064 MOD 11-2)."""
    total = sum(int(digit) * weight for digit, weight in zip(first_seventeen, _WEIGHTS, strict=True))
    return _CHECK_DIGITS[total % 11]


@dataclass(frozen=True, slots=True)
class Citizen:
    """One synthetic person, as an ID card tells of them. Dates are YYYYMMDD, codes those of protocols 1.8."""

    name: str
    sex: Literal["1", "2"]
    nation: str
    birth: str
    address: str
    id_number: str
    issuer: str
    valid_from: str
    valid_to: str

    @property
    def sex_name(self) -> str:
        """The sex in words."""
        return "男" if self.sex == "1" else "女"

    @property
    def nation_name(self) -> str:
        """The nation in words."""
        return _NATIONS[self.nation]


def make_citizen(index: int, seed: int) -> Citizen:
    """Return the synthetic citizen at `index` of the population grown from `seed`; the same every time."""
    source = random.Random(f"citizen {seed} {index}")
    birth = datetime.date(1950, 1, 1) + datetime.timedelta(days=source.randrange(50 * 365))
    sex: Literal["1", "2"] = "1" if source.random() < 0.5 else "2"
    serial = index * 2 + (1 if sex == "1" else 0)
    body = f"{REGION}{birth:%Y%m%d}{serial % 1000:03d}"
    road, district = source.choice(_ROADS), source.choice(DISTRICTS)
    valid_from = datetime.date(2018, 1, 1) + datetime.timedelta(days=source.randrange(5 * 365))
    valid_to = valid_from.replace(year=valid_from.year + 20, day=min(valid_from.day, 28))
    return Citizen(
        name=source.choice(_SURNAMES) + "".join(source.sample(_GIVEN, 2)),
        sex=sex,
        nation=source.choice(tuple(_NATIONS)),
        birth=f"{birth:%Y%m%d}",
        address=f"示例省样本市{district}{road}{source.randrange(1, 400)}号{source.randrange(1, 30)}单元{index}室",
        id_number=body + check_digit(body),
        issuer=f"样本市公安局{district[:2]}分局",
        valid_from=f"{valid_from:%Y%m%d}",
        valid_to=f"{valid_to:%Y%m%d}",
    )


class Population:
    """The citizens that the reference platform knows."""

    def __init__(self, seed: int = 1, size: int = 400) -> None:
        self.seed = seed
        self.size = size

    def citizen(self, index: int) -> Citizen:
        """Return the citizen at `index`; raise ValueError outside the population."""
        if not 0 <= index < self.size:
            message = f"citizen {index}: the population has 0 to {self.size - 1}"
            raise ValueError(message)
        return make_citizen(index, self.seed)

    def find(self, name: str, id_number: str) -> Citizen | None:
        """Return the citizen of that number when the name is theirs too, else None."""
        found = self._by_number.get(id_number)
        return found if found is not None and found.name == name else None

    @cached_property
    def _by_number(self) -> dict[str, Citizen]:
        return {citizen.id_number: citizen for citizen in map(self.citizen, range(self.size))}
