"""The messages inside and outside the envelope and their topics (docs/wire-format.md). Every decoder is total."""

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from transport.errors import TransportError

Direction = Literal["up", "down"]

Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Sequence = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Version = Annotated[int, Meta(ge=1, lt=2**16)]


class Call(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Up `call`: a request under an idempotency key; sent again under the same key it must act only once."""

    key: Bytes16
    schema: Name
    version: Version
    body: bytes


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Down `answer`: the answer to the call with this key."""

    key: Bytes16
    schema: Name
    version: Version
    body: bytes


class RecordMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A journaled record; (terminal, stream, sequence) names it once and for all."""

    sequence: Sequence
    schema: Name
    version: Version
    body: bytes


class Records(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Up `record`: records of one stream in the order of their sequences."""

    stream: Name
    records: Annotated[tuple[RecordMessage, ...], Meta(min_length=1, max_length=256)]


class Receipt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Down `receipt`: the platform has stored every record of `stream` up to and including `sequence`.

    `digest` is the SM3 of that record's body: a log that has another one there went back.
    """

    stream: Name
    sequence: Sequence
    digest: Digest


class Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Up and down `part`: one of `count` parts of a call or an answer that is too large for one message.

    `key` is the call's; `digest` is the SM3 of the whole, which is an encoded Call or Answer.
    """

    key: Bytes16
    index: Annotated[int, Meta(ge=0, lt=2**16)]
    count: Annotated[int, Meta(ge=1, le=2**16)]
    digest: Digest
    body: bytes


class PartReceipt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Up and down `part_receipt`: every part of the whole with this digest below `next_index` has come."""

    key: Bytes16
    digest: Digest
    next_index: Annotated[int, Meta(ge=0, le=2**16)]


class Command(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Down `command`: the next order of the platform in its `stream`; void after `expires_unix` on its own clock."""

    stream: Name
    sequence: Sequence
    expires_unix: Annotated[int, Meta(ge=0, lt=2**53)]
    schema: Name
    version: Version
    body: bytes


class Taken(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Up `taken`: the commands that the terminal took, up to which sequence of each stream.

    It is the first message under new keys, so that the platform knows them to have arrived.
    """

    streams: Annotated[dict[Name, Sequence], Meta(max_length=16)]


class Presence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Up `presence`: retained and not sealed; the last will says offline."""

    online: bool
    boot_id: Name
    software_version: Name


M = TypeVar("M", bound=msgspec.Struct)


def topic(terminal: str, direction: Direction, stream: str) -> str:
    """Return the MQTT topic of a terminal's stream."""
    return f"govterm/v1/{terminal}/{direction}/{stream}"


def encode(message: msgspec.Struct) -> bytes:
    """Return the MessagePack bytes of a message."""
    return msgspec.msgpack.encode(message)


def decode(body: bytes, kind: type[M], *, code: str = "envelope.malformed") -> M:
    """Read a message of `kind`; raise TransportError with `code` for any other bytes. Never quotes them."""
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise TransportError(
            code,
            f"{len(body)} bytes are no {kind.__name__}",
            advice="bring terminal and platform to versions that share this wire format",
            retry=False,
        ) from None
