"""The methods of shared information (S1 to S7)."""

from typing import Literal

from runtime.api.roles import Role
from runtime.api.shapes import Nothing
from runtime.api.sharing_shapes import DataSetWanted, MonthWanted, PullProgress, SharedWanted
from runtime.api.table import Caller, Method, Notice, Terminal
from runtime.services.datasets import PULL_SECONDS
from runtime.services.sharing import (
    DataSetShown,
    Reconciled,
    ResourcesShown,
    Shared,
    Wanted,
)
from runtime.services.statement import StatementShown


async def _ask(terminal: Terminal, caller: Caller, params: SharedWanted, mode: Literal["query", "call"]) -> Shared:
    session = terminal.sessions.find(params.session, caller) if params.session is not None else None
    wanted = Wanted(caller.actor, session, params.resource, params.purpose)
    return await terminal.sharing.ask(wanted, mode, params.parameters)


async def _query(terminal: Terminal, caller: Caller, params: SharedWanted) -> Shared:
    return await _ask(terminal, caller, params, "query")


async def _call(terminal: Terminal, caller: Caller, params: SharedWanted) -> Shared:
    return await _ask(terminal, caller, params, "call")


async def _dataset(terminal: Terminal, caller: Caller, params: DataSetWanted) -> DataSetShown:
    def tell(received: int, total: int) -> None:
        caller.notify("sharing.progress", PullProgress(params.resource, received, total))

    wanted = Wanted(caller.actor, None, params.resource, params.purpose)
    return await terminal.sharing.dataset(
        wanted, pull=params.pull, first=params.first, most=params.most, on_progress=tell
    )


async def _resources(terminal: Terminal, _caller: Caller, _params: Nothing) -> ResourcesShown:
    return terminal.sharing.resources()


async def _statement(terminal: Terminal, _caller: Caller, params: MonthWanted) -> StatementShown:
    return await terminal.sharing.statement(params.month)


async def _reconcile(terminal: Terminal, caller: Caller, params: MonthWanted) -> Reconciled:
    return await terminal.sharing.reconcile(caller.actor, params.month)


METHODS = (
    Method(
        "sharing.resources",
        None,
        Nothing,
        ResourcesShown,
        _resources,
        "Every resource, its schemas and what is granted of it; `state` is `active`, `suspended` on arrears, or "
        "`unknown` before the platform ever said.",
    ),
    Method(
        "sharing.query",
        Role.UI,
        SharedWanted,
        Shared,
        _query,
        "Ask a resource once. What is not granted for this purpose is refused before anything leaves; what comes is "
        "refused when it is damaged, incomplete or older than the resource's limit. Each answer is counted.",
    ),
    Method(
        "sharing.call",
        Role.UI,
        SharedWanted,
        Shared,
        _call,
        "Call a resource that checks something, as `sharing.query` otherwise.",
    ),
    Method(
        "sharing.dataset",
        Role.UI,
        DataSetWanted,
        DataSetShown,
        _dataset,
        "Bring a data set to the platform's current version and show some of its rows; `sharing.progress` tells how "
        f"far it is. A pull that ends early, after {PULL_SECONDS:g} s at the latest, is resumed by the next one; until "
        "it is whole and right, what was current stays so.",
    ),
    Method(
        "sharing.statement",
        Role.OPERATOR,
        MonthWanted,
        StatementShown,
        _statement,
        "What this terminal counted of a month, with a text for a person (S6). Units are uses of queries and calls, "
        "and units of 1,024 bytes of data sets.",
    ),
    Method(
        "sharing.reconcile",
        Role.OPERATOR,
        MonthWanted,
        Reconciled,
        _reconcile,
        "Compare a month with the platform's count; the differences are kept and shown by `sharing.statement` too. "
        "With `unsettled` uses try again later. It is audited.",
    ),
)

NOTICES = (Notice("sharing.progress", PullProgress, "More of a data set is here, during `sharing.dataset`."),)
