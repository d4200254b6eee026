"""The vision process as the daemon holds it: started, watched, asked, and killed when it hangs (rule 4).

No picture library is imported here. The process runs on libc's malloc with every freed byte overwritten and without
per-thread caches, so that pictures do not outlive their use (T20).
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from itertools import count
from typing import NoReturn, TypeVar

import structlog

from vision import wire
from vision.config import Vision
from vision.errors import VisionError
from vision.line import Line
from vision.verifier import GuidanceListener, Raster, Verification

log = structlog.get_logger(__name__)

ENVIRONMENT = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FOR_THREADS_NUM": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "1",
}
"""What the process adds to the daemon's environment.

ONNX Runtime from 1.29 on keeps a database in the user's cache and uploads it to Microsoft unless told otherwise (T20).
OpenCV and numpy would compute on every core, on threads whose stacks nobody wipes; the other core is the daemon's.
"""

_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")

START_SECONDS = 30.0
"""Deadline from spawn to Ready, models loaded: a slow board on a cold page cache."""

_REAP_SECONDS = 2.0
_GRACE_SECONDS = 1.0
_RASTERISE_SECONDS = 5.0
_SHORT_SECONDS = 3.0
_ADVICE = "it is started again by itself; if it keeps ending, read its log"

_Event = wire.Guidance | wire.Verified | wire.Rasterised | wire.Done | wire.Failed
_Control = wire.Ready | wire.Pong | VisionError

A = TypeVar("A", wire.Verified, wire.Rasterised, wire.Done)


class VisionProcess:
    """`vision.verifier.Verifier` over a process of its own.

    Calls raise VisionError: `vision.unavailable` (retry) at once while no process is ready and when it dies under a
    call; otherwise what the process answers, `face.*`, `camera.*`, `photo.*`, `pdf.*`.
    """

    def __init__(self, settings: Vision, *, rig: bool) -> None:
        self._settings = settings
        self._rig = rig
        self._line: Line[wire.Reply] | None = None
        self._calls: dict[int, asyncio.Queue[_Event]] = {}
        self._numbers = count(1)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process's id while it lives."""
        return self._process.pid if self._process else None

    async def run(self, ready: Callable[[], None]) -> None:
        """Live one life of the process: start it, call `ready` when it is warm, and watch it.

        Always raises VisionError: `vision.died`, `vision.hung` (`hung_seconds` without an answer, or with a job that
        long past its deadline), or what it could not start with (`model.missing`, `model.damaged`, ...). The process
        is dead and reaped when this ends, also by cancellation.
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
            if self._process:
                await _reap(self._process)
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

    async def preview(self, client: socket.socket) -> None:
        """Hand over a connected socket: it gets length-prefixed JPEG frames, the newest only, until `wipe`.

        This process's end is closed, whatever becomes of the call.
        """
        with client:
            await self._ask(wire.Preview(next(self._numbers)), wire.Done, _SHORT_SECONDS, descriptor=client.fileno())

    async def wipe(self) -> None:
        """End previews and checks, turn the camera off, overwrite every picture and embedding held.

        Never fails: a process that does not say within 3 s that it did so is killed, and its memory goes with it.
        """
        if self._line is None:
            return
        try:
            await self._ask(wire.Wipe(next(self._numbers)), wire.Done, _SHORT_SECONDS)
        except VisionError as error:
            log.warning("vision_not_wiped", code=error.code)
            if self._process:
                _signal(self._process)

    async def _watch(self, line: Line[wire.Reply], control: "asyncio.Queue[_Control]") -> NoReturn:
        """Ping for ever; raise VisionError when the process ends or hangs."""
        patience = self._settings.hung_seconds
        while True:
            line.send(wire.Ping())
            pong = await _next(control, 0.75 * patience)
            if pong is None or (isinstance(pong, wire.Pong) and pong.overdue_seconds > patience):
                raise _error("vision.hung", f"the vision process answered nothing for {patience} s; it is killed")
            await _next(control, 0.25 * patience)

    def _receive(self, reply: wire.Reply, control: "asyncio.Queue[_Control]") -> None:
        match reply:
            case wire.Ready() | wire.Pong():
                control.put_nowait(reply)
            case wire.Failed(0):
                control.put_nowait(_vision_error(reply))
            case _:
                if reply.call in self._calls:  # a cancelled call is gone
                    self._calls[reply.call].put_nowait(reply)

    async def _ask(
        self,
        request: wire.Verify | wire.Rasterise | wire.Preview | wire.Wipe,
        kind: type[A],
        seconds: float,
        *,
        guidance: GuidanceListener | None = None,
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
                while isinstance(event := await events.get(), wire.Guidance):
                    if guidance:
                        guidance(event.code)
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
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "vision",
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=inherited | ENVIRONMENT,
            process_group=0,
        )
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


def _signal(process: asyncio.subprocess.Process) -> None:
    """Kill the process and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _reap(process: asyncio.subprocess.Process) -> None:
    _signal(process)
    try:
        async with asyncio.timeout(_REAP_SECONDS):
            log.info("vision_ended", status=await process.wait())  # negative: the signal that ended it
    except TimeoutError:
        log.error("vision_not_reaped", pid=process.pid)  # inside a driver's call; the kernel ends it when that returns


def _error(code: str, message: str, *, retry: bool = True) -> VisionError:
    return VisionError(code, message, advice=_ADVICE, retry=retry)


def _unavailable(message: str) -> VisionError:
    return _error("vision.unavailable", message)


def _vision_error(failed: wire.Failed) -> VisionError:
    return VisionError(failed.code, failed.message, advice=failed.advice, retry=failed.retry)
