"""Reads the files of the audit log where the daemon writes them: how it ends, where it stands, what is missing (H7)."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.audit_chain import AuditError, Seal, closed_files, digest, lines_of, lines_until, read, seal_of

_BLOCK = 64 * 1024
"""No line is near this long, so the last complete line lies within the last two blocks."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the log stands: its lines (the removed ones too), the present file's bytes, and the last seal.

    `unsealed_since` is when the first line after that was written (UTC seconds), None where there is none.
    """

    lines: int
    bytes: int
    unsealed_since: float | None
    seal: Seal | None


def end_of(descriptor: int) -> tuple[bytes | None, int]:
    """Return the last complete line of an open file (None in an empty one) and the offset just behind it."""
    start = max(0, os.fstat(descriptor).st_size - _BLOCK)
    tail = os.pread(descriptor, _BLOCK, start)
    end = tail.rfind(b"\n") + 1
    line = tail[:end].rstrip(b"\n").rpartition(b"\n")[2]
    return (line or None), (start + end if end else 0)


def last_line(current: Path) -> bytes | None:
    """Return the last line of the log, be it in the present file or in the one before; raise OSError."""
    for file in (current, *reversed(closed_files(current))):
        if file.exists() and (line := _last_of(file)) is not None:
            return line
    return None


def closing_seal(closed: Path) -> Seal | None:
    """Return the seal that ends a closed file, None where something else does; raise OSError."""
    line = _last_of(closed)
    with suppress(AuditError):
        return None if line is None else seal_of(read(line))
    return None


def standing(current: Path) -> Standing:
    """Return where the log stands; raise AuditError, OSError."""
    closed = closed_files(current)
    before = (lines_until(closed[-1]) if closed else None) or 0
    seal = closing_seal(closed[-1]) if closed else None
    since: float | None = None
    lines = _present(current)
    for line in lines:
        with suppress(AuditError):  # a line that is none shows in `missing`
            entry = read(line)
            found = seal_of(entry)
            seal, since = (found, None) if found is not None else (seal, entry.at if since is None else since)
    return Standing(before + len(lines), current.stat().st_size if lines else 0, since, seal)


def missing(current: Path, head: str | None) -> str | None:
    """Return the code of what is wrong with the log, None if nothing; raise AuditError, OSError.

    `audit.truncated`: there is no line with the SM3 `head`, the last that the journal knows of, in the present file nor
    in the one before. `audit.chain_broken`: a line of the present file does not follow from the one before.
    """
    closed, present = closed_files(current), _present(current)
    if head is not None and all(head != digest(line) for line in (*present, *lines_of(closed[-1:]))):
        return "audit.truncated"
    before = digest(_last_of(closed[-1]) if closed else None)
    try:
        for line in present:
            if read(line).previous != before:
                return "audit.chain_broken"
            before = digest(line)
    except AuditError as error:
        return error.code
    return None


def _present(current: Path) -> list[bytes]:
    return list(lines_of([current])) if current.exists() else []


def _last_of(file: Path) -> bytes | None:
    with file.open("rb") as opened:
        return end_of(opened.fileno())[0]
