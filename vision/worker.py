"""What the vision process does with its end of the socket pair.

The event loop answers and never computes for long; one inference thread does checks and rasterising in turn; the
camera has a thread of its own. When the daemon closes the connection the process ends at once: it has nothing to save.
"""

import asyncio
import ctypes
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
from vision.camera import CameraFeed, open_camera
from vision.check import Job, run_check
from vision.errors import VisionError
from vision.line import Line
from vision.models import Image, Models, load
from vision.photo import open_decoder
from vision.pipeline import FaceCheck
from vision.preview import FRAMES_PER_SECOND, PreviewClient, encode
from vision.verifier import Verification

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
        self._rig = start.rig
        self._models = models
        self._decode = decode
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._running: Job | None = None
        self._jobs: dict[int, Job] = {}
        self._feed: CameraFeed | None = None
        self._clients: list[PreviewClient] = []
        self._show_task: asyncio.Task[None] | None = None

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
                feed = self._camera()
                self._work(call, seconds, lambda job: self._verify(job, request, feed))
            case wire.Rasterise(call, _, _, _, seconds):
                self._work(call, seconds, lambda _: _rasterise(request))
            case wire.Preview(call):
                self._preview(call)
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

    def _camera(self) -> CameraFeed:
        if self._feed is None or self._feed.failed:
            address, rig = self._settings.camera, self._rig
            self._feed = CameraFeed(lambda: open_camera(address, rig=rig))
        return self._feed

    def _preview(self, call: int) -> None:
        if not self._line.descriptors:
            failure = VisionError("preview.no_socket", "no descriptor came with it", advice="send one", retry=False)
            self._line.send(_failed(call, failure))
            return
        self._camera()
        self._clients.append(PreviewClient(self._line.descriptors.popleft()))
        if self._show_task is None or self._show_task.done():
            self._show_task = self._tasks.create_task(self._show(), name="preview")
        self._line.send(wire.Done(call))

    async def _show(self) -> None:
        """Show the newest frame to every client until there is none, the camera fails, or `_wipe` took them."""
        seen = 0.0
        while self._clients and self._feed:
            try:
                seen = self._offer_newest(self._feed, seen)
            except VisionError as error:
                log.warning("preview_ended", code=error.code)
                self._end_previews()
                return
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    def _offer_newest(self, feed: CameraFeed, seen: float) -> float:
        """Offer the frame after `seen` to the clients and return its time; no picture is held when this returns."""
        frame = feed.newer(seen, 0)
        jpeg = encode(frame.picture) if frame else None
        for client in [client for client in self._clients if not client.offer(jpeg)]:
            client.close()
            self._clients.remove(client)
        return frame.taken_at if frame else seen

    def _end_previews(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()

    async def _wipe(self, call: int) -> None:
        """End everything that holds a picture; freed memory is overwritten by malloc (see `vision.process`)."""
        self._end_previews()
        for job in self._jobs.values():
            job.cancel()
        feed, self._feed = self._feed, None
        try:
            async with asyncio.timeout(_WIPE_SECONDS):
                await self._loop.run_in_executor(self._thread, _turn_off, feed)
            self._line.send(wire.Done(call))
        except VisionError as error:
            self._line.send(_failed(call, error))
        except TimeoutError:
            failure = VisionError("vision.stuck", "a check does not end", advice="kill the process", retry=False)
            self._line.send(_failed(call, failure))


def _turn_off(feed: CameraFeed | None) -> None:
    if feed:
        feed.close()
    _release_memory()


def _release_memory() -> None:
    """Give back to the kernel what is free: 39 MiB after the models are loaded, and every picture after a check."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


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
