"""Searches everything that a soak's processes wrote for what its citizens brought along (T20)."""

import gzip
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from sim.citizens import visits
from sim.devices.bankcard import NUMBER
from sim.people import Population
from sim.privacy.finder import Finder
from sim.scan import Needle, contents, needles

CONTROL = "control"
"""How the names of planted files begin."""


class Search(msgspec.Struct, frozen=True):
    """How many files of how many MiB were searched, what was found, and how many of the planted files were."""

    files: int
    mebibytes: float
    needles: int
    found: list[str]
    controls: int
    controls_found: int


def brought(seed: int, citizens: int, photos: Iterable[bytes]) -> list[Needle]:
    """Return what the first so many citizens of a population bring to a terminal, in every form."""
    population = Population(seed)
    wanted = [
        *needles({"telephone": visits.TELEPHONE, "form's address": visits.ADDRESS, "card number": NUMBER}, {}),
        *(one for number, photo in enumerate(photos) for one in needles({}, {f"photo {number}": photo})),
    ]
    for form in visits.FORMS.values():
        texts = (value for value in form.values() if isinstance(value, str) and len(value.encode()) >= 18)
        wanted += needles({f"form {number}": text for number, text in enumerate(texts)}, {})
    for number in range(min(citizens, visits.POPULATION)):
        citizen = population.citizen(number)
        texts_of = {"name": citizen.name, "ID number": citizen.id_number, "address": citizen.address}
        wanted += needles({f"{what} of citizen {number}": text for what, text in texts_of.items()}, {})
    return wanted


def search(places: Mapping[Path, tuple[str, ...]], wanted: list[Needle], controls: Collection[Path]) -> Search:
    """Search places for `wanted`; in the new directories `controls`, somewhere in them, files are planted to be found.

    Of each place whatever has a name that begins as told is passed over. A place that does not exist raises
    FileNotFoundError: what was not searched is not clean.
    """
    finder = Finder(wanted)
    planted = {name for number, directory in enumerate(controls) for name in _plant(directory, number, wanted[-1])}
    files = size = 0
    found: set[str] = set()
    found_controls: set[str] = set()
    for path in _files(places):
        data = path.read_bytes()
        hits = {
            f"{what}, {form}, in {place}"
            for place, content in contents(data, str(path))
            for _, what, form in finder.find(content)
        }
        if path.name in planted:
            found_controls |= {path.name} if hits else set()
            continue
        files, size = files + 1, size + len(data)
        found |= hits
    return Search(files, round(size / 2**20, 1), len(wanted), sorted(found), len(planted), len(found_controls))


def _plant(directory: Path, number: int, needle: Needle) -> set[str]:
    directory.mkdir()
    content = b"beside it " + needle.data
    planted = {f"{CONTROL}-{number}.raw": content, f"{CONTROL}-{number}.gz": gzip.compress(content)}
    for name, data in planted.items():
        (directory / name).write_bytes(data)
    return set(planted)


def _files(places: Mapping[Path, tuple[str, ...]]) -> Iterator[Path]:
    for place, passed_over in places.items():
        if not place.exists():
            raise FileNotFoundError(place)
        for path in sorted(place.rglob("*")):
            names = path.relative_to(place).parts
            if path.is_file() and not path.is_symlink() and not any(name.startswith(passed_over) for name in names):
                yield path
