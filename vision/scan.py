"""Scan documents page by page: each photograph becomes an upright page or a coded refusal, all pages one PDF (T2).

`Scan` holds the pages of one document until it is wiped; nothing here opens a file or starts a thread. A page is held
compressed, in an array that can be overwritten.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from vision.flatten import PAPERS, Paper, captured_dpi, flatten
from vision.models import Image
from vision.page import FoundPage, find_page
from vision.page_quality import PAGE_DPI, judge_page
from vision.page_refusal import refusal
from vision.page_report import MOST_PAGES, PageQuality, PageReport, PaperName, Progress, Sides, Step, Tone
from vision.pdf import assemble
from vision.tone import decode_page, encode_page, toned
from vision.upright import Reader

LEAST_PIXELS = 5_000_000
"""What the captured frame must have (T2)."""

_LONGEST = 16_384
_LEAST_DPI = 100.0
_LEAST_CONFIDENCE = 0.55
_MOST_BLUR_MM = 0.36
_DARK_FRAME = 45.0
_BEST_JPEG = 95

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class ScannedPage:
    """A page as it will be printed: BGR or grey, its size true at the scan's resolution."""

    picture: Image
    captured_dpi: float
    corners: tuple[tuple[float, float], ...]
    confidence: float
    turns: int | None
    quality: PageQuality


def scan_page(
    frame: Image, paper: Paper, reader: Reader, *, tone: Tone, tell: Callable[[Step], None] = lambda _: None
) -> ScannedPage:
    """Make a page of a photograph (BGR or grey, 8 bits).

    VisionError `document.unreadable`, `.resolution_too_low`, `.too_dark`, `.no_page`, `.cut_off`, `.too_small`,
    `.too_bright`, `.glare`, `.blurred`.
    """
    picture = _colours(frame)
    tell("find")
    found = _found(picture, paper)
    resolution = captured_dpi(found.corners, paper)
    tell("judge")
    page = flatten(picture, found.corners, paper, PAGE_DPI)
    try:
        quality = judge_page(page)
        if quality.fault is not None:
            raise refusal(quality.fault)
        tell("turn")
        grey = cv2.cvtColor(page, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
        upright = reader.read(grey)
        grey.fill(0)
        turned = np.rot90(page, -(upright.turns or 0)).copy()
    finally:
        page.fill(0)
    made = toned(turned, tone, PAGE_DPI)
    if made is not turned:
        turned.fill(0)
    corners = tuple((float(x), float(y)) for x, y in found.corners)
    return ScannedPage(made, resolution, corners, found.confidence, upright.turns, quality)


def _found(picture: Image, paper: Paper) -> FoundPage:
    """Return where the page is when it is all there, near enough and sharp at its sides."""
    found = find_page(picture, ratio=paper.ratio, least_area=paper.least_area)
    if found is None:
        dark = float(np.percentile(picture[::16, ::16].max(axis=2), 90)) < _DARK_FRAME
        raise refusal("document.too_dark" if dark else "document.no_page")
    if found.cut_off:
        raise refusal("document.cut_off")
    resolution = captured_dpi(found.corners, paper)
    if resolution < _LEAST_DPI:
        raise refusal("document.too_small", f"{resolution:.0f} dpi, {_LEAST_DPI:.0f} are needed")
    if found.blur * 25.4 > _MOST_BLUR_MM * resolution:
        raise refusal("document.blurred")
    if found.confidence < _LEAST_CONFIDENCE:
        raise refusal("document.no_page")
    return found


class Scan:
    """The pages of one document, in order, held until `wipe`; `sides` is 2 when sheets are turned over."""

    def __init__(
        self,
        reader: Reader,
        *,
        paper: PaperName = "a4",
        tone: Tone = "colour",
        sides: Sides = 1,
    ) -> None:
        self._reader = reader
        self._paper_name: PaperName = paper
        self._tone: Tone = tone
        self._sides = 2 if paper == "card" else sides
        self._pages: list[Image] = []

    def __len__(self) -> int:
        return len(self._pages)

    def add(self, frame: Image, tell: Tell = lambda _: None, *, retake: int | None = None) -> PageReport:
        """Scan a photograph as the next page, or again as page `retake`; a refused one changes nothing.

        VisionError as `scan_page`, and `document.full`, `document.no_such_page`; what `tell` raises refuses it too.
        """
        number = len(self._pages) + 1 if retake is None else retake
        if retake is None and number > MOST_PAGES:
            raise refusal("document.full", f"{MOST_PAGES} pages are the most")
        if retake is not None and not 1 <= retake <= len(self._pages):
            raise refusal("document.no_such_page", f"page {retake} of {len(self._pages)}")
        pages = max(number, len(self._pages))
        paper = PAPERS[self._paper_name]
        made = scan_page(
            frame,
            paper,
            self._reader,
            tone=self._tone,
            tell=lambda step: tell(Progress(step, number, pages)),
        )
        height, width = made.picture.shape[:2]
        try:
            tell(Progress("done", number, pages))
            coded = encode_page(made.picture, self._tone, _BEST_JPEG)
        finally:
            made.picture.fill(0)
        if retake is None:
            self._pages.append(coded)
        else:
            self._pages[number - 1].fill(0)
            self._pages[number - 1] = coded
        sheet, side = divmod(number - 1, self._sides)
        return PageReport(
            number,
            sheet + 1,
            "back" if side else "front",
            width,
            height,
            made.captured_dpi,
            made.corners,
            made.confidence,
            made.turns,
            made.quality,
        )

    def page(self, number: int) -> Image:
        """Return page `number` (from 1) as a picture, for the citizen; VisionError `document.no_such_page`."""
        if not 1 <= number <= len(self._pages):
            raise refusal("document.no_such_page", f"page {number} of {len(self._pages)}")
        return decode_page(self._pages[number - 1])

    def pdf(self, most_bytes: int, tell: Tell = lambda _: None) -> bytes:
        """Return the document as a PDF of at most `most_bytes`, in the best quality that fits.

        VisionError `document.empty`, `document.too_large`.
        """
        if not self._pages:
            raise refusal("document.empty")
        return assemble(
            self._pages,
            paper=self._paper_name,
            tone=self._tone,
            dpi=PAGE_DPI,
            most_bytes=most_bytes,
            tell=lambda step, page, pages: tell(Progress(step, page, pages)),
        )

    def wipe(self) -> None:
        """Overwrite every page and forget it."""
        for page in self._pages:
            page.fill(0)
        self._pages.clear()


def _colours(frame: Image) -> Image:
    """Return a frame as BGR; refuse what is no picture, has too few pixels or a side too long for OpenCV's warps."""
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] not in (1, 3)):
        raise refusal("document.unreadable", f"{frame.dtype}, {frame.ndim} dimensions")
    if max(frame.shape[:2]) > _LONGEST:
        raise refusal("document.unreadable", f"{frame.shape[1]} x {frame.shape[0]} pixels")
    if frame.shape[0] * frame.shape[1] < LEAST_PIXELS:
        raise refusal("document.resolution_too_low", f"{frame.shape[1]} x {frame.shape[0]} pixels")
    if frame.ndim == 2 or frame.shape[2] == 1:
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
    return frame
