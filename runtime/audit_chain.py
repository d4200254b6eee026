"""The chain of the audit log: its lines, its seals and its files, and what verifies them (H7). No secret, no daemon.

The log is `audit.jsonl` and, older, closed files `audit-NNNNNNNNNNNN.jsonl`, named by how many lines there are up to
their end. The chain goes on from file to file. docs/audit.md says what of a change shows by what.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
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

    def verify(self, *keys: PublicKey) -> None:
        """Raise AuditError `audit.bad_seal` unless the terminal signed it; `keys` are the identity keys it has had."""
        content = seal_content(self.terminal, at=self.at, clock=self.clock, lines=self.lines, head=self.head)
        for key in keys:
            with suppress(TransportError, ValueError):
                key.verify(bytes.fromhex(self.signature), content)
                return
        raise AuditError("audit.bad_seal", f"the seal over {self.lines} lines is not by this key")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was verified: how many lines and seals, how many lines no seal covers yet, what was removed before them.

    `losses` are the lines, counted from 1, that say that the daemon found something wrong with those before them.
    """

    lines: int
    seals: int
    unsealed: int
    removed: int
    sealed_at: int | None
    losses: tuple[int, ...]


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


def verify(lines: Iterable[bytes], *keys: PublicKey, seals: Sequence[Seal] = (), is_whole: bool = True) -> Verdict:
    """Verify a chain of lines and return what it holds.

    With `keys`, those that the terminal has had, every seal must be by one of them. `seals` are those that the platform
    holds: each must be in it. A chain that `is_whole` begins with the first line ever, or where a line of it says that
    older ones were removed; another, an export, begins anywhere, and seals over what is outside it say nothing of it.
    Raises AuditError: `audit.chain_broken`, `audit.bad_seal`, `audit.truncated`, `audit.no_beginning`.
    """
    chain = _follow(lines)
    found, begins, length = chain.seals, chain.heads[0], len(chain.heads) - 1
    for seal in [*(seal for _, seal in found), *seals]:
        if keys:
            seal.verify(*keys)
    if is_whole and begins not in chain.removed:
        raise AuditError("audit.no_beginning", "line 1 is not the first, and no line says that older ones were removed")
    before = chain.removed[begins] if is_whole else (found[0][1].lines - found[0][0] + 1 if found else 0)
    for count, seal in found:
        if seal.lines != before + count - 1:
            raise AuditError("audit.bad_seal", f"line {count} seals {seal.lines} lines, not {before + count - 1}")
    if not is_whole:
        seals = [seal for seal in seals if found and before <= seal.lines <= before + length]
    _expect(seals, chain.heads, before)
    last, sealed_at = (found[-1][0], found[-1][1].at) if found else (0, None)
    return Verdict(length, len(found), length - last, before, sealed_at, tuple(chain.losses))


@dataclass(slots=True)
class _Chain:
    """Lines that follow from each other: the digest before the first and after each, and what some of them say."""

    heads: list[str]
    seals: list[tuple[int, Seal]]
    losses: list[int]
    removed: dict[str, int]


def _follow(lines: Iterable[bytes]) -> _Chain:
    chain = _Chain([], [], [], {GENESIS: 0})
    for count, line in enumerate(lines, start=1):
        place = f"line {count}"
        entry = read(line, place)
        if not chain.heads:
            chain.heads.append(entry.previous)
        if entry.previous != chain.heads[-1]:
            raise AuditError("audit.chain_broken", f"{place} does not follow from the line before")
        chain.heads.append(digest(line))
        if (seal := seal_of(entry, place)) is not None:
            chain.seals.append((count, seal))
        elif entry.event == REMOVED:
            number = entry.details.get("lines")
            if not isinstance(number, int):
                raise AuditError("audit.chain_broken", f"{place} does not say how many lines were removed")
            chain.removed[str(entry.details.get("last"))] = number
        elif entry.event == LOST:
            chain.losses.append(count)
    chain.heads = chain.heads or [GENESIS]
    return chain


def _expect(seals: Sequence[Seal], heads: Sequence[str], before: int) -> None:
    """Find each seal of the platform's in the chain: `heads` are the digests after `before` lines, and after each.

    How old lines are is told by the seals that have the platform's clock: nobody sets that at the terminal.
    """
    dated = [seal for seal in seals if seal.clock == "platform"]
    newest = max((seal.at for seal in dated), default=0)
    old = max((seal.lines for seal in dated if seal.at <= newest - KEPT_SECONDS), default=0)
    for seal in seals:
        place = seal.lines - before
        if place < 0 and seal.lines > old:
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
