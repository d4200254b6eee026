"""A client program of the local API that hears everything it is told: the citizens' screen, or an operator's."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from sim.caller import CallRefused
from sim.simulate.life import Client, Life

LONGEST_CALL_SECONDS = 400.0
"""No call of a citizen may take longer, whatever happens."""


class Screen:
    """A connection to one life of the daemon. `on_notice` is given each notification as it comes."""

    def __init__(
        self,
        life: Life,
        uid: int,
        on_told: Callable[[bytes], None],
        on_notice: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._client = Client(uid, life, on_told)
        self._on_notice = on_notice
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last = 0
        self._has_hung_up = False
        self._reader = asyncio.create_task(self._read(), name="screen")

    async def call(self, method: str, /, **params: Any) -> dict[str, Any]:
        """Call a method and return its result; raise CallRefused, ConnectionError, TimeoutError."""
        if self._client.closed.is_set():
            raise ConnectionError("the daemon is gone")
        self._last += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[self._last] = answer
        request = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}
        self._client.said.put_nowait(msgspec.json.encode(request) + b"\n")
        async with asyncio.timeout(LONGEST_CALL_SECONDS):
            return await answer

    @property
    def is_dark(self) -> bool:
        """Whether the connection is gone."""
        return self._has_hung_up or self._reader.done()

    def stall(self, *, stalls: bool) -> None:
        """Take nothing that is told, or take it again."""
        if stalls:
            self._client.taking.clear()
        else:
            self._client.taking.set()

    def hang_up(self) -> None:
        """End the connection from this side."""
        self._has_hung_up = True
        self._client.said.put_nowait(b"")
        self._reader.cancel()

    async def _read(self) -> None:
        client = self._client
        while True:
            await client.arrived.wait()
            client.arrived.clear()
            *lines, rest = bytes(client.heard).split(b"\n")
            client.heard[:] = rest
            for line in lines:
                self._take(msgspec.json.decode(line))
            if client.closed.is_set():
                break
        for answer in self._asked.values():
            answer.set_exception(ConnectionError("the daemon is gone"))
            answer.exception()
        self._asked.clear()

    def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            self._on_notice(message["method"], message["params"])
            return
        answer = self._asked.pop(message["id"], None)
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(CallRefused(message["error"]["code"], message["error"]["data"]["code"]))
        else:
            answer.set_result(message["result"])
