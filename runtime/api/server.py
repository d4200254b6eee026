"""Serves the local API: one task tree per client, bounded in lines, requests and connections (H12, L38, L43)."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from runtime.api import rpc
from runtime.api.listen import Client, ClientListener
from runtime.api.methods import BY_NAME
from runtime.api.roles import Role, Roles
from runtime.api.rpc import Request, RequestId, RpcError
from runtime.api.shapes import Nothing
from runtime.api.table import Method, Terminal
from runtime.session import CANCEL_SECONDS
from runtime.state import Subscription, TooSlow
from runtime.supervisor import error_code, error_types

log = structlog.get_logger(__name__)

MOST_CONNECTIONS = 16
"""Connections of one user at a time."""
MOST_REQUESTS = 16
"""Requests of one connection under way at a time."""
OUTGOING_LINES = 256
"""Lines that may wait for a client; one that lets more pile up is cut off."""
SLOW_CLIENT_SECONDS = 5.0
"""A client that takes nothing for this long is cut off."""
DISCARD_SECONDS = 2.0
"""How long the rest of an oversized line is read and forgotten, so that its sender can read why it was refused."""
ACCEPT_PAUSE_SECONDS = 0.2
"""After an accept that failed (no descriptors left), so that the failure is not a busy loop."""
STOP_SECONDS = 2.0
"""What clients may take to be told that the daemon stops."""


class Connection:
    """One client: reads its requests, runs each as a task, writes answers and notifications in order."""

    def __init__(
        self,
        client: Client,
        role: Role,
        terminal: Terminal,
        line_limit_bytes: int,
        on_refused: Callable[[int, str], Coroutine[Any, Any, None]],
    ) -> None:
        self.role = role
        self.uid = client.uid
        self.ended = asyncio.Event()
        self._client = client
        self._terminal = terminal
        self._on_refused = on_refused
        self._splitter = rpc.LineSplitter(line_limit_bytes)
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue(OUTGOING_LINES)
        self._group = asyncio.TaskGroup()
        self._requests: set[asyncio.Task[None]] = set()
        self._forwarding: asyncio.Task[None] | None = None
        self._reading: asyncio.Timeout | None = None
        self._gone = False

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
            await self._client.close()
            self.ended.set()

    def cut(self) -> None:
        """Read no more of this client; what it is still owed is sent if it takes it."""
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
            method = self._method(request)
            params = _params(method, request)
        except RpcError as error:
            self._queue(rpc.encode_error(request.id, error))
            return
        task = self._group.create_task(self._answer(request.id, method, params), name=f"api-{method.name}")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    def _method(self, request: Request) -> Method:
        method = BY_NAME.get(request.method)
        if method is None:
            raise RpcError(
                rpc.METHOD_NOT_FOUND, "request.unknown_method", "there is no such method", advice="call rpc.discover"
            )
        if method.role not in (None, self.role):
            self._group.create_task(self._on_refused(self.uid, method.name), name="api-refused")
            raise RpcError(
                rpc.APPLICATION_ERROR,
                "caller.not_allowed",
                f"role {self.role} may not call {method.name}",
                advice="call as a user of the other role; operators never reach a session (T21)",
            )
        if len(self._requests) >= MOST_REQUESTS:
            raise RpcError(
                rpc.APPLICATION_ERROR,
                "request.too_many",
                f"{MOST_REQUESTS} requests are under way",
                advice="wait for an answer",
                retry=True,
            )
        return method

    async def _answer(self, request_id: RequestId, method: Method, params: msgspec.Struct) -> None:
        try:
            result = await method.handler(self._terminal, self, params)
        except Exception as error:  # noqa: BLE001 - the supervised boundary: no request ends the daemon
            self._queue(rpc.encode_error(request_id, _refusal(method, error)))
        else:
            self._queue(rpc.encode_result(request_id, result))

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
        if self._forwarding is not None:
            self._forwarding.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(SLOW_CLIENT_SECONDS):
                if not self._gone:
                    await self._outgoing.put(None)
                    await asyncio.wait([sender])
        sender.cancel()


def _params(method: Method, request: Request) -> msgspec.Struct:
    try:
        return msgspec.json.decode(request.params, type=method.params)
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
    code = error_code(error)
    if code == "internal":
        log.error("request_failed", method=method.name, code=code, error=error_types(error))
        return RpcError(rpc.INTERNAL_ERROR, code, "the daemon failed at this", advice="report a software fault")
    advice, retry = getattr(error, "advice", "try again"), bool(getattr(error, "retry", True))
    return RpcError(rpc.APPLICATION_ERROR, code, str(error), advice=advice, retry=retry)


class ApiServer:
    """Accepts clients and serves each in a task of its own."""

    def __init__(self, terminal: Terminal, roles: Roles, line_limit_bytes: int) -> None:
        self._terminal = terminal
        self._roles = roles
        self._line_limit_bytes = line_limit_bytes
        self._connections: set[Connection] = set()
        self._by_uid: Counter[int] = Counter()
        self._refused: set[tuple[int, str]] = set()

    async def serve(self, listener: ClientListener) -> None:
        """Accept clients until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    client = await listener.accept()
                except OSError:
                    await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                    continue
                group.create_task(self._admit(client), name=f"api-client-{client.uid}")

    async def stop(self) -> None:
        """Cut every connection off, giving each STOP_SECONDS to take what it is owed."""
        connections = list(self._connections)
        for connection in connections:
            connection.cut()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for connection in connections:
                    await connection.ended.wait()

    async def _admit(self, client: Client) -> None:
        """Serve one client to its end; whatever goes wrong with it concerns no other."""
        try:
            role = self._roles.of(client.uid)
            if role is None:
                await self._refuse_stranger(client)
            elif self._by_uid[client.uid] >= MOST_CONNECTIONS:
                await _turn_away(client, "caller.too_many", f"{MOST_CONNECTIONS} connections are open", retry=True)
            else:
                await self._serve(Connection(client, role, self._terminal, self._line_limit_bytes, self._note_refused))
        except Exception as error:  # noqa: BLE001 - the supervised boundary: no client ends the daemon
            log.error("client_failed", uid=client.uid, code=error_code(error), error=error_types(error))
            await client.close()

    async def _serve(self, connection: Connection) -> None:
        self._by_uid[connection.uid] += 1
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._by_uid[connection.uid] -= 1
            self._connections.remove(connection)

    async def _refuse_stranger(self, client: Client) -> None:
        await _turn_away(client, "caller.unknown", "this user has no role here", retry=False)
        await self._note_refused(client.uid, "connect")

    async def _note_refused(self, uid: int, what: str) -> None:
        """Tell what a user was refused, once for each; whoever goes on knocking fills neither log."""
        if (uid, what) not in self._refused:
            self._refused.add((uid, what))
            log.warning("caller_refused", uid=uid, what=what)
            await self._terminal.audit.note("caller_refused", actor=f"uid {uid}", details={"what": what})


async def _turn_away(client: Client, code: str, message: str, *, retry: bool) -> None:
    error = RpcError(
        rpc.APPLICATION_ERROR, code, message, advice="see ui_users and operator_users in [api]", retry=retry
    )
    try:
        async with asyncio.timeout(SLOW_CLIENT_SECONDS):
            await client.write(rpc.encode_error(None, error))
    except OSError:
        pass
    finally:
        await client.close()
