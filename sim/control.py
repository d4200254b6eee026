"""The rig's control socket: one JSON object a line, `{"device": ..., "verb": ..., "args": {...}}`, answered by one.

The answer is `{"ok": true, "result": ...}` or `{"ok": false, "error": "..."}`. A verb is a function whose keyword
parameters are its arguments, or a coroutine function; what it returns goes back as JSON. `{"device": "rig", "verb":
"verbs"}` lists them all.
"""

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from sim.wire import Verbs

log = structlog.get_logger(__name__)

LINE_LIMIT = 1024 * 1024


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked of a device of the rig."""

    device: str
    verb: str
    args: dict[str, Any] = {}


class ControlError(Exception):
    """A verb was refused or failed, or the rig did not answer; `where` is the device and verb, or the socket."""

    def __init__(self, where: str, reason: object) -> None:
        super().__init__(f"{where}: {reason}")


def describe(devices: Mapping[str, Verbs]) -> dict[str, dict[str, str]]:
    """Return each device's verbs with their parameters and the first line of their docstring."""
    return {
        device: {
            name: f"{inspect.signature(verb)}: {(inspect.getdoc(verb) or '').partition(chr(10))[0]}"
            for name, verb in verbs.items()
        }
        for device, verbs in devices.items()
    }


async def perform(devices: Mapping[str, Verbs], command: Command) -> Any:
    """Do what `command` asks and return its result; raise ControlError with the reason when it cannot be done."""
    where = f"{command.device} {command.verb}"
    verbs = devices.get(command.device)
    if verbs is None:
        raise ControlError(where, f"no such device; there are {', '.join(devices)}")
    verb = verbs.get(command.verb)
    if verb is None:
        raise ControlError(where, f"no such verb; there are {', '.join(verbs)}")
    try:
        inspect.signature(verb).bind(**command.args)
        result = verb(**command.args)
        return await result if inspect.isawaitable(result) else result
    except (TypeError, ValueError, LookupError, OSError, RuntimeError, ControlError) as error:
        raise ControlError(where, error) from error


async def _answer(devices: Mapping[str, Verbs], line: bytes) -> bytes:
    try:
        result = await perform(devices, msgspec.json.decode(line, type=Command))
        return msgspec.json.encode({"ok": True, "result": result})
    except msgspec.DecodeError as error:
        return msgspec.json.encode({"ok": False, "error": f"not a command: {error}"})
    except (ControlError, TypeError) as error:
        return msgspec.json.encode({"ok": False, "error": str(error)})


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Bind a socket that only its owner may use; what a dead rig left at `path` is removed first."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


@asynccontextmanager
async def serve_control(path: Path, devices: Mapping[str, Verbs]) -> AsyncIterator[None]:
    """Serve `devices` (and `rig verbs`) on a Unix socket at `path` while the context lasts."""
    served = {"rig": {"verbs": lambda: describe(devices)}, **devices}
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(await _answer(served, line) + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError) as error:
            log.info("control_client_lost", reason=type(error).__name__)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer), name="rig control client")
        clients.add(task)
        task.add_done_callback(clients.discard)

    with _listening(path) as listener:
        server = await asyncio.start_unix_server(accept, sock=listener, limit=LINE_LIMIT)
        try:
            yield
        finally:
            server.close()
            for client in tuple(clients):
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            await server.wait_closed()


async def ask(
    path: Path, device: str, verb: str, args: Mapping[str, Any] | None = None, *, seconds: float = 10.0
) -> Any:
    """Send one command to the control socket at `path` and return its result.

    Raises ControlError when the rig refuses, cannot be reached or does not answer in `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
            try:
                writer.write(msgspec.json.encode(Command(device, verb, dict(args or {}))) + b"\n")
                line = await reader.readline()
            finally:
                writer.transport.abort()  # whoever hangs would keep it open for what it did not take
    except (OSError, TimeoutError) as error:
        raise ControlError(str(path), f"the rig does not answer ({str(error) or type(error).__name__})") from error
    if not line:
        raise ControlError(str(path), "the rig closed the connection")
    answer = msgspec.json.decode(line, type=dict[str, Any])
    if not answer["ok"]:
        raise ControlError("rig", answer["error"])
    return answer["result"]
