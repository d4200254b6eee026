"""Tampering and what follows: an alarm first in line, the session ended, and no other until a person says so (T23, H8).

A lock is of one cause: a code and what it is about. It is kept in the journal, so neither a restart nor a power cut
opens the terminal again; an operator clears it, by name in the audit log (H6), once its cause is over.
"""

import asyncio
import secrets
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec
import structlog

from runtime.alarms import Alarms
from runtime.audit import Audit
from runtime.journal import Journal, JournalError
from runtime.policy import Kind, Security
from runtime.services.steps import Origin, event
from runtime.session import EndReason
from runtime.state import Component, StateBoard

log = structlog.get_logger(__name__)

COMPONENT = "lockdown"
LOCKED = "session.locked"
RETRY_SECONDS = 5.0
"""Between two tries to write a lock down; it holds meanwhile."""


class Lock(msgspec.Struct, frozen=True):
    """A lock: its id, the kind of tampering, the alarm's code and subject, since when (UTC seconds).

    `persists` says that its cause still holds, so that it cannot be cleared.
    """

    lock: str
    kind: str
    code: str
    subject: str
    since: float
    persists: bool


class LockdownError(Exception):
    """A lock that is not cleared: `lockdown.unknown`, or `lockdown.cause_persists` while its cause holds."""

    def __init__(self, code: str, message: str, *, advice: str, retry: bool) -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice
        self.retry = retry


@dataclass(frozen=True, slots=True)
class Cause:
    """What was found: the kind of tampering, the alarm's code, and what it is about (at most 64 characters)."""

    kind: Kind
    code: str
    subject: str


def locking(policy: Security, cause: Cause, since: float) -> Callable[[sqlite3.Connection], None]:
    """Return the work that locks the terminal for a cause found before it serves, as the policy says.

    The alarm, and what is told of it, are the finder's, in the same transaction.
    """
    row = (cause.code, cause.subject, secrets.token_hex(4), cause.kind, since)
    return partial(_keep, row=row) if policy.answer(cause.kind) == "lock" else lambda _: None


def _keep(db: sqlite3.Connection, row: tuple[str, str, str, str, float]) -> None:
    db.execute("INSERT OR IGNORE INTO lockdowns VALUES (?, ?, ?, ?, ?)", row)


class Guarded(Protocol):
    """The place for the one session, as far as a lock-down needs it."""

    def end(self, reason: EndReason) -> None:
        """End the session that is open, if there is one."""

    def refuse(self, code: str) -> None:
        """Open no other session from now on."""

    def admit(self, code: str) -> None:
        """Take back what was refused by this code."""


@dataclass(slots=True)
class _Held:
    """A lock as it is known; `times` counts how often its cause was found."""

    id: str
    cause: Cause
    since: float
    times: int = 1
    is_written: bool = False


class Lockdown:
    """Every lock of this terminal. `found` and `over` take what is seen; `run` is one supervised life that writes."""

    def __init__(
        self,
        policy: Security,
        journal: Journal,
        audit: Audit,
        *,
        origin: Origin,
        board: StateBoard,
        alarms: Alarms,
    ) -> None:
        self._policy = policy
        self._journal = journal
        self._audit = audit
        self._origin = origin
        self._board = board
        self._alarms = alarms
        self._sessions: Guarded | None = None
        self._held: dict[tuple[str, str], _Held] = {}
        self._lasting: set[Cause] = set()
        self._lines: deque[tuple[str, Mapping[str, str | int]]] = deque()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Take up the locks of earlier lives; raise JournalError."""
        rows = await self._journal.read(
            lambda db: db.execute("SELECT id, kind, code, subject, since FROM lockdowns ORDER BY since").fetchall()
        )
        for name, kind, code, subject, since in rows:
            self._held[code, subject] = _Held(name, Cause(kind, code, subject), since, is_written=True)
        self._show()

    def guard(self, sessions: Guarded) -> None:
        """Keep this place for sessions shut from now on while there is a lock."""
        self._sessions = sessions
        self._show()

    def found(self, cause: Cause, *, lasts: bool = False) -> None:
        """Act on a cause: alarm, end of the session, lock, as the policy says. Never raises.

        One that `lasts` is found once, and holds until it is `over`.
        """
        answer = self._policy.answer(cause.kind)
        if answer == "ignore" or cause in self._lasting:
            return
        if lasts:
            self._lasting.add(cause)
        if answer == "lock" and (cause.code, cause.subject) not in self._held:
            self._alarms.dealt_with(cause.code, cause.subject)  # cleared before this daemon began, perhaps
        self._alarms.sound(cause.code, cause.subject)
        self._lines.append(("tamper_found", {"kind": cause.kind, "code": cause.code, "subject": cause.subject}))
        if answer == "lock":
            self._lock(cause)
        if self._sessions is not None:
            self._sessions.end("tamper")
        self._show()
        self._changed.set()

    def over(self, cause: Cause) -> None:
        """Note that what was found holds no more. A lock stays until it is cleared."""
        self._lasting.discard(cause)

    def well(self, subject: str) -> None:
        """Note that a component serves as it should: of what was found about it only an open door may hold still."""
        self._lasting = {cause for cause in self._lasting if cause.subject != subject or cause.kind == "door"}

    def note(self, line: str) -> None:
        """Have the audit log say what was seen and is no tampering."""
        self._lines.append((line, {}))
        self._changed.set()

    def list(self) -> list[Lock]:
        """Return every lock, the oldest first."""
        return [
            Lock(one.id, one.cause.kind, one.cause.code, one.cause.subject, one.since, one.cause in self._lasting)
            for one in sorted(self._held.values(), key=lambda one: one.since)
        ]

    async def clear(self, lock: str, *, actor: str) -> None:
        """Open a lock, because an operator says so; sessions are admitted when it was the last.

        Raises LockdownError, JournalError, and AuditError: what cannot be noted is not done.
        """
        async with self._turn:
            held = self._find(lock)
            cause, times = held.cause, held.times
            about = {"lock": lock, "kind": cause.kind, "code": cause.code, "subject": cause.subject}
            await self._audit.append("lockdown_clear_ordered", actor=actor, details=about)
            self._alarms.dealt_with(cause.code, cause.subject)
            told = self._event(held, "lockdown.cleared")
            await self._journal.write(
                lambda db: db.execute("DELETE FROM lockdowns WHERE id = ?", (lock,)).rowcount, told
            )
            del self._held[cause.code, cause.subject]
            if held.times != times:  # found again meanwhile
                self._alarms.sound(cause.code, cause.subject)
                self._lock(cause)
            self._show()
            log.info("lockdown_cleared", lock=lock, code=cause.code, subject=cause.subject)

    async def run(self, ready: Callable[[], None]) -> None:
        """Write locks and audit lines down as they come, and try again while the journal does not take them."""
        ready()
        while True:
            self._changed.clear()
            is_written = await self._write()
            while self._lines:
                name, details = self._lines.popleft()
                await self._audit.note(name, actor="daemon", details=details)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if is_written else RETRY_SECONDS):
                    await self._changed.wait()

    def _find(self, lock: str) -> _Held:
        held = next((one for one in self._held.values() if one.id == lock), None)
        if held is None:
            raise LockdownError(
                "lockdown.unknown", f"there is no lock {lock}", advice="`lockdown.list` names the locks", retry=False
            )
        if held.cause in self._lasting:
            raise LockdownError(
                "lockdown.cause_persists",
                f"{held.cause.code} ({held.cause.subject}) still holds",
                advice="end the cause first: docs/tamper.md says how for each code",
                retry=True,
            )
        return held

    def _lock(self, cause: Cause) -> None:
        held = self._held.get((cause.code, cause.subject))
        if held is not None:
            held.times += 1
            return
        held = _Held(secrets.token_hex(4), cause, self._origin.wall_clock())
        self._held[cause.code, cause.subject] = held
        log.error("lockdown_began", lock=held.id, kind=cause.kind, code=cause.code, subject=cause.subject)
        self._changed.set()

    async def _write(self) -> bool:
        """Write down the locks that are not yet, each with the event that tells of it; whether all are."""
        async with self._turn:
            for held in [one for one in self._held.values() if not one.is_written]:
                cause = held.cause
                work = partial(_keep, row=(cause.code, cause.subject, held.id, cause.kind, held.since))
                try:
                    await self._journal.write(work, self._event(held, "lockdown.began"))
                except JournalError as error:
                    log.error("lockdown_not_journaled", lock=held.id, code=error.code)
                    return False
                held.is_written = True
        return True

    def _event(self, held: _Held, step: str) -> msgspec.Struct:
        cause = held.cause
        return event(self._origin, held.id, step, outcome="done", code=cause.code, seconds=0.0, device=cause.subject)

    def _show(self) -> None:
        """Put the lock-down on the board, and shut or open the place for sessions."""
        first = min(self._held.values(), key=lambda one: one.since, default=None)
        if first is None:
            self._board.set(COMPONENT, Component("none"))
        else:
            details: dict[str, str | bool] = {"locks": str(len(self._held))}
            self._board.set(COMPONENT, Component("locked", first.cause.code, details=details))
        if self._sessions is not None:
            (self._sessions.admit if first is None else self._sessions.refuse)(LOCKED)
