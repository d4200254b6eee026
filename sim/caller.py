"""A client program of the local API in memory, for stories on virtual time: both ends of its connection."""

import asyncio
from typing import Any

import msgspec


class CallRefused(Exception):
    """A JSON-RPC error."""

    def __init__(self, number: int, code: str) -> None:
        super().__init__(code)
        self.number = number
        self.code = code


class MemoryClient:
    """One connection to the API, both ends; the daemon holds it as a `runtime.api.listen.Client`."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.closed = asyncio.Event()
        self.taking = asyncio.Event()
        self.taking.set()
        self.said = asyncio.Queue[bytes]()
        self.heard = bytearray()
        self.arrived = asyncio.Event()

    async def read(self) -> bytes:
        """Return what the program said next."""
        return await self.said.get()

    async def write(self, data: bytes) -> None:
        """Give the daemon's bytes to the program; wait while it takes none."""
        await self.taking.wait()
        if self.closed.is_set():
            raise BrokenPipeError
        self.heard += data
        self.arrived.set()

    async def close(self) -> None:
        """End the connection."""
        self.closed.set()
        self.arrived.set()


class Entrance:
    """Where memory clients, or anything else, come in."""

    def __init__(self) -> None:
        self.waiting = asyncio.Queue[Any]()

    async def accept(self) -> Any:
        """Return who comes next."""
        return await self.waiting.get()


class Caller:
    """A client program: calls methods and keeps the notifications."""

    def __init__(self, client: MemoryClient) -> None:
        self.client = client
        self.notices: list[tuple[str, dict[str, Any]]] = []
        self._answers: dict[int | None, dict[str, Any]] = {}
        self._last = 0

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.client.said.put_nowait(data)

    def ask(self, method: str, /, **params: Any) -> int:
        """Send a request and return its number."""
        self._last += 1
        self.raw(msgspec.json.encode({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}) + b"\n")
        return self._last

    async def answer(self, number: int | None, *, seconds: float = 60.0) -> dict[str, Any]:
        """Return the answer to a request; raise CallRefused, TimeoutError, ConnectionError."""
        async with asyncio.timeout(seconds):
            while number not in self._answers:
                await self._listen()
        message = self._answers.pop(number)
        if "error" in message:
            raise CallRefused(message["error"]["code"], message["error"]["data"]["code"])
        result: dict[str, Any] = message["result"]
        return result

    async def call(self, method: str, /, *, seconds: float = 60.0, **params: Any) -> dict[str, Any]:
        """Call a method and return its result; raises as `answer`."""
        return await self.answer(self.ask(method, **params), seconds=seconds)

    async def notice(self, name: str, *, seconds: float = 60.0) -> dict[str, Any]:
        """Return the next notification of this name."""
        async with asyncio.timeout(seconds):
            while True:
                for index, (method, params) in enumerate(self.notices):
                    if method == name:
                        del self.notices[index]
                        return params
                await self._listen()

    async def component(self, name: str, state: str) -> None:
        """Wait until a component is in a state; subscribe first."""
        while True:
            change = await self.notice("events.change")
            if change["component"] == name and change["state"]["state"] == state:
                return

    def hang_up(self) -> None:
        """End the connection from this side."""
        self.raw(b"")

    async def _listen(self) -> None:
        while b"\n" not in self.client.heard:
            if self.client.closed.is_set():
                raise ConnectionError("the daemon closed the connection")
            self.client.arrived.clear()
            await self.client.arrived.wait()
        line, _, rest = bytes(self.client.heard).partition(b"\n")
        self.client.heard[:] = rest
        message = msgspec.json.decode(line)
        if "method" in message:
            self.notices.append((message["method"], message["params"]))
        else:
            self._answers[message["id"]] = message
