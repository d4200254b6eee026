"""A broker, a platform and a record log in memory, for tests of the channel; every fault is a switch."""

import asyncio
import functools
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from sim import virtual_time
from transport import envelope, sm2, wire
from transport.channel import Channel, LineState
from transport.config import Platform
from transport.errors import TransportError
from transport.gate import Urgency
from transport.grants import ReceivedRequest, build_grant, build_refusal
from transport.keys import IdentityKey
from transport.line_keys import ChannelKeys
from transport.parts import PART_BYTES, Incoming, Outgoing
from transport.payload import Payload, Record
from transport.ring import KeyRing
from transport.sm import sm3
from transport.uplink import Message, UplinkLost

TERMINAL = "GT-0001"
KEY = bytes(range(16))
START = 1_800_000_000.0
IDENTITY = sm2.generate()
SIGNING = sm2.generate()
STRANGER = sm2.generate()

SETTINGS = Platform(
    host="127.0.0.1",
    terminal_id=TERMINAL,
    ca_file="ca",
    certificate_file="certificate",
    private_key_file="key",
    identity_key_file="identity",
    signing_key_file="signing",
    seal_key_file="seal",
    connect_seconds=5.0,
)
KEYS = ChannelKeys(IdentityKey(IDENTITY), SIGNING.public)
REQUEST = Payload("certificate.request", 1, personal=True, body="张三丰 110101199003071234".encode())


class FakeConnection:
    def __init__(self, uplink: "FakeUplink", subscriptions: Sequence[str], will: Message) -> None:
        self.subscriptions = set(subscriptions)
        self.will = will
        self._uplink = uplink
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._lost = False
        self._on_the_way: dict[str, deque[Message]] = {"up": deque(), "down": deque()}
        self.valid = uplink.valid

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        await asyncio.sleep(0)
        if self._uplink.hangs:
            await asyncio.get_running_loop().create_future()
        if self._lost:
            raise UplinkLost("the connection is gone")
        self._uplink.published.append((message, retain))
        if not self._uplink.loses(message):
            self._travel("up", message, lambda one: self._uplink.platform.take(one, self.say))
        await asyncio.sleep(self._uplink.acknowledge_seconds)

    def say(self, message: Message) -> None:
        """Bring what the platform says to the terminal."""
        if not self._uplink.loses(message):
            self._travel("down", message, self.deliver)

    def _travel(self, direction: str, message: Message, arrive: Callable[[Message], None]) -> None:
        """Let a message arrive after the latency, never before an earlier one."""
        if not self._uplink.latency_seconds:
            arrive(message)
            return
        way = self._on_the_way[direction]
        way.append(message)
        asyncio.get_running_loop().call_later(
            self._uplink.latency_seconds, lambda: None if self._lost else arrive(way.popleft())
        )

    async def receive(self) -> Message:
        message = await self._inbox.get()
        if message is None:
            self._inbox.put_nowait(None)
            raise UplinkLost("the connection is gone")
        return message

    def deliver(self, message: Message) -> None:
        if not self._lost and any(message.topic.startswith(place.rstrip("#")) for place in self.subscriptions):
            self._inbox.put_nowait(message)

    def lose(self) -> None:
        self._lost = True
        self._inbox.put_nowait(None)


class FakeUplink:
    def __init__(self, platform: "FakePlatform") -> None:
        self.platform = platform
        self.published: list[tuple[Message, bool]] = []
        self.connections: list[FakeConnection] = []
        self.open = 0
        self.down = False
        self.hangs = False
        self.latency_seconds = 0.0
        self.acknowledge_seconds = 0.0
        self.loses: Callable[[Message], bool] = lambda _message: False
        self.valid: tuple[float, float] | None = None

    @asynccontextmanager
    async def connect(self, subscriptions: Sequence[str], will: Message) -> AsyncIterator[FakeConnection]:
        await asyncio.sleep(0.01)
        if self.down:
            raise UplinkLost("no route to the broker")
        connection = FakeConnection(self, subscriptions, will)
        self.connections.append(connection)
        self.open += 1
        try:
            yield connection
        finally:
            self.open -= 1
            connection.lose()

    @property
    def line(self) -> FakeConnection:
        return self.connections[-1]


@dataclass
class FakePlatform:
    """Answers by the same wire format; a switch turns each duty into a fault."""

    grants: str = "granted"  # or silent, refused, forged, stale_first, garbage_first
    grant_after_seconds: float = 0.0
    key_seconds: int = 86_400
    clock: Callable[[], float] = lambda: START + asyncio.get_running_loop().time()
    receipts: bool = True
    has_keys: bool = False
    receipt_ahead: int = 0
    went_on: int = 0
    """How many lives of a journal it knows that this one does not: it receipts records of theirs."""
    answer: Callable[[wire.Call], list[tuple[float, bytes]]] = lambda call: [(0.0, b"answer to " + call.body)]
    settlement: bytes | None = b"void"
    requests: int = 0
    heard: list[str] = field(default_factory=list)
    calls: list[wire.Call] = field(default_factory=list)
    settled: list[bytes] = field(default_factory=list)
    parts: list[wire.Part] = field(default_factory=list)
    loses_parts: int = 0
    ordered: int = 0
    taken: list[dict[str, int]] = field(default_factory=list)
    records: list[tuple[str, wire.RecordMessage]] = field(default_factory=list)
    presence: list[wire.Presence] = field(default_factory=list)
    down_raw: list[Message] = field(default_factory=list)
    rings: list[KeyRing] = field(default_factory=list)
    heard_under: list[bytes] = field(default_factory=list)
    complaints: Counter[str] = field(default_factory=Counter)
    incoming: dict[bytes, Incoming] = field(default_factory=dict)
    outgoing: dict[bytes, Outgoing] = field(default_factory=dict)

    def take(self, message: Message, send: Callable[[Message], None]) -> None:
        stream = message.topic.removeprefix(wire.topic(TERMINAL, "up", ""))
        match stream:
            case "presence":
                self.presence.append(wire.decode(message.body, wire.Presence))
            case "grant":
                asyncio.get_running_loop().call_later(self.grant_after_seconds, self._grant, message.body, send)
            case _ if self.has_keys:
                try:
                    plaintext = self.ring.open(stream, message.body)
                except TransportError as error:
                    self.complaints[error.code] += 1
                    return
                self.heard_under.append(envelope.read(message.body).key_id)
                self.heard.append(stream)
                self._hear(stream, plaintext, send)

    def _hear(self, stream: str, plaintext: bytes, send: Callable[[Message], None]) -> None:
        match stream:
            case "call":
                self._call(wire.decode(plaintext, wire.Call), send)
            case "part":
                part = wire.decode(plaintext, wire.Part)
                self.parts.append(part)
                if self.loses_parts:
                    self.loses_parts -= 1
                    return
                incoming = self.incoming.setdefault(part.key, Incoming(part))
                try:
                    whole = incoming.add(part)
                except TransportError as error:
                    self.complaints[error.code] += 1
                    del self.incoming[part.key]
                    return
                self.say(send, "part_receipt", incoming.receipt)
                if whole is not None:
                    self._call(wire.decode(whole, wire.Call), send)
            case "part_receipt":
                receipt = wire.decode(plaintext, wire.PartReceipt)
                if (outgoing := self.outgoing.get(receipt.key)) and outgoing.receive(receipt):
                    self._say_parts(outgoing, send)
            case "taken":
                self.taken.append(wire.decode(plaintext, wire.Taken).streams)
            case "record":
                records = wire.decode(plaintext, wire.Records)
                self.heard[-1] = records.stream
                self.records += [(records.stream, record) for record in records.records]
                if self.receipts:
                    last = records.records[-1]
                    body = last.body if records.stream.count("-") >= self.went_on else b"another"
                    self.receipt(send, records.stream, last.sequence + self.receipt_ahead, body)

    def receipt(self, send: Callable[[Message], None], stream: str, sequence: int, body: bytes = b"step") -> None:
        """Receipt what came of a stream up to a sequence, at which the record has this body."""
        self.say(send, "receipt", wire.Receipt(stream, sequence, sm3(body)))

    def _call(self, call: wire.Call, send: Callable[[Message], None]) -> None:
        if call.schema == "call.settle":
            self.settled.append(call.body)
            if self.settlement is not None:
                self.say(send, "answer", wire.Answer(call.key, "call.settled", 1, self.settlement))
            return
        self.calls.append(call)
        for after, body in self.answer(call):
            answer = wire.Answer(call.key, "certificate.issue", 1, body)
            asyncio.get_running_loop().call_later(after, self._answer, answer, send)

    def _answer(self, answer: wire.Answer, send: Callable[[Message], None]) -> None:
        whole = wire.encode(answer)
        if len(whole) <= PART_BYTES:
            self.say(send, "answer", answer)
            return
        outgoing = self.outgoing.setdefault(answer.key, Outgoing(answer.key, whole))
        outgoing.again()
        self._say_parts(outgoing, send)

    def _say_parts(self, outgoing: Outgoing, send: Callable[[Message], None]) -> None:
        for part in outgoing.due():
            self.say(send, "part", part)

    @property
    def ring(self) -> KeyRing:
        return self.rings[-1]

    def say(self, send: Callable[[Message], None], stream: str, content) -> None:
        self.say_raw(send, stream, self.ring.seal(stream, wire.encode(content)))

    def say_raw(self, send: Callable[[Message], None], stream: str, body: bytes) -> None:
        message = Message(wire.topic(TERMINAL, "down", stream), body)
        self.down_raw.append(message)
        send(message)

    def order(
        self, schema: str, send: Callable[[Message], None], *, sequence: int = 0, expires_in: float = 60.0
    ) -> None:
        """Send a command, the next one of its stream unless `sequence` says otherwise."""
        self.ordered = sequence or self.ordered + 1
        expires = int(self.clock() + expires_in)
        self.say(send, "command", wire.Command("command-1", self.ordered, expires, schema, 1, b"\x80"))

    def _grant(self, body: bytes, send: Callable[[Message], None]) -> None:
        received = ReceivedRequest.read(body)
        received.verify(TERMINAL, IDENTITY.public)
        self.requests += 1
        if self.grants == "silent":
            return
        if self.grants == "refused":
            refusal = build_refusal(received.request.nonce, SIGNING, "terminal.unknown", retry=False)
            self.say_raw(send, "grant", refusal)
            return
        signing = STRANGER if self.grants == "forged" else SIGNING
        granted = build_grant(received.request, signing, unix_time=self.clock(), life_seconds=self.key_seconds)
        if not self.has_keys:
            self.rings.append(KeyRing())
        self.ring.offer(granted.ends)
        self.has_keys = True
        if self.grants == "stale_first":
            self.say_raw(send, "grant", build_refusal(bytes(16), SIGNING, "terminal.unknown", retry=False))
        if self.grants == "garbage_first":
            self.say_raw(send, "grant", b"\xc1garbage")
            self.say_raw(send, "answer", b"before any key")
        self.say_raw(send, "grant", granted.message)


class FakeCommands:
    """Takes commands as the daemon does, and remembers them."""

    def __init__(self) -> None:
        self.marks: dict[str, int] = {}
        self.taken: list[tuple[int, str, bool]] = []

    def high_water(self) -> dict[str, int]:
        return self.marks

    async def take(self, stream, sequence, command, *, expired):
        await asyncio.sleep(0)
        self.marks[stream] = sequence
        self.taken.append((sequence, command.schema, expired))
        return {"key.rotation": "rotate_keys", "key.revocation": "revoke_keys"}.get(command.schema)


class FakeLog:
    def __init__(self, *streams: str) -> None:
        self.records: dict[str, list[Record]] = {stream: [] for stream in streams}
        self.acknowledged: dict[str, int] = dict.fromkeys(streams, 0)
        self.names = {stream: stream for stream in streams}
        self.renewed: list[str] = []
        self._changed = asyncio.Event()

    def append(self, stream: str, body: bytes = b"step") -> None:
        sequence = len(self.records[stream]) + 1
        payload = Payload("supervision.event", 1, personal=False, body=body)
        self.records[stream].append(Record(self.names[stream], sequence, payload))
        self.wake()

    def wake(self) -> None:
        self._changed.set()

    async def unacknowledged(self, stream: str, after: int, limit: int) -> list[Record]:
        await asyncio.sleep(0)
        return self.records[stream][max(after, self.acknowledged[stream]) :][:limit]

    async def has(self, stream: str, sequence: int, digest: bytes) -> bool:
        return any(one.sequence == sequence and sm3(one.payload.body) == digest for one in self.records[stream])

    async def renew(self, stream: str) -> None:
        self.renewed.append(stream)
        left = self.records[stream][self.acknowledged[stream] :]
        self.names[stream] = name = f"{self.names[stream]}-"
        self.records[stream] = [Record(name, number, one.payload) for number, one in enumerate(left, start=1)]
        self.acknowledged[stream] = 0

    async def acknowledge(self, stream: str, sequence: int) -> None:
        assert sequence <= len(self.records[stream]), "a receipt for records that do not exist"
        self.acknowledged[stream] = max(self.acknowledged[stream], sequence)

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()


class Rig:
    """A channel with its surroundings and the list of states it told."""

    def __init__(
        self, *, streams: Sequence[str] = ("supervision",), settings: Platform = SETTINGS, keys: ChannelKeys = KEYS
    ) -> None:
        self.clock_off = 0.0
        self.platform = FakePlatform()
        self.uplink = FakeUplink(self.platform)
        self.log = FakeLog(*streams, "alarm")
        self.commands = FakeCommands()
        self.states: list[LineState] = []
        self.channel = Channel(
            settings,
            self.uplink,
            keys,
            self.log,
            streams=dict.fromkeys(streams, Urgency.RECORD) | {"alarm": Urgency.ALARM},
            commands=self.commands,
            boot_id="b7",
            software_version="0.1.0",
            wall_clock=lambda: START + self.clock_off + asyncio.get_running_loop().time(),
            on_state=self.states.append,
            on_dropped=lambda _: None,
        )

    @asynccontextmanager
    async def life(self) -> AsyncIterator[asyncio.Task[None]]:
        """One life of the channel, serving; cancelled at the end when it still lives."""
        ready = asyncio.Event()
        life = asyncio.create_task(self.channel.run(ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([life, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=60)
        waiting.cancel()
        assert ready.is_set(), life
        try:
            yield life
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)

    async def failure(self) -> TransportError:
        """How a life ends that never serves."""
        try:
            async with asyncio.timeout(60):
                await self.channel.run(lambda: None)
        except TransportError as error:
            return error
        raise AssertionError("the life ended without an error")


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait on the loop's clock until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (any condition; costs nothing on virtual time)
            await asyncio.sleep(0.01)


def on_virtual_time(test):
    """Run a coroutine test on the virtual clock; a task left behind fails it."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async def main() -> None:
            await test(*args, **kwargs)
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks left: {left}"

        virtual_time.run(main())

    del run.__wrapped__  # pytest must see a plain function
    return run


def now() -> float:
    return asyncio.get_running_loop().time()


async def ask(rig: Rig, key: bytes = KEY, deadline_seconds: float = 5.0) -> Payload:
    return await rig.channel.call(REQUEST, key=key, deadline_seconds=deadline_seconds)


async def ask_in_vain(rig: Rig, key: bytes = KEY, deadline_seconds: float = 5.0) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await ask(rig, key, deadline_seconds)
    return caught.value
