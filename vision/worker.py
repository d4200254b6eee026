"""What the vision process does with its end of the socket pair.

The event loop answers and never computes for long; one inference thread does checks and rasterising in turn; the
cameras have a thread each. When the daemon closes the connection the process ends at once: it has nothing to save.
"""

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import structlog

from vision import wire
from vision.camera import CameraFeed, release_memory
from vision.check import Job, newest, run_check
from vision.document import sharpness
from vision.errors import VisionError
from vision.line import Line
from vision.models import Image, Models, load
from vision.photo import open_decoder
from vision.pipeline import FaceCheck
from vision.preview import Show, encode_document, encode_face
from vision.v4l2 import FACE_SIZE, Size
from vision.verifier import CameraName, CameraStatus, Capture, Verification
from vision.watch import TICK_SECONDS, WatchedCamera

log = structlog.get_logger(__name__)

_WIPE_SECONDS = 2.0


class Worker:
    """Answers the daemon's requests on one line."""

    def __init__(
        self,
        line: Line[wire.Request],
        tasks: asyncio.TaskGroup,
        start: wire.Start,
        models: Models,
        decode: Callable[[bytes], Image],
    ) -> None:
        self._line = line
        self._tasks = tasks
        self._settings = start.settings
        self._models = models
        self._decode = decode
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._running: Job | None = None
        self._jobs: dict[int, Job] = {}
        self._document: Image | None = None
        self._cameras = {
            name: self._camera(name, address, rig=start.rig) for name, address in start.settings.cameras.items()
        }
        self._shows = {
            name: Show(camera, encode_document if name == "document" else encode_face)
            for name, camera in self._cameras.items()
        }
        tasks.create_task(self._watch(), name="cameras")

    def _camera(self, name: CameraName, address: str, *, rig: bool) -> WatchedCamera:
        settings = self._settings
        least = Size(settings.document_width, settings.document_height) if name == "document" else FACE_SIZE
        return WatchedCamera(name, address, least, rig=rig, tell=self._tell)

    def _tell(self, status: CameraStatus) -> None:
        self._line.send(wire.CameraChanged(status))

    async def _watch(self) -> None:
        while True:
            for camera in self._cameras.values():
                camera.tick()
            await asyncio.sleep(TICK_SECONDS)

    def receive(self, request: wire.Request) -> None:
        """Take one request; Ping is answered before this returns."""
        match request:
            case wire.Ping():
                overdue = time.monotonic() - self._running.deadline if self._running else 0.0
                self._line.send(wire.Pong(max(0.0, overdue)))
            case wire.Cancel(call):
                if call in self._jobs:
                    self._jobs[call].cancel()
            case wire.Verify(call, _, seconds):
                feed = self._cameras["face"].turn_on()
                self._work(call, seconds, lambda job: self._verify(job, request, feed))
            case wire.CaptureDocument(call, seconds):
                if camera := self._known(call, "document"):
                    feed = camera.turn_on()
                    self._work(call, seconds, lambda job: self._capture(job, call, feed))
            case wire.Rasterise(call, _, _, _, seconds):
                self._work(call, seconds, lambda _: _rasterise(request))
            case wire.Preview(call, name):
                self._preview(call, name)
            case wire.Wipe(call):
                self._tasks.create_task(self._wipe(call), name="wipe")
            case wire.Start():
                log.error("started_twice")

    def _work(self, call: int, seconds: float, work: Callable[[Job], wire.Reply]) -> None:
        self._jobs[call] = Job(time.monotonic() + seconds)
        self._tasks.create_task(self._finish(call, self._jobs[call], work), name=f"call {call}")

    async def _finish(self, call: int, job: Job, work: Callable[[Job], wire.Reply]) -> None:
        try:
            reply = await self._loop.run_in_executor(self._thread, self._in_thread, job, work)
        except VisionError as error:
            reply = _failed(call, error)
        except Exception as error:  # noqa: BLE001  a library's error on foreign data ends the call, not the process
            log.error("vision_failed", kind=type(error).__name__)
            failure = VisionError("vision.failed", type(error).__name__, advice="see the log", retry=True)
            reply = _failed(call, failure)
        del self._jobs[call]
        self._line.send(reply)

    def _in_thread(self, job: Job, work: Callable[[Job], wire.Reply]) -> wire.Reply:
        self._running = job
        try:
            return work(job)
        finally:
            self._running = None

    def _verify(self, job: Job, request: wire.Verify, feed: CameraFeed) -> wire.Reply:
        begun = time.monotonic()
        reference = self._decode(request.photo)
        decoded = time.monotonic() - begun
        try:
            check = FaceCheck(self._models, reference, frames=self._settings.frames)
        finally:
            reference.fill(0)
        try:
            decision = run_check(job, check, feed, lambda code: self._guide(request.call, code))
        finally:
            check.wipe()
        return wire.Verified(
            request.call,
            Verification(
                outcome="match" if decision.match else "no_match",
                score=decision.score,
                threshold=decision.threshold,
                operating_point=decision.operating_point,
                frames=decision.frames,
                model=decision.model,
                presentation_attack=decision.presentation_attack,
                seconds=time.monotonic() - begun,
                stages={"photo": decoded, **decision.stages},
            ),
        )

    def _guide(self, call: int, code: str) -> None:
        self._loop.call_soon_threadsafe(self._line.send, wire.Guidance(call, code))

    def _capture(self, job: Job, call: int, feed: CameraFeed) -> wire.Reply:
        picture = newest(job, feed).picture.copy()  # the feed overwrites its own
        self._forget_document()
        self._document = picture
        height, width = picture.shape[:2]
        return wire.Captured(call, Capture(width, height, sharpness(picture)))

    def _forget_document(self) -> None:
        if self._document is not None:
            self._document.fill(0)
            self._document = None

    def _known(self, call: int, name: CameraName) -> WatchedCamera | None:
        """Return a camera that the terminal has; fail the call otherwise."""
        camera = self._cameras.get(name)
        if camera is None:
            advice = f"set `{name}_camera`"
            self._line.send(
                _failed(call, VisionError("camera.missing", f"no {name} camera", advice=advice, retry=False))
            )
        return camera

    def _preview(self, call: int, name: CameraName) -> None:
        if not self._line.descriptors:
            failure = VisionError("preview.no_socket", "no descriptor came with it", advice="send one", retry=False)
            self._line.send(_failed(call, failure))
            return
        descriptor = self._line.descriptors.popleft()
        camera = self._known(call, name)
        if camera is None:
            os.close(descriptor)
            return
        camera.turn_on()
        self._shows[name].add(descriptor, self._tasks)
        self._line.send(wire.Done(call))

    async def _wipe(self, call: int) -> None:
        """End everything that holds a picture; freed memory is overwritten by malloc (see `vision.child`)."""
        for show in self._shows.values():
            show.end()
        for job in self._jobs.values():
            job.cancel()
        try:
            async with asyncio.timeout(_WIPE_SECONDS):
                await self._loop.run_in_executor(self._thread, self._turn_off)
            self._line.send(wire.Done(call))
        except VisionError as error:
            self._line.send(_failed(call, error))
        except TimeoutError:
            failure = VisionError("vision.stuck", "a check does not end", advice="kill the process", retry=False)
            self._line.send(_failed(call, failure))

    def _turn_off(self) -> None:
        self._forget_document()
        for camera in self._cameras.values():
            camera.close()
        _release_memory()


def _release_memory() -> None:
    """Give back to the kernel what is free: 39 MiB after the models are loaded, and every picture after a check."""
    gc.collect()
    release_memory()


def _rasterise(request: wire.Rasterise) -> wire.Reply:
    from vision.raster import rasterise  # its library is not needed to be ready

    return wire.Rasterised(request.call, rasterise(request.pdf, request.width_dots, request.max_pages))


def _failed(call: int, error: VisionError) -> wire.Failed:
    return wire.Failed(call, error.code, str(error), error.advice, error.retry)


async def serve(sock: socket.socket) -> NoReturn:
    """Load what the first message asks for, then answer requests until the daemon is gone."""
    requests: asyncio.Queue[wire.Request] = asyncio.Queue()
    line: Line[wire.Request] = Line(sock, wire.decode_request, requests.put_nowait, lambda _: os._exit(0))
    start = await requests.get()
    if not isinstance(start, wire.Start):
        os._exit(1)
    begun = time.monotonic()
    try:
        models = load(Path(start.settings.model_directory))
        decode = open_decoder(start.settings, rig=start.rig)
    except VisionError as error:
        log.error("vision_unusable", code=error.code, reason=str(error))
        line.send(_failed(0, error))
        os._exit(1)
    _release_memory()
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(line, tasks, start, models, decode)
        line.send(wire.Ready(load_seconds=time.monotonic() - begun))
        while True:
            worker.receive(await requests.get())
