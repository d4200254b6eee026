"""The reference platform: what it makes of each MQTT message and what it says back. No I/O but its store.

It grants keys (T20), answers calls under their idempotency keys (T7), and receipts records up to the first gap (I6).
Whatever does not fit is complained of: logged and counted, never answered as if it were right.
"""

import hashlib
import math
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from runtime.messages import (
    CATALOGUE,
    CatalogueAnnouncement,
    KeyRevocation,
    KeyRotation,
    MaintenanceWindow,
    MessageError,
    RecordsShed,
    Refusal,
    from_payload,
    to_payload,
)
from runtime.messages.audit import AuditSeal
from sim.people import Population
from sim.platform import trial
from sim.platform.faults import Faults
from sim.platform.line import TerminalLine
from sim.platform.maintenance import Maintenance
from sim.platform.services import Services
from sim.platform.services.desk import Desk
from sim.platform.store import Store, StoredCall
from sim.wire import Verbs
from transport import sm2
from transport.errors import TransportError
from transport.grants import KEYS_LOST, ReceivedRequest, build_grant, build_refusal
from transport.payload import Payload
from transport.sm import sm3
from transport.uplink import Message
from transport.wire import (
    Answer,
    Call,
    Part,
    PartReceipt,
    Presence,
    Receipt,
    RecordMessage,
    Records,
    Taken,
    decode,
    encode,
    topic,
)

log = structlog.get_logger(__name__)

_REVOCATION = CATALOGUE[KeyRevocation].schema
_JOURNALED = [kind for kind, entry in CATALOGUE.items() if entry.stream is not None]

CLOCK_TOLERANCE_SECONDS = 300.0
"""A terminal's clock this far off is noted; nothing is refused for it."""
COMMAND_SECONDS = 3_600
OWN_COMMAND_SECONDS = 7 * 86_400
COMMAND_AGAIN_SECONDS = 5.0
WITHDRAW_AGAIN_SECONDS = 1.0
SETTLE = "call.settle"
VOID = b"void"
"""Stands for the digest of a call that was settled before it came."""
AHEAD_LIMIT = 1_000
"""A record this far past the first gap is not stored: no terminal sends so far ahead."""


@dataclass(frozen=True, slots=True)
class PlatformKeys:
    """What the platform signs with (grants, certificates), and the identity key of each enrolled terminal."""

    signing: sm2.PrivateKey
    seal: sm2.PrivateKey
    terminals: Mapping[str, sm2.PublicKey]


@dataclass(slots=True)
class Platform:
    """The platform's side of every conversation; `wall_clock` gives seconds since 1970."""

    store: Store
    keys: PlatformKeys
    people: Population
    font: Path
    wall_clock: Callable[[], float]
    faults: Faults = field(default_factory=Faults)
    services: Services = field(init=False)
    maintenance: Maintenance = field(init=False)
    on_push: Callable[[list[Message]], None] = lambda _: None
    """Who publishes what no terminal asked for: commands."""
    _lines: dict[str, TerminalLine] = field(default_factory=dict)
    _withdrawn_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.maintenance = Maintenance(
            self.store, self.keys.signing, self.keys.terminals, self.wall_clock, self._order_one
        )
        self.services = Services(
            Desk(
                self.store,
                self.keys.signing,
                self.keys.seal,
                self.people,
                self.font,
                self.wall_clock,
                self.faults,
                self._order,
                self._order_one,
            )
        )

    @property
    def verbs(self) -> Verbs:
        """The verbs of the rig's control socket."""
        return {
            **self.faults.verbs,
            **self.services.verbs,
            "summary": self.summary,
            "rotate_keys": self.rotate_keys,
            "revoke": self.revoke,
            "reinstate": self.reinstate,
            "announce_catalogue": self.announce_catalogue,
            "announce_maintenance": self.announce_maintenance,
            **self.maintenance.verbs,
        }

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

    def rotate_keys(self) -> None:
        """Order every terminal to ask for new keys now."""
        self._order(KeyRotation("ordered"))

    def revoke(self) -> None:
        """Revoke the keys of every terminal, and grant no new ones until `reinstate`."""
        self._order(KeyRevocation("ordered"))
        for line in self._lines.values():
            line.revoke()
        self.faults.is_revoked = True

    def reinstate(self) -> None:
        """Grant keys again."""
        self.faults.is_revoked = False

    def announce_catalogue(self, version: int) -> None:
        """Announce a version of the catalogue of matters (T17)."""
        self._order(CatalogueAnnouncement(version, sm3(str(version).encode())))

    def announce_maintenance(self, begins_in_seconds: int, seconds: int) -> None:
        """Announce a maintenance window (H5)."""
        begins = int(self.wall_clock()) + begins_in_seconds
        self._order(MaintenanceWindow(secrets.token_hex(4), begins, begins + seconds))

    def _order(self, order: msgspec.Struct) -> None:
        """Give every terminal a command, at once where its line is up."""
        self._command(self.keys.terminals, order, COMMAND_SECONDS)

    def _order_one(self, terminal: str, order: msgspec.Struct) -> None:
        """Give a terminal a command about what is its own: it keeps for long, and is told at once."""
        self._command([terminal], order, OWN_COMMAND_SECONDS)

    def _command(self, terminals: Iterable[str], order: msgspec.Struct, life_seconds: int) -> None:
        payload = to_payload(order)
        expires = int(self.wall_clock()) + life_seconds
        for terminal in terminals:
            self.store.add_command(terminal, expires, payload.schema, payload.version, payload.body)
        self.store.commit()
        for terminal in terminals:
            if (line := self._lines.get(terminal)) is None:
                continue
            try:
                self.on_push(self._commands(line))
            except TransportError:
                continue  # it has no keys now: its next word brings the commands

    def _commands(self, line: TerminalLine) -> list[Message]:
        """Return every command that the terminal has not taken; under revoked keys none after the revocation."""
        line.commands_sent_at = self.wall_clock()
        line.ring.expire(line.commands_sent_at)
        waiting = self.store.commands(line.terminal)
        if line.is_revoked:
            last = max((one.sequence for one in waiting if one.schema == _REVOCATION), default=0)
            waiting = [one for one in waiting if one.sequence <= last]
        return [line.seal("command", encode(command)) for command in waiting]

    def _take(self, terminal: str, stream: str, body: bytes) -> list[Message]:
        match stream:
            case "grant":
                return [Message(topic(terminal, "down", "grant"), reply) for reply in self._grant(terminal, body)]
            case "presence":
                self._presence(terminal, body)
                return []
        line = self._lines.get(terminal)
        if line is None:
            self._complain("key.none", terminal)
            return self._withdraw(terminal)
        plaintext = line.open(stream, body, self.wall_clock())
        if line.is_revoked and stream != "taken":
            self._complain("key.revoked", terminal)
            replies = []
        else:
            replies = self._hear(line, stream, plaintext)
        if self.wall_clock() - line.commands_sent_at >= COMMAND_AGAIN_SECONDS:
            replies += self._commands(line)
        return replies

    def _hear(self, line: TerminalLine, stream: str, plaintext: bytes) -> list[Message]:
        match stream:
            case "call":
                return self._call(line, plaintext)
            case "part":
                whole, receipt = line.take_part(decode(plaintext, Part))
                return [receipt, *(self._call(line, whole) if whole is not None else [])]
            case "part_receipt":
                return line.take_receipt(decode(plaintext, PartReceipt))
            case "record":
                return [line.seal("receipt", encode(receipt)) for receipt in self._records(line.terminal, plaintext)]
            case "taken":
                self.store.take_commands(line.terminal, decode(plaintext, Taken).streams)
                return self._commands(line)
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
            received.verify(terminal, identity)
            if not self.store.is_new_nonce(request.nonce):
                raise _invalid("key.replayed", "the nonce was used")
            if self.faults.is_revoked:
                raise _invalid("terminal.revoked", "its keys were revoked")
            life = self.faults.key_seconds
            granted = build_grant(request, self.keys.signing, unix_time=now, life_seconds=life)
        except TransportError as error:
            self._complain(error.code, terminal)
            retry = error.code == "terminal.revoked"
            return [build_refusal(request.nonce, self.keys.signing, error.code, retry=retry)]
        expires = int(now) + life
        self.store.add_grant(
            terminal, request.boot_id, request.nonce, granted.key_ids, granted=int(now), expires=expires
        )
        if abs(request.unix_time - now) > CLOCK_TOLERANCE_SECONDS:
            self.store.count("terminal clock wrong")
            log.info("terminal_clock_wrong", terminal=terminal, seconds=round(request.unix_time - now))
        line = self._lines.setdefault(terminal, TerminalLine(terminal))
        line.ring.offer(granted.ends)
        log.info("platform_granted_keys", terminal=terminal)
        return [granted.message]

    def _withdraw(self, terminal: str) -> list[Message]:
        """Tell a terminal, signed and not too often, that its keys went with the platform's last life."""
        nonce, now = self.store.last_nonce(terminal), self.wall_clock()
        if nonce is None or now - self._withdrawn_at.get(terminal, -math.inf) < WITHDRAW_AGAIN_SECONDS:
            return []
        self._withdrawn_at[terminal] = now
        return [
            Message(topic(terminal, "down", "grant"), build_refusal(nonce, self.keys.signing, KEYS_LOST, retry=True))
        ]

    def _call(self, line: TerminalLine, plaintext: bytes) -> list[Message]:
        call = decode(plaintext, Call)
        terminal = line.terminal
        digest = hashlib.sha256(msgspec.msgpack.encode([call.schema, call.version, call.body])).digest()
        stored = self.store.call(terminal, call.key)
        if stored is None:
            answer = (
                self._settle(terminal, call.body)
                if call.schema == SETTLE
                else self.services.serve(terminal, Payload(call.schema, call.version, True, call.body))
            )
            stored = StoredCall(digest, answer.schema, answer.version, answer.body)
            self.store.add_call(terminal, call.key, call.schema, self.wall_clock(), stored)
        elif stored.digest == VOID:
            self.store.count("void calls")
        elif stored.digest != digest:
            self._complain("call.key_reused", terminal)
            answer = to_payload(Refusal("call.key_reused", retry=False))
            stored = StoredCall(digest, answer.schema, answer.version, answer.body)
        else:
            self.store.count("call copies")
        given = Answer(call.key, stored.schema, stored.version, stored.body)
        return [message for _ in range(self.faults.answers()) for message in line.answer(given)]

    def _settle(self, terminal: str, key: bytes) -> Payload:
        """Say whether the call under `key` was answered; if it was not, it never will be."""
        refusal = to_payload(Refusal("call.void", retry=False))
        stored = self.store.call(terminal, key)
        if stored is None:
            void = StoredCall(VOID, refusal.schema, refusal.version, refusal.body)
            self.store.add_call(terminal, key, "call.void", self.wall_clock(), void)
        acted = stored is not None and stored.digest != VOID
        return Payload("call.settled", 1, personal=False, body=b"acted" if acted else b"void")

    def _records(self, terminal: str, plaintext: bytes) -> list[Receipt]:
        """Store records up to one that does not belong there, and say what is stored: that tells of a conflict too."""
        records = decode(plaintext, Records)
        stream = records.stream
        try:
            for record in records.records:
                self._record(terminal, stream, record)
        except TransportError as error:
            self._complain(error.code, terminal)
        receipted = self.store.receipted(terminal, stream)
        if not receipted or self.faults.is_receiptless:
            return []
        return [Receipt(stream, receipted, self.store.receipted_digest(terminal, stream))]

    def _record(self, terminal: str, stream: str, record: RecordMessage) -> None:
        """Store a record once, and move the receipt to the last one before the first gap."""
        place = (terminal, stream, record.sequence)
        receipted = before = self.store.receipted(terminal, stream)
        digest = sm3(record.body)
        shed = self._shed(terminal, stream, record)
        known = self.store.record(*place)
        if known is not None and known != record.body and shed is None:
            raise _invalid("record.conflict", "another record was stored at this place")
        if (shed.first if shed else record.sequence) > receipted + AHEAD_LIMIT:
            raise _invalid("record.far_ahead", "far past the first gap")
        is_next = record.sequence == receipted + 1
        if known is not None or record.sequence <= receipted:
            self.store.count("record copies")
        elif is_next and self.faults.drops_record():
            receipted += 1
        else:
            record = trial.spoiled(self.faults, record)
            event = self._event(terminal, record)
            for _ in range(2 if is_next and self.faults.doubles_record() else 1):
                self.store.add_record(
                    place, record.schema, record.version, record.body, event=event, at=self.wall_clock()
                )
                trial.count_record(self.store, record, self.wall_clock())
        while True:
            if shed is not None and shed.first <= receipted + 1 <= shed.last:
                self.store.count("records shed", shed.last - receipted)
                receipted = shed.last
            if (following := self.store.record(terminal, stream, receipted + 1)) is None:
                break
            receipted += 1
            if receipted != record.sequence:
                digest = sm3(following)
        if receipted != before:
            self.store.set_receipted(terminal, stream, receipted, digest)

    def _shed(self, terminal: str, stream: str, record: RecordMessage) -> RecordsShed | None:
        """Return what the record says of shed ones; only telemetry is ever shed."""
        if record.schema != CATALOGUE[RecordsShed].schema:
            return None
        try:
            shed = from_payload(Payload(record.schema, record.version, False, record.body), RecordsShed)
        except MessageError as error:
            self._complain(error.code, terminal)
            return None
        if not stream.startswith("telemetry-") or shed.last != record.sequence or shed.first > shed.last:
            self._complain("record.wrongly_shed", terminal)
            return None
        return shed

    def _event(self, terminal: str, record: RecordMessage) -> str | None:
        """Return the record's body as JSON; None, with a complaint, where it is no message of the catalogue."""
        payload = Payload(record.schema, record.version, personal=False, body=record.body)
        try:
            message = from_payload(payload, *_JOURNALED)
        except MessageError as error:
            self._complain(error.code, terminal)
            return None
        if isinstance(message, AuditSeal):
            code = self.maintenance.complaint(terminal, message, self.keys.terminals[terminal])
            if code is not None:
                self._complain(code, terminal)
        return msgspec.json.encode(message).decode()

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
