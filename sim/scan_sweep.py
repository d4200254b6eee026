"""The document camera's figures: pages drawn, photographed under many conditions and scanned (T2).

`python -m sim.scan_sweep FONT --photographs 600 --seed 1` prints them. A photograph is a success when its corners are
within 1 % of the page's diagonal, the page is upright and its print can be read against the page that was drawn. A bad
photograph is one that a clerk would send back; taking it is the failure.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import cv2
import numpy as np
import typer

from sim.desk import DESKS, Conditions, Photograph, photograph
from sim.paper import KINDS, Kind, draw
from vision.errors import VisionError
from vision.flatten import PAPERS
from vision.models import Image
from vision.scan import ScannedPage, scan_page
from vision.upright import Reader

Fault = Literal["defocus", "smear", "glare", "cut_off", "dark", "far", "empty"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

MOST_CORNER_ERROR = 0.01
LEAST_LIKENESS = 0.6
_PAGES_A_KIND = 4
_CELL_MM, _SEARCH_MM, _LIKENESS_DPI = 20.0, 2.5, 100.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One photograph to be scanned: `fault` is None when it is a good one."""

    kind: Kind
    seed: int
    conditions: Conditions
    fault: Fault | None

    @property
    def page(self) -> tuple[Kind, int]:
        """Which page is photographed: its kind, and the seed that it is drawn from."""
        return self.kind, self.seed % _PAGES_A_KIND


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    `seconds` are one processor's, `refused` is the code, `corner_error` a share of the page's diagonal, `turned`
    whether it was turned the right way (None: it was left as it lay).
    """

    trial: Trial
    seconds: float
    refused: str | None
    corner_error: float = 1.0
    turned: bool | None = None
    likeness: float = 0.0

    @property
    def success(self) -> bool:
        """Whether a good photograph became a good page, or a bad one was refused."""
        if self.trial.fault is not None:
            return self.refused is not None
        found = self.refused is None and self.corner_error <= MOST_CORNER_ERROR
        return found and self.turned is True and self.likeness >= LEAST_LIKENESS


@dataclass(slots=True)
class Sweep:
    """The outcomes of a sweep, and the figures made of them."""

    outcomes: list[Outcome] = field(default_factory=list)

    def good(self) -> list[Outcome]:
        """Return the outcomes of the photographs that should be taken."""
        return [outcome for outcome in self.outcomes if outcome.trial.fault is None]

    def bad(self) -> list[Outcome]:
        """Return the outcomes of the photographs that should be refused."""
        return [outcome for outcome in self.outcomes if outcome.trial.fault is not None]

    def lines(self) -> list[str]:
        """Return the figures as text."""
        good, bad = self.good(), self.bad()
        taken = [outcome for outcome in good if outcome.refused is None]
        refused = Counter(outcome.refused for outcome in good if outcome.refused is not None)
        right = Counter(outcome.turned for outcome in taken)
        errors = [outcome.corner_error for outcome in taken]
        seconds = [outcome.seconds for outcome in self.outcomes]
        lines = [
            f"good photographs: {sum(map(_success, good))} of {len(good)} scanned right",
            f"  refused: {dict(refused)}",
            f"  corners: median {_at(errors, 50):.5f}, p99 {_at(errors, 99):.5f} of the diagonal",
            f"  corners farther off than {MOST_CORNER_ERROR}: {sum(error > MOST_CORNER_ERROR for error in errors)}",
            f"  upright: {right[True]} right, {right[None]} not known, {right[False]} wrong",
            f"  likeness: p1 {_at([outcome.likeness for outcome in taken], 1):.2f}",
            f"bad photographs taken: {sum(not outcome.success for outcome in bad)} of {len(bad)}",
        ]
        for fault in FAULTS:
            codes = Counter(outcome.refused for outcome in bad if outcome.trial.fault == fault)
            lines.append(f"  {fault}: {dict(codes)}")
        lines.append(f"CPU seconds a scan: p50 {_at(seconds, 50):.2f}, p95 {_at(seconds, 95):.2f}")
        return lines


def trials(count: int, seed: int, *, bad_share: float = 0.35) -> list[Trial]:
    """Return that many photographs to take; the same seed gives the same ones."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        fault = FAULTS[int(random.integers(len(FAULTS)))] if random.random() < bad_share else None
        chosen = int(random.integers(1, 2**31))
        made.append(Trial(kind, chosen, _conditions(kind, fault, random), fault))
    return made


def run(todo: Sequence[Trial], font: Path) -> Sweep:
    """Take and scan the photographs, one after the other."""
    reader = Reader()
    pages: dict[tuple[Kind, int], Image] = {}
    sweep = Sweep()
    for trial in todo:
        kind, number = trial.page
        if trial.page not in pages:
            pages[trial.page] = draw(kind, font, number)
        page = pages[trial.page]
        picture = photograph(page if trial.fault != "empty" else page[:1, :1], trial.conditions, trial.seed)
        sweep.outcomes.append(scan(trial, page, picture, reader))
    return sweep


def scan(trial: Trial, page: Image, taken: Photograph, reader: Reader) -> Outcome:
    """Scan one photograph and compare what came out with the page that was drawn."""
    paper = PAPERS["card" if trial.kind == "card" else "a4"]
    begun = time.process_time()
    try:
        made = scan_page(taken.picture, paper, reader, tone="grey")
    except VisionError as error:
        return Outcome(trial, time.process_time() - begun, error.code)
    seconds = time.process_time() - begun
    if trial.fault == "empty":
        return Outcome(trial, seconds, None)
    found = np.array(made.corners, np.float32)
    diagonal = float(np.linalg.norm(taken.corners[0] - taken.corners[2]))
    errors = [float(np.linalg.norm(np.roll(found, -turns, axis=0) - taken.corners, axis=1).max()) for turns in range(4)]
    # corner number t of the found page is the upright page's top left: t quarter turns back make it upright
    needed = -int(np.argmin(errors)) % 4
    turned = None if made.turns is None else made.turns == needed
    return Outcome(trial, seconds, None, min(errors) / diagonal, turned, likeness(made, needed, page))


def likeness(made: ScannedPage, needed: int, page: Image) -> float:
    """Return how the print of the scanned page correlates with that of the drawn one: the median over its cells."""
    picture = np.rot90(made.picture, (made.turns or 0) - needed)
    truth = cv2.cvtColor(page, cv2.COLOR_BGR2GRAY)
    scale = _LIKENESS_DPI / 200.0
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else np.ascontiguousarray(picture)
    shown = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    drawn = cv2.resize(truth, (shown.shape[1], shown.shape[0]), interpolation=cv2.INTER_AREA)
    cell, reach = round(_CELL_MM * _LIKENESS_DPI / 25.4), round(_SEARCH_MM * _LIKENESS_DPI / 25.4)
    alike = []
    for top in range(reach, shown.shape[0] - cell - reach, cell):
        for left in range(reach, shown.shape[1] - cell - reach, cell):
            part = drawn[top : top + cell, left : left + cell]
            if part.std() > 12:
                about = shown[top - reach : top + cell + reach, left - reach : left + cell + reach]
                alike.append(float(cv2.matchTemplate(about, part, cv2.TM_CCOEFF_NORMED).max()))
    return float(np.median(alike)) if alike else 0.0


def _conditions(kind: Kind, fault: Fault | None, random: np.random.Generator) -> Conditions:
    """Draw conditions at which a page can be read, then spoil one of them."""

    def between(low: float, high: float) -> float:
        return float(random.uniform(low, high))

    shadow = between(0.45, 0.9) if random.random() < 0.4 else 1.0
    drawn = Conditions(
        desk=DESKS[int(random.integers(len(DESKS)))],
        turn=between(0, 360),
        tilt=between(0, 25),
        tilt_towards=between(0, 360),
        fill=between(0.28, 0.4) if kind == "card" else between(0.84, 0.96),
        blur=between(0.3, 1.1),
        shadow=shadow,
        lamp=between(0.65, 1),
        cast=(between(0.88, 1), between(0.92, 1), between(0.92, 1)),
        exposure=between(0.6, 1),
        noise=between(1, 5),
        jpeg=int(random.integers(65, 96)),
    )
    return drawn if fault is None else _spoiled(drawn, kind, fault, between)


def _spoiled(drawn: Conditions, kind: Kind, fault: Fault, between: Callable[[float, float], float]) -> Conditions:
    change: dict[Fault, Callable[[], Conditions]] = {
        "defocus": lambda: replace(drawn, blur=between(3.2, 7)),
        "smear": lambda: replace(drawn, smear=round(between(14, 40))),
        "glare": lambda: replace(drawn, glare=between(0.05, 0.14), glare_level=between(150, 255), shadow=1.0),
        "cut_off": lambda: replace(
            drawn,
            away=(math.copysign(0.35, between(-1, 1)), math.copysign(0.3, between(-1, 1))),
            fill=between(0.7, 0.96),
        ),
        "dark": lambda: replace(drawn, exposure=between(0.04, 0.15), cast=(1.0, 1.0, 1.0)),
        "far": lambda: replace(drawn, fill=between(0.1, 0.18) if kind == "card" else between(0.3, 0.5)),
        "empty": lambda: replace(drawn, fill=0.01),
    }
    return change[fault]()


def _success(outcome: Outcome) -> bool:
    return outcome.success


def _at(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else math.nan


def main(
    font: Annotated[Path, typer.Argument(help="A font with Chinese letters.")],
    photographs: Annotated[int, typer.Option(help="How many to take.")] = 600,
    seed: Annotated[int, typer.Option(help="What the conditions are drawn from.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print each failure.")] = False,
) -> None:
    """Photograph and scan, and print the figures."""
    cv2.setNumThreads(1)
    sweep = run(trials(photographs, seed), font)
    if verbose:
        for outcome in sweep.outcomes:
            if not outcome.success:
                typer.echo(repr(outcome))
    typer.echo("\n".join(sweep.lines()))


if __name__ == "__main__":
    typer.run(main)
