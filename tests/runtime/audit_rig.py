"""Audit logs as a terminal leaves them, sealed day by day, for those who change them and those who verify."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from runtime.audit import Audit
from runtime.audit_chain import Seal, closed_files, lines_of
from runtime.audit_seal import Seals
from runtime.journal import Journal
from runtime.messages import from_payload
from runtime.messages.audit import AuditSeal
from runtime.services.steps import Origin
from sim.memory import InlineExecutor
from sim.platform.maintenance import seal_of
from transport import sm2

NOON = 1_800_000_000.0 - 4 * 3_600
"""Of a day in China."""
DAY = 86_400.0
TERMINAL = "GT-0001"
KEY, OTHER_KEY = sm2.generate(), sm2.generate()


class Log:
    """One terminal's log with its seals; `now` is its clock and the platform's, unless that is not known."""

    def __init__(self, directory: Path, database: sqlite3.Connection, key: sm2.PrivateKey, terminal: str) -> None:
        self.now = NOON
        self.platform_time: float | None = NOON
        self.path = directory / "audit.jsonl"
        self.alarms: list[tuple[str, str]] = []
        executor = InlineExecutor(database)
        self.journal = Journal(executor, lambda: self.now)
        self.audit = Audit(executor, self.path, lambda: self.now)
        self.seals = Seals(
            self.audit,
            self.journal,
            sign=key.sign,
            terminal=terminal,
            origin=Origin("boot", rig=False, wall_clock=lambda: self.now),
            platform_time=lambda: self.platform_time,
            sound=lambda code, subject: self.alarms.append((code, subject)),
        )
        self._terminal = terminal

    def pass_time(self, seconds: float) -> None:
        """Move both clocks."""
        self.now += seconds
        if self.platform_time is not None:
            self.platform_time += seconds

    async def day(self, lines: int = 3) -> None:
        """Write a day's lines and let it be over and sealed."""
        for number in range(lines):
            await self.audit.append("session_opened", actor="uid 1", details={"number": number})
        self.pass_time(DAY)
        await self.seals.look()

    def files(self) -> list[Path]:
        """Return the files of the log, oldest first."""
        return [*closed_files(self.path), *([self.path] if self.path.exists() else [])]

    def lines(self) -> list[bytes]:
        """Return every line."""
        return list(lines_of(self.files()))

    def put(self, lines: list[bytes]) -> None:
        """Put other lines in the place of the present file's."""
        self.path.write_bytes(b"".join(line + b"\n" for line in lines))

    async def held(self) -> list[Seal]:
        """Return the seals that the platform is told of."""
        records = await self.journal.unacknowledged(self.journal.streams["supervision"], 0, 999)
        told = [from_payload(record.payload, AuditSeal) for record in records]
        return [seal_of(self._terminal, one) for one in told]


@asynccontextmanager
async def log_of(
    directory: Path, *, key: sm2.PrivateKey = KEY, terminal: str = TERMINAL, days: int = 0
) -> AsyncIterator[Log]:
    """A log with so many sealed days and two lines after the last seal."""
    directory.mkdir(exist_ok=True)
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        log = Log(directory, database, key, terminal)
        await log.journal.open()
        for _ in range(days):
            await log.day()
        if days:
            await log.audit.append("device_retry_ordered", actor="uid 2", details={"device": "idcard"})
            await log.audit.append("session_opened", actor="uid 1")
        yield log
    finally:
        database.close()


def made(
    directory: Path, *, key: sm2.PrivateKey = KEY, terminal: str = TERMINAL, days: int = 3
) -> tuple[Path, list[Seal]]:
    """Write a log with so many sealed days and return where it is, and the seals that the platform has."""

    async def main() -> list[Seal]:
        async with log_of(directory, key=key, terminal=terminal, days=days) as log:
            return await log.held()

    return directory, asyncio.run(main())
