"""Where the terminal's keys lie: the seam for a secure element (SKF GM/T 0016, SDF GM/T 0018), and keys in memory.

Nothing above this seam sees a private or a data key: it signs, exchanges and seals through it.
"""

import os
from typing import Protocol

from transport import sm, sm2
from transport.errors import TransportError


class CipherKey(Protocol):
    """One SM4 key: a handle of the element, or bytes in memory."""

    def seal(self, nonce: bytes, plaintext: bytes, additional: bytes) -> bytes:
        """Return ciphertext and tag (SM4-GCM); raise TransportError (`envelope.key_wiped`) after `wipe`."""

    def unseal(self, nonce: bytes, sealed: bytes, additional: bytes) -> bytes:
        """Return the plaintext; raise TransportError: `envelope.forged`, `envelope.key_wiped`."""

    def wipe(self) -> None:
        """Destroy the key; twice is nothing."""


class KeyExchange(Protocol):
    """One exchange: the public point that the platform wraps data keys for, and what unwraps them.

    An element without keys of one use gives the point of its own encryption key each time.
    """

    @property
    def point(self) -> bytes:
        """The SM2 public key, uncompressed, 65 bytes."""

    def unwrap(self, wrapped: bytes) -> CipherKey:
        """Take the SM4 key in an SM2Cipher; raise TransportError (`sm2.bad_ciphertext`, `key.bad_grant`)."""

    def wipe(self) -> None:
        """End the exchange and destroy its private key, if that was its own."""


class KeyProvider(Protocol):
    """The terminal's identity at the platform."""

    def sign(self, content: bytes) -> bytes:
        """Return the DER signature of `content` by the identity key (SM2 with SM3)."""

    def begin_exchange(self) -> KeyExchange:
        """Begin an exchange, for one key request."""

    def wipe(self) -> None:
        """Destroy the identity key in this process, or end the session with the element; it serves no more."""


class MemoryKey:
    """An SM4 key in this process's memory."""

    def __init__(self, key: bytearray) -> None:
        """Take over `key` (16 bytes): `wipe` clears it."""
        self._key = key

    def seal(self, nonce: bytes, plaintext: bytes, additional: bytes) -> bytes:
        """As CipherKey."""
        return sm.seal(self._alive(), nonce, plaintext, additional)

    def unseal(self, nonce: bytes, sealed: bytes, additional: bytes) -> bytes:
        """As CipherKey."""
        return sm.unseal(self._alive(), nonce, sealed, additional)

    def wipe(self) -> None:
        """Overwrite the key."""
        sm.wipe(self._key)

    def _alive(self) -> bytearray:
        if not self._key:
            raise TransportError(
                "envelope.key_wiped", "the key was wiped", advice="ask for a new key grant", retry=True
            )
        return self._key


class MemoryExchange:
    """An exchange with an SM2 key of its own, made for it."""

    def __init__(self) -> None:
        self._pair = sm2.generate()
        self.point = self._pair.public.point

    def unwrap(self, wrapped: bytes) -> MemoryKey:
        """As KeyExchange."""
        key = self._pair.decrypt(wrapped)
        if len(key) != sm.KEY_BYTES:
            sm.wipe(key)
            raise TransportError(
                "key.bad_grant", "not an SM4 key", advice="bring the platform to this wire format", retry=False
            )
        return MemoryKey(key)

    def wipe(self) -> None:
        """Clear the private key."""
        self._pair.wipe()


class IdentityKey:
    """The default provider: the identity key from a file, everything else in memory."""

    def __init__(self, identity: sm2.PrivateKey) -> None:
        self._identity = identity

    def sign(self, content: bytes) -> bytes:
        """As KeyProvider."""
        return self._identity.sign(content)

    def begin_exchange(self) -> MemoryExchange:
        """As KeyProvider."""
        return MemoryExchange()

    def wipe(self) -> None:
        """Clear the identity key; later use raises TransportError (`sm2.wiped`)."""
        self._identity.wipe()


def new_key() -> tuple[bytearray, MemoryKey]:
    """Return a fresh SM4 key, to be wrapped and wiped, and a copy to use."""
    key = bytearray(os.urandom(sm.KEY_BYTES))
    return key, MemoryKey(bytearray(key))
