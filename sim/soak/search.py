"""Searches everything that a soak's processes wrote for what its citizens brought along (T20)."""

import gzip
from collections.abc import Iterable, Iterator
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


def search(places: Iterable[Path], wanted: list[Needle], controls: Path) -> Search:
    """Search files and directories for `wanted`; in the new directory `controls` files are planted and must be found.

    A place that does not exist raises FileNotFoundError: what was not searched is not clean.
    """
    finder = Finder(wanted)
    planted = _plant(controls, wanted[-1])
    files = size = 0
    found: set[str] = set()
    found_controls: set[Path] = set()
    for path in _files([*places, controls]):
        data = path.read_bytes()
        hits = {
            f"{what}, {form}, in {place}"
            for place, content in contents(data, str(path))
            for _, what, form in finder.find(content)
        }
        if path in planted:
            found_controls |= {path} if hits else set()
            continue
        files, size = files + 1, size + len(data)
        found |= hits
    return Search(files, round(size / 2**20, 1), len(wanted), sorted(found), len(planted), len(found_controls))


def _plant(directory: Path, needle: Needle) -> set[Path]:
    directory.mkdir()
    planted = {
        directory / f"{CONTROL}.raw": b"beside it " + needle.data,
        directory / f"{CONTROL}.gz": gzip.compress(b"beside it " + needle.data),
    }
    for path, content in planted.items():
        path.write_bytes(content)
    return set(planted)


def _files(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        if not place.exists():
            raise FileNotFoundError(place)
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and not path.is_symlink():
                yield path
