"""The citizens of a run, each with values of their own that are found again wherever they should not be (rule 1)."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

from sim.people import Citizen, Population

POPULATION = 20_000
"""Nobody comes twice in a month."""
_SPOKEN = "样本号"
_ENCODINGS = ("utf-8", "utf-16-le", "gb18030")
_BEGINNINGS = {"990101": 12, "139": 8, "622848": 10, _SPOKEN: 6}
"""How planted values begin, and how many digits follow (or X): the ID number, the telephone, the bank card, and the
样本号NNNNNN that is in the name, the address and all they say."""


def _form(beginning: str, digits: int, encoding: str) -> bytes:
    digit = rb"(?:[\dX]\x00)" if encoding == "utf-16-le" else rb"[\dX]"
    return re.escape(beginning.encode(encoding)) + digit + b"{%d}" % digits


_FOUND = re.compile(
    b"|".join(dict.fromkeys(_form(*one, encoding) for one in _BEGINNINGS.items() for encoding in _ENCODINGS))
)


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
        return _words(self.ordinal)

    @cached_property
    def pdf(self) -> bytes:
        """What is scanned of what they lay down."""
        return f"%PDF-1.7\n{self.citizen.id_number} {self.words}\n".encode() * 40

    @cached_property
    def values(self) -> tuple[bytes, ...]:
        """What is searched for, in each encoding."""
        texts = (self.citizen.id_number, self.telephone, self.bank_card, self.words)
        return tuple(dict.fromkeys(text.encode(encoding) for text in texts for encoding in _ENCODINGS))


def _words(ordinal: int) -> str:
    return f"{_SPOKEN}{ordinal:06d}"


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
        words = _words(len(self.came))
        citizen = replace(citizen, name=words, address=f"{citizen.address}{words}")
        person = Person(len(self.came), citizen)
        self.came.append(person)
        known[citizen.id_number] = citizen
        for value in person.values:
            self._owners[value] = person.ordinal
        return person

    def found(self, data: bytes) -> set[int]:
        """Return whose values are in some bytes, by ordinal."""
        return {self._owners[value] for value in _FOUND.findall(data) if value in self._owners}
