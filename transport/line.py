"""One connection with its keys: sealed messages out and in, and whether the other end still has the keys."""

import asyncio
from dataclasses import dataclass, field

from transport import wire
from transport.envelope import Opener, Sealer
from transport.outbox import RESEND_SECONDS, Outbox
from transport.uplink import Connection, Message, UplinkLost

PUBLISH_SECONDS = 5.0
SILENCE_SECONDS = 3 * RESEND_SECONDS
"""A platform that answers nothing for so long has lost the keys: records were sent three times meanwhile."""


@dataclass(slots=True, eq=False, repr=False)
class Line:
    """One connection with its keys and the outbox of each stream."""

    connection: Connection
    terminal: str
    sealer: Sealer
    opener: Opener
    outboxes: dict[str, Outbox]
    silence_seconds: float
    silence: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))

    async def send(self, stream: str, plaintext: bytes) -> None:
        """Seal and publish, and expect to hear of it; raise UplinkLost when the broker does not take it in time."""
        if self.silence.when() is None:
            self.silence.reschedule(asyncio.get_running_loop().time() + self.silence_seconds)
        message = Message(wire.topic(self.terminal, "up", stream), self.sealer.seal(stream, plaintext))
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self.connection.publish(message)
        except TimeoutError:
            raise UplinkLost(f"the broker took no message for {PUBLISH_SECONDS} s") from None

    def open(self, stream: str, body: bytes) -> bytes:
        """Return the plaintext of what the platform sealed, which shows that it has the keys."""
        plaintext = self.opener.open(stream, body)
        if not self.silence.expired():
            self.silence.reschedule(None)
        return plaintext
