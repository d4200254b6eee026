"""What is told of a document and its pages: nothing of what is written on them (T2).

The daemon loads this module: no picture library is imported here.
"""

from dataclasses import dataclass, field
from typing import Literal

MOST_PAGES = 20
"""Pages that a document may have."""
MOST_BYTES = 15 * 2**20
"""What its PDF may have: one message of the vision process carries it (`vision.wire`)."""

PaperName = Literal["a4", "a5", "card"]
Tone = Literal["colour", "grey", "black_white"]
Sides = Literal[1, 2]
Fault = Literal["document.too_dark", "document.too_bright", "document.glare", "document.blurred"]
Step = Literal["find", "judge", "turn", "done", "compress", "assemble"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What is being done: a step, and the page it is done to of how many pages there are."""

    step: Step
    page: int
    pages: int


@dataclass(frozen=True, slots=True)
class PageQuality:
    """What a page is worth.

    `glare` and `blurred` are shares: of the page that a reflection covers, and of the printed cells that are not sharp.
    `sharpness` is the median of those cells, 0 on a blank page; `paper` its paper's grey level (0 to 255);
    `print_share` the share of cells with print; `fault` the code of what makes the page useless, the gravest first.
    """

    glare: float
    blurred: float
    sharpness: float
    paper: float
    print_share: float
    fault: Fault | None

    @property
    def blank(self) -> bool:
        """Whether nothing is printed on it: the back of many a sheet."""
        return self.sharpness == 0


@dataclass(frozen=True, slots=True)
class PageReport:
    """What became of one photograph: nothing of what is written on the page.

    `number` counts photographs from 1, `sheet` and `side` say where it belongs; `corners` are pixels of the photograph,
    clockwise; `turns` the quarter turns clockwise that made it upright, None when its print did not say; `width` and
    `height` are pixels of the result, `captured_dpi` what the camera gave.
    """

    number: int
    sheet: int
    side: Literal["front", "back"]
    width: int
    height: int
    captured_dpi: float
    corners: tuple[tuple[float, float], ...]
    confidence: float
    turns: int | None
    quality: PageQuality


@dataclass(frozen=True, slots=True)
class Document:
    """A finished document: how many photographs it is made of, and its PDF, which is personal."""

    pages: int
    pdf: bytes = field(repr=False)
