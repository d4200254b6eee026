"""The methods by which a second person approves of a sensitive act, for the role `operator` (H10)."""

from typing import Annotated

import msgspec
from msgspec import Meta

from runtime.api.roles import Role
from runtime.api.shapes import Nothing
from runtime.api.table import Caller, Method, Terminal
from runtime.approvals import Act, ApprovalError


class ActList(msgspec.Struct, frozen=True):
    """The acts that wait for a second person, or for being done."""

    acts: list[Act]


class OfAct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names an act."""

    act: Annotated[
        str, Meta(min_length=1, max_length=64, description="What `caller.second_person` or staff.acts said.")
    ]


async def _acts(terminal: Terminal, _caller: Caller, _params: Nothing) -> ActList:
    return ActList(terminal.approvals.waiting())


async def _approve(terminal: Terminal, caller: Caller, params: OfAct) -> Act:
    try:
        return await terminal.approvals.approve(params.act, caller.uid, caller.actor)
    except ApprovalError:
        terminal.staff.refused(caller.uid)
        raise


METHODS = (
    Method(
        "staff.acts",
        Role.OPERATOR,
        Nothing,
        ActList,
        _acts,
        "The sensitive acts that were asked for in the last 10 min and are not done: who asked, who approved.",
    ),
    Method(
        "staff.approve",
        Role.OPERATOR,
        OfAct,
        Act,
        _approve,
        "Approve of an act that another person asked for, who then calls again and is served. It is audited.",
        ("act.unknown", "act.own", "audit.write_failed"),
    ),
)
