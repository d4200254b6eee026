"""One end of the socket pair between the daemon and the vision process: messages out and in, descriptors with them."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from vision.wire import FrameDecoder, Reply, Request, WireError, encode

M = TypeVar("M")

_CHUNK_BYTES = 256 * 1024
_DESCRIPTORS = 4


class Line(Generic[M]):
    """Sends and receives on a connected socket, which it owns, from the running event loop.

    `on_message` gets each message; `on_end` is called once, with the reason, when the other end is gone or does not
    keep to the wire format, unless `close` came first. Received descriptors wait in `descriptors`, in order.
    """

    def __init__(
        self,
        sock: socket.socket,
        decode: Callable[[bytes], M],
        on_message: Callable[[M], None],
        on_end: Callable[[str], None],
    ) -> None:
        self.descriptors: deque[int] = deque()
        self._sock = sock
        self._decode = decode
        self._on_message = on_message
        self._on_end = on_end
        self._frames = FrameDecoder()
        self._waiting: deque[tuple[memoryview, int | None]] = deque()
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock, self._receive)

    def send(self, message: Request | Reply, descriptor: int | None = None) -> None:
        """Send a message, and a duplicate of `descriptor` with it; after the end this does nothing.

        Raises WireError when the message is too long.
        """
        frame = memoryview(encode(message))
        if self._sock.fileno() < 0:
            return
        self._waiting.append((frame, None if descriptor is None else os.dup(descriptor)))
        if len(self._waiting) == 1:
            self._flush()

    def close(self) -> None:
        """Close the socket and every descriptor still held; closing twice is nothing."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        held = [descriptor for _, descriptor in self._waiting if descriptor is not None]
        for descriptor in (*held, *self.descriptors):
            os.close(descriptor)
        self._waiting.clear()
        self.descriptors.clear()

    def _flush(self) -> None:
        while self._waiting:
            frame, descriptor = self._waiting[0]
            try:
                sent = socket.send_fds(self._sock, [frame], [] if descriptor is None else [descriptor])
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError:
                self._loop.remove_writer(self._sock)
                return  # the reader sees the end, and tells of it
            if descriptor is not None:
                os.close(descriptor)
            if sent < len(frame):
                self._waiting[0] = (frame[sent:], None)
            else:
                self._waiting.popleft()
        self._loop.remove_writer(self._sock)

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, _CHUNK_BYTES, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(f"connection lost: {error}")
            return
        self.descriptors.extend(descriptors)
        if not data or len(self.descriptors) > _DESCRIPTORS:
            self._end("too many descriptors" if data else "connection closed")
            return
        try:
            messages = [self._decode(body) for body in self._frames.feed(data)]
        except WireError as error:
            self._end(str(error))
            return
        for message in messages:
            self._on_message(message)

    def _end(self, reason: str) -> None:
        self.close()
        self._on_end(reason)
