"""The catalogue of what is said to the platform and back: each message's schema, version, personal flag and limit."""

from collections import Counter
from typing import TypeVar, get_args

import msgspec

from runtime.messages import certificate, line, supervision
from runtime.messages.certificate import CertificateIssue, CertificateRequest, Refusal, seal_content
from runtime.messages.entry import STREAMS, Entry, Stream
from runtime.messages.line import (
    CatalogueAnnouncement,
    KeyRevocation,
    KeyRotation,
    MaintenanceWindow,
    TrialAnswer,
    TrialCall,
    TrialHealth,
    TrialRecord,
)
from runtime.messages.supervision import Alarm, FaceEvidence, RecordsShed, SupervisionEvent, TerminalHealth
from transport.payload import Payload

__all__ = [
    "CATALOGUE",
    "STREAMS",
    "Alarm",
    "CatalogueAnnouncement",
    "CertificateIssue",
    "CertificateRequest",
    "Entry",
    "FaceEvidence",
    "KeyRevocation",
    "KeyRotation",
    "MaintenanceWindow",
    "MessageError",
    "RecordsShed",
    "Refusal",
    "Stream",
    "SupervisionEvent",
    "TerminalHealth",
    "TrialAnswer",
    "TrialCall",
    "TrialHealth",
    "TrialRecord",
    "from_payload",
    "seal_content",
    "to_payload",
    "unknown_fields",
]

_MODULES = (supervision, line, certificate)
CATALOGUE: dict[type[msgspec.Struct], Entry] = {
    kind: row for module in _MODULES for kind, row in module.ENTRIES.items()
}
"""Every message there is."""

_TYPES = {(entry.schema, entry.version): kind for kind, entry in CATALOGUE.items()}

M = TypeVar("M", bound=msgspec.Struct)

unknown_fields: Counter[str] = Counter()
"""Fields of a later release that were left out of what was received, by schema."""

_NIL = b"\xc0"


class MessageError(Exception):
    """A message that the catalogue does not allow: wrong schema or version, too large, or malformed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = False
        self.advice = "bring terminal and platform to versions that share this message"


def to_payload(message: msgspec.Struct) -> Payload:
    """Encode a message of the catalogue; raise MessageError (`message.too_large`) over its limit."""
    entry = CATALOGUE[type(message)]
    body = msgspec.msgpack.encode(message)
    if len(body) > entry.limit_bytes:
        raise MessageError("message.too_large", f"{entry.schema}: {len(body)} bytes, limit {entry.limit_bytes}")
    return Payload(entry.schema, entry.version, entry.personal, body)


def from_payload(payload: Payload, *expected: type[M]) -> M:
    """Decode a payload as one of `expected`; raise MessageError with the reason. Never quotes the body.

    A field that this release does not know is left out and counted in `unknown_fields`, by schema.
    """
    kind = _TYPES.get((payload.schema, payload.version))
    if kind is None:
        raise MessageError("message.unknown", f"no message {payload.schema} version {payload.version}")
    if kind not in expected:
        raise MessageError("message.unexpected", f"{payload.schema} is not an answer here")
    entry = CATALOGUE[kind]
    if len(payload.body) > entry.limit_bytes:
        raise MessageError("message.too_large", f"{entry.schema}: {len(payload.body)} bytes, limit {entry.limit_bytes}")
    try:
        message = msgspec.msgpack.decode(payload.body, type=kind)
        if unknown := _unknown(payload.body, kind):
            unknown_fields[payload.schema] += unknown
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise MessageError("message.malformed", f"{entry.schema} does not decode") from None
    return message


def _unknown(body: bytes | msgspec.Raw, kind: type[msgspec.Struct]) -> int:
    """Count the fields of an encoded struct, and of the structs in it, that `kind` does not have."""
    content = msgspec.msgpack.decode(body, type=dict[str, msgspec.Raw])
    types = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    count = len(content.keys() - types.keys())
    for name in content.keys() & types.keys():
        inner = [one for one in (types[name], *get_args(types[name])) if isinstance(one, type)]
        for struct in inner:
            if issubclass(struct, msgspec.Struct) and bytes(content[name]) != _NIL:
                count += _unknown(content[name], struct)
    return count
