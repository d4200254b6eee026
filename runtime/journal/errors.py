"""How the journal refuses."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_UNREADABLE = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
"""A sector that the disk does not give back is damage, and no trouble that passes."""


class JournalError(Exception):
    """The journal cannot be used, or refuses what it was given.

    Codes: `journal.newer`, `journal.damaged`, `journal.write_failed`, `journal.disk_full`, `journal.personal`,
    `journal.no_stream`, `journal.no_intent`.
    """

    def __init__(self, code: str, message: str, *, advice: str, retry: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice


def damaged(reason: str) -> JournalError:
    """Return the refusal of a file that is no journal, or a broken one."""
    return JournalError(
        "journal.damaged",
        f"the journal cannot be read: {reason}",
        advice="keep the file for examination and start with an empty state directory",
    )


def disk_full() -> JournalError:
    """Return the refusal of a record for which there is no room, whatever was dropped for it."""
    return JournalError(
        "journal.disk_full",
        "no room for the record, though everything that may be dropped was dropped",
        advice="free space on the disk of the state directory, or bring the line to the platform back",
        retry=True,
    )


@asynccontextmanager
async def answered(seconds: float) -> AsyncIterator[None]:
    """Give the disk so long, and turn what SQLite raises into JournalError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise JournalError(
            "journal.write_failed", f"no answer within {seconds:g} s", advice="check the disk", retry=True
        ) from None
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            raise disk_full() from None
        if code in _UNREADABLE:
            raise damaged(error.sqlite_errorname) from None
        raise JournalError(
            "journal.write_failed",
            f"SQLite: {getattr(error, 'sqlite_errorname', 'unknown')}",
            advice="check free space and the state directory",
            retry=True,
        ) from None
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise damaged(getattr(error, "sqlite_errorname", "not a journal")) from None
