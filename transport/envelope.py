"""The sealed envelope around every message (T20, I7; docs/wire-format.md). Pure: bytes in, bytes out.

A key belongs to one direction of one connection and to one sender, so its epoch never changes.
"""

import os
from typing import Annotated

import msgspec
from msgspec import Meta

from transport import sm
from transport.errors import TransportError
from transport.keys import CipherKey
from transport.wire import Direction, decode, encode, topic

VERSION = 1
SM4_GCM = 1
KEY_ID_BYTES = 8
MAX_PLAINTEXT_BYTES = 1_000_000
MAX_MESSAGES = 2**24
MAX_BYTES = 2**36
REPLAY_WINDOW = 1_024

_MAX_ENVELOPE_BYTES = MAX_PLAINTEXT_BYTES + 64
_EPOCH_BYTES = 4
_COUNTER_BYTES = 8


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What travels: `sealed` is ciphertext followed by the tag."""

    version: int
    algorithm: int
    key_id: Annotated[bytes, Meta(min_length=KEY_ID_BYTES, max_length=KEY_ID_BYTES)]
    nonce: Annotated[bytes, Meta(min_length=sm.NONCE_BYTES, max_length=sm.NONCE_BYTES)]
    sealed: Annotated[bytes, Meta(min_length=sm.TAG_BYTES)]


def additional_data(key_id: bytes, terminal: str, direction: Direction, stream: str) -> bytes:
    """Return what the tag binds beside the ciphertext: the place the envelope was made for."""
    place = topic(terminal, direction, stream)
    return msgspec.msgpack.encode(["govterm", VERSION, SM4_GCM, key_id, terminal, direction, stream, place])


class Sealer:
    """The sending end of one key: seals with a nonce that never comes twice."""

    def __init__(self, key: CipherKey, key_id: bytes, terminal: str, direction: Direction) -> None:
        """Seal under `key`; the epoch comes from the operating system."""
        self._key = key
        self._key_id = key_id
        self._terminal = terminal
        self._direction: Direction = direction
        self._epoch = os.urandom(_EPOCH_BYTES)
        self._messages = 0
        self._bytes = 0

    @property
    def is_nearly_used(self) -> bool:
        """Whether it is time to ask for new keys: 15/16 of what the key may seal is sealed."""
        return self._messages >= MAX_MESSAGES // 16 * 15 or self._bytes >= MAX_BYTES // 16 * 15

    def seal(self, stream: str, plaintext: bytes) -> bytes:
        """Return the envelope of `plaintext` for `stream`.

        Raises TransportError: `envelope.too_large` over MAX_PLAINTEXT_BYTES, `envelope.key_exhausted` after
        MAX_MESSAGES messages or MAX_BYTES bytes, `envelope.key_wiped`.
        """
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            message = f"{len(plaintext)} bytes, limit {MAX_PLAINTEXT_BYTES}"
            raise _error("envelope.too_large", message, "send less in one message")
        if self._messages >= MAX_MESSAGES or self._bytes + len(plaintext) > MAX_BYTES:
            raise TransportError(
                "envelope.key_exhausted", "the key has sealed enough", advice="ask for a new key grant", retry=True
            )
        self._messages += 1
        self._bytes += len(plaintext)
        nonce = self._epoch + self._messages.to_bytes(_COUNTER_BYTES, "big")
        additional = additional_data(self._key_id, self._terminal, self._direction, stream)
        return encode(Envelope(VERSION, SM4_GCM, self._key_id, nonce, self._key.seal(nonce, plaintext, additional)))

    def wipe(self) -> None:
        """Destroy the key."""
        self._key.wipe()


class Opener:
    """The receiving end of one key: opens each envelope once, and those of a stream in their order."""

    def __init__(self, key: CipherKey, key_id: bytes, terminal: str, direction: Direction) -> None:
        self.key_id = key_id
        self._key = key
        self._terminal = terminal
        self._direction: Direction = direction
        self._epoch: bytes | None = None
        self._highest = 0
        self._seen = 0  # bit n: the counter _highest - n was opened
        self._last_of: dict[str, int] = {}

    def open(self, stream: str, envelope: Envelope) -> bytes:
        """Return the plaintext of an envelope that came on `stream`.

        Raises TransportError: `envelope.unknown_key`, `envelope.replayed` (seen before, too old to tell, or of another
        epoch), `envelope.reordered` (a later one of its stream came first), `envelope.forged`, `envelope.key_wiped`.
        A refused envelope changes nothing.
        """
        if envelope.key_id != self.key_id:
            raise unknown_key()
        epoch = envelope.nonce[:_EPOCH_BYTES]
        counter = int.from_bytes(envelope.nonce[_EPOCH_BYTES:], "big")
        if self._epoch not in (None, epoch) or self._is_old(counter):
            raise _error("envelope.replayed", "opened before, or too old to tell", _MEDDLED)
        additional = additional_data(self.key_id, self._terminal, self._direction, stream)
        plaintext = self._key.unseal(envelope.nonce, envelope.sealed, additional)
        if counter < self._last_of.get(stream, 0):
            raise _error("envelope.reordered", "a later one of its stream came first", _MEDDLED)
        self._epoch = epoch
        self._mark(counter)
        self._last_of[stream] = counter
        return plaintext

    def wipe(self) -> None:
        """Destroy the key."""
        self._key.wipe()

    def _is_old(self, counter: int) -> bool:
        age = self._highest - counter
        return counter == 0 or age >= REPLAY_WINDOW or (age >= 0 and bool(self._seen >> age & 1))

    def _mark(self, counter: int) -> None:
        ahead = counter - self._highest
        if ahead > 0:
            self._highest = counter
            self._seen = (self._seen << ahead | 1) & (2**REPLAY_WINDOW - 1) if ahead < REPLAY_WINDOW else 1
        else:
            self._seen |= 1 << -ahead


def read(body: bytes) -> Envelope:
    """Read an envelope, not opened yet.

    Raises TransportError: `envelope.malformed`, `envelope.too_large`, `envelope.unknown_version`.
    """
    if len(body) > _MAX_ENVELOPE_BYTES:
        raise _error("envelope.too_large", f"{len(body)} bytes", _MEDDLED)
    envelope = decode(body, Envelope)
    if (envelope.version, envelope.algorithm) != (VERSION, SM4_GCM):
        message = f"version {envelope.version}, algorithm {envelope.algorithm}"
        raise _error("envelope.unknown_version", message, "bring terminal and platform to the same wire format")
    return envelope


def unknown_key() -> TransportError:
    """Return the error of an envelope under a key that this end does not have."""
    return _error("envelope.unknown_key", "sealed under another key", "none: a late message of an old connection")


_MEDDLED = "it was dropped; if it happens again find out who writes to this terminal's topics"


def _error(code: str, message: str, advice: str) -> TransportError:
    return TransportError(code, message, advice=advice, retry=False)
