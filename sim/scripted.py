"""The scripted form of the seam to the vision process: a Verifier and Cameras in one, on virtual time (rule 5)."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from vision.attack.result import LayerResult
from vision.errors import VisionError
from vision.page_refusal import refusal
from vision.page_report import Document, PageQuality, PageReport, PaperName, Progress, Sides, Step, Tone
from vision.verifier import (
    CameraListener,
    CameraName,
    CameraState,
    CameraStatus,
    GuidanceListener,
    ProgressListener,
    Raster,
    Verification,
)

MATCH = Verification(
    outcome="match",
    score=0.71,
    threshold=0.5064,
    operating_point="scripted",
    bound=1e-5,
    frames=3,
    model="scripted",
    presentation_attack="bona_fide",
    layers=(LayerResult("grid", "bona_fide", 0.2, None, {"frames": 9.0}),),
    seconds=0.9,
    stages={"capture": 0.3, "detect": 0.2, "embed": 0.4},
)
NO_MATCH = replace(MATCH, outcome="no_match", score=0.08)
PAGE = PageReport(
    number=1,
    sheet=1,
    side="front",
    width=1654,
    height=2339,
    captured_dpi=163.5,
    corners=((2330.0, 190.0), (2370.0, 1700.0), (260.0, 1760.0), (230.0, 240.0)),
    confidence=0.98,
    turns=1,
    quality=PageQuality(glare=0.0, blurred=0.01, sharpness=2.1, paper=226.0, print_share=0.4, fault=None),
)
DOCUMENT_PDF = b"%PDF-1.7\n" + b"pages of a synthetic document " * 50
STEP_SECONDS = 0.1
PAGE_SECONDS = 4 * STEP_SECONDS
_FRAME = b"\0\0\0\4\xff\xd8\xff\xd9"


class ScriptedVision:
    """A Verifier that answers `verify` from a script, in order, and MATCH when the script is over; and its cameras.

    A Verification in the script passes its `seconds` on the loop's clock; a VisionError is raised. `kill` ends
    the life of the process, and `broken` lets no other begin. The cameras are as `camera_is` says, online at first;
    dead, the process knows nothing of them. What lies before a document camera that gives pictures is PAGE, each of
    its steps takes STEP_SECONDS, and any document is `document`, a DOCUMENT_PDF; the codes in `refusals` are what the
    next pages are refused with.
    """

    def __init__(
        self, script: Iterable[Verification | VisionError] = (), *, cameras: Iterable[CameraName] = ("face", "document")
    ) -> None:
        self.script: deque[Verification | VisionError] = deque(script)
        self.broken = False
        self.wiped = 0
        self.shown: list[CameraName | int] = []
        self.refusals: deque[str] = deque()
        self.pages: list[PageReport] | None = None
        self.document = DOCUMENT_PDF
        self._sides: Sides = 1
        self._died: asyncio.Event | None = None
        self._previews: list[socket.socket] = []
        self._cameras = {name: CameraStatus(name, "online") for name in cameras}
        self._listeners: list[CameraListener] = []

    async def run(self, ready: Callable[[], None]) -> None:
        """Live until killed, then raise VisionError (`vision.unavailable`); at once when it is broken."""
        if self.broken:
            raise _unavailable()
        self._died = asyncio.Event()
        try:
            ready()
            self._tell()
            await self._died.wait()
            raise _unavailable()
        finally:
            self._died = None
            self._tell()
            await self.wipe()

    def kill(self) -> None:
        """Kill the process, if it lives."""
        if self._died is not None:
            self._died.set()

    def camera_is(self, camera: CameraName, state: CameraState, code: str | None = None) -> None:
        """Let something happen to a camera."""
        self._cameras[camera] = CameraStatus(camera, state, code)
        if self._died is not None:
            self._tell(camera)

    async def verify(self, photo: memoryview, guidance: GuidanceListener, *, deadline_seconds: float) -> Verification:
        """Return or raise what the script says next, within the deadline (VisionError `face.timeout`)."""
        died = self._living()
        if len(photo) != 1024:
            raise VisionError("photo.undecodable", f"{len(photo)} bytes", advice="read the card again", retry=True)
        answer = self.script.popleft() if self.script else MATCH
        if isinstance(answer, VisionError):
            raise answer
        guidance("face.look_at_camera")
        try:
            async with asyncio.timeout(min(deadline_seconds, answer.seconds)):
                await died.wait()
        except TimeoutError:
            if answer.seconds <= deadline_seconds:
                return answer
            raise VisionError("face.timeout", "no decision in time", advice="try again", retry=True) from None
        raise _unavailable()

    async def rasterise(self, pdf: bytes, *, width_dots: int, max_pages: int) -> list[Raster]:
        """Return one A4 page with a black top edge; raise VisionError (`pdf.undecodable`) when it is no PDF."""
        self._living()
        if not pdf.startswith(b"%PDF-") or max_pages < 1:
            raise VisionError("pdf.undecodable", "not a PDF", advice="ask for the certificate again", retry=False)
        height, row_bytes = width_dots * 297 // 210, (width_dots + 7) // 8
        rows = b"\xff" * (8 * row_bytes) + bytes((height - 8) * row_bytes)
        return [Raster(width_dots, height, rows)]

    def watch(self, listener: CameraListener) -> None:
        """Tell how each camera is, at once and on each change."""
        self._listeners.append(listener)
        for status in self._known():
            listener(status)

    async def begin_document(self, *, paper: PaperName, tone: Tone, sides: Sides) -> None:  # noqa: ARG002
        """Begin a document without pages."""
        self._living()
        self._picture("document")
        self.pages, self._sides = [], sides

    async def add_page(self, progress: ProgressListener, *, retake: int | None = None) -> PageReport:
        """Return PAGE under its number after PAGE_SECONDS; raise VisionError with the next of `refusals`."""
        died, pages = self._living(), self._begun()
        self._picture("document")
        if retake is not None and retake > len(pages):
            raise refusal("document.no_such_page")
        number = retake or len(pages) + 1
        steps: tuple[Step, ...] = ("find", "judge", "turn", "done")
        for step in steps:
            await _pass(died)
            if step == "judge" and self.refusals:
                raise refusal(self.refusals.popleft())
            progress(Progress(step, number, max(number, len(pages))))
        sheet, back = divmod(number - 1, self._sides)
        page = replace(PAGE, number=number, sheet=sheet + 1, side="back" if back else "front")
        pages[number - 1 : number] = [page]
        return page

    async def show_page(self, client: socket.socket, page: int) -> None:
        """Send the shortest JPEG there is for a page of the document, and close the socket."""
        with client:
            self._living()
            if page > len(self._begun()):
                raise refusal("document.no_such_page")
            self.shown.append(page)
            with suppress(OSError):
                client.send(_FRAME)

    async def finish_document(self, progress: ProgressListener, *, most_bytes: int) -> Document:
        """Return `document` after STEP_SECONDS a page; VisionError `document.empty`, `document.too_large`."""
        died, pages = self._living(), self._begun()
        if not pages:
            raise refusal("document.empty")
        if most_bytes < len(self.document):
            raise refusal("document.too_large")
        for page in range(len(pages)):
            progress(Progress("compress", page + 1, len(pages)))
            await _pass(died)
        return Document(len(pages), self.document)

    async def discard_document(self) -> None:
        """Forget the document."""
        self._living()
        self.pages = None

    async def preview(self, client: socket.socket, camera: CameraName = "face") -> None:
        """Take the socket, send the shortest JPEG there is as its only frame, and hold it until `wipe`."""
        self._living()
        self._status(camera)
        self.shown.append(camera)
        self._previews.append(client)
        with suppress(OSError):
            client.send(_FRAME)

    async def wipe(self) -> None:
        """End previews and forget the document."""
        self.wiped += 1
        self.pages = None
        for client in self._previews:
            client.close()
        self._previews.clear()

    def _living(self) -> asyncio.Event:
        if self._died is None:
            raise _unavailable()
        return self._died

    def _status(self, camera: CameraName) -> CameraStatus:
        if camera not in self._cameras:
            raise VisionError("camera.missing", f"no {camera} camera", advice="configure it", retry=False)
        return self._cameras[camera]

    def _picture(self, camera: CameraName) -> None:
        status = self._status(camera)
        if status.code is not None:
            raise VisionError(status.code, f"the {camera} camera is {status.state}", advice="look at it", retry=True)

    def _begun(self) -> list[PageReport]:
        if self.pages is None:
            raise refusal("document.not_begun")
        return self.pages

    def _known(self) -> list[CameraStatus]:
        """Return how the cameras are, as far as a process is there to look."""
        if self._died is None:
            return [CameraStatus(name, "unknown") for name in self._cameras]
        return list(self._cameras.values())

    def _tell(self, camera: CameraName | None = None) -> None:
        for status in self._known():
            if camera in {None, status.camera}:
                for listener in self._listeners:
                    listener(status)


async def _pass(died: asyncio.Event) -> None:
    """Let STEP_SECONDS pass; raise VisionError when the process dies meanwhile."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STEP_SECONDS):
            await died.wait()
            raise _unavailable()


def _unavailable() -> VisionError:
    return VisionError(
        "vision.unavailable", "the vision process is down", advice="wait for its restart; see the log", retry=True
    )
