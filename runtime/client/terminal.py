"""The typed client: a terminal, a citizen's session on it, and its state across lost connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runtime.api.rpc import API_VERSION
from runtime.client.methods import SessionMethods, TerminalMethods
from runtime.client.wire import ClientError, Notification, RpcError, Wire, open_wire

AGAIN_SECONDS = 0.2
"""Between two tries to reach the daemon again."""
HELLO_SECONDS = 20.0
"""The service manager keeps the socket while it starts the daemon again, 5 s after it died."""


class Session(SessionMethods):
    """A citizen's session; a `with` closes it at the end."""

    def __init__(self, wire: Wire, session: str) -> None:
        super().__init__(wire, session=session)
        self.id = session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(RpcError, ClientError):  # it has ended already, or ends with the connection
            await self.close()


class Terminal(TerminalMethods):
    """A terminal, over one connection; made by `connect`."""

    async def call(self, method: str, params: Any = None, *, seconds: float = 10.0) -> Any:
        """Call a method by name and return its result as it stands in JSON; raise RpcError or ClientError."""
        return await self.wire.call(method, params, seconds=seconds)

    def notifications(self) -> AsyncIterator[Notification]:
        """Yield what the daemon says unasked until the connection ends; the oldest beyond 1,000 untaken are lost."""
        return self.wire.notifications()

    async def open_session(self) -> Session:
        """Begin a citizen's session."""
        return Session(self.wire, (await self.session_open()).session)


@asynccontextmanager
async def connect(
    path: Path | str, *, client: str = "govterm-client", seconds: float = HELLO_SECONDS
) -> AsyncIterator[Terminal]:
    """Connect to the daemon's socket for the length of a `with`.

    Raises ClientError (`client.unreachable`), and RpcError when the daemon does not serve this user
    (`caller.unknown`) or this version of the API (`request.unsupported_version`).
    """
    async with open_wire(path, seconds=seconds) as wire:
        await wire.call("rpc.hello", {"client": client, "version": API_VERSION}, seconds=seconds)
        yield Terminal(wire)


async def follow(path: Path | str) -> AsyncIterator[dict[str, Any]]:
    """Yield the state of every component, as it stands in JSON, now and at each change, for ever.

    A lost connection is made anew and goes on where it broke off; raises RpcError when the daemon refuses.
    """
    state: dict[str, Any] = {}
    since: dict[str, Any] | None = None
    while True:
        try:
            async with connect(path) as terminal:
                subscribed = await terminal.call("events.subscribe", {"since": since})
                since = {"epoch": subscribed["epoch"], "sequence": subscribed["sequence"]}
                if subscribed["state"] is not None:
                    state = subscribed["state"]
                    yield dict(state)
                async for said in terminal.notifications():
                    if said.method == "events.change":
                        state[said.params["component"]] = said.params["state"]
                        since["sequence"] = said.params["sequence"]
                        yield dict(state)
                    elif said.method == "events.lost":
                        break
        except ClientError:
            await asyncio.sleep(AGAIN_SECONDS)
