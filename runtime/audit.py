"""The audit log: who did what with the machine, one JSON line each, chained by SM3 (H6, H7). Nothing about citizens.

Each line carries the SM3 of the line before it, so a changed, removed or inserted line shows. Writing and syncing
run where the journal's SQLite runs, so nothing here needs a thread. Beside the log lies a reserve, `audit.reserve`,
whose blocks a full disk gets back so that the log goes on (L28).
"""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from runtime.logs import safe_text
from runtime.seams import JournalExecutor
from transport.sm import sm3

log = structlog.get_logger(__name__)

GENESIS = bytes(32).hex()
"""What the first line carries in place of a predecessor's digest."""
RESERVE_BYTES = 512 * 1024
"""Blocks kept for the hour of need: two thousand lines."""
WRITE_SECONDS = 2.0
"""What a line may take to reach the disk; a citizen's session never waits longer for it."""


class AuditError(Exception):
    """The audit log cannot be written (`audit.write_failed`) or its chain is broken (`audit.chain_broken`).

    `retry` says that there was no room for a line on the disk.
    """

    def __init__(self, code: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = (
            "free space on the disk of the state directory"
            if retry
            else "keep the file as evidence and report it (T23)"
        )


class AuditEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line: UTC seconds, what happened, who did it, details, and the SM3 of the line before (hexadecimal)."""

    at: float
    event: str
    actor: str
    details: dict[str, str | int]
    previous: str


class Audit:
    """The audit log of this machine, at `path`."""

    def __init__(self, executor: JournalExecutor, path: Path, wall_clock: Callable[[], float]) -> None:
        self._executor = executor
        self._path = path
        self._reserve = path.with_suffix(".reserve")
        self._wall_clock = wall_clock

    async def append(self, event: str, *, actor: str, details: Mapping[str, str | int | None] | None = None) -> None:
        """Append one line and return when it is on the disk; raise AuditError `audit.write_failed`.

        Details that are None are left out, texts are shortened and masked as in the log: a certificate's number comes
        from the platform. A last line that a power cut left unfinished is removed first: nobody was told that it was
        written.
        """
        at = self._wall_clock()
        safe = {
            key: safe_text(value) if isinstance(value, str) else value
            for key, value in (details or {}).items()
            if value is not None
        }

        def work(_: sqlite3.Connection) -> None:
            try:
                self._write(lambda previous: AuditEntry(at, event, actor, safe, previous))
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._reserve.unlink(missing_ok=True)
                self._write(lambda previous: AuditEntry(at, event, actor, safe, previous))
            else:
                self._keep_reserve()

        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._executor.run(work)
        except TimeoutError:
            raise AuditError("audit.write_failed", f"not on the disk within {WRITE_SECONDS:g} s") from None
        except OSError as error:
            is_full = error.errno in _NO_ROOM
            raise AuditError("audit.write_failed", f"{self._path.name}: errno {error.errno}", retry=is_full) from None

    async def note(self, event: str, *, actor: str, details: Mapping[str, str | int | None] | None = None) -> None:
        """Append one line about what happened already; when that fails, the log says so and life goes on."""
        try:
            await self.append(event, actor=actor, details=details)
        except AuditError as error:
            log.error("audit_line_lost", audit_event=event, code=error.code, reason=str(error))

    def _write(self, entry: Callable[[str], AuditEntry]) -> None:
        """Append what `entry` makes of the digest of the line before; raise OSError, and then leave no part of it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            last, end = _last_line(os.fstat(descriptor).st_size, lambda at: os.pread(descriptor, _BLOCK, at))
            os.truncate(descriptor, end)
            line = msgspec.json.encode(entry(_digest(last))) + b"\n"
            try:
                if os.pwrite(descriptor, line, end) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                os.truncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)

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


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_BLOCK = 64 * 1024
"""No line is near this long, so the last complete line lies within the last two blocks."""


def _last_line(size: int, read: Callable[[int], bytes]) -> tuple[bytes | None, int]:
    """Return the last complete line (None in an empty file) and the offset just behind it."""
    start = max(0, size - _BLOCK)
    tail = read(start)
    end = tail.rfind(b"\n") + 1
    line = tail[:end].rstrip(b"\n").rpartition(b"\n")[2]
    return (line or None), (start + end if end else 0)


def _digest(line: bytes | None) -> str:
    return GENESIS if line is None else sm3(line).hex()


def verify(lines: Iterable[bytes]) -> int:
    """Return how many entries the chain of `lines` (without their newlines) holds.

    Raises AuditError `audit.chain_broken` with the number of the first line that does not follow from the one before.
    """
    previous: bytes | None = None
    count = 0
    for count, line in enumerate(lines, start=1):
        try:
            entry = msgspec.json.decode(line, type=AuditEntry)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise AuditError("audit.chain_broken", f"line {count} is not an audit entry") from None
        if entry.previous != _digest(previous):
            raise AuditError("audit.chain_broken", f"line {count} does not follow from the line before")
        previous = line
    return count
