"""What `govterm simulate` can break on purpose; an invariant must find each."""

import sqlite3
from enum import StrEnum
from typing import Any

from runtime.session import Owner, Session, SessionState
from runtime.tickets import Tickets


class Sabotage(StrEnum):
    """How a run can be broken."""

    DOUBLE_CHARGE = "double-charge"
    LEAK_SESSION = "leak-session"
    LOSE_FILING = "lose-filing"
    SKIP_FSYNC = "skip-fsync"
    STUCK_TICKET = "stuck-ticket"


_STATEMENTS = {
    Sabotage.DOUBLE_CHARGE: "INSERT INTO bank_ledger (order_id, kind, account, amount_fen, at)"
    " SELECT order_id, kind, account, amount_fen, at FROM bank_ledger WHERE kind = 'charge' LIMIT 1",
    Sabotage.LOSE_FILING: "DELETE FROM filings WHERE rowid = 1",
}
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
    if sabotage is Sabotage.STUCK_TICKET:
        _never_close()
    elif sabotage is Sabotage.LEAK_SESSION:
        _never_wipe()


def _never_close() -> None:
    heard = Tickets.heard

    def deaf(tickets: Tickets, device: str, fault: str | None) -> None:
        if fault is not None:
            heard(tickets, device, fault)

    setattr(Tickets, "heard", deaf)  # noqa: B010 - a method of a class is not assigned otherwise


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

    setattr(Session, "__init__", begin_with_it)  # noqa: B010 - as above
    setattr(Session, "wipe", keep)  # noqa: B010 - as above
