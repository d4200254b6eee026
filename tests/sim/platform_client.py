"""The terminal's half of the wire format as bytes, against the reference platform."""

from typing import Any

import msgspec
import pytest
from msgspec import Struct

from runtime.messages import (
    CertificateIssue,
    CertificateRequest,
    FaceEvidence,
    Refusal,
    SupervisionEvent,
    from_payload,
    to_payload,
)
from runtime.messages.identity import AssertionIssue, AssertionRequest
from runtime.services.receipts import new_receipt
from sim.people import Population
from sim.platform.logic import Platform
from transport import sm2
from transport.errors import TransportError
from transport.grants import PendingRequest
from transport.keys import IdentityKey
from transport.parts import PART_BYTES, Incoming, Outgoing
from transport.payload import Payload
from transport.ring import KeyRing
from transport.uplink import Message
from transport.wire import (
    Answer,
    Call,
    Command,
    Part,
    PartReceipt,
    Receipt,
    RecordMessage,
    Records,
    Taken,
    decode,
    encode,
    topic,
)

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
        self.ring = KeyRing()
        self.digests: dict[str, bytes] = {}
        """That of the last receipt of each stream."""

    def say(self, stream: str, body: bytes) -> list[Message]:
        return self.platform.handle(Message(topic(self.name, "up", stream), body))

    def seal(self, stream: str, content: Struct) -> list[Message]:
        return self.say(stream, self.ring.seal(stream, encode(content)))

    def open(self, reply: Message) -> bytes:
        stream = reply.topic.removeprefix(topic(self.name, "down", ""))
        return self.ring.open(stream, reply.body)

    def obtain_keys(self, *, at: float = NOW) -> None:
        pending = PendingRequest(self.name, "boot", at, IdentityKey(self.identity))
        (reply,) = self.say("grant", pending.message)
        assert reply.topic == topic(self.name, "down", "grant")
        self.ring.install(pending.open(reply.body, SIGNING.public).ends)
        self.seal("taken", Taken({}))

    def refused(self, message: bytes | None = None, *, at: float = NOW) -> str:
        pending = PendingRequest(self.name, "boot", at, IdentityKey(self.identity))
        (reply,) = self.say("grant", message or pending.message)
        with pytest.raises(TransportError) as caught:
            pending.open(reply.body, SIGNING.public)
        return f"{caught.value.code} {caught.value}"

    def call(self, key: bytes, request: CertificateRequest | Payload) -> list[CertificateIssue | Refusal]:
        answers = []
        for answer in self.ask(key, request):
            given = Payload(answer.schema, answer.version, personal=True, body=answer.body)
            answers.append(from_payload(given, CertificateIssue, Refusal))
        return answers

    def ask(self, key: bytes, request: CertificateRequest | Payload) -> list[Answer]:
        """Call, in parts when it is large, and return every answer, put together from its parts."""
        payload = request if isinstance(request, Payload) else to_payload(request)
        whole = encode(Call(key, payload.schema, payload.version, payload.body))
        if len(whole) <= PART_BYTES:
            return self.heard(self.say("call", self.ring.seal("call", whole)))
        outgoing, answers = Outgoing(key, whole), []
        while parts := outgoing.due():
            for part in parts:
                receipt, *rest = self.seal("part", part)
                outgoing.receive(decode(self.open(receipt), PartReceipt))
                answers += self.heard(rest)
        return answers

    def heard(self, replies: list[Message]) -> list[Answer]:
        answers: list[Answer] = []
        incoming: Incoming | None = None
        waiting = list(replies)
        while waiting:
            reply = waiting.pop(0)
            if reply.topic == topic(self.name, "down", "answer"):
                answers.append(decode(self.open(reply), Answer))
                continue
            assert reply.topic == topic(self.name, "down", "part")
            part = decode(self.open(reply), Part)
            incoming = incoming or Incoming(part)
            if (whole := incoming.add(part)) is not None:
                answers.append(decode(whole, Answer))
            waiting += self.seal("part_receipt", incoming.receipt)
        return answers

    def settle(self, key: bytes, under: bytes) -> bytes:
        (answer,) = self.ask(under, Payload("call.settle", 1, personal=False, body=key))
        assert answer.schema == "call.settled"
        return answer.body

    def record(
        self, *sequences: int, body: bytes | None = None, stream: str = "supervision", schema: str = "supervision.event"
    ) -> list[int]:
        records = tuple(RecordMessage(sequence, schema, 1, body or event(sequence)) for sequence in sequences)
        receipts = []
        for reply in self.seal("record", Records(stream, records)):
            assert reply.topic == topic(self.name, "down", "receipt")
            receipt = decode(self.open(reply), Receipt)
            assert receipt.stream == stream
            self.digests[stream] = receipt.digest
            receipts.append(receipt.sequence)
        return receipts

    def taken(self, streams: dict[str, int]) -> list[Command]:
        """Say what was taken and return the commands that come."""
        return [decode(self.open(reply), Command) for reply in self.seal("taken", Taken(streams))]

    def counters(self) -> dict[str, int]:
        return self.platform.store.counters()


def event(number: int) -> bytes:
    return to_payload(SupervisionEvent(f"{number:032x}", "identity", "done", None, NOW, 0.9, "boot", rig=True)).body


FACE = FaceEvidence("match", "1e-5", 0.5, 1e-5, 3, "model", "bona_fide", {})


def assertion_request(**changes: Any) -> AssertionRequest:
    whole = AssertionRequest("0123456789abcdef", CITIZEN.name, CITIZEN.id_number, "face", "2026-1", FACE)
    return msgspec.structs.replace(whole, **changes)


def asserted(platform: Platform, terminal: str = "GT-0001", **changes: Any) -> bytes:
    """Return an assertion of a citizen at a terminal, as each call carries it."""
    answer = platform.services.serve(terminal, to_payload(assertion_request(**changes)))
    return msgspec.msgpack.encode(from_payload(answer, AssertionIssue))


def request(
    platform: Platform,
    certificate: str = "social_insurance_enrolment",
    *,
    terminal: str = "GT-0001",
    width: int = 72,
    receipt: str | None = None,
) -> CertificateRequest:
    return CertificateRequest(receipt or new_receipt("certificate"), certificate, asserted(platform, terminal), width)
