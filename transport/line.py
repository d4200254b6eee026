"""One connection with its keys: sealed messages out and in, and whether the other end still has the keys."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from transport import wire
from transport.errors import TransportError
from transport.gate import Gate, Urgency
from transport.outbox import RESEND_SECONDS
from transport.ring import Ends, KeyRing
from transport.uplink import Connection, Message, UplinkLost

PUBLISH_SECONDS = 5.0
IN_FLIGHT = 16
"""Messages on their way to the broker at once."""
SILENCE_SECONDS = 3 * RESEND_SECONDS
"""A platform that answers nothing for so long has lost the keys: records were sent three times meanwhile."""


@dataclass(slots=True, eq=False, repr=False)
class Line:
    """One connection with its keys."""

    connection: Connection
    terminal: str
    ring: KeyRing
    silence_seconds: float
    silence: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))
    renew: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when new keys are wanted before their time."""
    gate: Gate = field(default_factory=lambda: Gate(IN_FLIGHT))
    _ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _retiring: asyncio.TimerHandle | None = None

    def install(self, keys: Ends, overlap_seconds: float) -> None:
        """Seal under new keys; those before open what is still on its way for so long."""
        self.ring.install(keys)
        if self._retiring is not None:
            self._retiring.cancel()
        self._retiring = asyncio.get_running_loop().call_later(overlap_seconds, self.ring.retire)

    def end(self, error: TransportError) -> None:
        """Destroy the keys, so that nothing more is sealed, and end the line with `error`."""
        self.ring.wipe()
        if not self._ended.done():
            self._ended.set_exception(error)

    async def ended(self) -> None:
        """Raise what `end` was given, once it is called."""
        await asyncio.shield(self._ended)

    def close(self) -> None:
        """Destroy the keys."""
        self.ring.wipe()
        if self._retiring is not None:
            self._retiring.cancel()
        if self._ended.done():
            self._ended.exception()

    async def send(self, stream: str, plaintext: bytes, urgency: Urgency, *, wants_answer: bool = True) -> None:
        """Seal and publish when it is its turn; raise UplinkLost when the broker does not take it in time.

        With `wants_answer` something sealed must be heard within `silence_seconds`, or the line ends. After `end` it
        raises what that was given.
        """
        async with self.gate.turn(urgency):
            if self._ended.done():
                self._ended.result()
            if wants_answer and self.silence.when() is None:
                self.silence.reschedule(asyncio.get_running_loop().time() + self.silence_seconds)
            message = Message(wire.topic(self.terminal, "up", stream), self.ring.seal(stream, plaintext))
            if self.ring.is_nearly_used:
                self.renew.set()
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await self.connection.publish(message)
            except TimeoutError:
                raise UplinkLost(f"the broker took no message for {PUBLISH_SECONDS} s") from None

    def open(self, stream: str, body: bytes) -> bytes:
        """Return the plaintext of what the platform sealed, which shows that it has the keys."""
        plaintext = self.ring.open(stream, body)
        if not self.silence.expired():
            self.silence.reschedule(None)
        return plaintext


def what_ended(group: ExceptionGroup[Exception]) -> Exception:
    """Return what ended the tasks of a line: a bug as it is, otherwise the reason that says most."""
    expected, others = group.split((UplinkLost, TransportError))
    if others is not None or expected is None:
        return group
    errors = list(_leaves(expected))
    revoked = [error for error in errors if getattr(error, "code", None) == "key.revoked"]
    return (revoked or errors)[0]


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
