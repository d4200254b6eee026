"""The session's document, held in the vision process: photographs in, reports, pages and a PDF out (T2, T20).

All of it runs on the inference thread.
"""

import time

from vision.camera import CameraFeed
from vision.check import Job, newest
from vision.errors import VisionError
from vision.page_refusal import refusal
from vision.page_report import Document, PageReport, PaperName, Progress, Sides, Tone
from vision.preview import encode_document
from vision.scan import Scan, Tell
from vision.upright import Reader


class Documents:
    """One document at a time; loading it reads one file."""

    def __init__(self) -> None:
        self._reader = Reader()
        self._scan: Scan | None = None

    def begin(self, paper: PaperName, tone: Tone, sides: Sides) -> None:
        """Begin a document without pages; the one before is wiped."""
        self.wipe()
        self._scan = Scan(self._reader, paper=paper, tone=tone, sides=sides)

    def add(self, job: Job, feed: CameraFeed, tell: Tell, *, retake: int | None) -> PageReport:
        """Scan what lies before the camera as the next page, or again as page `retake`; refused, nothing changes.

        Raises VisionError: what `newest` and `Scan.add` raise, `document.not_begun`, `document.timeout`.
        """
        scan = self._begun()
        picture = newest(job, feed).picture.copy()  # the feed overwrites its own
        try:
            return scan.add(picture, _until_ended(job, tell), retake=retake)
        finally:
            picture.fill(0)

    def show(self, number: int) -> bytes:
        """Return page `number` at a size for a screen: a length and a JPEG.

        Raises VisionError `document.not_begun`, `document.no_such_page`.
        """
        page = self._begun().page(number)
        try:
            return encode_document(page)
        finally:
            page.fill(0)

    def finish(self, job: Job, tell: Tell, *, most_bytes: int) -> Document:
        """Return the document as a PDF; its pages stay.

        Raises VisionError `document.not_begun`, `document.empty`, `document.too_large`, `document.timeout`.
        """
        scan = self._begun()
        return Document(len(scan), scan.pdf(most_bytes, _until_ended(job, tell)))

    def wipe(self) -> None:
        """Overwrite every page; there is no document then."""
        if self._scan is not None:
            self._scan.wipe()
            self._scan = None

    def _begun(self) -> Scan:
        if self._scan is None:
            raise refusal("document.not_begun")
        return self._scan


def _until_ended(job: Job, tell: Tell) -> Tell:
    """Tell each step, and end the work at the first one for which it is too late."""

    def step(progress: Progress) -> None:
        if job.cancelled.is_set():
            raise VisionError("vision.cancelled", "the scan was cancelled", advice="begin again", retry=True)
        if time.monotonic() > job.deadline:
            raise refusal("document.timeout")
        tell(progress)

    return step
