"""Reads the files of the audit log where the daemon writes them: how it ends, where it stands, what is missing (H7)."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.audit_chain import SEALED, AuditError, Seal, closed_files, digest, lines_of, lines_until, read, seal_of

_BLOCK = 64 * 1024
"""No line is near this long, so the last complete line lies within the last block, or none does."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the log stands: its lines (the removed ones too), and the present file's bytes.

    `unsealed_since` is when the first line after the last seal was written (UTC seconds), None where there is none.
    """

    lines: int
    bytes: int
    unsealed_since: float | None


def end_of(descriptor: int) -> tuple[bytes | None, int]:
    """Return the last complete line of an open file (None without one) and the offset just behind it.

    What stands behind it is the part of a line that a power cut left unfinished. What is longer than any line is no
    such part: it counts as a line, for it is not ours to take away.
    """
    size = os.fstat(descriptor).st_size
    start = max(0, size - _BLOCK)
    tail = os.pread(descriptor, _BLOCK, start)
    end = tail.rfind(b"\n") + 1
    if start and not end:
        return tail, size
    line = tail[:end].rstrip(b"\n").rpartition(b"\n")[2]
    return (line or None), start + end


def last_line(current: Path) -> bytes | None:
    """Return the last line of the log, be it in the present file or in the one before; raise OSError."""
    for file in (current, *reversed(closed_files(current))):
        if file.exists() and (line := last_of(file)) is not None:
            return line
    return None


def last_of(file: Path) -> bytes | None:
    """Return the last line of one file, None where it has none; raise OSError."""
    with file.open("rb") as opened:
        return end_of(opened.fileno())[0]


def closing_seal(closed: Path) -> Seal | None:
    """Return the seal that ends a closed file, None where something else does; raise OSError."""
    line = last_of(closed)
    with suppress(AuditError):
        return None if line is None else seal_of(read(line))
    return None


def standing(current: Path) -> Standing:
    """Return where the log stands; raise AuditError, OSError."""
    closed = closed_files(current)
    before = (lines_until(closed[-1]) if closed else None) or 0
    since: float | None = None
    lines = _present(current)
    for line in lines:
        with suppress(AuditError):  # a line that is none shows in `missing`
            entry = read(line)
            since = None if seal_of(entry) is not None else entry.at if since is None else since
    return Standing(before + len(lines), current.stat().st_size if lines else 0, since)


def known_time(current: Path) -> float:
    """Return the time (UTC seconds) of the last seal that has the platform's, 0 where none has; raise AuditError."""
    for file in (current, *reversed(closed_files(current))):
        for line in reversed(list(lines_of([file])) if file.exists() else []):
            with suppress(AuditError):
                seal = seal_of(read(line)) if SEALED.encode() in line else None
                if seal is not None and seal.clock == "platform":
                    return float(seal.at)
    return 0.0


def missing(current: Path, head: str | None) -> str | None:
    """Return the code of what is wrong with the log, None if nothing; raise AuditError, OSError.

    `audit.truncated`: there is no line with the SM3 `head`, the last that the journal knows of, in the present file nor
    in the one before. `audit.chain_broken`: a line of the present file does not follow from the one before, or it ends
    with what is no line.
    """
    closed, present = closed_files(current), _present(current)
    if head is not None and all(head != digest(line) for line in (*present, *lines_of(closed[-1:]))):
        return "audit.truncated"
    if current.exists() and last_of(current) != (present[-1] if present else None):
        return "audit.chain_broken"
    before = digest(last_of(closed[-1]) if closed else None)
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
