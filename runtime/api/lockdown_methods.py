"""The methods that show a lock-down and end it, for the role `operator` (T23, H6)."""

from typing import Annotated

import msgspec
from msgspec import Meta

from runtime.api.roles import Role
from runtime.api.shapes import Nothing
from runtime.api.table import Caller, Method, Terminal
from runtime.lockdown import Lock


class LockList(msgspec.Struct, frozen=True):
    """The locks of this terminal, the oldest first; while there is one, no session is opened."""

    locks: list[Lock]


class OfLock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a lock."""

    lock: Annotated[str, Meta(pattern="^[0-9a-f]{8}$", description="What lockdown.list returned.")]


async def _list(terminal: Terminal, _caller: Caller, _params: Nothing) -> LockList:
    return LockList(terminal.lockdown.list())


async def _clear(terminal: Terminal, caller: Caller, params: OfLock) -> LockList:
    await terminal.lockdown.clear(params.lock, actor=caller.actor)
    return LockList(terminal.lockdown.list())


METHODS = (
    Method(
        "lockdown.list",
        Role.OPERATOR,
        Nothing,
        LockList,
        _list,
        "Why no session is opened: every lock after tampering, and whether its cause still holds.",
    ),
    Method(
        "lockdown.clear",
        Role.OPERATOR,
        OfLock,
        LockList,
        _clear,
        "Open a lock once its cause is over, and return those that are left; without any, sessions are opened again. "
        "It is audited.",
        ("lockdown.unknown", "lockdown.cause_persists", "journal.write_failed", "journal.disk_full"),
        is_sensitive=True,
    ),
)
