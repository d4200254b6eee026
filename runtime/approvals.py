"""Sensitive acts need a second person: who asks is refused until another operator has approved of the act (H10)."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from runtime.audit import Audit

APPROVAL_SECONDS = 600.0
"""An act that is not approved of and done by then is to be asked for anew."""
MOST_ACTS = 16
"""Acts of one user that wait; his oldest is forgotten for another."""


class Act(msgspec.Struct, frozen=True):
    """An act that was asked for: its id, the method and its parameters, who asked, and who approved of it."""

    act: str
    method: str
    parameters: str
    asked_by: str
    approved_by: str | None = None


class ApprovalError(Exception):
    """There is no such act (`act.unknown`), or who asked for it would approve of it (`act.own`)."""

    retry = False

    def __init__(self, code: str, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice


@dataclass(slots=True)
class _Asked:
    act: Act
    uid: int
    until: float
    approver: int | None = None


class Approvals:
    """The acts that wait for a second person, or for being done once there was one. They end with the daemon."""

    def __init__(self, audit: Audit, is_operator: Callable[[int], bool]) -> None:
        """An act is forgotten once `is_operator` says of who asked for it, or who approved of it, that he is none."""
        self._audit = audit
        self._is_operator = is_operator
        self._asked: list[_Asked] = []

    async def ask(self, uid: int, actor: str, method: str, params: bytes) -> Act | None:
        """Return the act that must be approved of first; None, once, when another person has approved of it.

        `params` is JSON. A new act is noted in the audit log.
        """
        parameters = params.decode()
        for one in self._waiting():
            if (one.uid, one.act.method, one.act.parameters) == (uid, method, parameters):
                if one.act.approved_by is None:
                    return one.act
                self._asked.remove(one)
                return None
        act = Act(secrets.token_hex(4), method, parameters, actor)
        mine = [one for one in self._asked if one.uid == uid]
        if len(mine) == MOST_ACTS:
            self._asked.remove(mine[0])
        self._asked.append(_Asked(act, uid, asyncio.get_running_loop().time() + APPROVAL_SECONDS))
        about = {"act": act.act, "method": method, "parameters": parameters}
        await self._audit.note("act_asked", actor=actor, details=about)
        return act

    def waiting(self) -> list[Act]:
        """Return every act that waits."""
        return [one.act for one in self._waiting()]

    async def approve(self, name: str, uid: int, actor: str) -> Act:
        """Approve of an act of another person, who can do it now; raise ApprovalError, AuditError."""
        one = next((one for one in self._waiting() if one.act.act == name), None)
        if one is None:
            raise ApprovalError("act.unknown", f"no act {name} waits", advice="`staff.acts` names those that do")
        if one.uid == uid:
            raise ApprovalError("act.own", "who asks cannot approve", advice="have another operator approve of it")
        about = {"act": name, "method": one.act.method, "asked_by": one.act.asked_by}
        await self._audit.append("act_approved", actor=actor, details=about)
        one.act, one.approver = msgspec.structs.replace(one.act, approved_by=actor), uid
        return one.act

    def _waiting(self) -> list[_Asked]:
        now = asyncio.get_running_loop().time()
        self._asked = [one for one in self._asked if one.until > now and self._may_wait(one)]
        return self._asked

    def _may_wait(self, one: _Asked) -> bool:
        return self._is_operator(one.uid) and (one.approver is None or self._is_operator(one.approver))
