"""The terminal's half of the wire format as bytes, against the reference platform."""

import pytest

from runtime.messages import (
    CertificateIssue,
    CertificateRequest,
    Refusal,
    SupervisionEvent,
    from_payload,
    to_payload,
)
from sim.people import Population
from sim.platform.logic import Platform
from transport import sm2
from transport.envelope import Opener, Sealer
from transport.errors import TransportError
from transport.grants import PendingRequest
from transport.payload import Payload
from transport.uplink import Message
from transport.wire import Answer, Call, Receipt, RecordMessage, decode, encode, topic

NOW = 1_800_000_000.0
SIGNING, SEAL, IDENTITY, STRANGER = (sm2.generate() for _ in range(4))
PEOPLE = Population()
CITIZEN = PEOPLE.citizen(0)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Terminal:
    """The terminal's half, as bytes."""

    def __init__(self, platform: Platform, name: str = "GT-0001", identity: sm2.PrivateKey = IDENTITY) -> None:
        self.platform = platform
        self.name = name
        self.identity = identity
        self.sealer: Sealer
        self.opener: Opener

    def say(self, stream: str, body: bytes) -> list[Message]:
        return self.platform.handle(Message(topic(self.name, "up", stream), body))

    def obtain_keys(self, *, at: float = NOW) -> None:
        pending = PendingRequest(self.name, "boot", at, self.identity)
        (reply,) = self.say("grant", pending.message)
        assert reply.topic == topic(self.name, "down", "grant")
        self.sealer, self.opener = pending.open(reply.body, SIGNING.public).terminal_ends()

    def refused(self, message: bytes | None = None, *, at: float = NOW) -> str:
        pending = PendingRequest(self.name, "boot", at, self.identity)
        (reply,) = self.say("grant", message or pending.message)
        with pytest.raises(TransportError) as caught:
            pending.open(reply.body, SIGNING.public)
        return f"{caught.value.code} {caught.value}"

    def call(self, key: bytes, request: CertificateRequest | Payload) -> list[CertificateIssue | Refusal]:
        payload = request if isinstance(request, Payload) else to_payload(request)
        call = Call(key, payload.schema, payload.version, payload.body)
        answers = []
        for reply in self.say("call", self.sealer.seal("call", encode(call))):
            assert reply.topic == topic(self.name, "down", "answer")
            answer = decode(self.opener.open("answer", reply.body), Answer)
            assert answer.key == key
            given = Payload(answer.schema, answer.version, personal=True, body=answer.body)
            answers.append(from_payload(given, CertificateIssue, Refusal))
        return answers

    def record(self, sequence: int, body: bytes | None = None, stream: str = "supervision") -> list[int]:
        record = RecordMessage(stream, sequence, "supervision.event", 1, body or event(sequence))
        receipts = []
        for reply in self.say("record", self.sealer.seal("record", encode(record))):
            assert reply.topic == topic(self.name, "down", "receipt")
            receipt = decode(self.opener.open("receipt", reply.body), Receipt)
            assert receipt.stream == stream
            receipts.append(receipt.sequence)
        return receipts

    def counters(self) -> dict[str, int]:
        return self.platform.store.counters()


def event(number: int) -> bytes:
    return to_payload(SupervisionEvent(f"{number:032x}", "identity", "done", None, NOW, 0.9, "boot", rig=True)).body


def request(certificate: str = "social_insurance_enrolment", width: int = 72) -> CertificateRequest:
    return CertificateRequest(certificate, CITIZEN.name, CITIZEN.id_number, width)
