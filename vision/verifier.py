"""The seam to the vision process: what may be asked of it. The scripted form lives in `sim.scripted`.

No heavy library is imported here: the daemon loads this module.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from vision.attack.result import LayerResult
from vision.page_report import Document, PageReport, PaperName, Progress, Sides, Tone

GuidanceListener = Callable[[str], None]
"""Called with a guidance code (`face.come_closer`, `face.look_at_camera`, `face.too_dark`, ...) during a check."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The decision of a 1:1 face check and its evidence; nothing personal, nothing biometric.

    `score` is the cosine in [-1, 1] of the mean embedding with the reference's. `operating_point` names the rate of
    false matches asked for, `bound` is the one measured at `threshold` and that number of `frames` (one-sided upper
    95 %, the worst group). `layers` are what the presentation-attack detection found, layer by layer. `stages` are
    seconds spent by stage name.
    """

    outcome: Literal["match", "no_match"]
    score: float
    threshold: float
    operating_point: str
    bound: float
    frames: int
    model: str
    presentation_attack: Literal["not_checked", "bona_fide", "attack"]
    layers: tuple[LayerResult, ...]
    seconds: float
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class Raster:
    """A 1-bit picture, rows top down, 8 dots a byte with the most significant bit left, 1 = black."""

    width_dots: int
    height_dots: int
    rows: bytes


CameraName = Literal["face", "document"]

CameraState = Literal["unknown", "online", "dark", "covered", "frozen", "lost"]
"""`dark` and `covered` are the camera's word on its picture; `unknown` when no process is there to look."""


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """How a camera is; `code` is the error's of one that is `frozen` or `lost`."""

    camera: CameraName
    state: CameraState
    code: str | None = None


CameraListener = Callable[[CameraStatus], None]
"""Called on each change of a camera's status, never on a repeat; never raises."""


ProgressListener = Callable[[Progress], None]
"""Called with each step of a scan or of a PDF that is made; never raises."""


class Verifier(Protocol):
    """The vision process as its owner sees it. Its calls raise VisionError."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Live one life of the process: start it, call `ready` when it is warm, return or raise when it ends."""

    async def verify(self, photo: memoryview, guidance: GuidanceListener, *, deadline_seconds: float) -> Verification:
        """Compare the person before the camera with a card's photo block (1,024 bytes, T9)."""

    async def rasterise(self, pdf: bytes, *, width_dots: int, max_pages: int) -> list[Raster]:
        """Render each page of a PDF to `width_dots` across, for the print head."""

    async def wipe(self) -> None:
        """End previews and overwrite every picture and embedding held; called when a session ends."""


class Cameras(Protocol):
    """The cameras of the vision process as its owner sees them."""

    def watch(self, listener: CameraListener) -> None:
        """Tell how each configured camera is, at once and on each change."""

    async def begin_document(self, *, paper: PaperName, tone: Tone, sides: Sides) -> None:
        """Begin a document without pages, held in the vision process until the next one or `wipe`."""

    async def add_page(self, progress: ProgressListener, *, retake: int | None = None) -> PageReport:
        """Scan what lies before the document camera as the next page, or again as page `retake`."""

    async def show_page(self, client: socket.socket, page: int) -> None:
        """Hand over a connected socket: it gets a page of the document as one length-prefixed JPEG and is closed."""

    async def finish_document(self, progress: ProgressListener, *, most_bytes: int) -> Document:
        """Return the document as a PDF of at most `most_bytes`; its pages stay."""

    async def discard_document(self) -> None:
        """Overwrite the document's pages, if there is one."""

    async def preview(self, client: socket.socket, camera: CameraName = "face") -> None:
        """Hand over a connected socket: it gets length-prefixed JPEG frames, the newest only, until a wipe."""
