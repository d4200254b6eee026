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

    @property
    def valid(self) -> tuple[float, float] | None:
        """From when to when the broker's certificate is valid, in seconds since 1970; None without a certificate."""

    async def publish(self, message: Message, *, retain: bool = False) -> None:
        """Publish at QoS 1 and return after the PUBACK, which proves nothing; raise UplinkLost when it fails.

        Messages leave in the order of the calls, without waiting for each other: the caller bounds how many.
        """

    async def receive(self) -> Message:
        """Return the next message of the subscriptions; raise UplinkLost when the connection is gone."""


class Uplink(Protocol):
    """Makes connections to the configured broker."""

    def connect(self, subscriptions: Sequence[str], will: Message) -> AbstractAsyncContextManager[Connection]:
        """Connect anew with `will` as a retained last will and subscribe at QoS 1; raise UplinkLost when it fails."""
