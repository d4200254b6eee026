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
from transport.keys import KeyProvider, new_key
from transport.ring import Ends
from transport.wire import Bytes16, Name, decode, encode

VERSION = 1
KEYS_LOST = "key.none"
"""The code of a refusal that follows a grant: the platform has lost its keys, and new ones are to be asked for."""

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
    wrapped_up: _Short
    wrapped_down: _Short
    unix_time: _Seconds
    life_seconds: Annotated[int, Meta(ge=1, lt=2**31)]


class _Refusal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    nonce: Bytes16
    code: Name
    retry: bool


@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """What a grant brings the terminal: its ends, how long they may be used, and the platform's clock."""

    ends: Ends
    life_seconds: int
    unix_time: int


class PendingRequest:
    """The terminal's half: one request on its way and the exchange that opens its grant."""

    def __init__(self, terminal: str, boot_id: str, unix_time: float, keys: KeyProvider) -> None:
        """Make and sign a request; `message` is what goes to the platform."""
        self._terminal = terminal
        self._exchange = keys.begin_exchange()
        self._nonce = os.urandom(16)
        now = max(0, int(unix_time))
        content = encode(KeyRequest(VERSION, terminal, boot_id, now, self._nonce, self._exchange.point))
        self.message = encode(_Signed(content, keys.sign(content)))

    @property
    def nonce(self) -> bytes:
        """What the platform's answer names."""
        return self._nonce

    def open(self, body: bytes, platform: sm2.PublicKey) -> Grant:
        """Return what a grant brings.

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
                advice="enrol this terminal at the platform",
                retry=answer.retry,
            )
        up = self._exchange.unwrap(answer.wrapped_up)
        try:
            down = self._exchange.unwrap(answer.wrapped_down)
        except TransportError:
            up.wipe()
            raise
        sealer = Sealer(up, answer.up_id, self._terminal, "up")
        return Grant(
            Ends(sealer, Opener(down, answer.down_id, self._terminal, "down")), answer.life_seconds, answer.unix_time
        )

    def wipe(self) -> None:
        """End the exchange."""
        self._exchange.wipe()


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

    def verify(self, terminal: str, identity: sm2.PublicKey) -> None:
        """Return when this is `terminal`'s own request, whatever its clock says.

        Raises TransportError: `key.wrong_terminal`, `key.bad_signature`. The caller must also refuse a nonce that it
        has seen: nothing else shows that the request is not an old one.
        """
        if self.request.terminal != terminal:
            raise _error("key.wrong_terminal", "came on another terminal's topic", "find out who sent it")
        _verify(_Signed(self.content, self.signature), identity, "enrol the terminal's current identity key")


@dataclass(frozen=True, slots=True, repr=False)
class Granted:
    """What the platform made: the message for the terminal, the ids of the keys (up, down) and its own ends of them."""

    message: bytes
    key_ids: tuple[bytes, bytes]
    ends: Ends


def build_grant(request: KeyRequest, signing: sm2.PrivateKey, *, unix_time: float, life_seconds: int) -> Granted:
    """Return the signed grant of fresh keys for a verified request; raise TransportError (`sm2.bad_key`)."""
    point = sm2.PublicKey.from_point(request.point)
    (up_bytes, up), (down_bytes, down) = new_key(), new_key()
    try:
        wrapped_up, wrapped_down = point.encrypt(up_bytes), point.encrypt(down_bytes)
    finally:
        sm.wipe(up_bytes)
        sm.wipe(down_bytes)
    up_id, down_id = os.urandom(KEY_ID_BYTES), os.urandom(KEY_ID_BYTES)
    grant = _Grant(VERSION, request.nonce, up_id, down_id, wrapped_up, wrapped_down, int(unix_time), life_seconds)
    content = encode(grant)
    terminal = request.terminal
    sealer, opener = Sealer(down, down_id, terminal, "down"), Opener(up, up_id, terminal, "up")
    ends = Ends(sealer, opener, ends_at=int(unix_time) + life_seconds)
    return Granted(encode(_Signed(content, signing.sign(content))), (up_id, down_id), ends)


def build_refusal(nonce: bytes, signing: sm2.PrivateKey, code: str, *, retry: bool) -> bytes:
    """Return the signed refusal of the request with this nonce."""
    content = encode(_Refusal(VERSION, nonce, code, retry))
    return encode(_Signed(content, signing.sign(content)))


def is_withdrawn(body: bytes, nonce: bytes, platform: sm2.PublicKey) -> bool:
    """Whether `body` is the platform's signed word that it has no keys any more for the grant that answered `nonce`."""
    try:
        signed = decode(body, _Signed)
        refusal = decode(signed.content, _Refusal)
        if (refusal.version, refusal.nonce, refusal.code) != (VERSION, nonce, KEYS_LOST):
            return False
        platform.verify(signed.signature, signed.content)
    except TransportError:
        return False
    return True


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
