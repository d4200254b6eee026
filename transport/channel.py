"""The sealed line to the platform: calls with answers, records with receipts, commands (T12, T20, I6).

One `run` is one connection's life: connect, presence, key grant, then the pumps. Nothing is kept at the broker.
What waits outlives a life: calls in memory until their deadline, records in the log until their receipt.
"""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import structlog

from transport import wire
from transport.calls import Calls, Progress, Settlement, line_down
from transport.commands import CommandHandler, Commands
from transport.config import Platform
from transport.errors import TransportError
from transport.gate import Urgency
from transport.line import SILENCE_SECONDS, Line, what_ended
from transport.line_keys import ChannelKeys, LineKeys
from transport.outbox import Outbox
from transport.payload import Payload, RecordLog
from transport.ring import KeyRing
from transport.uplink import Connection, Message, Uplink, UplinkLost

log = structlog.get_logger(__name__)

WRONG_CLOCK_SECONDS = 300.0
"""A wall clock this far from the platform's is called wrong; nothing waits for it."""


@dataclass(frozen=True, slots=True)
class LineState:
    """How the line is. `code` says why it is down, or `clock.wrong` while it is up.

    `clock_off_seconds` is how far the terminal's wall clock is ahead of the platform's, by the last grant.
    """

    connected: bool
    code: str | None = None
    clock_off_seconds: int | None = None


class Channel:
    """The terminal's end of the line; supervised through `run`."""

    def __init__(
        self,
        settings: Platform,
        uplink: Uplink,
        keys: ChannelKeys,
        records: RecordLog,
        *,
        streams: Mapping[str, Urgency],
        commands: CommandHandler,
        boot_id: str,
        software_version: str,
        wall_clock: Callable[[], float],
        on_state: Callable[[LineState], None],
        on_dropped: Callable[[str], None],
    ) -> None:
        """Deliver `streams` of `records`, each with its urgency; tell `on_state` of transitions only.

        `on_dropped` is told the code of each message from the broker that was refused or wanted by nobody.
        """
        self._settings = settings
        self._uplink = uplink
        self._records = records
        self._streams = dict(streams)
        self._commands = Commands(commands)
        self._boot_id = boot_id
        self._software_version = software_version
        self._on_state = on_state
        self._on_dropped = on_dropped
        self._state = LineState(connected=False)
        self._calls = Calls()
        self._line_keys = LineKeys(settings.terminal_id, boot_id, keys, wall_clock=wall_clock, on_drop=self._drop)
        self.dropped: Counter[str] = Counter()
        """Messages from the broker that were refused or wanted by nobody, by code."""

    @property
    def connected(self) -> bool:
        """Whether the line is up and has keys."""
        return self._state.connected

    def platform_time(self) -> float | None:
        """Return seconds since 1970 on the platform's clock, by its last grant; None before the first one."""
        return self._line_keys.platform_time() if self._line_keys.is_told_the_time else None

    async def call(
        self, request: Payload, *, key: bytes, deadline_seconds: float, on_progress: Progress | None = None
    ) -> Payload:
        """Ask the platform and return its answer, whatever it says; `key` (16 bytes) is the idempotency key.

        Waits for the line within the deadline and asks again under the same key until then. Raises
        TransportError: `line.down` when the request certainly never left, `platform.no_answer` when the outcome
        is unknown, as it is of a call that is cancelled (an answer that still comes is shown to nobody; whoever acts
        by a call has it settled), `call.pending` when this key is being asked already, `call.unfit` for a key or a
        request that the wire does not take.
        """
        return await self._calls.ask(request, key, deadline_seconds, on_progress)

    async def settle(self, key: bytes, *, deadline_seconds: float) -> Settlement:
        """Return whether the platform acted on the call under `key`; `void` means that it never will.

        Raises TransportError as `call`.
        """
        return await self._calls.settle(key, deadline_seconds)

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve one connection's life.

        Raises TransportError: `line.down`, `line.bad_certificate`, `key.no_answer`, `key.refused`, `key.revoked`,
        `key.none` when the platform lost the keys, and the other `key.*` of a bad grant; `platform.no_answer` when
        nothing is answered under these keys any more.
        """
        code: str | None = None
        try:
            async with self._connected() as line:
                await self._commands.say_taken(line)
                self._tell_connected()
                ready()
                await self._pump(line)
        except UplinkLost as error:
            code = "line.down"
            raise line_down(str(error)) from error
        except Exception as error:
            code = getattr(error, "code", None)
            raise
        finally:
            self._tell(LineState(connected=False, code=code))

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Line]:
        """Connect, say that the terminal is there and get keys, all within `connect_seconds`; wipe them at the end."""
        terminal = self._settings.terminal_id
        async with contextlib.AsyncExitStack() as stack:
            code = "line.down"
            try:
                async with asyncio.timeout(self._settings.connect_seconds):
                    down, will = wire.topic(terminal, "down", "#"), self._presence(online=False)
                    connection = await stack.enter_async_context(self._uplink.connect([down], will))
                    await connection.publish(self._presence(online=True), retain=True)
                    code = "key.no_answer"
                    grant = await self._line_keys.obtain(connection)
            except TimeoutError:
                raise TransportError(
                    code,
                    f"nothing came within {self._settings.connect_seconds} s",
                    advice="check the network, the broker and that the platform knows this terminal",
                    retry=True,
                ) from None
            except ExceptionGroup as group:
                raise what_ended(group) from None
            silence = max(SILENCE_SECONDS, self._settings.answer_seconds)
            line = Line(connection, terminal, KeyRing(grant.ends), silence)
            stack.callback(line.close)
            _check_certificate(connection, grant.unix_time)
            yield line

    async def _pump(self, line: Line) -> None:
        """Run the pumps until the line ends; raise what ended one of them."""
        outboxes = {stream: Outbox(self._records, stream) for stream in self._streams}
        try:
            async with line.silence, asyncio.TaskGroup() as group:
                group.create_task(line.ended(), name="channel-end")
                group.create_task(self._receive(line, outboxes), name="channel-receive")
                group.create_task(self._line_keys.renew(line, self._renewed), name="channel-keys")
                group.create_task(self._commands.take(line, self._line_keys.platform_time), name="channel-commands")
                group.create_task(self._calls.send(line), name="channel-calls")
                group.create_task(self._watch_records(outboxes), name="channel-records")
                for stream, outbox in outboxes.items():
                    send = functools.partial(line.send, "record", urgency=self._streams[stream])
                    group.create_task(outbox.deliver(send), name=f"channel-outbox-{stream}")
        except TimeoutError:
            raise TransportError(
                "platform.no_answer",
                f"nothing was answered for {line.silence_seconds} s",
                advice="none: new keys are asked for; if it stays so, check the platform",
                retry=True,
            ) from None
        except ExceptionGroup as group:
            raise what_ended(group) from None

    async def _renewed(self, line: Line) -> None:
        log.info("line_keys_renewed")
        await self._commands.say_taken(line)
        self._tell_connected()

    async def _receive(self, line: Line, outboxes: Mapping[str, Outbox]) -> None:
        """Hand each message to who waits for it; drop and count everything else."""
        prefix = wire.topic(line.terminal, "down", "")
        while True:
            message = await line.connection.receive()
            try:
                self._take(line, outboxes, message.topic.removeprefix(prefix), message.body)
            except TransportError as error:
                self._drop(error.code)

    def _take(self, line: Line, outboxes: Mapping[str, Outbox], stream: str, body: bytes) -> None:
        if stream == "grant":
            if self._line_keys.is_withdrawn(body):
                line.end(_withdrawn())
            else:
                self._line_keys.take(body)
            return
        kind = _KINDS.get(stream)
        if kind is None:
            raise _dropped("message.unknown_topic")
        match wire.decode(line.open(stream, body), kind, code="message.malformed"):
            case wire.Answer() as answer:
                self._calls.take_answer(answer)
            case wire.Part() as part:
                self._calls.take_part(part)
            case wire.PartReceipt() as receipt:
                self._calls.take_part_receipt(receipt)
            case wire.Command() as command:
                self._commands.offer(command)
            case wire.Receipt() as receipt:
                outbox = next((one for one in outboxes.values() if one.name == receipt.stream), None)
                if outbox is None:
                    raise _dropped("receipt.unknown_stream")
                outbox.receive(receipt)

    async def _watch_records(self, outboxes: Mapping[str, Outbox]) -> None:
        while True:
            await self._records.changed()
            for outbox in outboxes.values():
                outbox.wake()

    def _presence(self, *, online: bool) -> Message:
        body = wire.encode(wire.Presence(online, self._boot_id, self._software_version))
        return Message(wire.topic(self._settings.terminal_id, "up", "presence"), body)

    def _drop(self, code: str) -> None:
        self.dropped[code] += 1
        if self.dropped[code] == 1:
            log.warning("message_dropped", code=code)
        self._on_dropped(code)

    def _tell_connected(self) -> None:
        off = self._line_keys.clock_off_seconds
        is_wrong = abs(off) > WRONG_CLOCK_SECONDS
        self._tell(LineState(True, "clock.wrong", off) if is_wrong else LineState(connected=True))

    def _tell(self, state: LineState) -> None:
        if self._state == state:
            return
        self._state = state
        log.info("line_up" if state.connected else "line_down", code=state.code)
        self._on_state(state)


_KINDS: dict[str, type[wire.Answer | wire.Receipt | wire.Part | wire.PartReceipt | wire.Command]] = {
    "answer": wire.Answer,
    "receipt": wire.Receipt,
    "part": wire.Part,
    "part_receipt": wire.PartReceipt,
    "command": wire.Command,
}
"""What comes down on each sealed stream."""


def _check_certificate(connection: Connection, unix_time: int) -> None:
    """Refuse a broker whose certificate is not valid by the platform's signed clock; the terminal's may be wrong."""
    if connection.valid is not None:
        begins, ends = connection.valid
        if not begins <= unix_time <= ends:
            raise TransportError(
                "line.bad_certificate",
                "the broker's certificate is not valid at this time",
                advice="tell the platform's operator to renew it",
                retry=True,
            )


def _withdrawn() -> TransportError:
    return TransportError(
        "key.none", "the platform has lost the keys", advice="none: new keys are asked for", retry=True
    )


def _dropped(code: str) -> TransportError:
    return TransportError(code, "nobody waits for it", advice="none: it was dropped", retry=False)
