"""The reference platform: what it makes of each MQTT message and what it says back. No I/O but its store.

It grants keys (T20), answers calls under their idempotency keys (T7), and receipts records up to the first gap (I6).
Whatever does not fit is complained of: logged and counted, never answered as if it were right.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from runtime.messages import (
    CertificateIssue,
    CertificateRequest,
    MessageError,
    Refusal,
    SupervisionEvent,
    from_payload,
    seal_content,
    to_payload,
)
from sim.people import Population
from sim.platform.certificate import KINDS, WIDTHS_MILLIMETRES, write_certificate
from sim.platform.faults import Faults
from sim.platform.store import Store, StoredCall
from transport import sm2
from transport.envelope import Opener, Sealer
from transport.errors import TransportError
from transport.grants import LineKeys, ReceivedRequest, build_grant, build_refusal
from transport.payload import Payload
from transport.sm import sm3
from transport.uplink import Message
from transport.wire import Answer, Call, Presence, Receipt, RecordMessage, decode, encode, topic

log = structlog.get_logger(__name__)

KEY_SECONDS = 24 * 3600
CLOCK_TOLERANCE_SECONDS = 300.0
AHEAD_LIMIT = 1_000
"""A record this far past the first gap is not stored: no terminal sends so far ahead."""


@dataclass(frozen=True, slots=True)
class PlatformKeys:
    """What the platform signs with (grants, certificates), and the identity key of each enrolled terminal."""

    signing: sm2.PrivateKey
    seal: sm2.PrivateKey
    terminals: Mapping[str, sm2.PublicKey]


@dataclass(frozen=True, slots=True)
class _Line:
    """The platform's ends of the keys last granted to a terminal."""

    keys: LineKeys
    sealer: Sealer
    opener: Opener


@dataclass(slots=True)
class Platform:
    """The platform's side of every conversation; `wall_clock` gives seconds since 1970."""

    store: Store
    keys: PlatformKeys
    people: Population
    font: Path
    wall_clock: Callable[[], float]
    faults: Faults = field(default_factory=Faults)
    _lines: dict[str, _Line] = field(default_factory=dict)

    def subscriptions(self) -> list[str]:
        """Return the topics it listens to: what its terminals say."""
        return [topic(terminal, "up", "#") for terminal in self.keys.terminals]

    def handle(self, message: Message) -> list[Message]:
        """Take one message from the broker and return what is to be published, after it is durable. Total."""
        if self.faults.is_out:
            return []
        replies: list[Message] = []
        try:
            terminal, stream = _up_topic(message.topic)
            replies = self._take(terminal, stream, message.body)
        except TransportError as error:
            self._complain(error.code, message.topic)
        self.store.commit()
        return replies

    def summary(self) -> dict[str, object]:
        """Return the counts of everything received and stored."""
        return self.store.summary()

    def _take(self, terminal: str, stream: str, body: bytes) -> list[Message]:
        match stream:
            case "grant":
                return [Message(topic(terminal, "down", "grant"), reply) for reply in self._grant(terminal, body)]
            case "call":
                line = self._line(terminal)
                answers = self._call(terminal, line.opener.open(stream, body))
                return [Message(topic(terminal, "down", "answer"), line.sealer.seal("answer", a)) for a in answers]
            case "record":
                line = self._line(terminal)
                receipts = self._record(terminal, line.opener.open(stream, body))
                return [Message(topic(terminal, "down", "receipt"), line.sealer.seal("receipt", r)) for r in receipts]
            case "presence":
                self._presence(terminal, body)
                return []
        raise _invalid("topic.unknown", "no stream of the wire format")

    def _complain(self, code: str, where: str) -> None:
        log.warning("platform_complains", code=code, topic=where[:120])
        self.store.count(f"complaint {code}")

    def _grant(self, terminal: str, body: bytes) -> list[bytes]:
        received = ReceivedRequest.read(body)
        request = received.request
        now = self.wall_clock()
        identity = self.keys.terminals.get(terminal)
        try:
            if identity is None:
                raise _invalid("terminal.unknown", "not enrolled")
            received.verify(terminal, identity, now, tolerance_seconds=CLOCK_TOLERANCE_SECONDS)
            if not self.store.is_new_nonce(request.nonce):
                raise _invalid("key.replayed", "the nonce was used")
            grant, keys = build_grant(request, self.keys.signing, int(now) + KEY_SECONDS)
        except TransportError as error:
            self._complain(error.code, terminal)
            retry = error.code == "key.stale_request"
            return [build_refusal(request.nonce, self.keys.signing, error.code, retry=retry)]
        self.store.add_grant(
            terminal,
            request.boot_id,
            request.nonce,
            (keys.up_id, keys.down_id),
            granted=int(now),
            expires=keys.expires_unix,
        )
        if (old := self._lines.get(terminal)) is not None:
            old.keys.wipe()
        self._lines[terminal] = _Line(keys, *keys.platform_ends())
        log.info("platform_granted_keys", terminal=terminal)
        return [grant]

    def _line(self, terminal: str) -> _Line:
        line = self._lines.get(terminal)
        if line is None:
            raise _invalid("key.none", "sealed, but no keys were granted")
        if self.wall_clock() >= line.keys.expires_unix:
            raise _invalid("key.expired", "sealed under expired keys")
        return line

    def _call(self, terminal: str, plaintext: bytes) -> list[bytes]:
        call = decode(plaintext, Call)
        digest = hashlib.sha256(msgspec.msgpack.encode([call.schema, call.version, call.body])).digest()
        stored = self.store.call(terminal, call.key)
        if stored is None:
            answer = to_payload(self._serve(terminal, call))
            stored = StoredCall(digest, answer.schema, answer.version, answer.body)
            self.store.add_call(terminal, call.key, call.schema, self.wall_clock(), stored)
        elif stored.digest != digest:
            self._complain("call.key_reused", terminal)
            answer = to_payload(Refusal("call.key_reused", retry=False))
            stored = StoredCall(digest, answer.schema, answer.version, answer.body)
        else:
            self.store.count("call copies")
        sealed = encode(Answer(call.key, stored.schema, stored.version, stored.body))
        return [sealed] * self.faults.answers()

    def _serve(self, terminal: str, call: Call) -> CertificateIssue | Refusal:
        try:
            request = from_payload(Payload(call.schema, call.version, True, call.body), CertificateRequest)
        except MessageError as error:
            self._complain(error.code, terminal)
            return Refusal(error.code, retry=False)
        kind = KINDS.get(request.certificate)
        if kind is None:
            return Refusal("certificate.unknown", retry=False)
        if request.paper_width_millimetres not in WIDTHS_MILLIMETRES:
            return Refusal("certificate.bad_width", retry=False)
        citizen = self.people.find(request.name, request.id_number)
        if citizen is None:
            return Refusal("citizen.unknown", retry=False)
        number = secrets.token_hex(8).upper()
        issued_at = int(self.wall_clock())
        pdf = write_certificate(
            kind,
            citizen,
            number=number,
            issued_at=issued_at,
            width_millimetres=request.paper_width_millimetres,
            font=self.font,
        )
        url = f"https://platform.example/verify/{number}"
        unsealed = CertificateIssue(number, request.certificate, kind.issuer, issued_at, url, pdf, sm3(pdf), b"")
        seal = self.faults.spoil(self.keys.seal.sign(seal_content(unsealed)))
        issue = msgspec.structs.replace(unsealed, seal=seal)
        self.store.add_certificate(
            number, request.certificate, terminal, issued_at=issued_at, digest=issue.digest, seal=seal
        )
        log.info("platform_issued_certificate", terminal=terminal, certificate=request.certificate)
        return issue

    def _record(self, terminal: str, plaintext: bytes) -> list[bytes]:
        record = decode(plaintext, RecordMessage)
        place = (terminal, record.stream, record.sequence)
        receipted = self.store.receipted(terminal, record.stream)
        known = self.store.record(*place)
        if known is not None and known != record.body:
            raise _invalid("record.conflict", "another record was stored at this place")
        if record.sequence > receipted + AHEAD_LIMIT:
            raise _invalid("record.far_ahead", "far past the first gap")
        is_next = record.sequence == receipted + 1
        if known is not None or record.sequence <= receipted:
            self.store.count("record copies")
        elif is_next and self.faults.drops_record():
            receipted += 1
        else:
            event = self._event(terminal, record)
            for _ in range(2 if is_next and self.faults.doubles_record() else 1):
                self.store.add_record(
                    place, record.schema, record.version, record.body, event=event, at=self.wall_clock()
                )
        while self.store.record(terminal, record.stream, receipted + 1) is not None:
            receipted += 1
        self.store.set_receipted(terminal, record.stream, receipted)
        return [encode(Receipt(record.stream, receipted))] if receipted else []

    def _event(self, terminal: str, record: RecordMessage) -> str | None:
        """Return the record's body as JSON; None, with a complaint, where it is no message of the catalogue."""
        payload = Payload(record.schema, record.version, personal=False, body=record.body)
        try:
            return msgspec.json.encode(from_payload(payload, SupervisionEvent)).decode()
        except MessageError as error:
            self._complain(error.code, terminal)
            return None

    def _presence(self, terminal: str, body: bytes) -> None:
        if terminal not in self.keys.terminals:
            raise _invalid("terminal.unknown", "not enrolled")
        if body:
            presence = decode(body, Presence)
            self.store.set_presence(
                terminal,
                online=presence.online,
                boot_id=presence.boot_id,
                software=presence.software_version,
                at=self.wall_clock(),
            )


def _up_topic(place: str) -> tuple[str, str]:
    """Return terminal and stream of an up topic; raise TransportError (`topic.unknown`) for any other."""
    match place.split("/"):
        case ["govterm", "v1", terminal, "up", stream]:
            return terminal, stream
    raise _invalid("topic.unknown", "no topic of the wire format")


def _invalid(code: str, message: str) -> TransportError:
    return TransportError(code, message, advice="find out who sent it", retry=False)
