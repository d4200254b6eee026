"""A camera tried alone, in a vision process without models: for `govterm probe camera`.

`watch_camera` is the caller's side and imports no picture library; `try_camera` is the process's.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import NoReturn

from vision import wire
from vision.child import reap, spawn
from vision.config import Vision
from vision.errors import VisionError
from vision.line import Line
from vision.verifier import CameraName

START_SECONDS = 15.0
"""From spawn to the first frame: the imports on a slow board, and a camera that starts slowly."""
SILENT_SECONDS = 5.0
"""The process tells four times a second how the camera is; silent for this long, it hangs in the driver."""

_TICK_SECONDS = 0.25
_ADVICE = "replug the camera and try again"

_Said = wire.Reply | VisionError


async def watch_camera(name: CameraName, address: str, on_seen: Callable[[wire.CameraSeen], None]) -> NoReturn:
    """Have a camera on, in a process of its own that is reaped when this ends; `on_seen` hears how it is, often.

    A played camera (`rig:SOCKET`) will do: nobody is served. Always raises: VisionError `camera.*`, `vision.died`,
    `vision.hung`, or OSError when no process can be started.
    """
    said: asyncio.Queue[_Said] = asyncio.Queue()
    ours, theirs = socket.socketpair()
    line: Line[wire.Reply] = Line(
        ours,
        wire.decode_reply,
        said.put_nowait,
        lambda reason: said.put_nowait(_error("vision.died", f"the vision process ended: {reason}")),
    )
    with closing(line):
        with theirs:
            process = await spawn(theirs)
        try:
            line.send(wire.TryCamera(name, address))
            on_seen(await _next(said, START_SECONDS))
            while True:
                on_seen(await _next(said, SILENT_SECONDS))
        finally:
            line.close()
            await reap(process)


async def try_camera(line: Line[wire.Request], request: wire.TryCamera) -> NoReturn:
    """Turn the camera on and tell how it is, until the caller is gone or the camera fails; then end the process."""
    from vision.camera import CameraFeed, open_camera
    from vision.v4l2 import FACE_SIZE, Size

    usual, begun = Vision(camera=request.address), time.monotonic()
    least = Size(usual.document_width, usual.document_height) if request.camera == "document" else FACE_SIZE
    feed = CameraFeed(lambda: open_camera(request.address, least, rig=True), least)
    frames, taken_at, width, height = 0, 0.0, 0, 0
    while True:
        try:
            frame = await asyncio.to_thread(feed.newer, taken_at, _TICK_SECONDS)
        except VisionError as error:
            line.send(wire.Failed(0, error.code, str(error), error.advice, error.retry))
            os._exit(1)
        if frame is not None:
            frames, taken_at = frames + 1, frame.taken_at
            height, width = frame.picture.shape[:2]
            del frame
        if frames:
            state, _ = feed.health() or ("unknown", None)
            line.send(wire.CameraSeen(state, frames, width, height, (feed.first_at or begun) - begun))


async def _next(said: "asyncio.Queue[_Said]", seconds: float) -> wire.CameraSeen:
    try:
        async with asyncio.timeout(seconds):
            reply = await said.get()
    except TimeoutError:
        raise _error("vision.hung", f"the camera's process says nothing for {seconds:g} s") from None
    if isinstance(reply, wire.CameraSeen):
        return reply
    if isinstance(reply, wire.Failed):
        raise VisionError(reply.code, reply.message, advice=reply.advice, retry=reply.retry)
    raise reply if isinstance(reply, VisionError) else _error("vision.died", "the vision process speaks otherwise")


def _error(code: str, message: str) -> VisionError:
    return VisionError(code, message, advice=_ADVICE, retry=True)
