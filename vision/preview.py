"""Shows the camera to clients: each a socket that gets 4-byte big-endian lengths and JPEGs, the newest frame only."""

import socket

import cv2

from vision.models import Image

FRAMES_PER_SECOND = 10


def encode(picture: Image) -> bytes:
    """Return the picture as a citizen expects to see it, mirrored: a length and a JPEG."""
    _, jpeg = cv2.imencode(".jpg", cv2.flip(picture, 1), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return len(jpeg).to_bytes(4, "big") + jpeg.tobytes()


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
