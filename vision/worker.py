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
from vision.attack.layers import Detection
from vision.camera import CameraFeed
from vision.check import Job, run_check
from vision.document import Documents
from vision.errors import VisionError
from vision.line import Line
from vision.manifest import MANIFEST
from vision.memory_lock import give_back
from vision.models import Image, Models, load, resident_mib
from vision.page_report import Progress
from vision.photo import open_decoder
from vision.pipeline import FaceCheck
from vision.preview import PageShows, Show, encode_document, encode_face
from vision.scan import Tell
from vision.trial import try_camera
from vision.v4l2 import FACE_SIZE, Size
from vision.verifier import CameraName, CameraStatus, Verification
from vision.watch import TICK_SECONDS, WatchedCamera

log = structlog.get_logger(__name__)

_WIPE_SECONDS = 2.0
_SHORT_SECONDS = 3.0


class Worker:
    """Answers the daemon's requests on one line."""

    def __init__(
        self,
        line: Line[wire.Request],
        tasks: asyncio.TaskGroup,
        start: wire.Start,
        models: Models,
        detection: Detection,
        *,
        decode: Callable[[bytes], Image],
        egress_refused: Callable[[], int],
    ) -> None:
        self._line = line
        self._tasks = tasks
        self._settings = start.settings
        self._models = models
        self._detection = detection
        self._decode = decode
        self._egress_refused = egress_refused
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._running: Job | None = None
        self._jobs: dict[int, Job] = {}
        self._documents = Documents()
        self._page_shows = PageShows(tasks)
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
                self._line.send(wire.Pong(max(0.0, overdue), resident_mib(), self._egress_refused()))
            case wire.Cancel(call):
                if call in self._jobs:
                    self._jobs[call].cancel()
            case wire.Verify(call, _, seconds):
                feed = self._cameras["face"].turn_on()
                self._work(call, seconds, lambda job: self._verify(job, request, feed))
            case wire.Rasterise(call, _, _, _, seconds):
                self._work(call, seconds, lambda _: _rasterise(request))
            case wire.Preview(call, name):
                self._preview(call, name)
            case wire.Wipe(call):
                self._tasks.create_task(self._wipe(call), name="wipe")
            case wire.Start() | wire.TryCamera():
                log.error("started_twice")
            case _:
                self._of_document(request)

    def _of_document(self, request: wire.OfDocument) -> None:
        documents = self._documents
        match request:
            case wire.BeginDocument(call, paper, tone, sides):
                if camera := self._known(call, "document"):
                    camera.turn_on()  # its exposure has settled by the first page
                    self._document_work(call, lambda: documents.begin(paper, tone, sides))
            case wire.AddPage(call, retake, seconds):
                if camera := self._known(call, "document"):
                    feed, tell = camera.turn_on(), self._progress(call)
                    self._work(
                        call, seconds, lambda job: wire.PageAdded(call, documents.add(job, feed, tell, retake=retake))
                    )
            case wire.FinishDocument(call, most_bytes, seconds):
                tell = self._progress(call)
                self._work(
                    call, seconds, lambda job: wire.Finished(call, documents.finish(job, tell, most_bytes=most_bytes))
                )
            case wire.DiscardDocument(call):
                self._document_work(call, documents.wipe)
            case wire.ShowPage(call, page):
                if (descriptor := self._descriptor(call)) is not None:
                    self._document_work(call, lambda: self._show_page(page, descriptor))

    def _document_work(self, call: int, work: Callable[[], None]) -> None:
        """Do a short piece of work that has no answer but that it is done."""

        def done(_: Job) -> wire.Reply:
            work()
            return wire.Done(call)

        self._work(call, _SHORT_SECONDS, done)

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
            check = FaceCheck(
                self._models,
                reference,
                frames=self._settings.frames,
                operating_point=self._settings.operating_point,
                layers=self._detection.layers(),
                required=self._detection.required,
            )
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
                bound=decision.bound,
                frames=decision.frames,
                model=decision.model,
                presentation_attack=decision.presentation_attack,
                layers=decision.layers,
                seconds=time.monotonic() - begun,
                stages={"photo": decoded, **decision.stages},
            ),
        )

    def _guide(self, call: int, code: str) -> None:
        self._loop.call_soon_threadsafe(self._line.send, wire.Guidance(call, code))

    def _progress(self, call: int) -> Tell:
        def tell(progress: Progress) -> None:
            self._loop.call_soon_threadsafe(self._line.send, wire.Progressed(call, progress))

        return tell

    def _show_page(self, page: int, descriptor: int) -> None:
        """Have the loop send a page to the socket; it is closed when there is none."""
        try:
            frame = self._documents.show(page)
        except BaseException:
            os.close(descriptor)
            raise
        self._loop.call_soon_threadsafe(self._page_shows.begin, descriptor, frame)

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
        descriptor = self._descriptor(call)
        if descriptor is None:
            return
        camera = self._known(call, name)
        if camera is None:
            os.close(descriptor)
            return
        camera.turn_on()
        self._shows[name].add(descriptor, self._tasks)
        self._line.send(wire.Done(call))

    def _descriptor(self, call: int) -> int | None:
        """Return the descriptor that came with a request; fail the call when there is none."""
        if self._line.descriptors:
            return self._line.descriptors.popleft()
        failure = VisionError("preview.no_socket", "no descriptor came with it", advice="send one", retry=False)
        self._line.send(_failed(call, failure))
        return None

    async def _wipe(self, call: int) -> None:
        """End everything that holds a picture; freed memory is overwritten by malloc (see `vision.child`)."""
        for show in self._shows.values():
            show.end()
        for job in self._jobs.values():
            job.cancel()
        try:
            async with asyncio.timeout(_WIPE_SECONDS):
                await self._loop.run_in_executor(self._thread, self._turn_off)
            self._page_shows.end()
            self._line.send(wire.Done(call))
        except VisionError as error:
            self._line.send(_failed(call, error))
        except TimeoutError:
            failure = VisionError("vision.stuck", "a check does not end", advice="kill the process", retry=False)
            self._line.send(_failed(call, failure))

    def _turn_off(self) -> None:
        self._documents.wipe()
        for camera in self._cameras.values():
            camera.close()
        _release_memory()


def _release_memory() -> None:
    """Give back to the kernel what is free: 39 MiB after the models are loaded, and every picture after a check."""
    gc.collect()
    give_back()


def _rasterise(request: wire.Rasterise) -> wire.Reply:
    from vision.raster import rasterise  # its library is not needed to be ready

    return wire.Rasterised(request.call, rasterise(request.pdf, request.width_dots, request.max_pages))


def _failed(call: int, error: VisionError) -> wire.Failed:
    return wire.Failed(call, error.code, str(error), error.advice, error.retry)


async def serve(sock: socket.socket, *, egress_refused: Callable[[], int]) -> NoReturn:
    """Load what the first message asks for, then answer requests until the daemon is gone; or try one camera.

    `egress_refused` says how often the guard has refused this process a network.
    """
    requests: asyncio.Queue[wire.Request] = asyncio.Queue()
    line: Line[wire.Request] = Line(sock, wire.decode_request, requests.put_nowait, lambda _: os._exit(0))
    start = await requests.get()
    if isinstance(start, wire.TryCamera):
        await try_camera(line, start)
    if not isinstance(start, wire.Start):
        os._exit(1)
    begun = time.monotonic()
    try:
        settings = start.settings
        manifest = Path(settings.model_manifest) if settings.model_manifest else MANIFEST
        models = load(Path(settings.model_directory), manifest, memory_mib=settings.model_memory_mib)
        models.thresholds_of(settings.operating_point, settings.frames)  # now, not at the first check
        detection = Detection(models, movements=settings.challenge)
        decode = open_decoder(start.settings, rig=start.rig)
    except VisionError as error:
        log.error("vision_unusable", code=error.code, reason=str(error))
        line.send(_failed(0, error))
        os._exit(1)
    _release_memory()
    async with asyncio.TaskGroup() as tasks:
        worker = Worker(line, tasks, start, models, detection, decode=decode, egress_refused=egress_refused)
        line.send(wire.Ready(load_seconds=time.monotonic() - begun))
        while True:
            worker.receive(await requests.get())
