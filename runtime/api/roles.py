"""Who may call what: a local user has one role, known by the kernel's word for who connected (SO_PEERCRED, H6, T21)."""

import pwd
from collections.abc import Sequence
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do: `ui` serves citizens, `operator` looks after the machine and never reaches a session."""

    UI = "ui"
    OPERATOR = "operator"


class RoleError(Exception):
    """A user list that gives no clear answer; raised when the daemon starts."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = False
        self.advice = "correct ui_users and operator_users in [api]"


class Roles:
    """The role of each configured user."""

    def __init__(self, ui_users: Sequence[str | int], operator_users: Sequence[str | int]) -> None:
        self._by_uid: dict[int, Role] = {}
        for role, users in ((Role.UI, ui_users), (Role.OPERATOR, operator_users)):
            for user in users:
                uid = _uid(user)
                if self._by_uid.setdefault(uid, role) is not role:
                    raise RoleError("api.user_twice", f"user {user} is in both ui_users and operator_users")

    def of(self, uid: int) -> Role | None:
        """Return the role of a user, None for a stranger."""
        return self._by_uid.get(uid)


def _uid(user: str | int) -> int:
    if isinstance(user, int):
        return user
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise RoleError("api.user_unknown", f"there is no user {user}") from None
