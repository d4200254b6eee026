"""The rig's cameras: servers that play what is before a lens, and the plug-in by which the vision process opens them.

Over a Unix socket the client sends one byte and gets the next frame, a 4-byte big-endian length and a JPEG, when the
camera would have taken it.
"""

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import cv2
import numpy as np

from sim.scene import DocumentScene, Portrait, Scene
from sim.wire import Verbs
from vision.models import Image

FRAMES_PER_SECOND = 15
_READ_SECONDS = 1.0
_LIMIT_BYTES = 8 * 2**20
_DOCUMENT_FRAMES = 3


class RigCamera:
    """The client's end: `vision.camera.Camera`. Blocking; raises OSError when the camera is gone."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(_READ_SECONDS)
        try:
            self._sock.connect(path)
        except OSError:
            self._sock.close()
            raise

    def read(self) -> Image:
        """Return the next frame; raise OSError after 1 s without one."""
        self._sock.sendall(b"\1")
        length = int.from_bytes(self._receive(4), "big")
        if not 0 < length <= _LIMIT_BYTES:
            raise OSError(f"a frame of {length} bytes is announced")
        picture = cv2.imdecode(np.frombuffer(self._receive(length), np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise OSError("the frame is no JPEG")
        return picture.astype(np.uint8, copy=False)

    def close(self) -> None:
        """Turn the camera off."""
        self._sock.close()

    def _receive(self, length: int) -> bytearray:
        data = bytearray()
        while len(data) < length:
            chunk = self._sock.recv(length - len(data))
            if not chunk:
                raise OSError("the camera is unplugged")
            data += chunk
        return data


def open_camera(address: str) -> RigCamera:
    """Open a camera of the rig at a socket path; raise OSError when there is none."""
    return RigCamera(address)


class _Server(ABC):
    """A camera on its cable, and what is wrong with it, by verbs. A subclass says what stands before the lens."""

    frames_per_second: int

    def __init__(self) -> None:
        self._dark = self._covered = self._frozen = self._low = self._pulled = False
        self._path: Path | None = None
        self._last = b""
        self._due = 0.0
        self._clients: set[asyncio.Task[None]] = set()

    @abstractmethod
    def _jpeg(self) -> bytes:
        """Return the next frame."""

    @property
    def verbs(self) -> Verbs:
        """What can be done to the camera by hand, for the rig's control socket."""
        return {
            "dark": self.dark,
            "cover": self.cover,
            "freeze": self.freeze,
            "low_resolution": self.low_resolution,
            "unplug": self.unplug,
            "plug": self.plug,
        }

    def dark(self, *, on: bool = True) -> None:
        """Turn the light of the room out, or on again."""
        self._dark = on

    def cover(self, *, on: bool = True) -> None:
        """Cover the lens, or uncover it."""
        self._covered = on

    def freeze(self, *, on: bool = True) -> None:
        """Give the same frame for ever, as a hung camera does, or go on."""
        self._frozen = on

    def low_resolution(self, *, on: bool = True) -> None:
        """Give a quarter of the pixels, as a camera does that cannot do what it is asked, or all again."""
        self._low = on

    def unplug(self) -> None:
        """Pull the cable: the socket's name goes, and open connections end."""
        if self._path and not self._pulled:
            self._path.rename(_aside(self._path))
        self._pulled = True
        for client in self._clients:
            client.cancel()

    def plug(self) -> None:
        """Put the cable back: the socket's name is there again."""
        if self._path and self._pulled:
            _aside(self._path).rename(self._path)
        self._pulled = False

    @property
    def watched(self) -> bool:
        """Whether a client holds the camera open: its light is on."""
        return bool(self._clients)

    @asynccontextmanager
    async def serve(self, path: Path) -> AsyncIterator[None]:
        """Serve the camera at a Unix socket while the context lasts; what a dead rig left there is removed."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._accept, path)
        self._path, self._pulled = path, False
        try:
            yield
        finally:
            server.close()
            self.unplug()
            await asyncio.gather(*self._clients, return_exceptions=True)
            await server.wait_closed()
            _aside(path).unlink(missing_ok=True)
            self._path = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(self._play(reader, writer), name="rig camera client")
        client.add_done_callback(lambda _: writer.close())  # also of one that was cancelled before it began
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1):
                frame = await self._next()
                writer.write(len(frame).to_bytes(4, "big") + frame)
                await writer.drain()
        except ConnectionError:
            pass  # the client turned the camera off
        finally:
            writer.close()

    async def _next(self) -> bytes:
        """Wait for the moment of the next frame and return its JPEG."""
        loop = asyncio.get_running_loop()
        self._due = max(self._due + 1 / self.frames_per_second, loop.time())
        await asyncio.sleep(self._due - loop.time())
        if not (self._frozen and self._last):
            self._last = self._jpeg()
        return self._last


class CameraServer(_Server):
    """The face camera and who stands before it."""

    frames_per_second = FRAMES_PER_SECOND

    def __init__(self, people: Mapping[str, Portrait], *, seed: int) -> None:
        super().__init__()
        self._people = people
        self._scene = Scene(seed)

    @property
    def verbs(self) -> Verbs:
        """What can be done to the camera, and before it, by hand."""
        return {"show": self.show, "nobody": self.nobody, "two_people": self.two_people, **super().verbs}

    def show(self, person: str) -> None:
        """Put one person before the camera; KeyError for an unknown one."""
        self._scene.enter([self._people[person]])

    def nobody(self) -> None:
        """Have everybody leave."""
        self._scene.enter([])

    def two_people(self, first: str, second: str) -> None:
        """Put two people before the camera, side by side."""
        self._scene.enter([self._people[first], self._people[second]])

    def _jpeg(self) -> bytes:
        return _encoded(self._scene.frame(dark=self._dark, covered=self._covered), low=self._low)


class DocumentCameraServer(_Server):
    """The document camera above a page on a desk. It plays the same few frames in turn: they are large.

    The first ones take 0.6 s to make: that is done here, before a loop of devices would wait for it.
    """

    frames_per_second = 8

    def __init__(self, *, seed: int) -> None:
        super().__init__()
        self._scene = DocumentScene(seed)
        self._number = 0
        self._made: dict[tuple[bool, bool, bool, int], bytes] = {}
        for _ in range(_DOCUMENT_FRAMES):
            self._jpeg()

    def _jpeg(self) -> bytes:
        self._number = (self._number + 1) % _DOCUMENT_FRAMES
        key = (self._dark, self._covered, self._low, self._number)
        if key not in self._made:
            self._made[key] = _encoded(self._scene.frame(dark=self._dark, covered=self._covered), low=self._low)
        return self._made[key]


def _encoded(picture: Image, *, low: bool) -> bytes:
    shown = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) if low else picture
    _, jpeg = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return jpeg.tobytes()


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".unplugged")
