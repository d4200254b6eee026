"""The catalogue of what is said to the platform and back: each message's schema, version, personal flag and limit."""

from typing import Literal, TypeVar

import msgspec

from transport.payload import Payload


class CertificateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for a certificate of a verified citizen (T7)."""

    certificate: str
    name: str
    id_number: str
    paper_width_millimetres: int


class CertificateIssue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An issued certificate: the PDF, its SM3 digest and the issuer's detached SM2 seal (I3).

    The seal signs `seal_content` of the other fields; `number` is random and says nothing of the citizen.
    """

    number: str
    certificate: str
    issuer: str
    issued_at: int
    verify_url: str
    pdf: bytes
    digest: bytes
    seal: bytes


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The platform will not do what was asked; `code` is stable, `retry` says whether asking again helps."""

    code: str
    retry: bool


class FaceEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a face decision rests on: names and numbers of the method, none of the person (T9).

    `threshold` is the cosine at the `operating_point`, a rate of false matches; `bound` is the one measured there.
    `layers` is what each layer of the presentation-attack detection came to, with its reason when that is not
    `bona_fide` (`attack: challenge.flat`). How alike the two faces were is not told (L22).
    """

    decision: Literal["match", "no_match"]
    operating_point: str
    threshold: float
    bound: float
    frames: int
    model: str
    presentation_attack: Literal["not_checked", "bona_fide", "attack"]
    layers: dict[str, str]


class SupervisionEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of one transaction, without personal data (T12). Identifiers are random; times are UTC seconds.

    The life of a fault's ticket (T15) is such a transaction: it says which `device` it is about. `face` is there when
    the step came to a face decision.
    """

    transaction: str
    step: str
    outcome: Literal["done", "refused", "unknown"]
    code: str | None
    at: float
    seconds: float
    boot_id: str
    rig: bool
    device: str | None = None
    face: FaceEvidence | None = None


BusinessMessage = CertificateRequest | CertificateIssue | Refusal | SupervisionEvent


class Entry(msgspec.Struct, frozen=True):
    """A row of the catalogue."""

    schema: str
    version: int
    personal: bool
    limit_bytes: int


CATALOGUE: dict[type[BusinessMessage], Entry] = {
    CertificateRequest: Entry("certificate.request", 1, personal=True, limit_bytes=4_096),
    CertificateIssue: Entry("certificate.issue", 1, personal=True, limit_bytes=512_000),
    Refusal: Entry("refusal", 1, personal=False, limit_bytes=1_024),
    SupervisionEvent: Entry("supervision.event", 1, personal=False, limit_bytes=2_048),
}

_TYPES = {(entry.schema, entry.version): kind for kind, entry in CATALOGUE.items()}

M = TypeVar("M", bound=BusinessMessage)


class MessageError(Exception):
    """A message that the catalogue does not allow: wrong schema or version, too large, or malformed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = False
        self.advice = "bring terminal and platform to versions that share this message"


def seal_content(issue: CertificateIssue) -> bytes:
    """Return the bytes the issuer's seal signs: a MessagePack array of every field but the PDF and the seal."""
    return msgspec.msgpack.encode(
        [
            "govterm-seal",
            1,
            issue.number,
            issue.certificate,
            issue.issuer,
            issue.issued_at,
            issue.verify_url,
            issue.digest,
        ]
    )


def to_payload(message: BusinessMessage) -> Payload:
    """Encode a message; raise MessageError (`message.too_large`) over its limit."""
    entry = CATALOGUE[type(message)]
    body = msgspec.msgpack.encode(message)
    if len(body) > entry.limit_bytes:
        raise MessageError("message.too_large", f"{entry.schema}: {len(body)} bytes, limit {entry.limit_bytes}")
    return Payload(entry.schema, entry.version, entry.personal, body)


def from_payload(payload: Payload, *expected: type[M]) -> M:
    """Decode a payload as one of `expected`; raise MessageError with the reason. Never quotes the body."""
    kind = _TYPES.get((payload.schema, payload.version))
    if kind is None:
        raise MessageError("message.unknown", f"no message {payload.schema} version {payload.version}")
    if kind not in expected:
        raise MessageError("message.unexpected", f"{payload.schema} is not an answer here")
    entry = CATALOGUE[kind]
    if len(payload.body) > entry.limit_bytes:
        raise MessageError("message.too_large", f"{entry.schema}: {len(payload.body)} bytes, limit {entry.limit_bytes}")
    try:
        return msgspec.msgpack.decode(payload.body, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError):
        raise MessageError("message.malformed", f"{entry.schema} does not decode") from None
