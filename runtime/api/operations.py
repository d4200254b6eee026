"""Long work as an operation: started, waited for, cancelled; owned by a connection and forgotten with its session."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from runtime.api.rpc import RpcError
from runtime.session import CANCEL_SECONDS, Session

MOST_RUNNING = 8
"""Operations of one connection under way at a time."""
MOST_KEPT = 16
"""Operations a connection is remembered, with their results; the oldest that ended goes first."""

OperationId = Annotated[str, Meta(max_length=64, description="What operation.start returned.")]
State = Literal["running", "done", "failed", "cancelled"]


class OperationWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The call that is to be an operation: its method and its parameters."""

    method: Annotated[str, Meta(max_length=64, description="Any method but those of operations.")]
    params: Annotated[dict[str, Any], Meta(description="As the method takes them.")] = {}


class OfOperation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An operation of this connection."""

    operation: OperationId


class OperationAwaited(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An operation of this connection, and how long to wait for its end."""

    operation: OperationId
    seconds: Annotated[float, Meta(ge=0, le=120)] = 30.0


class OperationStarted(msgspec.Struct, frozen=True):
    """The new operation's id."""

    operation: str


class OperationFailure(msgspec.Struct, frozen=True):
    """The JSON-RPC error that the plain call would have had."""

    code: str
    message: str
    retry: bool
    advice: str


class OperationState(msgspec.Struct, frozen=True):
    """How far an operation is. `result` is what the plain call would have returned, `error` its JSON-RPC error."""

    operation: str
    method: str
    state: State
    seconds: float
    result: Any = None
    error: OperationFailure | None = None


class OperationList(msgspec.Struct, frozen=True):
    """The operations of this connection, the oldest first."""

    operations: list[OperationState]


class OperationError(Exception):
    """There is no such operation (`operation.unknown`), or there are enough (`operation.too_many`)."""

    def __init__(self, code: str, message: str, *, advice: str, retry: bool) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice


@dataclass(slots=True)
class _Operation:
    id: str
    method: str
    session: Session | None
    """The session in which it was begun; what it found out may be the citizen's."""
    began: float
    seconds: float | None = None
    state: State = "running"
    result: Any = None
    error: OperationFailure | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def shown(self) -> OperationState:
        seconds = asyncio.get_running_loop().time() - self.began if self.seconds is None else self.seconds
        return OperationState(self.id, self.method, self.state, round(seconds, 6), self.result, self.error)


class Operations:
    """The operations of one connection, tasks of its `group`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._all: dict[str, _Operation] = {}
        self._watched: dict[Session, asyncio.Task[None]] = {}

    def start(self, method: str, session: Session | None, call: Callable[[], Awaitable[Any]]) -> str:
        """Run a call as an operation and return its id; it ends and is forgotten with the session it was begun in.

        `call` raises RpcError only. Raises OperationError `operation.too_many`.
        """
        if sum(one.state == "running" for one in self._all.values()) >= MOST_RUNNING:
            advice = "wait for one, or cancel one"
            message = f"{MOST_RUNNING} operations are under way"
            raise OperationError("operation.too_many", message, advice=advice, retry=True)
        if len(self._all) >= MOST_KEPT:
            del self._all[next(one.id for one in self._all.values() if one.state != "running")]
        operation = _Operation(secrets.token_urlsafe(8), method, session, asyncio.get_running_loop().time())
        self._all[operation.id] = operation
        operation.task = self._group.create_task(_run(operation, call), name=f"operation-{method}")
        operation.task.add_done_callback(lambda _: _ended(operation))
        if session is not None and session not in self._watched:
            self._watched[session] = self._group.create_task(self._forget(session), name="operations-session")
        return operation.id

    async def wait(self, operation_id: str, seconds: float) -> OperationState:
        """Return an operation as it ends, or as it stands after so long; raise OperationError `operation.unknown`."""
        return await self._wait(self._find(operation_id), seconds)

    async def cancel(self, operation_id: str) -> OperationState:
        """End an operation and return it when it has left its devices safe; one that ended stays as it is.

        Raises OperationError `operation.unknown`.
        """
        operation = self._find(operation_id)
        if operation.task is not None:
            operation.task.cancel()
        return await self._wait(operation, CANCEL_SECONDS)

    def list(self) -> OperationList:
        """Return every operation that is remembered."""
        return OperationList([one.shown() for one in self._all.values()])

    async def stop(self) -> None:
        """End everything: the connection is over, and its session is ending."""
        for operation in self._all.values():
            if operation.session is None and operation.task is not None:
                operation.task.cancel()
        tasks = [one.task for one in self._all.values() if one.task is not None]
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=CANCEL_SECONDS + 1.0)
            for task in stuck:
                task.cancel()
        for watching in self._watched.values():
            watching.cancel()
        self._all.clear()

    def _find(self, operation_id: str) -> _Operation:
        operation = self._all.get(operation_id)
        if operation is None:
            advice = "an operation is known to its connection, until its session ends"
            raise OperationError("operation.unknown", "there is no such operation", advice=advice, retry=False)
        return operation

    async def _wait(self, operation: _Operation, seconds: float) -> OperationState:
        try:
            async with asyncio.timeout(seconds):
                await operation.ended.wait()
        except TimeoutError:
            pass
        return operation.shown()

    async def _forget(self, session: Session) -> None:
        await session.gone.wait()
        for operation in [one for one in self._all.values() if one.session is session]:
            if operation.task is not None:
                operation.task.cancel()
            del self._all[operation.id]
        del self._watched[session]


async def _run(operation: _Operation, call: Callable[[], Awaitable[Any]]) -> None:
    try:
        operation.result = await call()
        operation.state = "done"
    except RpcError as error:
        operation.error = OperationFailure(error.code, str(error), error.retry, error.advice)
        operation.state = "failed"


def _ended(operation: _Operation) -> None:
    if operation.state == "running":
        operation.state = "cancelled"
    operation.seconds = asyncio.get_running_loop().time() - operation.began
    operation.ended.set()
