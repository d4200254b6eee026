"""A document before its camera, scanned page by page into a PDF that the session holds (T2, T13).

Pictures stay in the vision process; what comes here of a page are numbers.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from runtime import texts
from runtime.audit import Audit
from runtime.journal import Journal, Outcome
from runtime.services.steps import INTERRUPTED, Origin, Refused, Result, Transaction
from runtime.session import Session
from vision.page_report import PageReport, PaperName, Sides, Tone
from vision.process import FINISH_SECONDS, PAGE_SECONDS, SHORT_SECONDS
from vision.verifier import Cameras, ProgressListener

FENCE_SECONDS = 2.0
"""The vision process keeps its own deadlines; this much later its silence is an answer."""


class ScannedPage(msgspec.Struct, frozen=True):
    """A page as it was scanned, in numbers: the fields of a PageReport and its PageQuality."""

    number: int
    sheet: int
    side: Literal["front", "back"]
    width: int
    height: int
    captured_dpi: float
    corners: list[list[float]]
    confidence: float
    turns: int | None
    glare: float
    blurred: float
    sharpness: float
    paper: float
    printed: float
    blank: bool


class PageResult(Result, frozen=True, kw_only=True):
    """The answer of `session.add_page`: what became of the page, and never its picture."""

    page: ScannedPage | None = None


class DocumentResult(Result, frozen=True, kw_only=True):
    """The answer of `session.finish_document`: how many pages the PDF is made of, and how long it is."""

    pages: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _Operation:
    """What an operation is called: as a step, in the audit log, to the citizen when it is done; and its deadline."""

    step: str
    event: str
    done: str
    seconds: float


_BEGIN = _Operation("begin_document", "document_begun", "document.begun", SHORT_SECONDS)
_ADD = _Operation("add_page", "page_added", "document.page_added", PAGE_SECONDS)
_FINISH = _Operation("finish_document", "document_finished", "document.finished", FINISH_SECONDS)
_DISCARD = _Operation("discard_document", "document_discarded", "document.discarded", SHORT_SECONDS)

R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class DocumentService:
    """Scans what lies before the document camera; one document at a time.

    Its operations raise SessionError `session.ended` when the session ends meanwhile.
    """

    cameras: Cameras
    journal: Journal
    audit: Audit
    origin: Origin

    async def begin(self, session: Session, *, paper: PaperName, tone: Tone, sides: Sides) -> Result:
        """Begin a document without pages; the one before, and its PDF, are wiped."""

        async def work() -> dict[str, Any]:
            session.drop_document()
            await self.cameras.begin_document(paper=paper, tone=tone, sides=sides)
            return {}

        return await self._operate(session, _BEGIN, Result, work)

    async def add(self, session: Session, progress: ProgressListener, *, retake: int | None) -> PageResult:
        """Scan the next page, or page `retake` again; refused, nothing changes. A PDF made before is wiped."""

        async def work() -> dict[str, Any]:
            page = _told(await self.cameras.add_page(progress, retake=retake))
            session.drop_document()
            return {"page": page}

        return await self._operate(session, _ADD, PageResult, work)

    async def finish(self, session: Session, progress: ProgressListener, *, most_bytes: int) -> DocumentResult:
        """Have the PDF made; the session holds it. The pages stay, for a page to be taken again."""

        async def work() -> dict[str, Any]:
            session.drop_document()
            document = await self.cameras.finish_document(progress, most_bytes=most_bytes)
            session.keep_document(document.pdf, document.pages)
            return {"pages": document.pages, "bytes": len(document.pdf)}

        return await self._operate(session, _FINISH, DocumentResult, work)

    async def discard(self, session: Session) -> Result:
        """Wipe the document and its PDF."""

        async def work() -> dict[str, Any]:
            session.drop_document()
            await self.cameras.discard_document()
            return {}

        return await self._operate(session, _DISCARD, Result, work)

    async def _operate(
        self, session: Session, operation: _Operation, kind: type[R], work: Callable[[], Awaitable[Mapping[str, Any]]]
    ) -> R:
        """Do one step as an operation of the session; `work` returns what `kind` has beyond a Result."""
        async with session.operation():
            transaction = Transaction(self.journal, self.origin, operation.event)
            outcome: Outcome = "unknown"
            code: str | None = INTERRUPTED
            try:
                deadline = operation.seconds + FENCE_SECONDS
                async with transaction.step(operation.step, deadline_seconds=deadline, no_answer="vision.no_answer"):
                    fields = await work()
                outcome, code = "done", None
                return kind(
                    outcome="done",
                    code=None,
                    text=texts.text(operation.done).zh,
                    retry=False,
                    steps=transaction.steps,
                    seconds=transaction.seconds,
                    **fields,
                )
            except Refused as refused:
                outcome, code = "refused", refused.code
                return kind(
                    outcome="refused",
                    code=code,
                    text=texts.text(code).zh,
                    retry=refused.retry,
                    steps=transaction.steps,
                    seconds=transaction.seconds,
                )
            finally:
                about = {"session": session.reference, "transaction": transaction.id, "outcome": outcome, "code": code}
                await self.audit.note(operation.event, actor=session.actor, details=about)


def _told(page: PageReport) -> ScannedPage:
    quality = page.quality
    return ScannedPage(
        number=page.number,
        sheet=page.sheet,
        side=page.side,
        width=page.width,
        height=page.height,
        captured_dpi=round(page.captured_dpi, 1),
        corners=[[round(x, 1), round(y, 1)] for x, y in page.corners],
        confidence=round(page.confidence, 3),
        turns=page.turns,
        glare=round(quality.glare, 4),
        blurred=round(quality.blurred, 3),
        sharpness=round(quality.sharpness, 2),
        paper=round(quality.paper, 1),
        printed=round(quality.print_share, 3),
        blank=quality.blank,
    )
