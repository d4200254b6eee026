"""A connection to the local API: JSON-RPC 2.0, one JSON text a line, calls by name."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

LINE_LIMIT_BYTES = 1 << 20
NOTIFICATIONS_KEPT = 1_000
CLOSE_SECONDS = 1.0
"""What the daemon may take for what was written before a connection is closed."""


class RpcError(Exception):
    """The daemon refused a call. `code`, `retry` and `advice` are the daemon's; `data` holds them as they came."""

    def __init__(self, number: int, message: str, data: dict[str, Any]) -> None:
        super().__init__(message)
        self.number = number
        self.data = data
        self.code = str(data.get("code", "rpc.error"))
        self.retry = data.get("retry") is True
        self.advice = str(data.get("advice", ""))


class ClientError(Exception):
    """The daemon was not reached, did not answer in time, or does not speak the protocol."""

    def __init__(self, code: str, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = True
        self.advice = advice


class Notification(msgspec.Struct, frozen=True):
    """What the daemon says unasked."""

    method: str
    params: Any


class _Fault(msgspec.Struct):
    code: int
    message: str
    data: dict[str, Any] | None = None


class _Line(msgspec.Struct):
    id: int | None = None
    result: Any = None
    error: _Fault | None = None
    method: str | None = None
    params: Any = None


class Wire:
    """One connection; made by `open_wire`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._notifications: asyncio.Queue[Notification | None] = asyncio.Queue(NOTIFICATIONS_KEPT)
        self._ended: ClientError | None = None

    async def call(self, method: str, params: Any = None, *, seconds: float = 10.0) -> Any:
        """Call a method and return its result; raise RpcError when it is refused, ClientError when none comes."""
        if self._ended is not None:
            raise self._ended
        self._last_id += 1
        number = self._last_id
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": {} if params is None else params}
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                self._writer.write(msgspec.json.encode(request) + b"\n")
                await self._writer.drain()
                return await answer
        except TimeoutError:
            raise ClientError(
                "client.no_answer", f"no answer to {method} within {seconds:g} s", advice="see the daemon's log"
            ) from None
        except ConnectionError:
            raise self._ended or _gone() from None
        finally:
            del self._waiting[number]
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def notifications(self) -> AsyncIterator[Notification]:
        """Yield what the daemon says unasked until the connection ends; the oldest beyond 1,000 untaken are lost."""
        while (one := await self._notifications.get()) is not None:
            yield one
        self._notifications.put_nowait(None)

    async def listen(self) -> None:
        """Read the connection to its end; `open_wire` runs this as a task."""
        try:
            while line := await self._reader.readline():
                self._take(msgspec.json.decode(line, type=_Line))
            self._ended = _gone()
        except ConnectionError:
            self._ended = _gone()
        except (ValueError, msgspec.MsgspecError):
            self._ended = ClientError(
                "client.protocol", "the answer is no JSON-RPC line", advice="check that the socket is govterm's"
            )
        finally:
            ended = self._ended or _gone()
            self._ended = ended
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ended)
            self._keep(None)

    def _take(self, line: _Line) -> None:
        if line.method is not None:
            self._keep(Notification(line.method, line.params))
            return
        error = line.error and RpcError(line.error.code, line.error.message, line.error.data or {})
        if line.id is None and error:  # the daemon could not read who asked: it concerns every call that waits
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(error)
        asked = self._waiting.get(line.id) if line.id is not None else None
        if asked is None or asked.done():
            return
        if error:
            asked.set_exception(error)
        else:
            asked.set_result(line.result)

    def _keep(self, one: Notification | None) -> None:
        if self._notifications.full():
            self._notifications.get_nowait()
        self._notifications.put_nowait(one)


@asynccontextmanager
async def open_wire(path: Path | str, *, seconds: float = 5.0) -> AsyncIterator[Wire]:
    """Connect to the daemon's socket for the length of a `with`; raise ClientError (`client.unreachable`)."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE_LIMIT_BYTES)
    except (OSError, TimeoutError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
        raise ClientError(
            "client.unreachable", f"no daemon answers at {path}: {reason}", advice="start it, or name its --socket"
        ) from None
    wire = Wire(reader, writer)
    listener = asyncio.create_task(wire.listen(), name="api-client")
    try:
        yield wire
    finally:
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection; what a daemon that hangs does not take within CLOSE_SECONDS is thrown away."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except OSError:
        pass


def _gone() -> ClientError:
    return ClientError("client.closed", "the daemon closed the connection", advice="connect again")
