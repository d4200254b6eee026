"""The methods of every client: who it is, how the terminal fares, what changes, and long work as operations."""

from typing import Annotated

import msgspec
import structlog
from msgspec import Meta

from runtime.api import rpc
from runtime.api.operations import (
    MOST_KEPT,
    MOST_RUNNING,
    OfOperation,
    OperationAwaited,
    OperationList,
    OperationStarted,
    OperationState,
    OperationWanted,
)
from runtime.api.presence import BEATS
from runtime.api.roles import Role
from runtime.api.rpc import API_VERSION, RpcError
from runtime.api.shapes import Nothing, TerminalStatus
from runtime.api.table import Caller, Method, Notice, Terminal
from runtime.state import HISTORY_LENGTH, Change, Component, Place

log = structlog.get_logger(__name__)


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who calls, and which version of this API it was written for."""

    client: Annotated[str, Meta(pattern="^[A-Za-z0-9 ._/-]{1,64}$", description="The program's name, for the log.")]
    version: Annotated[int, Meta(ge=0, le=1_000_000, description=f"This terminal serves {API_VERSION}.")]


class Welcome(msgspec.Struct, frozen=True):
    """The version that is served, the caller's roles, and the daemon's life (`epoch`) and software."""

    version: int
    roles: list[str]
    epoch: str
    software: str


class EventsWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on; without it the whole state comes first."""

    since: Place | None = None


class Subscribed(msgspec.Struct, frozen=True):
    """The changes after `sequence` of this `epoch` follow as `events.change`.

    `state` is the whole state at `sequence`; null when the changes go on from the place that was asked for. `lost` says
    that this could not be, so that changes are missing and `state` is there instead.
    """

    epoch: str
    sequence: int
    state: dict[str, Component] | None
    lost: bool


class NextBeat(msgspec.Struct, frozen=True):
    """After how many seconds to call again."""

    seconds: float


async def _hello(terminal: Terminal, caller: Caller, params: Hello) -> Welcome:
    if params.version != API_VERSION:
        raise RpcError(
            rpc.APPLICATION_ERROR,
            "request.unsupported_version",
            f"version {params.version} of the API is not served, version {API_VERSION} is",
            advice=f"use a client for version {API_VERSION}; docs/api.md describes it",
        )
    log.info("client_said_hello", uid=caller.uid, client=params.client)
    return Welcome(API_VERSION, sorted(caller.roles), terminal.state.epoch, terminal.version)


async def _status(terminal: Terminal, _caller: Caller, _params: Nothing) -> TerminalStatus:
    return TerminalStatus(terminal.version, terminal.boot_id, terminal.rig, terminal.state.full())


async def _subscribe(terminal: Terminal, caller: Caller, params: EventsWanted) -> Subscribed:
    subscription = terminal.state.subscribe(params.since)
    caller.forward(subscription)
    lost = params.since is not None and subscription.state is not None
    return Subscribed(terminal.state.epoch, subscription.sequence, subscription.state, lost)


async def _beat(terminal: Terminal, caller: Caller, _params: Nothing) -> NextBeat:
    return NextBeat(terminal.presence.beat(caller))


async def _start(terminal: Terminal, caller: Caller, params: OperationWanted) -> OperationStarted:
    if params.method.startswith("operation."):
        message = f"{params.method} is no operation itself"
        raise RpcError(rpc.INVALID_PARAMS, "request.bad_params", message, advice="call it plainly")
    decoded, call = caller.prepare(params.method, msgspec.json.encode(params.params))
    name = getattr(decoded, "session", None)
    session = terminal.sessions.of(caller) if name is None else terminal.sessions.find(name, caller)
    return OperationStarted(caller.operations.start(params.method, session, call))


async def _wait(_terminal: Terminal, caller: Caller, params: OperationAwaited) -> OperationState:
    return await caller.operations.wait(params.operation, params.seconds)


async def _cancel(_terminal: Terminal, caller: Caller, params: OfOperation) -> OperationState:
    return await caller.operations.cancel(params.operation)


async def _list(_terminal: Terminal, caller: Caller, _params: Nothing) -> OperationList:
    return caller.operations.list()


METHODS = (
    Method(
        "rpc.hello",
        None,
        Hello,
        Welcome,
        _hello,
        "Say which program calls and which version of this API it was written for; the first call of a careful client. "
        "A version that is not served is refused.",
        ("request.unsupported_version",),
    ),
    Method("terminal.status", None, Nothing, TerminalStatus, _status, "The terminal's version and state."),
    Method(
        "events.subscribe",
        None,
        EventsWanted,
        Subscribed,
        _subscribe,
        "The whole state, then each change as `events.change`. After a lost connection, `since` goes on where it broke "
        f"off: the last {HISTORY_LENGTH} changes of the daemon's life are kept. Subscribing again starts anew.",
    ),
    Method(
        "ui.heartbeat",
        Role.UI,
        Nothing,
        NextBeat,
        _beat,
        f"Promise to call again, {BEATS} times within `api.ui_silence_seconds`. A UI that then falls silent is "
        "`offline` on the board as the component `ui`, and its session is ended.",
    ),
    Method(
        "operation.start",
        None,
        OperationWanted,
        OperationStarted,
        _start,
        "Do a call as an operation: the answer is there at once, the call's own result or error with `operation.wait`. "
        f"A connection has up to {MOST_RUNNING} under way; the last {MOST_KEPT} are remembered, until the session they "
        "belong to, or the connection, ends.",
        ("operation.too_many", "request.unknown_method", "session.unknown"),
    ),
    Method(
        "operation.wait",
        None,
        OperationAwaited,
        OperationState,
        _wait,
        "Wait for an operation's end, at most so long; it goes on when the time is over.",
        ("operation.unknown",),
    ),
    Method(
        "operation.cancel",
        None,
        OfOperation,
        OperationState,
        _cancel,
        "End an operation; the answer comes when it has left its devices safe. What it may have set off already is "
        "settled like after a power cut: `progress.by_receipt` tells of it.",
        ("operation.unknown",),
    ),
    Method("operation.list", None, Nothing, OperationList, _list, "The operations of this connection, oldest first."),
)

NOTICES = (
    Notice("events.change", Change, "A component's state changed."),
    Notice("events.lost", Nothing, "This connection was too slow for the changes: subscribe again."),
)
