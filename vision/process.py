"""The vision process as the daemon holds it: started, watched, asked, and killed when it hangs (rule 4).

No picture library is imported here.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from itertools import count
from typing import NoReturn, TypeVar

import structlog

from vision import wire
from vision.child import kill, reap, spawn
from vision.config import Vision
from vision.errors import VisionError
from vision.line import Line
from vision.page_report import Document, PageReport, PaperName, Sides, Tone
from vision.verifier import (
    CameraListener,
    CameraName,
    CameraStatus,
    GuidanceListener,
    ProgressListener,
    Raster,
    Verification,
)

log = structlog.get_logger(__name__)

START_SECONDS = 30.0
"""Deadline from spawn to Ready, models loaded: a slow board on a cold page cache."""

_GRACE_SECONDS = 1.0
_RASTERISE_SECONDS = 5.0
PAGE_SECONDS = 5.0
"""Deadline of one page, from the camera to its report (T13)."""
SHORT_SECONDS = 3.0
"""Deadline of what takes no time worth telling."""
FINISH_SECONDS = 20.0
"""Deadline of a PDF: every page compressed, and again while it does not fit."""
_ADVICE = "it is started again by itself; if it keeps ending, read its log"

_Told = wire.Guidance | wire.Progressed
_Event = _Told | wire.Verified | wire.Rasterised | wire.PageAdded | wire.Finished | wire.Done | wire.Failed
_Control = wire.Ready | wire.Pong | VisionError

A = TypeVar("A", wire.Verified, wire.Rasterised, wire.PageAdded, wire.Finished, wire.Done)


class VisionProcess:
    """`vision.verifier.Verifier` and `Cameras` over a process of its own.

    Calls raise VisionError: `vision.unavailable` (retry) at once while no process is ready and when it dies under a
    call; otherwise what the process answers, `face.*`, `camera.*`, `document.*`,
    `photo.*`, `pdf.*`.
    """

    def __init__(self, settings: Vision, *, rig: bool, on_egress: Callable[[], None] = lambda: None) -> None:
        """`on_egress` hears when the process was refused a network that it tried to reach (T20)."""
        self._settings = settings
        self._on_egress = on_egress
        self._rig = rig
        self._line: Line[wire.Reply] | None = None
        self._calls: dict[int, asyncio.Queue[_Event]] = {}
        self._numbers = count(1)
        self._process: asyncio.subprocess.Process | None = None
        self._cameras = {name: CameraStatus(name, "unknown") for name in settings.cameras}
        self._listeners: list[CameraListener] = []

    @property
    def pid(self) -> int | None:
        """The process's id while it lives."""
        return self._process.pid if self._process else None

    async def run(self, ready: Callable[[], None]) -> None:
        """Live one life of the process: start it, call `ready` when it is warm, and watch it.

        Always raises VisionError: `vision.died`, `vision.hung` (`hung_seconds` without an answer, or with a job that
        long past its deadline), `vision.memory` (more than `memory_mib`), or what it could not start with
        (`model.missing`, `model.damaged`, ...). The process is dead and reaped when this ends, also by cancellation.
        """
        control: asyncio.Queue[_Control] = asyncio.Queue()
        ours, theirs = socket.socketpair()
        line: Line[wire.Reply] = Line(
            ours,
            wire.decode_reply,
            lambda reply: self._receive(reply, control),
            lambda reason: control.put_nowait(_error("vision.died", f"the vision process ended: {reason}")),
        )
        try:
            with theirs:
                self._process = await _spawn(theirs)
            line.send(wire.Start(self._settings, self._rig))
            if await _next(control, START_SECONDS) is None:
                raise _error("vision.hung", f"the vision process was not ready after {START_SECONDS} s")
            self._line = line
            log.info("vision_ready")
            ready()
            await self._watch(line, control)
        finally:
            self._line = None
            line.close()
            self._fail_calls()
            for name in self._cameras:
                self._heard(CameraStatus(name, "unknown"))
            if self._process:
                await reap(self._process)
                self._process = None

    async def verify(self, photo: memoryview, guidance: GuidanceListener, *, deadline_seconds: float) -> Verification:
        """Compare the person before the camera with a card's photo block (1,024 bytes, T9).

        Cancelling this stops the check, which wipes its pictures.
        """
        request = wire.Verify(next(self._numbers), bytes(photo), deadline_seconds)
        answer = await self._ask(request, wire.Verified, deadline_seconds, guidance=guidance)
        return answer.verification

    async def rasterise(self, pdf: bytes, *, width_dots: int, max_pages: int) -> list[Raster]:
        """Render each page of a PDF to `width_dots` across, for the print head; within 5 s."""
        request = wire.Rasterise(next(self._numbers), pdf, width_dots, max_pages, _RASTERISE_SECONDS)
        return (await self._ask(request, wire.Rasterised, _RASTERISE_SECONDS)).pages

    def watch(self, listener: CameraListener) -> None:
        """Tell how each configured camera is, at once and on each change; never stops."""
        self._listeners.append(listener)
        for status in self._cameras.values():
            listener(status)

    async def begin_document(self, *, paper: PaperName, tone: Tone, sides: Sides) -> None:
        """Begin a document without pages in place of the one before, and turn its camera on; within 3 s."""
        await self._ask(wire.BeginDocument(next(self._numbers), paper, tone, sides), wire.Done, SHORT_SECONDS)

    async def add_page(self, progress: ProgressListener, *, retake: int | None = None) -> PageReport:
        """Scan what lies before the document camera as the next page, or again as page `retake`; within 5 s.

        Refused (`document.*`, `camera.*`), it changes nothing.
        """
        request = wire.AddPage(next(self._numbers), retake, PAGE_SECONDS)
        return (await self._ask(request, wire.PageAdded, PAGE_SECONDS, progress=progress)).page

    async def show_page(self, client: socket.socket, page: int) -> None:
        """Hand over a connected socket: it gets a page, at most 1,024 pixels wide, as one JPEG and is closed.

        This process's end is closed, whatever becomes of the call.
        """
        with client:
            request = wire.ShowPage(next(self._numbers), page)
            await self._ask(request, wire.Done, PAGE_SECONDS, descriptor=client.fileno())  # after a scan under way

    async def finish_document(self, progress: ProgressListener, *, most_bytes: int) -> Document:
        """Return the document as a PDF of at most `most_bytes`, in the best quality that fits; within 20 s."""
        request = wire.FinishDocument(next(self._numbers), most_bytes, FINISH_SECONDS)
        return (await self._ask(request, wire.Finished, FINISH_SECONDS, progress=progress)).document

    async def discard_document(self) -> None:
        """Overwrite the document's pages, if there is one; within 3 s."""
        await self._ask(wire.DiscardDocument(next(self._numbers)), wire.Done, SHORT_SECONDS)

    async def preview(self, client: socket.socket, camera: CameraName = "face") -> None:
        """Hand over a connected socket: it gets length-prefixed JPEG frames, the newest only, until `wipe`.

        The face camera's are mirrored; the document camera's are at most 1,024 pixels wide.

        This process's end is closed, whatever becomes of the call.
        """
        with client:
            await self._ask(
                wire.Preview(next(self._numbers), camera), wire.Done, SHORT_SECONDS, descriptor=client.fileno()
            )

    async def wipe(self) -> None:
        """End previews and checks, turn the cameras off, overwrite every picture and embedding held.

        Never fails: a process that does not say within 3 s that it did so is killed, and its memory goes with it.
        """
        if self._line is None:
            return
        try:
            await self._ask(wire.Wipe(next(self._numbers)), wire.Done, SHORT_SECONDS)
        except VisionError as error:
            log.warning("vision_not_wiped", code=error.code)
            if self._process:
                kill(self._process)

    async def _watch(self, line: Line[wire.Reply], control: "asyncio.Queue[_Control]") -> NoReturn:
        """Ping for ever; raise VisionError when the process ends, hangs or has grown too large."""
        patience = self._settings.hung_seconds
        refused = 0
        while True:
            line.send(wire.Ping())
            pong = await _next(control, 0.75 * patience)
            if pong is None or (isinstance(pong, wire.Pong) and pong.overdue_seconds > patience):
                raise _error("vision.hung", f"the vision process answered nothing for {patience} s; it is killed")
            if isinstance(pong, wire.Pong) and pong.resident_mib > self._settings.memory_mib:
                raise _error("vision.memory", f"the vision process has {pong.resident_mib:.0f} MiB; it is killed")
            if isinstance(pong, wire.Pong) and pong.egress_refused > refused:
                refused = pong.egress_refused
                self._on_egress()
            await _next(control, 0.25 * patience)

    def _receive(self, reply: wire.Reply, control: "asyncio.Queue[_Control]") -> None:
        match reply:
            case wire.Ready() | wire.Pong():
                control.put_nowait(reply)
            case wire.Failed(0):
                control.put_nowait(_vision_error(reply))
            case wire.CameraChanged(status):
                self._heard(status)
            case wire.CameraSeen():
                pass  # of a camera that is tried, by another caller (`vision.trial`)
            case _:
                if reply.call in self._calls:  # a cancelled call is gone
                    self._calls[reply.call].put_nowait(reply)

    def _heard(self, status: CameraStatus) -> None:
        """Tell of a camera's status, unless it is a repeat or of a camera that nobody configured."""
        if self._cameras.get(status.camera, status) != status:
            self._cameras[status.camera] = status
            for listener in self._listeners:
                listener(status)

    async def _ask(
        self,
        request: wire.Call,
        kind: type[A],
        seconds: float,
        *,
        guidance: GuidanceListener | None = None,
        progress: ProgressListener | None = None,
        descriptor: int | None = None,
    ) -> A:
        """Send a request and return its answer; cancel it over there when this ends without one."""
        line = self._line
        if line is None:
            raise _unavailable("no vision process is ready")
        events = self._calls[request.call] = asyncio.Queue()
        answered = False
        try:
            line.send(request, descriptor)
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                while isinstance(event := await events.get(), wire.Guidance | wire.Progressed):
                    if isinstance(event, wire.Guidance):
                        if guidance:
                            guidance(event.code)
                    elif progress:
                        progress(event.progress)
            answered = True
        except TimeoutError:
            raise _unavailable("the vision process did not answer in time") from None
        except wire.WireError as error:
            raise _error("vision.too_large", str(error), retry=False) from None
        finally:
            del self._calls[request.call]
            if not answered:
                line.send(wire.Cancel(request.call))
        if isinstance(event, wire.Failed):
            raise _vision_error(event)
        if not isinstance(event, kind):
            raise _unavailable(f"the vision process answered with {type(event).__name__}")
        return event

    def _fail_calls(self) -> None:
        for call, events in self._calls.items():
            events.put_nowait(
                wire.Failed(call, "vision.unavailable", "the vision process ended under the call", _ADVICE, retry=True)
            )


async def _spawn(theirs: socket.socket) -> asyncio.subprocess.Process:
    try:
        return await spawn(theirs)
    except OSError as error:
        raise _error("vision.not_started", str(error)) from error


async def _next(control: "asyncio.Queue[_Control]", seconds: float) -> wire.Ready | wire.Pong | None:
    """Return what the process says next, None when it says nothing for `seconds`; raise VisionError when it ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            said = await control.get()
            if isinstance(said, VisionError):
                raise said
            return said
    return None


def _error(code: str, message: str, *, retry: bool = True) -> VisionError:
    return VisionError(code, message, advice=_ADVICE, retry=retry)


def _unavailable(message: str) -> VisionError:
    return _error("vision.unavailable", message)


def _vision_error(failed: wire.Failed) -> VisionError:
    return VisionError(failed.code, failed.message, advice=failed.advice, retry=failed.retry)
