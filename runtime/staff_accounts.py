"""The Unix accounts of the staff: one for each person, with a password that ages (H6); `govterm check --staff`."""

import pwd
from collections.abc import Sequence
from pathlib import Path

from runtime.check import Mistake
from runtime.config import Api

OLDEST_PASSWORD_DAYS = 90
FIRST_PERSON_UID = 1_000
"""Accounts below are the system's (UID_MIN of login.defs)."""
_SHADOW = Path("/etc/shadow")


def check_accounts(
    api: Api, shadow: Path = _SHADOW, accounts: Sequence[pwd.struct_passwd] | None = None
) -> list[Mistake]:
    """Return what is wrong with the accounts of those who may be staff, where the platform grants their roles.

    Where `shadow` cannot be read, which root can, that is a mistake: passwords are unknown then. `accounts` are this
    machine's, by default.
    """
    if api.staff != "granted":
        return []
    known = pwd.getpwall() if accounts is None else accounts
    ages = _ages(shadow)
    mistakes = []
    if ages is None and (api.operator_users or api.tester_users):
        mistakes.append(Mistake(str(shadow), "a file to read passwords' ages in: run this as root", "unknown"))
    for key in ("operator_users", "tester_users"):
        for user in getattr(api, key):
            mistakes += [Mistake(f"api.{key}", *what) for what in _wrong(user, known, ages or {})]
    return mistakes


def _wrong(user: str, known: Sequence[pwd.struct_passwd], ages: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what was expected of a user and what was found."""
    if user.isdecimal():
        return [("an account's name: one for each person (H6)", repr(user))]
    uid = next((one.pw_uid for one in known if one.pw_name == user), None)
    if uid is None:
        return [("an account of this machine", repr(user))]
    found = []
    if uid < FIRST_PERSON_UID:
        found.append((f"a person's account, with a uid of {FIRST_PERSON_UID} or more", f"{user!r} has {uid}"))
    if others := [one.pw_name for one in known if one.pw_uid == uid and one.pw_name != user]:
        found.append(("an account that shares its uid with no other", f"{user!r} and {others[0]!r}"))
    if user in ages:
        password, days = ages[user]
        if not password:
            found.append(("an account with a password, or with none that could be used (!)", f"{user!r} has none"))
        elif password[0] not in "!*" and not (days.isdecimal() and int(days) <= OLDEST_PASSWORD_DAYS):
            expected = f"a password that expires after {OLDEST_PASSWORD_DAYS} days (chage --maxdays)"
            found.append((expected, f"{user!r}: {days or 'never'}"))
    return found


def _ages(shadow: Path) -> dict[str, tuple[str, str]] | None:
    """Return each account's password field and the days its password may live (shadow(5)); None where unreadable."""
    try:
        text = shadow.read_text()
    except OSError:
        return None
    rows = [line.split(":") for line in text.splitlines()]
    return {row[0]: (row[1], row[4]) for row in rows if len(row) >= 5}
