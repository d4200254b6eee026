"""The citizens of a run, each with values of their own that are found again wherever they should not be (rule 1)."""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from sim.people import Citizen, Population

POPULATION = 20_000
"""Nobody comes twice in a month."""
_FOUND = re.compile(rb"990101\d{11}[\dX]|139\d{8}|622848\d{10}|\xe6\xa0\xb7\xe6\x9c\xac\xe5\x8f\xb7\d{6}")
"""Planted values: ID number, telephone, bank card, and the 样本号NNNNNN that is in all they say."""
_SPOKEN = "样本号"


@dataclass(frozen=True)
class Person:
    """A citizen and what they bring and say."""

    ordinal: int
    citizen: Citizen

    @property
    def name(self) -> str:
        """What a trace calls them."""
        return f"citizen {self.ordinal}"

    @cached_property
    def telephone(self) -> str:
        """Their telephone number."""
        return f"139{self.ordinal:08d}"

    @cached_property
    def bank_card(self) -> str:
        """The number of their bank card, with a right check digit (ISO/IEC 7812)."""
        body = f"622848{self.ordinal:09d}"
        digits = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body))]
        return body + str(-sum(digit // 10 + digit % 10 for digit in digits) % 10)

    @cached_property
    def words(self) -> str:
        """What they say in their own words."""
        return f"{_SPOKEN}{self.ordinal:06d}"

    @cached_property
    def pdf(self) -> bytes:
        """What is scanned of what they lay down."""
        return f"%PDF-1.7\n{self.citizen.id_number} {self.words}\n".encode() * 40

    @cached_property
    def values(self) -> tuple[bytes, ...]:
        """What is searched for."""
        return tuple(one.encode() for one in (self.citizen.id_number, self.telephone, self.bank_card, self.words))


class _Growing(Population):
    """Knows those who came: to make all of a month's citizens beforehand would cost half a second a seed."""

    def __init__(self, known: dict[str, Citizen]) -> None:
        super().__init__(7, POPULATION)
        self._known = known

    def find(self, name: str, id_number: str) -> Citizen | None:
        found = self._known.get(id_number)
        return found if found is not None and found.name == name else None


class People:
    """Everybody who has come so far; `of` tells whose a value is."""

    def __init__(self) -> None:
        self._known: dict[str, Citizen] = {}
        self._indexes = count()
        self.population = _Growing(self._known)
        self.came: list[Person] = []
        self._owners: dict[bytes, int] = {}

    def next(self) -> Person:
        """Return the next citizen, whom the platform knows from now on."""
        known = self._known
        citizen = self.population.citizen(next(self._indexes))
        while citizen.id_number in known:
            citizen = self.population.citizen(next(self._indexes))
        person = Person(len(self.came), citizen)
        self.came.append(person)
        known[citizen.id_number] = citizen
        for value in person.values:
            self._owners[value] = person.ordinal
        return person

    def found(self, data: bytes) -> set[int]:
        """Return whose values are in some bytes, by ordinal."""
        return {self._owners[value] for value in _FOUND.findall(data) if value in self._owners}
