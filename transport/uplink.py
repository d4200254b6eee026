"""The broker connection: the seam between the sealed channel and MQTT. The in-memory form lives in `sim.uplink`."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


class UplinkLost(ConnectionError):
    """The broker connection is gone or could not be made."""


@dataclass(frozen=True, slots=True)
class Message:
    """An MQTT message: its topic and its bytes."""

    topic: str
    body: bytes


class Connection(Protocol):
    """One living connection to the broker."""

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        """Publish at QoS 1 and return after the PUBACK, which proves nothing; raise UplinkLost when it fails."""

    async def receive(self) -> Message:
        """Return the next message of the subscriptions; raise UplinkLost when the connection is gone."""


class Uplink(Protocol):
    """Makes connections to the configured broker."""

    def connect(self, subscriptions: Sequence[str], will: Message) -> AbstractAsyncContextManager[Connection]:
        """Connect anew with `will` as a retained last will and subscribe at QoS 1; raise UplinkLost when it fails."""
