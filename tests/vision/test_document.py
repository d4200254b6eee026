"""The session's document in the vision process: from a camera's frame to pages, until it is wiped (T2, T13, T20)."""

import time
from contextlib import nullcontext

import numpy as np
import pytest

from sim.scene import DOCUMENT_SIZE, DocumentScene
from vision.camera import CameraFeed, Frame
from vision.check import Job
from vision.document import Documents
from vision.errors import VisionError
from vision.models import Image
from vision.page_report import PageReport, Progress
from vision.scan import Scan, Tell
from vision.sight import SETTLE_SECONDS


class OneFrame(CameraFeed):
    """A camera that was on for long and gives one frame, whenever it is asked."""

    def __init__(self, picture: Image) -> None:
        self.picture = picture
        self.first_at = time.monotonic() - 2 * SETTLE_SECONDS

    def newer(self, than: float, seconds: float) -> Frame:
        return Frame(time.monotonic(), self.picture)


@pytest.fixture(scope="module")
def page() -> Image:
    return DocumentScene(1).frame()


@pytest.fixture
def documents() -> Documents:
    documents = Documents()
    documents.begin("a4", "grey", 1)
    return documents


def job(seconds: float = 5.0) -> Job:
    return Job(time.monotonic() + seconds)


def code_of(error: pytest.ExceptionInfo[VisionError]) -> str:
    return error.value.code


def test_the_rigs_page_has_five_megapixels_and_becomes_a_page(page: Image, documents: Documents) -> None:
    """T2: the feed's own picture is left as it is."""
    assert page.shape == (1944, 2592, 3)
    assert DOCUMENT_SIZE == (2592, 1944)
    before = page.copy()
    report = documents.add(job(), OneFrame(page), lambda _: None, retake=None)
    assert report.captured_dpi > 150
    assert np.array_equal(page, before)
    assert documents.show(1)[4:6] == b"\xff\xd8"
    made = documents.finish(job(), lambda _: None, most_bytes=10**6)
    assert (made.pages, made.pdf[:5]) == (1, b"%PDF-")
    assert "PDF" not in repr(made)


@pytest.mark.parametrize("dark", [False, True])
def test_the_captured_frame_is_overwritten_taken_or_refused(
    page: Image, documents: Documents, monkeypatch: pytest.MonkeyPatch, dark: bool
) -> None:
    """T20."""
    captured: list[Image] = []
    add = Scan.add

    def spy(scan: Scan, frame: Image, tell: Tell, *, retake: int | None) -> PageReport:
        captured.append(frame)
        return add(scan, frame, tell, retake=retake)

    monkeypatch.setattr(Scan, "add", spy)
    with pytest.raises(VisionError, match="too dark") if dark else nullcontext():
        documents.add(job(), OneFrame(page // 20 if dark else page), lambda _: None, retake=None)
    assert [frame.any() for frame in captured] == [False]


@pytest.mark.parametrize("step", ["find", "judge", "turn"])
@pytest.mark.parametrize("code", ["document.timeout", "vision.cancelled"])
def test_work_that_is_too_late_or_cancelled_changes_nothing(
    page: Image, documents: Documents, step: str, code: str
) -> None:
    """T13: up to the last step."""
    work = job()

    def tell(progress: Progress) -> None:
        if progress.step == step and code == "vision.cancelled":
            work.cancel()
        elif progress.step == step:
            work.deadline = 0.0

    with pytest.raises(VisionError) as error:
        documents.add(work, OneFrame(page), tell, retake=None)
    assert code_of(error) == code
    with pytest.raises(VisionError) as error:
        documents.show(1)
    assert code_of(error) == "document.no_such_page"


def test_another_document_and_the_wipe_overwrite_the_pages(page: Image, documents: Documents) -> None:
    documents.add(job(), OneFrame(page), lambda _: None, retake=None)
    assert documents._scan is not None
    (held,) = documents._scan._pages
    documents.begin("card", "colour", 2)
    assert not held.any()
    documents.wipe()
    documents.wipe()
    for use in (
        lambda: documents.show(1),
        lambda: documents.add(job(), OneFrame(page), lambda _: None, retake=None),
        lambda: documents.finish(job(), lambda _: None, most_bytes=10**6),
    ):
        with pytest.raises(VisionError) as error:
            use()
        assert code_of(error) == "document.not_begun"
