"""The sealed line to the platform: calls with answers, records with receipts (T12, T20, I6).

One `run` is one connection's life: connect, presence, key grant, then the pumps. Nothing is kept at the broker.
What waits outlives a life: calls in memory until their deadline, records in the log until their receipt.
"""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import structlog

from transport import wire
from transport.config import Platform
from transport.envelope import MAX_PLAINTEXT_BYTES
from transport.errors import TransportError
from transport.grants import LineKeys, PendingRequest
from transport.line import SILENCE_SECONDS, Line
from transport.outbox import Outbox
from transport.payload import Payload, RecordLog
from transport.sm2 import PrivateKey, PublicKey
from transport.uplink import Connection, Message, Uplink, UplinkLost

log = structlog.get_logger(__name__)

KEY_LIFE_SECONDS = 86_400.0
LEAST_KEY_LIFE_SECONDS = 60.0

StateListener = Callable[[bool, str | None], None]


@dataclass(frozen=True, slots=True, repr=False)
class ChannelKeys:
    """The long-lived keys: the terminal's identity key signs requests, the platform's public key verifies grants."""

    identity: PrivateKey
    platform: PublicKey


@dataclass(slots=True, eq=False, repr=False)
class _PendingCall:
    message: bytes
    answer: asyncio.Future[Payload]
    line: Line | None = None  # the line it was last sent on


class Channel:
    """The terminal's end of the line; supervised through `run`."""

    def __init__(
        self,
        settings: Platform,
        uplink: Uplink,
        keys: ChannelKeys,
        records: RecordLog,
        *,
        streams: Sequence[str],
        boot_id: str,
        software_version: str,
        wall_clock: Callable[[], float],
        on_state: StateListener,
    ) -> None:
        """Deliver `streams` of `records`; tell `on_state(connected, code)` on transitions only."""
        self._settings = settings
        self._uplink = uplink
        self._keys = keys
        self._records = records
        self._streams = tuple(streams)
        self._boot_id = boot_id
        self._software_version = software_version
        self._wall_clock = wall_clock
        self._on_state = on_state
        self._state: tuple[bool, str | None] = (False, None)
        self._calls: dict[bytes, _PendingCall] = {}
        self._calls_changed = asyncio.Event()
        self.dropped: Counter[str] = Counter()
        """Messages from the broker that were refused or wanted by nobody, by code."""

    @property
    def connected(self) -> bool:
        """Whether the line is up and has keys."""
        return self._state[0]

    async def call(self, request: Payload, *, key: bytes, deadline_seconds: float) -> Payload:
        """Ask the platform and return its answer, whatever it says; `key` (16 bytes) is the idempotency key.

        Waits for the line within the deadline and asks again under the same key on each new connection. Raises
        TransportError: `line.down` when the request certainly never left, `platform.no_answer` when the outcome
        is unknown (ask again under the same key), `call.pending` when this key is being asked already,
        `call.unfit` for a key or a request that the wire does not take.
        """
        message = wire.encode(wire.Call(key, request.schema, request.version, request.body))
        wire.decode(message, wire.Call, code="call.unfit")
        if key in self._calls:
            raise TransportError(
                "call.pending", "this call is under way", advice="wait for the first one to end", retry=True
            )
        if len(message) > MAX_PLAINTEXT_BYTES:
            raise TransportError("call.unfit", f"{len(message)} bytes", advice="ask for less at once", retry=False)
        call = _PendingCall(message, asyncio.get_running_loop().create_future())
        self._calls[key] = call
        self._calls_changed.set()
        try:
            async with asyncio.timeout(deadline_seconds):
                return await call.answer
        except TimeoutError:
            if call.line is None:
                raise _line_down("the line did not come up within the deadline") from None
            raise TransportError(
                "platform.no_answer",
                f"no answer within {deadline_seconds} s",
                advice="ask again under the same key; it is not known whether the platform acted",
                retry=True,
            ) from None
        finally:
            del self._calls[key]

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve one connection's life; return when its keys are used up.

        Raises TransportError: `line.down`, `key.no_answer`, `key.refused` and the other `key.*` of a bad grant,
        `platform.no_answer` when nothing is answered under these keys any more.
        """
        code: str | None = None
        try:
            async with self._line() as (line, life_seconds):
                self._tell(connected=True, code=None)
                ready()
                await self._pump(line, life_seconds)
        except UplinkLost as error:
            code = "line.down"
            raise _line_down(str(error)) from error
        except TransportError as error:
            code = error.code
            raise
        finally:
            self._tell(connected=False, code=code)

    @contextlib.asynccontextmanager
    async def _line(self) -> AsyncIterator[tuple[Line, float]]:
        """Connect, say that the terminal is there and get keys, all within `connect_seconds`; wipe them at the end."""
        terminal = self._settings.terminal_id
        subscriptions = [wire.topic(terminal, "down", stream) for stream in ("grant", "answer", "receipt")]
        async with contextlib.AsyncExitStack() as stack:
            code = "line.down"
            try:
                async with asyncio.timeout(self._settings.connect_seconds):
                    will = self._presence(online=False)
                    connection = await stack.enter_async_context(self._uplink.connect(subscriptions, will))
                    await connection.publish(self._presence(online=True), retain=True)
                    code = "key.no_answer"
                    keys = await self._obtain_keys(connection)
                    stack.callback(keys.wipe)
            except TimeoutError:
                raise TransportError(
                    code,
                    f"nothing came within {self._settings.connect_seconds} s",
                    advice="check the network, the broker and that the platform knows this terminal",
                    retry=True,
                ) from None
            sealer, opener = keys.terminal_ends()
            outboxes = {stream: Outbox(self._records, stream) for stream in self._streams}
            life = keys.expires_unix - self._wall_clock()
            answer_seconds = self._settings.answer_seconds
            yield (
                Line(connection, terminal, sealer, opener, outboxes, max(SILENCE_SECONDS, answer_seconds)),
                min(max(life, LEAST_KEY_LIFE_SECONDS), KEY_LIFE_SECONDS),
            )

    async def _obtain_keys(self, connection: Connection) -> LineKeys:
        terminal = self._settings.terminal_id
        request = PendingRequest(terminal, self._boot_id, self._wall_clock(), self._keys.identity)
        try:
            await connection.publish(Message(wire.topic(terminal, "up", "grant"), request.message))
            while True:
                message = await connection.receive()
                if message.topic != wire.topic(terminal, "down", "grant"):
                    self._drop("message.before_grant")
                    continue
                try:
                    return request.open(message.body, self._keys.platform)
                except TransportError as error:
                    if error.code not in ("key.stale_grant", "key.malformed"):
                        raise
                    self._drop(error.code)
        finally:
            request.wipe()

    async def _pump(self, line: Line, life_seconds: float) -> None:
        """Run the pumps until the keys are used up; raise what ended one of them."""
        try:
            async with asyncio.timeout(life_seconds), line.silence, asyncio.TaskGroup() as group:
                group.create_task(self._receive(line), name="channel-receive")
                group.create_task(self._send_calls(line), name="channel-calls")
                group.create_task(self._watch_records(line), name="channel-records")
                send_record = functools.partial(line.send, "record")
                for stream, outbox in line.outboxes.items():
                    group.create_task(outbox.deliver(send_record), name=f"channel-outbox-{stream}")
        except TimeoutError:
            if line.silence.expired():
                raise TransportError(
                    "platform.no_answer",
                    f"nothing was answered for {line.silence_seconds} s",
                    advice="none: new keys are asked for; if it stays so, check the platform",
                    retry=True,
                ) from None
            log.info("line_keys_used_up")
        except ExceptionGroup as ended:
            _, others = ended.split((UplinkLost, TransportError))
            if others is not None:
                raise
            raise ended.exceptions[0] from None

    async def _receive(self, line: Line) -> None:
        """Hand answers to their calls and receipts to their outboxes; drop and count everything else."""
        prefix = wire.topic(line.terminal, "down", "")
        while True:
            message = await line.connection.receive()
            stream = message.topic.removeprefix(prefix)
            try:
                if stream not in ("answer", "receipt"):
                    self._drop("message.unknown_topic")
                    continue
                plaintext = line.open(stream, message.body)
                if stream == "answer":
                    self._take_answer(wire.decode(plaintext, wire.Answer, code="message.malformed"))
                else:
                    self._take_receipt(line, wire.decode(plaintext, wire.Receipt, code="message.malformed"))
            except TransportError as error:
                self._drop(error.code)

    def _take_answer(self, answer: wire.Answer) -> None:
        call = self._calls.get(answer.key)
        if call is None or call.answer.done():
            self._drop("answer.unwanted")
            return
        call.answer.set_result(Payload(answer.schema, answer.version, personal=True, body=answer.body))

    def _take_receipt(self, line: Line, receipt: wire.Receipt) -> None:
        if receipt.stream in line.outboxes:
            line.outboxes[receipt.stream].receive(receipt.sequence)
        else:
            self._drop("receipt.unknown_stream")

    async def _send_calls(self, line: Line) -> None:
        """Send every pending call once on this line."""
        while True:
            self._calls_changed.clear()
            for call in list(self._calls.values()):
                if call.line is not line and not call.answer.done():
                    call.line = line
                    await line.send("call", call.message)
            await self._calls_changed.wait()

    async def _watch_records(self, line: Line) -> None:
        while True:
            await self._records.changed()
            for outbox in line.outboxes.values():
                outbox.wake()

    def _presence(self, *, online: bool) -> Message:
        body = wire.encode(wire.Presence(online, self._boot_id, self._software_version))
        return Message(wire.topic(self._settings.terminal_id, "up", "presence"), body)

    def _drop(self, code: str) -> None:
        self.dropped[code] += 1
        if self.dropped[code] == 1:
            log.warning("message_dropped", code=code)

    def _tell(self, *, connected: bool, code: str | None) -> None:
        if self._state == (connected, code):
            return
        self._state = (connected, code)
        log.info("line_up" if connected else "line_down", code=code)
        self._on_state(connected, code)


def _line_down(message: str) -> TransportError:
    return TransportError(
        "line.down", message, advice="check the network and the broker; the line comes back by itself", retry=True
    )
