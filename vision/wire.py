"""What the daemon and the vision process say to each other, and how it is framed (no I/O here).

A frame is a 4-byte big-endian length and one MessagePack map, tagged with the message's name. The connection is a
socket pair; Preview and ShowPage travel with one descriptor each (SCM_RIGHTS). The daemon's first message is Start, the
process's first is Ready, or Failed with call 0. A caller whose first and only message is TryCamera hears CameraSeen.
"""

from typing import TypeVar

import msgspec

from vision.config import Vision
from vision.page_report import Document, PageReport, PaperName, Progress, Sides, Tone
from vision.verifier import CameraName, CameraState, CameraStatus, Raster, Verification

LIMIT_BYTES = 16 * 2**20
"""No message is longer; a header that announces more ends the connection."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """The settings of this life of the process."""

    settings: Vision
    rig: bool


class TryCamera(msgspec.Struct, frozen=True, tag=True):
    """Turn one camera on, without models, and tell how it is."""

    camera: CameraName
    address: str


class Verify(msgspec.Struct, frozen=True, tag=True):
    """Check the person before the camera against a card's photo block."""

    call: int
    photo: bytes
    deadline_seconds: float


class Rasterise(msgspec.Struct, frozen=True, tag=True):
    """Render a PDF."""

    call: int
    pdf: bytes
    width_dots: int
    max_pages: int
    deadline_seconds: float


class Preview(msgspec.Struct, frozen=True, tag=True):
    """Show a camera to the socket that comes with this message."""

    call: int
    camera: CameraName = "face"


class BeginDocument(msgspec.Struct, frozen=True, tag=True):
    """Begin a document without pages in place of the one before."""

    call: int
    paper: PaperName
    tone: Tone
    sides: Sides


class AddPage(msgspec.Struct, frozen=True, tag=True):
    """Scan what lies before the document camera."""

    call: int
    retake: int | None
    deadline_seconds: float


class ShowPage(msgspec.Struct, frozen=True, tag=True):
    """Send a page of the document to the socket that comes with this message."""

    call: int
    page: int


class FinishDocument(msgspec.Struct, frozen=True, tag=True):
    """Make the document's PDF."""

    call: int
    most_bytes: int
    deadline_seconds: float


class DiscardDocument(msgspec.Struct, frozen=True, tag=True):
    """Overwrite the document."""

    call: int


class Wipe(msgspec.Struct, frozen=True, tag=True):
    """End previews and checks, turn the cameras off, overwrite every picture."""

    call: int


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for this call any more."""

    call: int


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Are you there?"""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Models are loaded and warm, which took `load_seconds` of the start."""

    load_seconds: float


class Guidance(msgspec.Struct, frozen=True, tag=True):
    """What the citizen should do, during Verify."""

    call: int
    code: str


class Verified(msgspec.Struct, frozen=True, tag=True):
    """The answer to Verify."""

    call: int
    verification: Verification


class Rasterised(msgspec.Struct, frozen=True, tag=True):
    """The answer to Rasterise."""

    call: int
    pages: list[Raster]


class Progressed(msgspec.Struct, frozen=True, tag=True):
    """How far AddPage or FinishDocument is."""

    call: int
    progress: Progress


class PageAdded(msgspec.Struct, frozen=True, tag=True):
    """The answer to AddPage."""

    call: int
    page: PageReport


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The answer to FinishDocument."""

    call: int
    document: Document


class CameraChanged(msgspec.Struct, frozen=True, tag=True):
    """How a camera is from now on; nobody asked."""

    status: CameraStatus


class CameraSeen(msgspec.Struct, frozen=True, tag=True):
    """How the tried camera is: frames so far, all different, the last one's size, and seconds until the first one."""

    state: CameraState
    frames: int
    width: int
    height: int
    first_seconds: float


class Done(msgspec.Struct, frozen=True, tag=True):
    """The answer to every other request with a call."""

    call: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A call that ended without an answer: the fields of a VisionError."""

    call: int
    code: str
    message: str
    advice: str
    retry: bool


class Pong(msgspec.Struct, frozen=True, tag=True):
    """The answer to Ping; `overdue_seconds` is how long the running job is past its own deadline, else 0.

    `egress_refused` counts how often the process was refused a network since it started (T20).
    """

    overdue_seconds: float
    resident_mib: float
    egress_refused: int


OfDocument = BeginDocument | AddPage | ShowPage | FinishDocument | DiscardDocument
Call = Verify | Rasterise | Preview | OfDocument | Wipe
Request = Start | TryCamera | Call | Cancel | Ping
Reply = (
    Ready
    | Guidance
    | Verified
    | Rasterised
    | Progressed
    | PageAdded
    | Finished
    | CameraChanged
    | CameraSeen
    | Done
    | Failed
    | Pong
)

_REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_REPLY: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_ENCODER = msgspec.msgpack.Encoder()

M = TypeVar("M")


class WireError(Exception):
    """Bytes that are no message, or a message over the limit. Never quotes them."""


def encode(message: Request | Reply) -> bytes:
    """Return the frame of a message; raise WireError when it is longer than LIMIT_BYTES."""
    body = _ENCODER.encode(message)
    if len(body) > LIMIT_BYTES:
        text = f"{type(message).__name__}: {len(body)} bytes, limit {LIMIT_BYTES}"
        raise WireError(text)
    return len(body).to_bytes(4, "big") + body


def decode_request(body: bytes) -> Request:
    """Return the request in a frame's body; raise WireError when it is none."""
    return _decode(_REQUEST, body)


def decode_reply(body: bytes) -> Reply:
    """Return the reply in a frame's body; raise WireError when it is none."""
    return _decode(_REPLY, body)


def _decode(decoder: "msgspec.msgpack.Decoder[M]", body: bytes) -> M:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = f"{len(body)} bytes are no message"
        raise WireError(text) from None


class FrameDecoder:
    """Takes bytes in any chunks and gives frame bodies; holds at most one frame and overwrites what it has given."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bodies that `data` completes; raise WireError on a header over the limit."""
        self._buffer += data
        bodies = []
        start = 0
        while (body_start := start + 4) <= len(self._buffer):
            length = int.from_bytes(self._buffer[start:body_start], "big")
            if length > self._limit:
                text = f"a frame of {length} bytes is announced, limit {self._limit}"
                raise WireError(text)
            if len(self._buffer) < body_start + length:
                break
            start = body_start + length
            bodies.append(bytes(memoryview(self._buffer)[body_start:start]))
        if start:
            rest = self._buffer[start:]
            self._buffer[:] = bytes(len(self._buffer))
            self._buffer = rest
        return bodies
