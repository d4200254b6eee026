"""How the two keys of a connection come from the platform (T20), both halves; docs/wire-format.md.

The terminal signs a request that carries an ephemeral SM2 key; the platform answers with a signed grant whose
keys are encrypted under it, or with a signed refusal.
"""

import os
from dataclasses import dataclass
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from transport import sm, sm2
from transport.envelope import KEY_ID_BYTES, Opener, Sealer
from transport.errors import TransportError
from transport.wire import Bytes16, Name, decode, encode

VERSION = 1

_KeyId = Annotated[bytes, Meta(min_length=KEY_ID_BYTES, max_length=KEY_ID_BYTES)]
_Seconds = Annotated[int, Meta(ge=0, lt=2**53)]
_Short = Annotated[bytes, Meta(max_length=512)]


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    content: _Short
    signature: _Short


class KeyRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a terminal asks: `unix_time` is its own clock, `nonce` and `point` (ephemeral key) are fresh."""

    version: int
    terminal: Name
    boot_id: Name
    unix_time: _Seconds
    nonce: Bytes16
    point: Annotated[bytes, Meta(min_length=sm2.POINT_BYTES, max_length=sm2.POINT_BYTES)]


class _Grant(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    nonce: Bytes16
    up_id: _KeyId
    down_id: _KeyId
    wrapped: _Short
    expires_unix: _Seconds


class _Refusal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    nonce: Bytes16
    code: Name
    retry: bool


@dataclass(slots=True, repr=False)
class LineKeys:
    """The two keys of one connection. Sealer and Opener share the arrays, so `wipe` ends those too."""

    terminal: str
    up_id: bytes
    up: bytearray
    down_id: bytes
    down: bytearray
    expires_unix: int

    def terminal_ends(self) -> tuple[Sealer, Opener]:
        """Return the terminal's ends: it seals up and opens down."""
        return (
            Sealer(self.up, self.up_id, self.terminal, "up"),
            Opener(self.down, self.down_id, self.terminal, "down"),
        )

    def platform_ends(self) -> tuple[Sealer, Opener]:
        """Return the platform's ends: it seals down and opens up."""
        return (
            Sealer(self.down, self.down_id, self.terminal, "down"),
            Opener(self.up, self.up_id, self.terminal, "up"),
        )

    def wipe(self) -> None:
        """Clear both keys."""
        sm.wipe(self.up)
        sm.wipe(self.down)


class PendingRequest:
    """The terminal's half: one request on its way and the ephemeral key that opens its grant."""

    def __init__(self, terminal: str, boot_id: str, unix_time: float, identity: sm2.PrivateKey) -> None:
        """Make and sign a request; `message` is what goes to the platform."""
        self._terminal = terminal
        self._ephemeral = sm2.generate()
        self._nonce = os.urandom(16)
        point = self._ephemeral.public.point
        content = encode(KeyRequest(VERSION, terminal, boot_id, int(unix_time), self._nonce, point))
        self.message = encode(_Signed(content, identity.sign(content)))

    def open(self, body: bytes, platform: sm2.PublicKey) -> LineKeys:
        """Return the keys of a grant.

        Raises TransportError: `key.malformed`, `key.stale_grant` (answers another request; wait on),
        `key.bad_signature`, `key.bad_grant`, `key.refused` (the platform's code in the message).
        """
        signed = decode(body, _Signed, code="key.malformed")
        answer = _grant_or_refusal(signed.content)
        if answer.nonce != self._nonce:
            raise _error("key.stale_grant", "answers another request", "none: it was dropped")
        _verify(signed, platform, "give the platform's current public key in `signing_key_file`")
        if isinstance(answer, _Refusal):
            raise TransportError(
                "key.refused",
                f"the platform grants no keys: {answer.code}",
                advice="enrol this terminal at the platform and set its clock",
                retry=answer.retry,
            )
        secret = self._ephemeral.decrypt(answer.wrapped)
        try:
            if len(secret) != 2 * sm.KEY_BYTES:
                raise _error("key.bad_grant", f"{len(secret)} bytes of keys", "bring the platform to this wire format")
            up, down = secret[: sm.KEY_BYTES], secret[sm.KEY_BYTES :]
        finally:
            sm.wipe(secret)
        return LineKeys(self._terminal, answer.up_id, up, answer.down_id, down, answer.expires_unix)

    def wipe(self) -> None:
        """Clear the ephemeral key."""
        self._ephemeral.wipe()


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """The platform's half: a request as read, not trusted before `verify`."""

    request: KeyRequest
    content: bytes
    signature: bytes

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read the bytes of a request; raise TransportError (`key.malformed`)."""
        signed = decode(body, _Signed, code="key.malformed")
        request = decode(signed.content, KeyRequest, code="key.malformed")
        if request.version != VERSION:
            raise _error("key.malformed", f"request version {request.version}", "bring both ends to one wire format")
        return cls(request, signed.content, signed.signature)

    def verify(self, terminal: str, identity: sm2.PublicKey, unix_time: float, *, tolerance_seconds: float) -> None:
        """Return when this is `terminal`'s own, recent request.

        Raises TransportError: `key.wrong_terminal`, `key.bad_signature`, `key.stale_request` (the caller must
        also refuse a nonce it has seen within the tolerance).
        """
        if self.request.terminal != terminal:
            raise _error("key.wrong_terminal", "came on another terminal's topic", "find out who sent it")
        _verify(_Signed(self.content, self.signature), identity, "enrol the terminal's current identity key")
        if abs(self.request.unix_time - unix_time) > tolerance_seconds:
            raise _error("key.stale_request", "not of this time", "set the terminal's clock")


def build_grant(request: KeyRequest, signing: sm2.PrivateKey, expires_unix: int) -> tuple[bytes, LineKeys]:
    """Return the signed grant for a verified request and its fresh keys; raise TransportError (`sm2.bad_key`)."""
    up, down = bytearray(os.urandom(sm.KEY_BYTES)), bytearray(os.urandom(sm.KEY_BYTES))
    keys = LineKeys(request.terminal, os.urandom(KEY_ID_BYTES), up, os.urandom(KEY_ID_BYTES), down, expires_unix)
    secret = up + down
    try:
        wrapped = sm2.PublicKey.from_point(request.point).encrypt(secret)
    finally:
        sm.wipe(secret)
    content = encode(_Grant(VERSION, request.nonce, keys.up_id, keys.down_id, wrapped, expires_unix))
    return encode(_Signed(content, signing.sign(content))), keys


def build_refusal(nonce: bytes, signing: sm2.PrivateKey, code: str, *, retry: bool) -> bytes:
    """Return the signed refusal of the request with this nonce."""
    content = encode(_Refusal(VERSION, nonce, code, retry))
    return encode(_Signed(content, signing.sign(content)))


def _grant_or_refusal(content: bytes) -> _Grant | _Refusal:
    try:
        answer: _Grant | _Refusal = decode(content, _Grant)
    except TransportError:
        answer = decode(content, _Refusal, code="key.malformed")
    if answer.version != VERSION:
        raise _error("key.malformed", f"grant version {answer.version}", "bring both ends to one wire format")
    return answer


def _verify(signed: _Signed, signer: sm2.PublicKey, advice: str) -> None:
    try:
        signer.verify(signed.signature, signed.content)
    except TransportError:
        raise _error("key.bad_signature", "the signature does not verify", advice) from None


def _error(code: str, message: str, advice: str) -> TransportError:
    return TransportError(code, message, advice=advice, retry=False)
