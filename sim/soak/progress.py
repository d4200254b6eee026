"""Tells while a soak runs whether calls are answered and records are receipted."""

import asyncio
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from sim import delivery
from sim.soak.ledger import Ended, lines

_POLL_SECONDS = 0.05


class Progress:
    """Reads the growing ledger, and the cursors of the terminal's journal as another program would."""

    def __init__(self, ledger: Path, journal: Path) -> None:
        self._ledger = ledger
        self._journal = journal
        self._read = 0
        self._answered_at = 0.0
        self._receipted = 0
        self._receipted_after = 0.0

    async def follow(self) -> None:
        """Look again and again until cancelled."""
        looked_at = 0.0
        while True:
            self._follow_ledger()
            receipted = self._cursors()
            if receipted > self._receipted:
                self._receipted, self._receipted_after = receipted, looked_at
            looked_at = time.monotonic()
            await asyncio.sleep(_POLL_SECONDS)

    async def recovered(self, since: float) -> float:
        """Wait until a call was answered and a receipt was noted after `since`; return the seconds from then."""
        while True:
            if min(self._answered_at, self._receipted_after) >= since:
                return time.monotonic() - since
            await asyncio.sleep(_POLL_SECONDS)

    async def drained(self, within_seconds: float) -> int | None:
        """Wait until nothing waits to be receipted; return how many records still wait, None if nobody can read it."""
        until = time.monotonic() + within_seconds
        waiting: int | None = None
        while time.monotonic() < until:
            with suppress(sqlite3.Error):
                waiting = delivery.waiting(self._journal)
            if waiting == 0:
                break
            await asyncio.sleep(_POLL_SECONDS)
        return waiting

    def _follow_ledger(self) -> None:
        with self._ledger.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in lines(whole):
            if isinstance(line, Ended) and line.end == "answered":
                self._answered_at = line.at

    def _cursors(self) -> int:
        """Return how many records were receipted; 0 while the journal cannot be read."""
        try:
            with closing(sqlite3.connect(f"{self._journal.as_uri()}?mode=ro", uri=True, timeout=0)) as database:
                return int(database.execute("SELECT coalesce(sum(sequence), 0) FROM cursors").fetchone()[0])
        except sqlite3.Error:
            return 0
