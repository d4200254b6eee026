"""What `govterm simulate` can break on purpose; an invariant must find each."""

import asyncio
import sqlite3
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from devices.idcard.record import CardRecord
from devices.printer.job import JobResult
from devices.printer.press import Press
from runtime.lockdown import Lockdown
from runtime.power_plan import Plan
from runtime.session import Owner, Session, SessionError, SessionState
from runtime.tickets import Tickets
from transport.keys import IdentityKey


class Sabotage(StrEnum):
    """How a run can be broken."""

    DOUBLE_CHARGE = "double-charge"
    LEAK_SESSION = "leak-session"
    LOSE_FILING = "lose-filing"
    SKIP_FSYNC = "skip-fsync"
    STUCK_TICKET = "stuck-ticket"
    DOUBLE_PRINT = "double-print"
    KEEP_RECORD = "keep-record"
    KEEP_KEYS = "keep-keys"
    NO_TICKET = "no-ticket"
    TURN_AWAY = "turn-away"
    NEVER_LOCK = "never-lock"
    NEVER_OFF = "never-off"


_STATEMENTS = {
    Sabotage.DOUBLE_CHARGE: "INSERT INTO bank_ledger (order_id, kind, account, amount_fen, at)"
    " SELECT order_id, kind, account, amount_fen, at FROM bank_ledger WHERE kind = 'charge' LIMIT 1",
    Sabotage.LOSE_FILING: "DELETE FROM filings WHERE rowid = 1",
}
TURNED_AWAY_SECONDS = 2_400.0
_HELD = ("record", "_assertion", "_assertion_ends_at", "_whose", "application", "document", "issues", "orders")


def spoil_platform(sabotage: Sabotage | None, platform: sqlite3.Connection) -> bool:
    """Break one thing at the platform, behind everybody's back; False while there is nothing to break."""
    if sabotage not in _STATEMENTS:
        return False
    changed = platform.execute(_STATEMENTS[sabotage]).rowcount
    platform.commit()
    return changed > 0


def spoil_daemon(sabotage: Sabotage | None) -> None:
    """Break the daemon of this process, for ever."""
    if sabotage in _SPOILERS:
        _SPOILERS[sabotage]()


def _never_close() -> None:
    heard = Tickets.heard

    def deaf(tickets: Tickets, device: str, fault: str | None) -> None:
        if fault is not None:
            heard(tickets, device, fault)

    _replace(Tickets, "heard", deaf)


def _never_open() -> None:
    _replace(Tickets, "heard", lambda *_: None)


def _print_again() -> None:
    print_once = Press.print

    async def print_twice(press: Press, *job: Any) -> JobResult:
        await print_once(press, *job)
        return await print_once(press, *job)

    _replace(Press, "print", print_twice)


def _keep_records() -> None:
    """Wipe no card data that a session lets go of, and hold on to it."""
    kept: list[CardRecord] = []
    _replace(CardRecord, "wipe", lambda record: kept.append(record))  # noqa: PLW0108 - only a function is a method


def _keep_keys() -> None:
    _replace(IdentityKey, "wipe", lambda _: None)


def _never_lock() -> None:
    _replace(Lockdown, "_lock", lambda *_: None)


def _never_off() -> None:
    async def wait(_: Plan) -> None:
        await asyncio.Event().wait()

    _replace(Plan, "_off", wait)


def _turn_away() -> None:
    """Let nobody's verification count, for a while: whoever comes later is served."""
    asserted = Session.asserted

    def asserted_late(session: Session) -> bytes:
        if asyncio.get_running_loop().time() < TURNED_AWAY_SECONDS:
            raise SessionError("assertion.expired", "turned away", advice="come again")
        return asserted(session)

    _replace(Session, "asserted", asserted_late)


def _never_wipe() -> None:
    """Let the next session begin with what the one before held."""
    begin, kept = Session.__init__, dict[str, Any]()

    def begin_with_it(session: Session, owner: Owner, on_state: Any) -> None:
        begin(session, owner, on_state)
        if kept.get("_assertion") is not None:
            vars(session).update(kept)
            session.state = SessionState.VERIFIED

    def keep(session: Session) -> None:
        kept.update({name: vars(session)[name] for name in _HELD})

    _replace(Session, "__init__", begin_with_it)
    _replace(Session, "wipe", keep)


def _replace(owner: type, name: str, method: Any) -> None:
    setattr(owner, name, method)


_SPOILERS: dict[Sabotage | None, Callable[[], None]] = {
    Sabotage.STUCK_TICKET: _never_close,
    Sabotage.LEAK_SESSION: _never_wipe,
    Sabotage.DOUBLE_PRINT: _print_again,
    Sabotage.KEEP_RECORD: _keep_records,
    Sabotage.KEEP_KEYS: _keep_keys,
    Sabotage.NO_TICKET: _never_open,
    Sabotage.TURN_AWAY: _turn_away,
    Sabotage.NEVER_LOCK: _never_lock,
    Sabotage.NEVER_OFF: _never_off,
}
