"""The platform's staff: accounts with a second factor, a time-based one-time code (RFC 6238, HMAC-SHA-1)."""

import hashlib
import hmac
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

STEP_SECONDS = 30
DIGITS = 6
SKEW_STEPS = 1
"""A code of the step before or after counts too: clocks differ, and typing takes time (RFC 6238, 5.2)."""
MOST_FAILURES = 5
LOCK_SECONDS = 900
ACCOUNTS = ("staff-1", "staff-2", "staff-3")

SCHEMA = """
CREATE TABLE IF NOT EXISTS staff (
    account TEXT PRIMARY KEY, secret BLOB NOT NULL, last_step INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0, locked_until INTEGER NOT NULL DEFAULT 0);
"""

Checked = Literal["ok", "staff.refused", "staff.locked"]


def one_time_code(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """Return the code of a time step (RFC 4226, 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**digits:0{digits}d}"


@dataclass(frozen=True, slots=True)
class Staff:
    """The accounts, grown from the population's seed."""

    database: sqlite3.Connection
    seed: int
    now: Callable[[], int]

    def __post_init__(self) -> None:
        self.database.executescript(SCHEMA)
        for account in ACCOUNTS:
            secret = hashlib.sha256(f"staff {self.seed} {account}".encode()).digest()[:20]
            row = (account, secret)
            self.database.execute("INSERT OR IGNORE INTO staff (account, secret) VALUES (?, ?)", row)
        self.database.commit()

    def code(self, account: str) -> str:
        """Return the code that the account's authenticator shows now; raise ValueError for an unknown account."""
        row = self.database.execute("SELECT secret FROM staff WHERE account = ?", (account,)).fetchone()
        if row is None:
            raise ValueError(f"account: one of {', '.join(ACCOUNTS)}")
        return one_time_code(row[0], self.now() // STEP_SECONDS)

    def check(self, account: str, code: str) -> Checked:
        """Check a code: it counts once, and too many wrong ones lock the account for LOCK_SECONDS."""
        row = self.database.execute(
            "SELECT secret, last_step, failures, locked_until FROM staff WHERE account = ?", (account,)
        ).fetchone()
        if row is None:
            return "staff.refused"
        secret, last_step, failures, locked_until = row
        if self.now() < locked_until:
            return "staff.locked"
        present = self.now() // STEP_SECONDS
        for step in range(max(last_step + 1, present - SKEW_STEPS), present + SKEW_STEPS + 1):
            if hmac.compare_digest(one_time_code(secret, step), code):
                self._note(account, last_step=step, failures=0, locked_until=0)
                return "ok"
        locks = failures + 1 >= MOST_FAILURES
        until = self.now() + LOCK_SECONDS if locks else 0
        self._note(account, last_step=last_step, failures=0 if locks else failures + 1, locked_until=until)
        return "staff.refused"

    def _note(self, account: str, *, last_step: int, failures: int, locked_until: int) -> None:
        self.database.execute(
            "UPDATE staff SET last_step = ?, failures = ?, locked_until = ? WHERE account = ?",
            (last_step, failures, locked_until, account),
        )
