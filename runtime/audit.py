"""The audit log: who did what with the machine, one JSON line each, chained by SM3 (H6, H7). Nothing about citizens.

Writing and syncing run where the journal's SQLite runs, so nothing here needs a thread. With each line the journal
notes its SM3, so that lines cut off while the daemon does not run show at its next start; while it runs, it knows the
last line itself. Beside the log lies a reserve, `audit.reserve`, whose blocks a full disk gets back so that the log
goes on (L28).
"""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import structlog

from runtime.audit_chain import (
    LOST,
    REMOVED,
    SEALED,
    AuditEntry,
    AuditError,
    Seal,
    closed_files,
    closed_name,
    digest,
    lines_until,
)
from runtime.audit_files import Standing, closing_seal, end_of, known_time, last_line, last_of, missing, standing
from runtime.journal.files import sync_directory
from runtime.journal.schema import transaction
from runtime.logs import safe_text
from runtime.messages.audit import seal_content
from runtime.seams import JournalExecutor

__all__ = ["Audit", "AuditError"]

log = structlog.get_logger(__name__)

RESERVE_BYTES = 512 * 1024
"""Blocks kept for the hour of need: two thousand lines."""
WRITE_SECONDS = 2.0
"""What a line may take to reach the disk; a citizen's session never waits longer for it."""
LOOK_SECONDS = 10.0
"""What reading the last files of the log may take."""

T = TypeVar("T")
Entry = Callable[[float, str], AuditEntry]
"""Makes a line of the time (UTC seconds) and the digest of the line before."""


class Audit:
    """The audit log of this machine, at `path`."""

    def __init__(self, executor: JournalExecutor, path: Path, wall_clock: Callable[[], float]) -> None:
        self._executor = executor
        self._path = path
        self._reserve = path.with_suffix(".reserve")
        self._wall_clock = wall_clock
        self._turn = asyncio.Lock()
        self._last: str | None = None
        self._lost: str | None = None
        self._sound: Callable[[str, str], None] = lambda *_: None

    def watch(self, sound: Callable[[str, str], None]) -> None:
        """Have `sound` raise an alarm when the log does not end with the line that was written last."""
        self._sound = sound

    async def missing(self) -> str | None:
        """Look at the log before its first line of this life; return the code of what is wrong with it, or None.

        `audit.truncated`: the last line that the journal knows of is not there; `audit.chain_broken`: a line of the
        present file does not follow from the one before, or is none. Raises AuditError `audit.read_failed`.
        """

        def work(db: sqlite3.Connection) -> str | None:
            self._last = digest(last_line(self._path))
            return missing(self._path, _head(db))

        return await self._look(work)

    async def known_time(self) -> float:
        """Return the platform's time (UTC seconds) of the last seal that has it, 0 without one; raise AuditError."""
        return await self._look(lambda _: known_time(self._path))

    async def standing(self) -> Standing:
        """Return where the log stands; raise AuditError."""
        return await self._look(lambda _: standing(self._path))

    async def append(
        self,
        event: str,
        *,
        actor: str,
        details: Mapping[str, str | int | None] | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> None:
        """Append one line and return when it is on the disk; raise AuditError `audit.write_failed`.

        Details that are None are left out, texts are shortened and masked as in the log: a certificate's number comes
        from the platform. `digests` are details too, our own, and written as they are. A last line that a power cut
        left unfinished is removed first: nobody was told that it was written.
        """
        safe = {
            key: safe_text(value) if isinstance(value, str) else value
            for key, value in (details or {}).items()
            if value is not None
        }
        about = safe | dict(digests or {})
        await self._write(lambda at, previous: AuditEntry(at, event, actor, about, previous))

    async def note(self, event: str, *, actor: str, details: Mapping[str, str | int | None] | None = None) -> None:
        """Append one line about what happened already; when that fails, the log says so and life goes on."""
        try:
            await self.append(event, actor=actor, details=details)
        except AuditError as error:
            log.error("audit_line_lost", audit_event=event, code=error.code, reason=str(error))

    async def seal(
        self,
        sign: Callable[[bytes], bytes],
        terminal: str,
        at: int,
        clock: Literal["platform", "own"],
        *,
        ends_file: bool = False,
    ) -> Seal:
        """Append the line that seals every line before it and return the seal; raise AuditError, TransportError.

        With `ends_file` it is the last line of its file, and the next one begins a new file.
        """
        made: list[Seal] = []

        def entry(now: float, head: str) -> AuditEntry:
            lines = standing(self._path).lines
            content = seal_content(terminal, at=at, clock=clock, lines=lines, head=head)
            seal = Seal(terminal, at, clock, lines, head, sign(content).hex())
            made.append(seal)
            about: dict[str, str | int] = msgspec.to_builtins(seal)
            del about["head"]  # the line's own `previous`
            return AuditEntry(now, SEALED, "daemon", about, head)

        await self._write(entry, ends_file=ends_file, seconds=LOOK_SECONDS)
        return made[-1]

    async def remove(self, oldest: int) -> None:
        """Remove the `oldest` closed files, each after a line that says so; raise AuditError.

        So a power cut between two of them leaves a log whose beginning is told of.
        """
        for file in await self._look(lambda _: closed_files(self._path)[:oldest]):
            last = await self._look(partial(_last_digest, file))
            await self.append(REMOVED, actor="daemon", details={"lines": lines_until(file)}, digests={"last": last})
            await self._look(partial(_unlink, file))

    async def closed(self) -> list[tuple[int, Seal | None]]:
        """Return of each closed file, oldest first, its bytes and the seal that ends it; raise AuditError."""

        def work(_: sqlite3.Connection) -> list[tuple[int, Seal | None]]:
            return [(file.stat().st_size, closing_seal(file)) for file in closed_files(self._path)]

        return await self._look(work)

    async def _write(self, entry: Entry, *, ends_file: bool = False, seconds: float = WRITE_SECONDS) -> None:
        at = self._wall_clock()

        def work(db: sqlite3.Connection) -> None:
            try:
                last = self._append(at, entry)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._reserve.unlink(missing_ok=True)
                last = self._append(at, entry)
            else:
                self._keep_reserve()
            _keep_head(db, last)
            if ends_file:
                self._close_file()

        try:
            async with asyncio.timeout(seconds), self._turn:
                await self._executor.run(work)
        except TimeoutError:
            raise AuditError("audit.write_failed", f"not on the disk within {seconds:g} s") from None
        except OSError as error:
            is_full = error.errno in _NO_ROOM
            raise AuditError("audit.write_failed", f"{self._path.name}: errno {error.errno}", retry=is_full) from None
        finally:
            if (lost := self._lost) is not None:
                self._lost = None
                self._sound(lost, "audit")

    async def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self._executor.run(work)
        except TimeoutError:
            raise AuditError("audit.read_failed", f"not read within {LOOK_SECONDS:g} s") from None
        except OSError as error:
            raise AuditError("audit.read_failed", f"{self._path.name}: errno {error.errno}") from None

    def _append(self, at: float, entry: Entry) -> str:
        """Append a line, after one that says so when the log ends with another than the last of this life.

        Returns its digest. Raises OSError.
        """
        if self._last is not None and digest(last_line(self._path)) != self._last:
            code = missing(self._path, self._last) or "audit.chain_broken"
            self._put(at, lambda at, previous: AuditEntry(at, LOST, "daemon", {"code": code}, previous))
            self._lost = code
        return self._put(at, entry)

    def _put(self, at: float, entry: Entry) -> str:
        """Append a line and return its digest; raise OSError, and then leave no part of it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            last, end = end_of(descriptor)
            os.truncate(descriptor, end)
            line = msgspec.json.encode(entry(at, digest(last or last_line(self._path))))
            is_ended = end == 0 or os.pread(descriptor, 1, end - 1) == b"\n"
            content = (b"" if is_ended else b"\n") + line + b"\n"
            try:
                if os.pwrite(descriptor, content, end) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
                if end == 0:
                    sync_directory(self._path.parent)
            except OSError:
                os.truncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
        self._last = digest(line)
        return self._last

    def _keep_reserve(self) -> None:
        """Make the reserve where there is none and much room."""
        with suppress(OSError):
            if self._reserve.exists() and self._reserve.stat().st_size == RESERVE_BYTES:
                return
            system = os.statvfs(self._path.parent)
            if system.f_bavail * system.f_frsize >= 4 * RESERVE_BYTES:
                descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
                finally:
                    os.close(descriptor)

    def _close_file(self) -> None:
        os.rename(self._path, closed_name(self._path, standing(self._path).lines))  # noqa: PTH104 - the write guard sees this call
        sync_directory(self._path.parent)


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def _last_digest(file: Path, _: sqlite3.Connection) -> str:
    return digest(last_of(file))


def _unlink(file: Path, _: sqlite3.Connection) -> None:
    file.unlink(missing_ok=True)
    sync_directory(file.parent)


def _head(db: sqlite3.Connection) -> str | None:
    """Return the SM3 of the last line that the journal knows of."""
    with suppress(sqlite3.Error):
        row = db.execute("SELECT head FROM audit_head").fetchone()
        return None if row is None else str(row[0])
    return None


def _keep_head(db: sqlite3.Connection, head: str) -> None:
    """Have the journal know the last line: with its next synced commit, so a power cut may take some lines back of it.

    A journal that does not take it, on a full disk, knows an older line, and that is in the log as well.
    """
    with suppress(sqlite3.Error):
        db.execute("PRAGMA synchronous = NORMAL").close()
        with transaction(db):
            db.execute("INSERT OR REPLACE INTO audit_head VALUES (1, ?)", (head,))
