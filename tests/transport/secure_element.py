"""A secure element: a process of its own that holds every key and gives out handles (as SDF, GM/T 0018, does).

The terminal's process writes commands to a pipe and reads replies. Identity and encryption key are put into the element
before it is built in; like an SDF device it has one encryption key for every exchange.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from transport import sm, sm2
from transport.errors import TransportError

_HEAD_BYTES = 4


def _write(pipe: IO[bytes], content: object) -> None:
    body = msgspec.msgpack.encode(content)
    pipe.write(len(body).to_bytes(_HEAD_BYTES, "big") + body)
    pipe.flush()


def _read(pipe: IO[bytes]) -> list:
    head = pipe.read(_HEAD_BYTES)
    return msgspec.msgpack.decode(pipe.read(int.from_bytes(head, "big"))) if head else []


class SecureElement:
    """The driver of the element: a KeyProvider."""

    def __init__(self, commands: IO[bytes], replies: IO[bytes]) -> None:
        self._commands = commands
        self._replies = replies

    def ask(self, command: str, *arguments: object):
        """Return what the element says; raise TransportError with its code."""
        _write(self._commands, [command, *arguments])
        code, reply = _read(self._replies)
        if code is not None:
            raise TransportError(code, "the element refuses", advice="", retry=False)
        return reply

    def sign(self, content: bytes) -> bytes:
        return self.ask("sign", content)

    def begin_exchange(self) -> "_Exchange":
        return _Exchange(self, self.ask("point"))

    def wipe(self) -> None:
        self.ask("log_out")


class _Exchange:
    def __init__(self, element: SecureElement, point: bytes) -> None:
        self.point = point
        self._element = element
        self._is_over = False

    def unwrap(self, wrapped: bytes) -> "_Key":
        if self._is_over:
            raise TransportError("sm2.wiped", "the exchange is over", advice="", retry=False)
        return _Key(self._element, self._element.ask("unwrap", wrapped))

    def wipe(self) -> None:
        self._is_over = True


class _Key:
    def __init__(self, element: SecureElement, handle: int) -> None:
        self._element = element
        self._handle = handle

    def seal(self, nonce: bytes, plaintext: bytes, additional: bytes) -> bytes:
        return self._element.ask("seal", self._handle, nonce, plaintext, additional)

    def unseal(self, nonce: bytes, sealed: bytes, additional: bytes) -> bytes:
        return self._element.ask("unseal", self._handle, nonce, sealed, additional)

    def wipe(self) -> None:
        self._element.ask("destroy", self._handle)


@contextmanager
def secure_element(identity: sm2.PrivateKey) -> Iterator[SecureElement]:
    """Put `identity` into a new element and run it."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        element = SecureElement(process.stdin, process.stdout)
        element.ask("load", identity.to_der())
        try:
            yield element
        finally:
            process.stdin.close()
            process.wait(5)


class _Inside:
    """The element itself."""

    def __init__(self) -> None:
        self._identity = self._encryption = sm2.generate()
        self._keys: dict[int, bytearray] = {}
        self._handles = 0

    def load(self, identity: bytes) -> None:
        self._identity = sm2.PrivateKey.from_der(identity)

    def sign(self, content: bytes) -> bytes:
        return self._identity.sign(content)

    def log_out(self) -> None:
        self._identity.wipe()

    def point(self) -> bytes:
        return self._encryption.public.point

    def unwrap(self, wrapped: bytes) -> int:
        key = self._encryption.decrypt(wrapped)
        if len(key) != sm.KEY_BYTES:
            raise TransportError("key.bad_grant", "not an SM4 key", advice="", retry=False)
        self._handles += 1
        self._keys[self._handles] = key
        return self._handles

    def seal(self, handle: int, nonce: bytes, plaintext: bytes, additional: bytes) -> bytes:
        return sm.seal(self._key(handle), nonce, plaintext, additional)

    def unseal(self, handle: int, nonce: bytes, sealed: bytes, additional: bytes) -> bytes:
        return sm.unseal(self._key(handle), nonce, sealed, additional)

    def destroy(self, handle: int) -> None:
        sm.wipe(self._keys.pop(handle, bytearray()))

    def held(self) -> int:
        return len(self._keys)

    def _key(self, handle: int) -> bytearray:
        if handle not in self._keys:
            raise TransportError("envelope.key_wiped", "no such handle", advice="", retry=True)
        return self._keys[handle]


def _serve() -> None:
    inside = _Inside()
    while command := _read(sys.stdin.buffer):
        try:
            reply = [None, getattr(inside, command[0])(*command[1:])]
        except TransportError as error:
            reply = [error.code, None]
        _write(sys.stdout.buffer, reply)


if __name__ == "__main__":
    _serve()
