"""Who may call what: a local user's roles, known by the kernel's word for who connected (SO_PEERCRED, H6, T21)."""

import pwd
from collections.abc import Sequence
from enum import StrEnum

import structlog

log = structlog.get_logger(__name__)


class Role(StrEnum):
    """What a caller may do.

    `ui` serves citizens; `operator` looks after the machine and `tester` tries the line; neither reaches a session.
    """

    UI = "ui"
    OPERATOR = "operator"
    TESTER = "tester"


class RoleError(Exception):
    """A user list that gives no clear answer; raised when the daemon starts."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.retry = False
        self.advice = "correct ui_users, operator_users and tester_users in [api]"


class Roles:
    """The roles that each configured user may have: `ui` alone, or `operator`, `tester` or both.

    `runtime.staff.Staff` says which of them a member of the staff has at the moment. One without an account here is
    left out: the account of one person takes no terminal out of service. Raises RoleError.
    """

    def __init__(
        self,
        ui_users: Sequence[str | int],
        operator_users: Sequence[str | int] = (),
        tester_users: Sequence[str | int] = (),
    ) -> None:
        self._by_uid: dict[int, frozenset[Role]] = {_uid(user): frozenset({Role.UI}) for user in ui_users}
        self._accounts: dict[int, str] = {}
        for role, users in ((Role.OPERATOR, operator_users), (Role.TESTER, tester_users)):
            for user in users:
                try:
                    uid = _uid(user)
                except RoleError:
                    log.warning("staff_account_unknown", role=role, account=user)
                    continue
                roles = self.of(uid) | {role}
                if Role.UI in roles:
                    raise RoleError("api.user_twice", f"user {user} is in both ui_users and {role}_users")
                self._by_uid[uid] = roles
                self._accounts.setdefault(uid, str(user))

    def of(self, uid: int) -> frozenset[Role]:
        """Return the roles that a user may have, none for a stranger."""
        return self._by_uid.get(uid, frozenset())

    def account(self, uid: int) -> str | None:
        """Return the account of a member of the staff as the configuration names it; None for anybody else."""
        return self._accounts.get(uid)

    def staff(self) -> list[int]:
        """Return every member of the staff."""
        return list(self._accounts)


def _uid(user: str | int) -> int:
    if isinstance(user, int):
        return user
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise RoleError("api.user_unknown", f"there is no user {user}") from None
