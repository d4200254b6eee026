"""Gets the keys of a line and renews them in time, and learns from each grant what time it is (T20)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from transport import wire
from transport.errors import TransportError
from transport.grants import Grant, PendingRequest, is_withdrawn
from transport.keys import KeyProvider
from transport.line import Line
from transport.sm2 import PublicKey
from transport.uplink import Connection, Message

KEY_LIFE_SECONDS = 86_400.0
ROTATE_AT = 0.9
"""New keys are asked for after this part of a life; the rest is for a platform that is slow to grant them."""
OVERLAP_SECONDS = 30.0
"""How long messages under the keys before may still arrive."""
ASK_AGAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True, repr=False)
class ChannelKeys:
    """The long-lived keys: the terminal's identity signs requests, the platform's public key verifies grants."""

    identity: KeyProvider
    platform: PublicKey


class LineKeys:
    """The terminal's half of the key grants, for one connection after the other."""

    def __init__(
        self,
        terminal: str,
        boot_id: str,
        keys: ChannelKeys,
        *,
        wall_clock: Callable[[], float],
        on_drop: Callable[[str], None],
    ) -> None:
        """Ask as `terminal`; tell `on_drop` the code of each message that was passed over."""
        self._terminal = terminal
        self._boot_id = boot_id
        self._keys = keys
        self._wall_clock = wall_clock
        self._on_drop = on_drop
        self._request: PendingRequest | None = None
        self._granted: asyncio.Future[Grant] | None = None
        self._is_renewing = False
        self._nonce = b""
        self._ahead = 0.0
        self._ends_at = 0.0
        self._rotate_at = 0.0
        self.is_told_the_time = False
        """Whether a grant has come in this life of the terminal."""
        self.clock_off_seconds = 0
        """How far the terminal's wall clock was ahead of the platform's at the last grant."""

    def platform_time(self) -> float:
        """Return seconds since 1970 on the platform's clock, by its last grant and the monotonic clock."""
        return self._ahead + asyncio.get_running_loop().time()

    async def obtain(self, connection: Connection) -> Grant:
        """Ask for keys on a fresh connection and wait for them; raise TransportError (`key.*`)."""
        self._is_renewing = False
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(connection), name="channel-grant")
            try:
                grant = await self._ask(connection)
            finally:
                listening.cancel()
            try:
                await asyncio.wait([listening])
            except asyncio.CancelledError:
                grant.ends.wipe()
                raise
        return grant

    def take(self, body: bytes) -> None:
        """Take a message of the grant topic; raise TransportError (`key.*`) for one that was passed over."""
        if self._request is None or self._granted is None or self._granted.done():
            raise TransportError("key.stale_grant", "nobody asked", advice="none: it was dropped", retry=False)
        try:
            self._granted.set_result(self._request.open(body, self._keys.platform))
        except TransportError as error:
            is_forged = error.code == "key.bad_signature" and self._is_renewing
            if is_forged or error.code in ("key.stale_grant", "key.malformed"):
                raise  # passed over: the keys in force serve on
            self._granted.set_exception(error)

    def is_withdrawn(self, body: bytes) -> bool:
        """Whether the platform says, signed, that it has lost the keys in force."""
        return is_withdrawn(body, self._nonce, self._keys.platform)

    async def renew(self, line: Line, renewed: Callable[[Line], Awaitable[None]]) -> None:
        """Keep fresh keys on `line` until cancelled; call `renewed` after each rotation.

        New keys are asked for when the time has come, the keys have sealed nearly enough, or `line.renew` is set.
        Raises TransportError: `key.no_answer` when the keys end before new ones came, `key.refused` and others of a
        bad grant.
        """
        loop = asyncio.get_running_loop()
        self._is_renewing = True
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._rotate_at):
                    await line.renew.wait()
            try:
                async with asyncio.timeout_at(min(loop.time() + ASK_AGAIN_SECONDS, self._ends_at)):
                    grant = await self._ask(line.connection)
            except TimeoutError:
                if loop.time() >= self._ends_at:
                    raise TransportError(
                        "key.no_answer",
                        "the platform granted no new keys in time",
                        advice="check that the platform serves",
                        retry=True,
                    ) from None
                continue
            line.renew.clear()
            line.install(grant.ends, OVERLAP_SECONDS)
            await renewed(line)

    async def _listen(self, connection: Connection) -> None:
        """Hand over what comes before there are keys; nothing else is wanted yet."""
        topic = wire.topic(self._terminal, "down", "grant")
        while True:
            message = await connection.receive()
            if message.topic != topic:
                self._on_drop("message.before_grant")
                continue
            try:
                self.take(message.body)
            except TransportError as error:
                self._on_drop(error.code)

    async def _ask(self, connection: Connection) -> Grant:
        request = PendingRequest(self._terminal, self._boot_id, self._wall_clock(), self._keys.identity)
        granted: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self._request, self._granted = request, granted
        try:
            await connection.publish(Message(wire.topic(self._terminal, "up", "grant"), request.message))
            grant = await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().ends.wipe()  # it came together with the cancellation
            raise
        finally:
            request.wipe()
            self._request = None
            granted.cancel()
        self._nonce = request.nonce
        self._heed(grant)
        return grant

    def _heed(self, grant: Grant) -> None:
        now = asyncio.get_running_loop().time()
        self._ahead = grant.unix_time - now
        self.is_told_the_time = True
        self.clock_off_seconds = round(self._wall_clock() - grant.unix_time)
        life = min(grant.life_seconds, KEY_LIFE_SECONDS)
        self._rotate_at, self._ends_at = now + ROTATE_AT * life, now + life
