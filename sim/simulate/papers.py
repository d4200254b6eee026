"""Papers: what is printed as bytes that can be searched, whose each piece is, and how many there are of each."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from runtime.messages import SupervisionEvent
from runtime.services.printing import PRINT
from sim.devices import escpos
from sim.devices.paper import Paper

_NUMBER = re.compile(rb"[ACHP]-[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]")
_PRINTING = {"session.request_certificate", "session.reprint_certificate", "payment.receipt"}


def print_plainly() -> None:
    """Let this process's printers put letters and QR codes down as the bytes that they say: paper is searched, and a
    glyph costs a hundred times as much.
    """
    vars(escpos).update(Font=_PlainFont, compose=_compose, qr_code=_qr_code)


@dataclass(frozen=True, slots=True)
class _Letter:
    """A letter that takes no width, so that no line is broken within a number."""

    character: str
    height: int = escpos.LINE_DOTS
    width: int = 0


class _PlainFont:
    def __init__(self, _path: object) -> None:
        pass

    def glyph(self, character: str, **_looks: object) -> _Letter:
        return _Letter(character)


def _compose(letters: list[_Letter], height: int, width_dots: int, _align: int) -> bytes:
    said = "".join(letter.character for letter in letters).encode()
    return said.ljust(height * width_dots // 8, b"\0")


def _qr_code(data: bytes, _level: str, _module_dots: int, width_dots: int, _align: int) -> bytes:
    row = width_dots // 8
    return data.ljust(-(-len(data) // row) * row, b"\0")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of paper: in whose session it came out (None: nobody's), whose values and which numbers are on it."""

    citizen: int | None
    values: frozenset[int]
    numbers: frozenset[str]


class Papers:
    """Every piece that came out, and what citizens were told of paper; `fail` is told what does not fit."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        self.pieces: list[Piece] = []
        self.printed: Counter[tuple[int, str]] = Counter()
        """How often a citizen was told that a number's paper is printed."""
        self.unknown: Counter[int] = Counter()
        """How often a citizen was told that nobody knows, or heard nothing."""
        self._fail = fail

    def came_out(self, citizen: int | None, values: set[int], paper: Paper) -> None:
        """Take note of a piece that came out in a citizen's session, with values of these."""
        numbers = frozenset(number.decode() for number in _NUMBER.findall(paper.rows))
        self.pieces.append(Piece(citizen, frozenset(values), numbers))

    def told(self, citizen: int, number: str | None, paper: str | None) -> None:
        """Take note of what a call's result says of paper."""
        if paper == "printed":
            self.printed[citizen, number or ""] += 1
        elif paper == "unknown":
            self.unknown[citizen] += 1

    def unanswered(self, citizen: int, method: str) -> None:
        """Take note that a call had no result: nobody knows what became of its paper."""
        if method in _PRINTING:
            self.unknown[citizen] += 1

    def reckon(
        self,
        owners: Mapping[str, int],
        whose: Mapping[str, int],
        platform: sqlite3.Connection,
        events: Iterable[SupervisionEvent],
    ) -> None:
        """Count every piece against what was told, when all is over: none is lost untold, none came out twice.

        Each is of one citizen, in whose session it came out; but what broke off when the printer failed is cut off as
        soon as it can be, whoever is there then, and its citizen was told that nobody knows.

        `owners` says to whom a number was given, `whose` to whom an ID number belongs: where a certificate's number was
        told to nobody, the platform knows for whom it is.
        """
        issued = platform.execute("SELECT receipt, id_number FROM certificate_issues").fetchall()
        known = {receipt: whose[id_number] for receipt, id_number in issued} | dict(owners)
        sheets: Counter[int] = Counter()
        left: Counter[int] = Counter()
        for piece in self.pieces:
            if (owner := self._owner(piece, known)) is not None:
                sheets[owner] += 1
                left[owner] += piece.citizen != owner
                if left[owner] > self.unknown[owner]:
                    there = "nobody" if piece.citizen is None else f"citizen {piece.citizen}"
                    self._fail(f"a paper of citizen {owner} came out in the session of {there}")
        self._count_by_number()
        self._count_by_citizen(sheets)
        outcomes = Counter(one.outcome for one in events if one.step == PRINT)
        done, unknown = outcomes["done"], outcomes["unknown"]
        if not done <= len(self.pieces) <= done + unknown:
            self._fail(f"{len(self.pieces)} papers came out, and events tell of {done} done and {unknown} unknown")

    def _owner(self, piece: Piece, known: Mapping[str, int]) -> int | None:
        """Return whose a piece is, None of a scrap with nothing of anybody."""
        if any(number not in known for number in piece.numbers):
            self._fail("a paper has a number that nobody was given")
        owners = piece.values | {known[number] for number in piece.numbers if number in known}
        if len(owners) > 1:
            self._fail(f"a paper is of the citizens {', '.join(map(str, sorted(owners)))}")
        return min(owners, default=None)

    def _count_by_number(self) -> None:
        came = Counter(number for piece in self.pieces for number in piece.numbers)
        for (citizen, number), times in self.printed.items():
            if came[number] < times:
                self._fail(f"citizen {citizen} was told {times} times that a paper is printed that is not there")

    def _count_by_citizen(self, sheets: Counter[int]) -> None:
        printed: Counter[int] = Counter()
        for (citizen, _), times in self.printed.items():
            printed[citizen] += times
        for citizen in sorted(printed.keys() | sheets.keys()):
            came, least, most = sheets[citizen], printed[citizen], printed[citizen] + self.unknown[citizen]
            if not least <= came <= most:
                told = f"{least} printed and {most - least} unknown"
                self._fail(f"{came} papers came out for citizen {citizen}, who was told of {told}")
