"""The chain of the audit log: its lines, its seals and its files, and what verifies them (H7). No secret, no daemon.

The log is `audit.jsonl` and, older, closed files `audit-NNNNNNNNNNNN.jsonl`, named by how many lines there are up to
their end. The chain goes on from file to file. docs/audit.md says what of a change shows by what.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from runtime.messages.audit import seal_content
from transport.errors import TransportError
from transport.sm import sm3
from transport.sm2 import PublicKey

GENESIS = bytes(32).hex()
"""What the first line carries in place of a predecessor's digest."""
SEALED = "audit_sealed"
"""The event of a line that seals all before it."""
REMOVED = "audit_removed"
"""The event of a line that says which lines were removed from the beginning, being older than KEPT_SECONDS."""
KEPT_SECONDS = 180 * 86_400.0
"""No line is removed that is younger (H7; level 3 asks for six months)."""
LOST = "audit_lines_lost"
"""The event of a line that says that the daemon found lines gone, or the chain broken."""


class AuditError(Exception):
    """The audit log cannot be written or read, or somebody changed it; the code says which.

    `audit.write_failed`, `audit.read_failed`; `audit.chain_broken`, `audit.bad_seal`, `audit.truncated`,
    `audit.no_beginning`. `retry` says that there was no room for a line on the disk.
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


class Seal(msgspec.Struct, frozen=True):
    """What a seal says: when (UTC seconds, by the `clock` named), how many lines stand before it, the last one's SM3.

    `head` and `signature` (DER, by the terminal's identity key, of `seal_content`) are hexadecimal.
    """

    terminal: str
    at: int
    clock: Literal["platform", "own"]
    lines: int
    head: str
    signature: str

    def verify(self, key: PublicKey) -> None:
        """Raise AuditError `audit.bad_seal` unless the terminal whose identity key this is signed it."""
        content = seal_content(self.terminal, at=self.at, clock=self.clock, lines=self.lines, head=self.head)
        try:
            key.verify(bytes.fromhex(self.signature), content)
        except (TransportError, ValueError):
            raise AuditError("audit.bad_seal", f"the seal over {self.lines} lines is not by this key") from None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was verified: how many lines and seals, how many lines no seal covers yet, what was removed before them."""

    lines: int
    seals: int
    unsealed: int
    removed: int
    sealed_at: int | None


def digest(line: bytes | None) -> str:
    """Return the SM3 of a line (without its newline), GENESIS where there is none."""
    return GENESIS if line is None else sm3(line).hex()


def read(line: bytes, place: str = "the line") -> AuditEntry:
    """Return what a line says; raise AuditError `audit.chain_broken` where it is none."""
    try:
        return msgspec.json.decode(line, type=AuditEntry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise AuditError("audit.chain_broken", f"{place} is not an audit entry") from None


def seal_of(entry: AuditEntry, place: str = "the line") -> Seal | None:
    """Return the seal that a line is, None for another; raise AuditError `audit.bad_seal`."""
    if entry.event != SEALED:
        return None
    try:
        return msgspec.convert(entry.details | {"head": entry.previous}, Seal)
    except msgspec.ValidationError:
        raise AuditError("audit.bad_seal", f"{place} is no seal") from None


def closed_files(current: Path) -> list[Path]:
    """Return the closed files of the log at `current`, oldest first."""
    named = f"{current.stem}-[0-9]*{current.suffix}"
    return sorted(file for file in current.parent.glob(named) if lines_until(file) is not None)


def closed_name(current: Path, lines: int) -> Path:
    """Return the name of the closed file that ends with this line."""
    return current.with_name(f"{current.stem}-{lines:012d}{current.suffix}")


def lines_until(closed: Path) -> int | None:
    """Return how many lines there are up to the end of a closed file, by its name."""
    number = closed.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() and len(number) == 12 else None


def lines_of(files: Iterable[Path]) -> Iterator[bytes]:
    """Return the lines of files, without their newlines; what no newline ends is none. Raises AuditError."""
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise AuditError("audit.read_failed", f"{file.name}: errno {error.errno}") from None
        yield from content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]


def verify(
    lines: Iterable[bytes], key: PublicKey | None = None, *, seals: Sequence[Seal] = (), is_whole: bool = True
) -> Verdict:
    """Verify a chain of lines and return what it holds.

    With `key` every seal in it must be by this identity key. `seals` are those that the platform holds: each must be
    in it. A chain that `is_whole` begins with the first line ever, or where a line of it says that older ones were
    removed; another, an export, begins anywhere. Raises AuditError: `audit.chain_broken`, `audit.bad_seal`,
    `audit.truncated`, `audit.no_beginning`, each with the line.
    """
    digests: list[str] = []
    found: list[tuple[int, Seal]] = []
    losses: list[int] = []
    removed: dict[str, int] = {GENESIS: 0}
    begins = GENESIS
    for count, line in enumerate(lines, start=1):
        place = f"line {count}"
        entry = read(line, place)
        if not digests:
            begins = entry.previous
        elif entry.previous != digests[-1]:
            raise AuditError("audit.chain_broken", f"{place} does not follow from the line before")
        digests.append(digest(line))
        if (seal := seal_of(entry, place)) is not None:
            if key is not None:
                seal.verify(key)
            found.append((count, seal))
        elif entry.event == REMOVED:
            removed[str(entry.details.get("last", ""))] = int(entry.details.get("lines", 0))
        elif entry.event == LOST:
            losses.append(count)
    if is_whole and begins not in removed:
        raise AuditError("audit.no_beginning", "line 1 is not the first, and no line says that older ones were removed")
    before = removed[begins] if is_whole else (found[0][1].lines - found[0][0] + 1 if found else 0)
    for count, seal in found:
        if seal.lines != before + count - 1:
            raise AuditError("audit.bad_seal", f"line {count} seals {seal.lines} lines, not {before + count - 1}")
    if is_whole and losses:
        raise AuditError("audit.truncated", f"line {losses[0]} says that lines before it are gone")
    _expect(seals, key, [begins, *digests], before)
    sealed = found[-1] if found else None
    unsealed = len(digests) - (sealed[0] if sealed is not None else 0)
    return Verdict(len(digests), len(found), unsealed, before, sealed[1].at if sealed is not None else None)


def _expect(seals: Sequence[Seal], key: PublicKey | None, heads: Sequence[str], before: int) -> None:
    """Find each seal of the platform's in the chain: `heads` are the digests after `before` lines, and after each."""
    newest = max((seal.at for seal in seals), default=0)
    for seal in seals:
        if key is not None:
            seal.verify(key)
        place = seal.lines - before
        if place < 0 and seal.at > newest - KEPT_SECONDS:
            raise AuditError("audit.truncated", f"lines up to {seal.lines} are gone, and younger than 180 days")
        if place >= len(heads):
            raise AuditError("audit.truncated", f"the platform has a seal over {seal.lines} lines; some are gone")
        if place >= 0 and heads[place] != seal.head:
            raise AuditError("audit.chain_broken", f"line {place} is not the one that the platform has a seal of")


def slice_of(lines: Sequence[bytes], begins: float, ends: float) -> list[bytes]:
    """Return the lines from `begins` to `ends` (UTC seconds), with all up to the seals around them where there are any.

    So the last line seals the others, and the first, itself a seal, says how many lines came before.
    """
    entries = [read(line, f"line {count}") for count, line in enumerate(lines, start=1)]
    inside = [number for number, entry in enumerate(entries) if begins <= entry.at < ends]
    if not inside:
        return []
    seals = [number for number, entry in enumerate(entries) if entry.event == SEALED]
    first = max((number for number in seals if number <= inside[0]), default=0)
    last = min((number for number in seals if number >= inside[-1]), default=len(lines) - 1)
    return list(lines[first : last + 1])
