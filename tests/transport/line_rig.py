"""A broker, a platform and a record log in memory, for tests of the channel; every fault is a switch."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from transport import sm2, wire
from transport.channel import Channel, ChannelKeys
from transport.config import Platform
from transport.errors import TransportError
from transport.grants import ReceivedRequest, build_grant, build_refusal
from transport.payload import Payload, Record
from transport.uplink import Message, UplinkLost

TERMINAL = "GT-0001"
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
KEYS = ChannelKeys(IDENTITY, SIGNING.public)
REQUEST = Payload("certificate.request", 1, personal=True, body="张三丰 110101199003071234".encode())


class FakeConnection:
    def __init__(self, uplink: "FakeUplink", subscriptions: Sequence[str], will: Message) -> None:
        self.subscriptions = set(subscriptions)
        self.will = will
        self._uplink = uplink
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._lost = False

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        await asyncio.sleep(0)
        if self._uplink.hangs:
            await asyncio.get_running_loop().create_future()
        if self._lost:
            raise UplinkLost("the connection is gone")
        self._uplink.published.append((message, retain))
        self._uplink.platform.take(message, self.deliver)

    async def receive(self) -> Message:
        message = await self._inbox.get()
        if message is None:
            self._inbox.put_nowait(None)
            raise UplinkLost("the connection is gone")
        return message

    def deliver(self, message: Message) -> None:
        if not self._lost and message.topic in self.subscriptions:
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
    key_seconds: int = 86_400
    receipts: bool = True
    has_keys: bool = False
    receipt_ahead: int = 0
    answer: Callable[[wire.Call], list[tuple[float, bytes]]] = lambda call: [(0.0, b"answer to " + call.body)]
    calls: list[wire.Call] = field(default_factory=list)
    records: list[wire.RecordMessage] = field(default_factory=list)
    presence: list[wire.Presence] = field(default_factory=list)
    secrets: list[bytes] = field(default_factory=list)
    down_raw: list[Message] = field(default_factory=list)

    def take(self, message: Message, send: Callable[[Message], None]) -> None:
        match message.topic.removeprefix(wire.topic(TERMINAL, "up", "")):
            case "call" | "record" if not self.has_keys:
                pass
            case "presence":
                self.presence.append(wire.decode(message.body, wire.Presence))
            case "grant":
                self._grant(message.body, send)
            case "call":
                call = wire.decode(self._opener.open("call", message.body), wire.Call)
                self.calls.append(call)
                for after, body in self.answer(call):
                    answer = wire.Answer(call.key, "certificate.issue", 1, body)
                    asyncio.get_running_loop().call_later(after, self.say, send, "answer", answer)
            case "record":
                record = wire.decode(self._opener.open("record", message.body), wire.RecordMessage)
                self.records.append(record)
                if self.receipts:
                    receipt = wire.Receipt(record.stream, record.sequence + self.receipt_ahead)
                    self.say(send, "receipt", receipt)

    def say(self, send: Callable[[Message], None], stream: str, content) -> None:
        self.say_raw(send, stream, self._sealer.seal(stream, wire.encode(content)))

    def say_raw(self, send: Callable[[Message], None], stream: str, body: bytes) -> None:
        message = Message(wire.topic(TERMINAL, "down", stream), body)
        self.down_raw.append(message)
        send(message)

    def _grant(self, body: bytes, send: Callable[[Message], None]) -> None:
        received = ReceivedRequest.read(body)
        received.verify(TERMINAL, IDENTITY.public, START, tolerance_seconds=1e9)
        if self.grants == "silent":
            return
        if self.grants == "refused":
            refusal = build_refusal(received.request.nonce, SIGNING, "terminal.unknown", retry=False)
            self.say_raw(send, "grant", refusal)
            return
        signing = STRANGER if self.grants == "forged" else SIGNING
        grant, keys = build_grant(received.request, signing, int(START) + self.key_seconds)
        self.secrets += [bytes(keys.up), bytes(keys.down)]
        self._sealer, self._opener = keys.platform_ends()
        self.has_keys = True
        if self.grants == "stale_first":
            self.say_raw(send, "grant", build_refusal(bytes(16), SIGNING, "terminal.unknown", retry=False))
        if self.grants == "garbage_first":
            self.say_raw(send, "grant", b"\xc1garbage")
            self.say_raw(send, "answer", b"before any key")
        self.say_raw(send, "grant", grant)


class FakeLog:
    def __init__(self, *streams: str) -> None:
        self.records: dict[str, list[Record]] = {stream: [] for stream in streams}
        self.acknowledged: dict[str, int] = dict.fromkeys(streams, 0)
        self._changed = asyncio.Event()

    def append(self, stream: str, body: bytes = b"step") -> None:
        sequence = len(self.records[stream]) + 1
        payload = Payload("supervision.event", 1, personal=False, body=body)
        self.records[stream].append(Record(stream, sequence, payload))
        self._changed.set()

    async def unacknowledged(self, stream: str, after: int, limit: int) -> list[Record]:
        await asyncio.sleep(0)
        return self.records[stream][max(after, self.acknowledged[stream]) :][:limit]

    async def acknowledge(self, stream: str, sequence: int) -> None:
        assert sequence <= len(self.records[stream]), "a receipt for records that do not exist"
        self.acknowledged[stream] = max(self.acknowledged[stream], sequence)

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()


class Rig:
    """A channel with its surroundings and the list of states it told."""

    def __init__(self, *, streams: Sequence[str] = ("supervision",), settings: Platform = SETTINGS) -> None:
        self.platform = FakePlatform()
        self.uplink = FakeUplink(self.platform)
        self.log = FakeLog(*streams)
        self.states: list[tuple[bool, str | None]] = []
        self.channel = Channel(
            settings,
            self.uplink,
            KEYS,
            self.log,
            streams=streams,
            boot_id="b7",
            software_version="0.1.0",
            wall_clock=lambda: START + asyncio.get_running_loop().time(),
            on_state=lambda connected, code: self.states.append((connected, code)),
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
