"""The journal's file and what lies beside it: the backup copy, and damaged ones that were set aside (L29)."""

import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

KEPT_ASIDE = 3
"""Damaged journals that are kept for examination."""
ASIDE_BYTES = 512 * 2**20
"""What they may take together; the newest is kept whatever it takes."""
_COMPANIONS = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Files:
    """The names of everything that belongs to the journal at `database`."""

    database: Path

    @property
    def companions(self) -> tuple[Path, ...]:
        """The write-ahead log and its index."""
        return tuple(_beside(self.database, suffix) for suffix in _COMPANIONS)

    @property
    def reserve(self) -> Path:
        """Blocks kept for a full disk (runtime.journal.room)."""
        return self.database.with_suffix(".reserve")

    @property
    def backup(self) -> Path:
        """The backup copy: always whole."""
        return self.database.with_suffix(".backup.db")

    @property
    def rebuilt(self) -> Path:
        """A rebuilt journal, whole, until it takes the journal's place."""
        return self.database.with_suffix(".rebuilt.db")

    @property
    def rebuilding(self) -> Path:
        """A rebuilt journal that is being made."""
        return self.database.with_suffix(".rebuilding.db")

    @property
    def copying(self) -> Path:
        """A backup copy that is being made."""
        return self.database.with_suffix(".copying.db")

    @property
    def aside(self) -> Path:
        """What the names of damaged journals begin with; the time (UTC) follows."""
        return _beside(self.database, ".damaged-")

    @property
    def writable(self) -> list[Path]:
        """Every file that the journal writes; a name that ends in `*` stands for all that begin so."""
        own = [self.database, *self.companions, self.reserve]
        return [*own, self.backup, self.copying, self.rebuilding, self.rebuilt, _beside(self.aside, "*")]

    def free_aside(self, at: float) -> Path:
        """Return the name for a damaged journal that is set aside `at` this time (UTC seconds)."""
        return _free(_beside(self.aside, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))))

    def swap(self, aside: Path) -> None:
        """Put the rebuilt journal in the place of the damaged one, which is kept as `aside`.

        After a power cut at any point of it there is the damaged journal whole, or none and the rebuilt one whole:
        `finish` goes on from there. Raises OSError.
        """
        self._swap(aside)
        self._bound()

    def finish(self) -> None:
        """Go on where a power cut ended `swap`, and remove what was not whole yet; raises OSError."""
        self.copying.unlink(missing_ok=True)
        self.rebuilding.unlink(missing_ok=True)
        if not self.rebuilt.exists():
            return
        if self.database.exists():
            self.rebuilt.unlink()
            return
        log.warning("journal_rebuild_finished")
        self._swap(next(reversed(self._asides()), _beside(self.aside, "interrupted")))

    def _swap(self, place: Path) -> None:
        """Move the journal to `place`, then what belongs to it, then the rebuilt one to where it was."""
        if self.database.exists():
            os.rename(self.database, place)  # noqa: PTH104 - the write guard sees this call
            sync_directory(place.parent)
        for companion, suffix in zip(self.companions, _COMPANIONS, strict=True):
            if companion.exists():
                os.rename(companion, _beside(place, suffix))  # noqa: PTH104
        sync_directory(place.parent)
        os.rename(self.rebuilt, self.database)  # noqa: PTH104
        sync_directory(place.parent)

    def _asides(self) -> list[Path]:
        """Return the damaged journals, oldest first."""
        found = self.aside.parent.glob(f"{self.aside.name}*")
        return sorted(file for file in found if not file.name.endswith(_COMPANIONS))

    def _bound(self) -> None:
        """Remove the oldest damaged journals that are too many or too large."""
        total = 0
        for number, file in enumerate(reversed(self._asides())):
            total += _size(file)
            if number and (number >= KEPT_ASIDE or total > ASIDE_BYTES):
                log.warning("damaged_journal_removed", file=file.name, bytes=_size(file))
                for part in (file, *(_beside(file, suffix) for suffix in _COMPANIONS)):
                    part.unlink(missing_ok=True)


def files_of(db: sqlite3.Connection) -> Files | None:
    """Return the files of a connection's database; None in memory.

    SQLite tells a file by its absolute path, and calls a database that was deserialized `x`.
    """
    file = Path(db.execute("PRAGMA database_list").fetchone()[2])
    return Files(file) if file.is_absolute() else None


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on the disk; raise OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(file: Path) -> None:
    """Have a file's content on the disk; raise OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(file: Path) -> int:
    """Return what the disk of a file has free."""
    system = os.statvfs(file.parent)
    return system.f_bavail * system.f_frsize


def _free(place: Path) -> Path:
    """Return a name that nothing has: the clock may have stood there before."""
    number, free = 1, place
    while free.exists():
        number += 1
        free = _beside(place, f"-{number}")
    return free


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")


def _size(file: Path) -> int:
    parts = (file, *(_beside(file, suffix) for suffix in _COMPANIONS))
    return sum(part.stat().st_size for part in parts if part.exists())
