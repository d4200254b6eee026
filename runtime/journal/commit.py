"""Group commit: works asked for while a commit is under way share the next one.

Each caller puts its work into the queue and waits for its turn to lead. Who leads has the executor commit what is in
the queue, its own work and others'; whose work was among it then finds it done. Nothing outlives its caller.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runtime.journal.errors import disk_full
from runtime.journal.room import Room, is_full
from runtime.journal.schema import transaction
from runtime.seams import JournalExecutor

TOGETHER = 64
"""Works in one transaction: more save little, and a full disk must find room for all of it at once."""

T = TypeVar("T")
_Outcome = tuple[object, Exception | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    work: Callable[[sqlite3.Connection], object]
    is_urgent: bool
    answer: "Future[Any]" = field(default_factory=Future)

    def take(self) -> bool:
        """Begin; False when the caller has gone."""
        return self.answer.set_running_or_notify_cancel()


class Commits:
    """Commits works in the order of the calls, several in one transaction."""

    def __init__(self, executor: JournalExecutor, room: Room) -> None:
        self._executor = executor
        self._room = room
        self._queue: deque[_Asked] = deque()
        self._lead = asyncio.Lock()

    async def run(self, work: Callable[[sqlite3.Connection], T], *, is_urgent: bool = True) -> T:
        """Do `work` in a transaction and return its result once that is on the disk.

        It may share the transaction, but fails alone; it may be tried twice, and then acts on the database only once.
        Of a call that is cancelled nobody knows whether it took place; every other call goes on. Work that is not
        urgent is seen at once, and on the disk with the next that is. Raises what `work` raises, sqlite3.Error, and
        JournalError `journal.disk_full`.
        """
        asked = _Asked(work, is_urgent)
        self._queue.append(asked)
        try:
            async with self._lead:
                while not asked.answer.done():
                    await self._executor.run(self._commit)
        finally:
            asked.answer.cancel()
        result: T = asked.answer.result()
        return result

    def _commit(self, db: sqlite3.Connection) -> None:
        """Commit the next works of the queue and give each its answer."""
        batch: list[_Asked] = []
        while self._queue and len(batch) < TOGETHER:
            asked = self._queue.popleft()
            if asked.take():
                batch.append(asked)
        if not batch:
            return
        is_urgent = any(asked.is_urgent for asked in batch)
        try:
            db.execute(f"PRAGMA synchronous = {'FULL' if is_urgent else 'NORMAL'}").close()
            outcomes = self._done(db, batch)
        except Exception as error:  # noqa: BLE001 - each caller raises it
            outcomes = [(None, error)] * len(batch)
        for asked, (value, failure) in zip(batch, outcomes, strict=True):
            if failure is None:
                asked.answer.set_result(value)
            else:
                asked.answer.set_exception(failure)
        if is_urgent and not any(failure for _, failure in outcomes):
            self._room.look_after(db)

    def _done(self, db: sqlite3.Connection, batch: list[_Asked]) -> list[_Outcome]:
        """Do the works together; when the disk is full make room and do each by itself."""
        try:
            with transaction(db):
                return [_tried(db, asked) for asked in batch]
        except sqlite3.OperationalError as error:
            if not is_full(db, error):
                raise
        self._room.make(db)
        return [_alone(db, asked) for asked in batch]


def _tried(db: sqlite3.Connection, asked: _Asked) -> _Outcome:
    """Do one work of several; what it changed is undone when it fails."""
    db.execute("SAVEPOINT work")
    try:
        value = asked.work(db)
    except Exception as error:
        if not db.in_transaction or (isinstance(error, sqlite3.Error) and is_full(db, error)):
            raise
        db.execute("ROLLBACK TO work")
        db.execute("RELEASE work")
        return None, error
    db.execute("RELEASE work")
    return value, None


def _alone(db: sqlite3.Connection, asked: _Asked) -> _Outcome:
    try:
        with transaction(db):
            return asked.work(db), None
    except Exception as error:  # noqa: BLE001 - its caller raises it
        if isinstance(error, sqlite3.OperationalError) and is_full(db, error):
            return None, disk_full()
        return None, error
