"""Serves the local API: one task tree per client, bounded in connections (H12, L38, L43)."""

import asyncio
from collections import Counter
from contextlib import suppress

import structlog

from runtime.api import rpc
from runtime.api.connection import SLOW_CLIENT_SECONDS, Connection
from runtime.api.listen import Client, ClientListener
from runtime.api.roles import Roles
from runtime.api.rpc import RpcError
from runtime.api.table import Terminal
from runtime.supervisor import error_code, error_types

log = structlog.get_logger(__name__)

MOST_CONNECTIONS = 16
"""Connections of one user at a time."""
ACCEPT_PAUSE_SECONDS = 0.2
"""After an accept that failed (no descriptors left), so that the failure is not a busy loop."""
AGAIN_SECONDS = 86_400.0
"""After this, what a user is refused again is told again."""
STOP_SECONDS = 2.0
"""What clients may take to be told that the daemon stops."""


class ApiServer:
    """Accepts clients and serves each in a task of its own."""

    def __init__(self, terminal: Terminal, roles: Roles, line_limit_bytes: int) -> None:
        self._terminal = terminal
        self._roles = roles
        self._line_limit_bytes = line_limit_bytes
        self._connections: set[Connection] = set()
        self._by_uid: Counter[int] = Counter()
        self._refused: dict[tuple[int, str], float] = {}

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

    def end(self, uid: int) -> None:
        """End what a user does here: a role of his is over."""
        for connection in self._connections:
            if connection.uid == uid:
                connection.cut()

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
            if not self._roles.of(client.uid):
                await self._refuse_stranger(client)
            elif self._by_uid[client.uid] >= MOST_CONNECTIONS:
                await _turn_away(client, "caller.too_many", f"{MOST_CONNECTIONS} connections are open", retry=True)
            else:
                await self._serve(Connection(client, self._terminal, self._line_limit_bytes, self._note_refused))
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
        """Tell what a user was refused, once a day for each; whoever goes on knocking fills neither log."""
        self._terminal.staff.refused(uid)
        now = asyncio.get_running_loop().time()
        if now >= self._refused.get((uid, what), now):
            self._refused[uid, what] = now + AGAIN_SECONDS
            log.warning("caller_refused", uid=uid, what=what)
            actor = self._terminal.staff.actor(uid)
            await self._terminal.audit.note("caller_refused", actor=actor, details={"what": what})


async def _turn_away(client: Client, code: str, message: str, *, retry: bool) -> None:
    error = RpcError(rpc.APPLICATION_ERROR, code, message, advice="see the lists of users in [api]", retry=retry)
    try:
        async with asyncio.timeout(SLOW_CLIENT_SECONDS):
            await client.write(rpc.encode_error(None, error))
    except OSError:
        pass
    finally:
        await client.close()
