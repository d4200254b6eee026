"""Calls on their way: in memory only, one answer each, sent again under their key until it comes (rule 1, rule 2).

Nothing is remembered of a call that ended without an answer: whoever acts by one has its key on disk, as an intent,
and has it settled.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from transport import wire
from transport.errors import TransportError
from transport.gate import Urgency
from transport.line import Line
from transport.parts import PART_BYTES, Incoming, Outgoing
from transport.payload import Payload

RESEND_SECONDS = 2.0
"""A call is sent again after so long without a sign of it, then after twice as long and so on: a PUBACK proves nothing,
and the key makes it harmless."""
LONGEST_RESEND_SECONDS = 16.0

Settlement = Literal["acted", "void"]
"""The platform acted on a call, or never will."""
Progress = Callable[[int, int], None]
"""Told how many bytes of how many of a large call the platform has."""


@dataclass(slots=True, eq=False, repr=False)
class _Call:
    message: bytes
    answer: asyncio.Future[Payload]
    on_progress: Progress | None
    outgoing: Outgoing | None
    line: Line | None = None  # the line it was last sent on
    is_sent: bool = False
    incoming: Incoming | None = None
    owes_receipt: bool = False
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def due(self) -> list[tuple[str, bytes, Urgency]]:
        """Return what is to be sent now: stream, plaintext, urgency."""
        due = []
        if self.owes_receipt and self.incoming is not None:
            self.owes_receipt = False
            due.append(("part_receipt", wire.encode(self.incoming.receipt), Urgency.CALL))
        if self.answer.done():
            return due
        if self.outgoing is not None:
            due += [("part", wire.encode(part), Urgency.PART) for part in self.outgoing.due()]
        elif not self.is_sent:
            due.append(("call", self.message, Urgency.CALL))
        self.is_sent = True
        return due

    def again(self) -> None:
        """Send again what shows no sign of having arrived."""
        self.is_sent = False
        if self.outgoing is not None:
            self.outgoing.again()


class Calls:
    """Every call that waits for its answer; outlives the lines it is sent on."""

    def __init__(self) -> None:
        self._calls: dict[bytes, _Call] = {}
        self._changed = asyncio.Event()

    async def ask(
        self, request: Payload, key: bytes, deadline_seconds: float, on_progress: Progress | None = None
    ) -> Payload:
        """Return the answer to `request`; raise TransportError as `Channel.call` says."""
        message = wire.encode(wire.Call(key, request.schema, request.version, request.body))
        wire.decode(message, wire.Call, code="call.unfit")
        if key in self._calls:
            raise TransportError(
                "call.pending", "this call is under way", advice="wait for the first one to end", retry=True
            )
        outgoing = Outgoing(key, message) if len(message) > PART_BYTES else None
        call = _Call(message, asyncio.get_running_loop().create_future(), on_progress, outgoing)
        self._calls[key] = call
        self._changed.set()
        try:
            async with asyncio.timeout(deadline_seconds):
                return await call.answer
        except TimeoutError:
            if call.line is None:
                raise line_down("the line did not come up within the deadline") from None
            raise TransportError(
                "platform.no_answer",
                f"no answer within {deadline_seconds} s",
                advice="none: what may have been done is settled by its key, before it is tried again",
                retry=True,
            ) from None
        finally:
            del self._calls[key]
            call.answer.cancel()
            call.moved.set()
            if call.incoming is not None:
                call.incoming.wipe()

    async def settle(self, key: bytes, deadline_seconds: float) -> Settlement:
        """Return what became of the call under `key`; raise TransportError as `Channel.settle`."""
        request = Payload("call.settle", 1, personal=False, body=key)
        answer = await self.ask(request, secrets.token_bytes(16), deadline_seconds)
        if answer.schema != "call.settled" or answer.body not in (b"acted", b"void"):
            raise TransportError(
                "message.malformed", "no settlement", advice="bring the platform to this wire format", retry=False
            )
        return "acted" if answer.body == b"acted" else "void"

    async def send(self, line: Line) -> None:
        """Send every pending call on `line`, each in a task of its own, until cancelled or the line is lost."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                self._begin(line, group)
                await self._changed.wait()

    def _begin(self, line: Line, group: asyncio.TaskGroup) -> None:
        """Begin to send what is new; no call is held while the next one is waited for: it may be a citizen's (T20)."""
        for call in self._calls.values():
            if call.line is not line:
                call.line = line
                call.again()
                group.create_task(self._send(line, call), name="channel-call")

    async def _send(self, line: Line, call: _Call) -> None:
        pause = RESEND_SECONDS
        while True:
            call.moved.clear()
            for stream, plaintext, urgency in call.due():
                await line.send(stream, plaintext, urgency)
            if call.answer.done() and not call.owes_receipt:
                return
            try:
                async with asyncio.timeout(pause):
                    await call.moved.wait()
                pause = RESEND_SECONDS
            except TimeoutError:
                call.again()
                pause = min(2 * pause, LONGEST_RESEND_SECONDS)

    def take_answer(self, answer: wire.Answer) -> None:
        """Hand an answer to its call; raise TransportError (`answer.unwanted`) for one that is late, or for none."""
        call = self._wanted(answer.key)
        call.answer.set_result(Payload(answer.schema, answer.version, personal=True, body=answer.body))
        call.moved.set()

    def take_part(self, part: wire.Part) -> None:
        """Take a part of an answer; raise TransportError: `answer.unwanted`, `part.malformed`, `message.malformed`."""
        call = self._wanted(part.key)
        if call.incoming is None or call.incoming.digest != part.digest:
            if call.incoming is not None:
                call.incoming.wipe()
            call.incoming = Incoming(part)
        whole = call.incoming.add(part)
        call.owes_receipt = True
        call.moved.set()
        if whole is not None:
            answer = wire.decode(whole, wire.Answer, code="message.malformed")
            if answer.key != part.key:
                raise TransportError("message.malformed", "the answer to another call", advice="none", retry=False)
            self.take_answer(answer)

    def take_part_receipt(self, receipt: wire.PartReceipt) -> None:
        """Go on with a call of which the platform has so much; raise TransportError (`answer.unwanted`)."""
        call = self._wanted(receipt.key)
        if call.outgoing is not None and call.outgoing.receive(receipt):
            call.moved.set()
            if call.on_progress is not None:
                call.on_progress(call.outgoing.received_bytes, len(call.message))

    def _wanted(self, key: bytes) -> _Call:
        call = self._calls.get(key)
        if call is None or call.answer.done():
            raise TransportError("answer.unwanted", "nobody waits for it", advice="none: it was dropped", retry=False)
        return call


def line_down(message: str) -> TransportError:
    """Return the error of a line that is not there."""
    return TransportError(
        "line.down", message, advice="check the network and the broker; the line comes back by itself", retry=True
    )
