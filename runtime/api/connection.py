"""One client of the local API: its requests, their answers, its notifications, all bounded (H12, L38, L43)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import structlog

from runtime import texts
from runtime.api import rpc
from runtime.api.listen import Client
from runtime.api.methods import BY_NAME
from runtime.api.operations import Operations
from runtime.api.roles import Role
from runtime.api.rpc import RequestId, RpcError
from runtime.api.shapes import Nothing
from runtime.api.table import Method, Terminal
from runtime.session import CANCEL_SECONDS
from runtime.state import Subscription, TooSlow
from runtime.supervisor import error_code, error_types

log = structlog.get_logger(__name__)

MOST_REQUESTS = 16
"""Requests of one connection under way at a time."""
OUTGOING_LINES = 256
"""Lines that may wait for a client; one that lets more pile up is cut off."""
SLOW_CLIENT_SECONDS = 5.0
"""A client that takes nothing for this long is cut off."""
DISCARD_SECONDS = 2.0
"""How long the rest of an oversized line is read and forgotten, so that its sender can read why it was refused."""


class Connection:
    """One client: reads its requests, runs each as a task, writes answers and notifications in order."""

    def __init__(
        self,
        client: Client,
        terminal: Terminal,
        line_limit_bytes: int,
        on_refused: Callable[[int, str], Coroutine[Any, Any, None]],
    ) -> None:
        self.uid = client.uid
        self.ended = asyncio.Event()
        self._client = client
        self._terminal = terminal
        self._on_refused = on_refused
        self._splitter = rpc.LineSplitter(line_limit_bytes)
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue(OUTGOING_LINES)
        self._group = asyncio.TaskGroup()
        self.operations = Operations(self._group)
        self._requests: set[asyncio.Task[None]] = set()
        self._forwarding: asyncio.Task[None] | None = None
        self._reading: asyncio.Timeout | None = None
        self._gone = False

    @property
    def roles(self) -> frozenset[Role]:
        """The roles that the user has now."""
        return self._terminal.staff.roles(self.uid)

    @property
    def actor(self) -> str:
        """The user as the audit log names him."""
        return self._terminal.staff.actor(self.uid)

    async def serve(self) -> None:
        """Serve until the client leaves or is cut off; then end its session and wait for its requests to end."""
        try:
            async with self._group:
                sender = self._group.create_task(self._send(), name="api-sender")
                try:
                    await self._receive()
                finally:
                    self._terminal.sessions.lost(self)
                await self._finish(sender)
        finally:
            self._gone = True
            self._terminal.sessions.lost(self)  # a session that its last request opened after the client had left
            self._terminal.presence.left(self)
            await self._client.close()
            self.ended.set()

    def cut(self) -> None:
        """Read no more of this client; what it asked for may end within CANCEL_SECONDS, and is sent if it takes it."""
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(asyncio.get_running_loop().time())

    def notify(self, method: str, params: msgspec.Struct) -> None:
        """Queue a notification; to a client that is gone it is nothing."""
        self._queue(rpc.encode_notification(method, params))

    def forward(self, subscription: Subscription) -> None:
        """Send the subscription's changes from now on, in place of an earlier one's."""
        if self._forwarding is not None:
            self._forwarding.cancel()
        self._forwarding = self._group.create_task(self._forward(subscription), name="api-events")

    async def _receive(self) -> None:
        try:
            async with asyncio.timeout(None) as self._reading:
                while chunk := await self._client.read():
                    for line in self._splitter.feed(chunk):
                        self._take(line)
        except RpcError as error:
            self._queue(rpc.encode_error(None, error))
            await self._discard()
        except OSError:
            pass
        finally:
            self._reading = None

    async def _discard(self) -> None:
        with suppress(OSError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while await self._client.read():
                    pass

    def _take(self, line: bytes) -> None:
        """Start what a line asks for, or queue why not."""
        try:
            request = rpc.parse(line)
        except RpcError as error:
            self._queue(rpc.encode_error(error.request_id, error))
            return
        try:
            if len(self._requests) >= MOST_REQUESTS:
                raise _too_many()
            _, call = self.prepare(request.method, bytes(request.params))
        except RpcError as error:
            self._queue(rpc.encode_error(request.id, error))
            return
        task = self._group.create_task(self._answer(request.id, call), name=f"api-{request.method}")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    def prepare(self, method: str, params: bytes) -> tuple[msgspec.Struct, Callable[[], Awaitable[msgspec.Struct]]]:
        """Return the parameters of a call and what does it, both for this caller; both raise RpcError."""
        row = self._allowed(method)
        decoded = _params(row, params)
        return decoded, partial(self._work, row, decoded)

    async def _expect_approval(self, method: Method, params: msgspec.Struct) -> None:
        """Go on when another person has approved of this; else ask for that, and refuse until then (H10)."""
        act = await self._terminal.approvals.ask(self.uid, self.actor, method.name, msgspec.json.encode(params))
        if act is not None:
            self._terminal.staff.refused(self.uid)
            raise RpcError(
                rpc.APPLICATION_ERROR,
                "caller.second_person",
                f"{method.name} needs a second person: act {act.act}",
                advice="have another operator call staff.approve with this act, then call again",
                retry=True,
            )

    def _allowed(self, name: str) -> Method:
        method = BY_NAME.get(name)
        if method is None:
            raise RpcError(
                rpc.METHOD_NOT_FOUND, "request.unknown_method", "there is no such method", advice="call rpc.discover"
            )
        roles = self.roles
        if method.role in roles or (method.role is None and roles):
            return method
        self._group.create_task(self._on_refused(self.uid, method.name), name="api-refused")
        code = self._terminal.staff.why_not(self.uid, method.role)
        message = f"{method.name} is for the role {method.role or 'of anybody whose grant is in force'}"
        raise RpcError(rpc.APPLICATION_ERROR, code, message, advice=_ADVICE[code])

    async def _work(self, method: Method, params: msgspec.Struct) -> msgspec.Struct:
        try:
            if method.is_sensitive and self._terminal.staff.is_granted:
                await self._expect_approval(method, params)
            return await method.handler(self._terminal, self, params)
        except Exception as error:  # noqa: BLE001 - the supervised boundary: no request ends the daemon
            raise _refusal(method, error) from None

    async def _answer(self, request_id: RequestId, call: Callable[[], Awaitable[msgspec.Struct]]) -> None:
        try:
            self._queue(rpc.encode_result(request_id, await call()))
        except RpcError as error:
            self._queue(rpc.encode_error(request_id, error))

    async def _forward(self, subscription: Subscription) -> None:
        try:
            while True:
                await self._outgoing.put(rpc.encode_notification("events.change", await subscription.next()))
        except TooSlow:
            await self._outgoing.put(rpc.encode_notification("events.lost", Nothing()))
        finally:
            subscription.close()

    def _queue(self, line: bytes) -> None:
        if self._gone:
            return
        try:
            self._outgoing.put_nowait(line)
        except asyncio.QueueFull:
            self._lost("does not read")

    async def _send(self) -> None:
        try:
            while (line := await self._outgoing.get()) is not None:
                async with asyncio.timeout(SLOW_CLIENT_SECONDS):
                    await self._client.write(line)
        except OSError as error:
            self._lost(error_types(error))

    def _lost(self, reason: str) -> None:
        if not self._gone:
            self._gone = True
            log.info("client_cut_off", uid=self.uid, reason=reason)
            self.cut()

    async def _finish(self, sender: asyncio.Task[None]) -> None:
        """Let requests end (the session's end cancels its own), then let the client have its answers."""
        if self._requests:
            _, stuck = await asyncio.wait(self._requests, timeout=CANCEL_SECONDS + 1.0)
            for task in stuck:
                task.cancel()
        await self.operations.stop()
        if self._forwarding is not None:
            self._forwarding.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(SLOW_CLIENT_SECONDS):
                if not self._gone:
                    await self._outgoing.put(None)
                    await asyncio.wait([sender])
        sender.cancel()


_ADVICE = {
    "caller.not_allowed": "call as a user of that role; operators and testers never reach a session (T21)",
    "caller.not_granted": "have the platform grant this account the role; a grant that it had may be over (H6)",
    "caller.no_window": "have the platform open a window of remote maintenance for this account (H10)",
}


def _params(method: Method, params: bytes) -> msgspec.Struct:
    try:
        return msgspec.json.decode(params, type=method.params)
    except msgspec.ValidationError as error:
        reason = str(error)
    except rpc.UNREADABLE:
        reason = "unreadable"
    raise RpcError(
        rpc.INVALID_PARAMS,
        "request.bad_params",
        f"{method.name}: {reason}",
        advice="call rpc.discover for its parameters",
    )


def _refusal(method: Method, error: Exception) -> RpcError:
    """Say an error in the caller's terms; a bug is logged by its type and told as `internal`."""
    if isinstance(error, RpcError):
        return error
    code = error_code(error)
    if code == "internal":
        log.error("request_failed", method=method.name, code=code, error=error_types(error))
        return RpcError(rpc.INTERNAL_ERROR, code, "the daemon failed at this", advice="report a software fault")
    advice, retry = getattr(error, "advice", "try again"), bool(getattr(error, "retry", True))
    text = getattr(error, "text", None) or (texts.text(code).zh if code in texts.codes() else None)
    return RpcError(rpc.APPLICATION_ERROR, code, str(error), advice=advice, retry=retry, text=text)


def _too_many() -> RpcError:
    message = f"{MOST_REQUESTS} requests are under way"
    return RpcError(rpc.APPLICATION_ERROR, "request.too_many", message, advice="wait for an answer", retry=True)
