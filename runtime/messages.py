"""The catalogue of what is said to the platform and back: each message's schema, version, personal flag and limit."""

from collections import Counter
from typing import Literal, TypeVar, get_args

import msgspec

from transport.payload import Payload


class CertificateRequest(msgspec.Struct, frozen=True):
    """Asks for a certificate of a verified citizen (T7)."""

    certificate: str
    name: str
    id_number: str
    paper_width_millimetres: int


class CertificateIssue(msgspec.Struct, frozen=True):
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


class Refusal(msgspec.Struct, frozen=True):
    """The platform will not do what was asked; `code` is stable, `retry` says whether asking again helps."""

    code: str
    retry: bool


class FaceEvidence(msgspec.Struct, frozen=True):
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


class SupervisionEvent(msgspec.Struct, frozen=True):
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


class Alarm(msgspec.Struct, frozen=True):
    """Something that must be told at once: tampering, a breach, a meddled line (T23). Nothing about citizens.

    `id` is random; `subject` is what it is about (a device, `line`, `egress`); `at` is UTC seconds on the terminal's
    clock, `boot_id` and `rig` as in a supervision event.
    """

    id: str
    code: str
    subject: str
    at: float
    boot_id: str
    rig: bool


class TerminalHealth(msgspec.Struct, frozen=True):
    """How the terminal is, from time to time (T16): its components' states and what it uses."""

    at: float
    boot_id: str
    rig: bool
    up_seconds: float
    states: dict[str, str]
    waiting: dict[str, int]
    resident_bytes: int
    open_descriptors: int


class RecordsShed(msgspec.Struct, frozen=True):
    """Stands in the place of the records `first` to `last` of its stream, which a full disk made the terminal drop."""

    first: int
    last: int
    at: float


class TrialRecord(msgspec.Struct, frozen=True):
    """A record that tries the line (T14, I6): `id` and the SM3 `digest` of `filler` let somebody else count it."""

    id: str
    digest: bytes
    filler: bytes


class TrialHealth(msgspec.Struct, frozen=True):
    """As TrialRecord, on the stream that a full disk sheds first."""

    id: str
    digest: bytes
    filler: bytes


class TrialCall(msgspec.Struct, frozen=True):
    """A call that tries the line: the platform counts `id` once, checks the digest of `filler` and answers."""

    id: str
    digest: bytes
    filler: bytes
    answer_bytes: int


class TrialAnswer(msgspec.Struct, frozen=True):
    """The answer to a TrialCall: its id, and as many random bytes as were asked for with their digest."""

    id: str
    digest: bytes
    filler: bytes


class KeyRotation(msgspec.Struct, frozen=True):
    """Command: ask for new keys now."""

    reason: str


class KeyRevocation(msgspec.Struct, frozen=True):
    """Command: the keys are revoked; nothing more is sent under them."""

    reason: str


class CatalogueAnnouncement(msgspec.Struct, frozen=True):
    """Command: the catalogue of matters has this version and SM3 digest now (T17)."""

    catalogue_version: int
    digest: bytes


class MaintenanceWindow(msgspec.Struct, frozen=True):
    """Command: maintenance is announced for this time (UTC seconds, H5); one with the same id replaces it."""

    id: str
    begins_unix: int
    ends_unix: int


BusinessMessage = (
    CertificateRequest
    | CertificateIssue
    | Refusal
    | SupervisionEvent
    | Alarm
    | TerminalHealth
    | RecordsShed
    | TrialRecord
    | TrialHealth
    | TrialCall
    | TrialAnswer
    | KeyRotation
    | KeyRevocation
    | CatalogueAnnouncement
    | MaintenanceWindow
)

Stream = Literal["alarm", "supervision", "telemetry"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
"""The streams of records, the most urgent first. Only telemetry is ever shed."""


class Entry(msgspec.Struct, frozen=True):
    """A row of the catalogue; `stream` is where a message is journaled, None for one that never is."""

    schema: str
    version: int
    personal: bool
    limit_bytes: int
    stream: Stream | None = None


CATALOGUE: dict[type[BusinessMessage], Entry] = {
    CertificateRequest: Entry("certificate.request", 1, personal=True, limit_bytes=4_096),
    CertificateIssue: Entry("certificate.issue", 1, personal=True, limit_bytes=512_000),
    Refusal: Entry("refusal", 1, personal=False, limit_bytes=1_024),
    SupervisionEvent: Entry("supervision.event", 1, personal=False, limit_bytes=2_048, stream="supervision"),
    Alarm: Entry("alarm", 1, personal=False, limit_bytes=1_024, stream="alarm"),
    TerminalHealth: Entry("terminal.health", 1, personal=False, limit_bytes=4_096, stream="telemetry"),
    RecordsShed: Entry("records.shed", 1, personal=False, limit_bytes=256, stream="telemetry"),
    TrialRecord: Entry("trial.record", 1, personal=False, limit_bytes=65_536, stream="supervision"),
    TrialHealth: Entry("trial.health", 1, personal=False, limit_bytes=65_536, stream="telemetry"),
    TrialCall: Entry("trial.call", 1, personal=False, limit_bytes=20_000_000),
    TrialAnswer: Entry("trial.answer", 1, personal=False, limit_bytes=20_000_000),
    KeyRotation: Entry("key.rotation", 1, personal=False, limit_bytes=256),
    KeyRevocation: Entry("key.revocation", 1, personal=False, limit_bytes=256),
    CatalogueAnnouncement: Entry("catalogue.announcement", 1, personal=False, limit_bytes=256),
    MaintenanceWindow: Entry("maintenance.window", 1, personal=False, limit_bytes=256),
}

_TYPES = {(entry.schema, entry.version): kind for kind, entry in CATALOGUE.items()}

M = TypeVar("M", bound=BusinessMessage)

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
