"""The journal's file in memory: as written, which a kill leaves, and as synced, which a power cut leaves."""

import re
import sqlite3
from typing import Any

_SYNCHRONOUS = re.compile(r"PRAGMA\s+synchronous\s*=\s*(\w+)", re.IGNORECASE)


class Disk(sqlite3.Connection):
    """A journal of which only what FULL committed is synced. Make it with `open_disk`.

    It is as `sim.crash.views.WatchedJournal`, which copies the file at each commit; this one copies it only where
    written and synced part, and only while it `is_watched`, so that a month of commits costs little.
    """

    skips_fsync = False
    checkpoints = 0
    """How often the log was moved into the database."""
    is_watched = True
    """Whether a power cut may come: otherwise nobody asks what it would leave."""
    _synced: bytes | None = None
    """The file at its last sync; None when all that is written is synced."""
    _is_full = True

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement, and keep what was synced before a commit that is not."""
        if statement.startswith("PRAGMA") and (found := _SYNCHRONOUS.match(statement)):
            self._is_full = found[1].upper() == "FULL" and not self.skips_fsync
            if not self._is_full and self._synced is None and (self.is_watched or self.skips_fsync):
                self._synced = self.serialize()
        self.checkpoints += statement.startswith("PRAGMA wal_checkpoint")
        cursor = super().execute(statement, parameters)
        if self._is_full and statement == "COMMIT":
            self._synced = None
        return cursor

    def written(self) -> bytes:
        """Return the file as it is, outside a transaction."""
        return self.serialize()

    def synced(self) -> bytes:
        """Return what of the file a power cut leaves."""
        return self.serialize() if self._synced is None else self._synced


def open_disk(content: bytes, *, skips_fsync: bool = False) -> Disk:
    """Open a journal of this content (none: a new one); with `skips_fsync` nothing of it is ever synced."""
    disk = sqlite3.connect(":memory:", isolation_level=None, factory=Disk)
    if content:
        disk.deserialize(content)
    disk.skips_fsync = skips_fsync
    if skips_fsync:
        disk._synced = content  # noqa: SLF001 - this module's own
    return disk
