"""The catalogue of what is said to the platform and back: each message's schema, version, personal flag and limit."""

from collections import Counter
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from runtime.messages import (
    applications,
    audit,
    certificate,
    hotline,
    identity,
    line,
    matters,
    payment,
    sharing,
    storage,
    supervision,
)
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

_MODULES = (supervision, line, identity, matters, certificate, applications, payment, hotline, sharing, storage, audit)
CATALOGUE: dict[type[msgspec.Struct], Entry] = {
    kind: row for module in _MODULES for kind, row in module.ENTRIES.items()
}
"""Every message there is."""

_TYPES = {(entry.schema, entry.version): kind for kind, entry in CATALOGUE.items()}

M = TypeVar("M", bound=msgspec.Struct)

unknown_fields: Counter[str] = Counter()
"""Fields of a later release that were left out of what was received, by schema."""

_NIL = 0xC0


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


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the fields of a message by their names on the wire."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def _unknown(body: bytes | msgspec.Raw, kind: Any) -> int:
    """Count the fields that `kind` does not have in an encoded struct, and in the structs in it, in tuples too."""
    inner = [one for one in get_args(kind) if one is not type(None)]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        content = msgspec.msgpack.decode(body, type=dict[str, msgspec.Raw])
        types = _fields(kind)
        inside = sum(_unknown(content[name], types[name]) for name in content.keys() & types.keys())
        return len(content.keys() - types.keys()) + inside
    if get_origin(kind) is tuple:
        return sum(_unknown(one, inner[0]) for one in msgspec.msgpack.decode(body, type=list[msgspec.Raw]))
    is_optional = len(inner) == 1 and len(get_args(kind)) == 2
    return _unknown(body, inner[0]) if is_optional and memoryview(body)[0] != _NIL else 0
