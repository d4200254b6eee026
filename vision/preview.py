"""Shows a camera to clients: each a socket that gets 4-byte big-endian lengths and JPEGs, the newest frame only.

Or one page of a document, once.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

import cv2
import structlog

from vision.camera import CameraFeed
from vision.errors import VisionError
from vision.models import Image
from vision.watch import WatchedCamera

log = structlog.get_logger(__name__)

FRAMES_PER_SECOND = 10
SEND_SECONDS = 5.0
"""What a client may take to read a page."""
_WIDEST = 1024


def encode_face(picture: Image) -> bytes:
    """Return the picture as a citizen expects to see it, mirrored: a length and a JPEG."""
    return _encode(cv2.flip(picture, 1))


def encode_document(picture: Image) -> bytes:
    """Return the picture at a size for a screen, to be read: a length and a JPEG."""
    height, width = picture.shape[:2]
    scale = min(1.0, _WIDEST / width)
    size = (round(width * scale), round(height * scale))
    return _encode(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _encode(picture: cv2.typing.MatLike) -> bytes:
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return len(jpeg).to_bytes(4, "big") + jpeg.tobytes()


class PageShows:
    """Sends pages to handed-over sockets, which it owns: one frame each, then the end."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._sending: set[asyncio.Task[None]] = set()

    def begin(self, descriptor: int, frame: bytes) -> None:
        """Send a frame, while others are sent."""
        client = socket.socket(fileno=descriptor)
        sending = self._tasks.create_task(_send(client, frame), name="page")
        self._sending.add(sending)
        sending.add_done_callback(lambda _: client.close())
        sending.add_done_callback(self._sending.discard)

    def end(self) -> None:
        """Send no more of any."""
        for sending in self._sending:
            sending.cancel()


async def _send(client: socket.socket, frame: bytes) -> None:
    client.setblocking(False)
    with suppress(OSError):
        async with asyncio.timeout(SEND_SECONDS):
            await asyncio.get_running_loop().sock_sendall(client, frame)


class PreviewClient:
    """A handed-over socket, which it owns. Nothing here waits: a slow reader misses frames, never part of one."""

    def __init__(self, descriptor: int) -> None:
        self._sock = socket.socket(fileno=descriptor)
        self._sock.setblocking(False)
        self._rest = memoryview(b"")

    def offer(self, frame: bytes | None) -> bool:
        """Send what is left of the frame before; only then begin this one. Return False when the client is gone."""
        try:
            if self._rest:
                self._rest = self._rest[self._sock.send(self._rest) :]
            if frame and not self._rest:
                self._rest = memoryview(frame)
                self._rest = self._rest[self._sock.send(self._rest) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End the preview."""
        self._sock.close()


class Show:
    """One camera shown to its clients."""

    def __init__(self, camera: WatchedCamera, encode: Callable[[Image], bytes]) -> None:
        self._encode = encode
        self._camera = camera
        self._clients: list[PreviewClient] = []
        self._running = False

    def add(self, descriptor: int, tasks: asyncio.TaskGroup) -> None:
        """Show the camera to one more socket, and run in `tasks` if it does not yet."""
        self._clients.append(PreviewClient(descriptor))
        if not self._running:
            self._running = True
            tasks.create_task(self._run(), name="preview")

    def end(self) -> None:
        """End all previews of the camera."""
        for client in self._clients:
            client.close()
        self._clients.clear()

    async def _run(self) -> None:
        """Show the newest frame to every client until there is none, the camera is off, or `end`."""
        seen = 0.0
        try:
            while self._clients and (feed := self._camera.feed):
                seen = self._offer_newest(feed, seen)
                await asyncio.sleep(1 / FRAMES_PER_SECOND)
        except VisionError as error:
            log.warning("preview_ended", code=error.code)
        finally:
            self._running = False
            self.end()

    def _offer_newest(self, feed: CameraFeed, seen: float) -> float:
        """Offer the frame after `seen` to the clients and return its time; no picture is held when this returns."""
        frame = feed.newer(seen, 0)
        jpeg = self._encode(frame.picture) if frame else None
        for client in [client for client in self._clients if not client.offer(jpeg)]:
            client.close()
            self._clients.remove(client)
        return frame.taken_at if frame else seen
