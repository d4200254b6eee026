"""Watches every envelope on the broker: no nonce may come twice under a key with other bytes (T20)."""

import asyncio
import hashlib

import msgspec

from transport.envelope import Envelope, read
from transport.errors import TransportError
from transport.uplink import Connection, Message, Uplink, UplinkLost
from transport.wire import encode

_AGAIN_SECONDS = 0.2
_TOPICS = "govterm/v1/#"
_WILL = Message("govterm/watch", b"offline")
_NOT_SEALED = ("grant", "presence")


class Watch:
    """A client with read rights on everything; an identical envelope that the broker repeats is no reuse."""

    def __init__(self, uplink: Uplink, *, reuses_nonce: bool) -> None:
        """With `reuses_nonce` it puts a second envelope beside the first record's, under the same nonce: a sabotage."""
        self._uplink = uplink
        self._is_to_reuse = reuses_nonce
        self._seen: dict[bytes, bytes] = {}
        self.reused = 0

    @property
    def envelopes(self) -> int:
        """How many different envelopes were seen."""
        return len(self._seen)

    async def run(self) -> None:
        """Watch until cancelled, connecting again whenever the broker is lost."""
        while True:
            try:
                async with self._uplink.connect([_TOPICS], _WILL) as connection:
                    while True:
                        await self._take(connection, await connection.receive())
            except* UplinkLost:
                pass
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _take(self, connection: Connection, message: Message) -> None:
        stream = message.topic.rpartition("/")[2]
        if stream in _NOT_SEALED:
            return
        try:
            envelope = read(message.body)
        except TransportError:
            return
        self._note(envelope, message.body)
        if self._is_to_reuse and stream == "record":
            self._is_to_reuse = False
            twin = msgspec.structs.replace(envelope, sealed=bytes(len(envelope.sealed)))
            await connection.publish(Message(message.topic, encode(twin)))

    def _note(self, envelope: Envelope, body: bytes) -> None:
        digest = hashlib.sha256(body).digest()
        if self._seen.setdefault(envelope.key_id + envelope.nonce, digest) != digest:
            self.reused += 1
