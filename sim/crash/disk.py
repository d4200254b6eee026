"""The journal's files on a disk whose power is cut: what was written between two syncs is there, torn, or not (rule 2).

`Recording` looks at the database and its write-ahead log before each statement of a real connection and takes what
changed as what SQLite wrote: to the log frame by frame, header and page; to the database page by page. Where SQLite
syncs is known from its WAL protocol: the log after its header, after a commit with `synchronous = FULL` and before a
checkpoint, the database after a checkpoint and before the log is begun anew or cut off. Between two syncs a disk may
do what it likes: `images` are the files as they may be found then.
"""

import random
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

_HEADER, _FRAME_HEADER = 32, 24
_SYNCHRONOUS = re.compile(r"\s*PRAGMA\s+synchronous\s*=\s*(\w+)", re.IGNORECASE)

Which = Literal["database", "log"]


@dataclass(frozen=True, slots=True)
class Files:
    """The content of the database and of its log."""

    database: bytes
    log: bytes

    def store(self, database: Path) -> None:
        """Write them where SQLite looks for them, without an index of the log: that is memory."""
        database.write_bytes(self.database)
        database.with_name(f"{database.name}-wal").write_bytes(self.log)
        database.with_name(f"{database.name}-shm").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Write:
    """So many bytes at an offset; none cut the file off there. `is_commit` ends what belongs together."""

    which: Which
    offset: int
    data: bytes
    is_commit: bool = False


@dataclass(slots=True)
class Epoch:
    """What was written between two syncs, after `before`."""

    before: Files
    writes: list[Write] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Image:
    """The files as a power cut may leave them: in which epoch, and what became of its writes."""

    epoch: int
    what: str
    files: Files


class Recording:
    """Every epoch of a connection in WAL mode to the file `database`, from now until `end`."""

    def __init__(self, connection: sqlite3.Connection, database: Path) -> None:
        self._connection = connection
        self._database = database
        self._is_full = True
        self._last = self._read()
        self.epochs = [Epoch(self._last)]
        connection.set_trace_callback(self._before)

    def end(self) -> Files:
        """Take what the last statement wrote, and return the files as they are."""
        self._connection.set_trace_callback(None)
        self._look()
        self._sync()
        return self._last

    def _before(self, statement: str) -> None:
        self._look()
        if found := _SYNCHRONOUS.match(statement):
            self._is_full = found[1].upper() == "FULL"

    def _look(self) -> None:
        """Take what the statement before wrote."""
        before, now = self._last, self._read()
        if now == before:
            return
        self._last = now
        if now.log and now.log != before.log:
            self._look_at_log(before, now.log)
        if now.database != before.database:
            self._sync(Files(before.database, now.log or before.log))
            self.epochs[-1].writes += _page_writes(before.database, now.database)
            self._sync(Files(now.database, now.log or before.log))
        if before.log and not now.log:
            self.epochs[-1].writes.append(Write("log", 0, b""))
            self._sync()

    def _look_at_log(self, before: Files, now: bytes) -> None:
        """Take what was written to the log; a header is synced before there are frames under it."""
        writes = _log_writes(before.log, now)
        if writes and writes[0].offset == 0:
            self.epochs[-1].writes.append(writes.pop(0))
            before = applied(before, self.epochs[-1].writes[-1:])
            self._sync(before)
        self.epochs[-1].writes += writes
        if self._is_full and any(write.is_commit for write in writes):
            self._sync(Files(before.database, now))

    def _sync(self, files: Files | None = None) -> None:
        """Begin another epoch, unless nothing was written in the last one."""
        if self.epochs[-1].writes:
            self.epochs.append(Epoch(files or self._last))

    def _read(self) -> Files:
        log = self._database.with_name(f"{self._database.name}-wal")
        return Files(self._database.read_bytes(), log.read_bytes() if log.exists() else b"")


def images(epochs: list[Epoch], chance: random.Random) -> Iterator[Image]:
    """Yield the files after each power cut: each write of an epoch missing, torn or the last that came.

    A disk may write in any order, so also with one write missing among the others, and with any half of them.
    """
    for number, epoch in enumerate(epochs):
        writes = epoch.writes
        for at, write in enumerate(writes):
            done = writes[:at]
            yield Image(number, f"cut before write {at}", applied(epoch.before, done))
            for what, torn in _torn(write, chance):
                yield Image(number, f"write {at} {what}", applied(epoch.before, [*done, torn]))
                yield Image(
                    number,
                    f"write {at} {what}, later ones whole",
                    applied(epoch.before, [*done, torn, *writes[at + 1 :]]),
                )
            yield Image(number, f"write {at} missing", applied(epoch.before, [*done, *writes[at + 1 :]]))
        for again in range(2):
            some = [write for write in writes if chance.random() < 0.5]
            yield Image(number, f"any half of them, {again}", applied(epoch.before, some))


def outcomes(epoch: Epoch) -> list[Files]:
    """Return the files after which a power cut in an epoch may leave the journal: as before it, or after a commit."""
    ends = [at + 1 for at, write in enumerate(epoch.writes) if write.is_commit]
    return [epoch.before, *(applied(epoch.before, epoch.writes[:end]) for end in ends)]


def applied(files: Files, writes: list[Write]) -> Files:
    """Return the files after these writes; what a write leaves out before it is zeros."""
    content = {"database": bytearray(files.database), "log": bytearray(files.log)}
    for write in writes:
        into = content[write.which]
        if not write.data:
            del into[write.offset :]
            continue
        into.extend(bytes(max(0, write.offset - len(into))))
        into[write.offset : write.offset + len(write.data)] = write.data
    return Files(bytes(content["database"]), bytes(content["log"]))


def _torn(write: Write, chance: random.Random) -> Iterator[tuple[str, Write]]:
    """Yield a write of which only the first half came, and one whose second half is garbage."""
    half = len(write.data) // 2
    if half:
        yield "half", Write(write.which, write.offset, write.data[:half])
        garbage = chance.randbytes(len(write.data) - half)
        yield "half and garbage", Write(write.which, write.offset, write.data[:half] + garbage)


def _log_writes(before: bytes, now: bytes) -> list[Write]:
    """Return the header of the log, where it is another, and the frames that are."""
    page = int.from_bytes(now[8:12], "big")
    writes = [] if now[:_HEADER] == before[:_HEADER] else [Write("log", 0, now[:_HEADER])]
    salts = now[16:24]
    for offset in range(_HEADER, len(now) - page, _FRAME_HEADER + page):
        head, body = now[offset : offset + _FRAME_HEADER], now[offset + _FRAME_HEADER : offset + _FRAME_HEADER + page]
        if head[8:16] != salts:
            break  # left over from the log before
        if head + body != before[offset : offset + _FRAME_HEADER + page]:
            is_commit = head[4:8] != bytes(4)
            writes += [Write("log", offset, head), Write("log", offset + _FRAME_HEADER, body, is_commit)]
    return writes


def _page_writes(before: bytes, now: bytes) -> list[Write]:
    page = int.from_bytes(now[16:18], "big")
    found = range(0, len(now), page)
    writes = [
        Write("database", at, now[at : at + page]) for at in found if now[at : at + page] != before[at : at + page]
    ]
    return [*writes, Write("database", len(now), b"")] if len(now) < len(before) else writes
