"""Data sets: pulled part by part, resumed at the byte where a pull stopped, switched when whole and right (S2, S3).

The parts of a version lie in the journal under that version alone, so that none is ever mixed with another's. A
version becomes the current one in one transaction, once its digest, count, age and rows are right; the one before is
kept. What is not right is dropped whole, and what was current stays so.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from runtime.messages.sharing import UNIT_BYTES, DatasetPart, DatasetRequest, Grant
from runtime.services import quality
from runtime.services.grants import GrantBook
from runtime.services.metering import Ledger, Taken
from runtime.services.resources import Resource
from runtime.services.steps import Refused, Transaction
from transport.sm import sm3

log = structlog.get_logger(__name__)

PULL_SECONDS = 60.0
"""A pull goes on so long and then says how far it came; the next one resumes it."""
CHECK_SECONDS = 60.0
"""What the slowest board may take to check the rows of the largest data set."""
MOST_BYTES = 8 * 2**20
MOST_RESTARTS = 3
"""How often one pull starts anew because the version changed."""

OnProgress = Callable[[int, int], None]
"""Told how many bytes of how many are there."""
_BEGINNING = (0, 0)
"""The version and offset that ask for the beginning of whatever version is the current one."""


class Manifest(msgspec.Struct, frozen=True):
    """What the platform said of a version; `counted_unix` is when, by its clock."""

    version: int
    total: int
    digest: bytes
    count: int
    as_of_unix: int
    counted_unix: int


class Kept(msgspec.Struct, frozen=True):
    """The versions of a data set that are here; `pulling` is not whole yet, or not checked."""

    current: Manifest | None = None
    previous: Manifest | None = None
    pulling: Manifest | None = None


@dataclass(frozen=True, slots=True)
class DataSets:
    """Pulls and keeps data sets."""

    grants: GrantBook
    ledger: Ledger
    under_way: set[str] = field(default_factory=set)

    async def kept(self, resource: str) -> tuple[Kept, int]:
        """Return what is here of a data set, and how many bytes of the version that is being pulled."""
        return await self.ledger.office.journal.read(lambda db: _read(db, resource))

    async def page(self, resource: Resource, first: int, most: int) -> list[dict[str, Any]]:
        """Return up to `most` rows of the current version from row `first` on; raise Refused when it is too old."""
        office = self.ledger.office
        kept, _ = await self.kept(resource.name)
        if kept.current is None:
            raise Refused("sharing.no_dataset", "nothing was pulled yet", retry=True)
        quality.check_age(resource, kept.current.as_of_unix, self.ledger.now())
        version = kept.current.version
        found = await office.journal.read(lambda db: _lines(db, resource.name, version, first, most))
        return [quality.read_line(line) for line in found]

    async def pull(self, transaction: Transaction, resource: Resource, purpose: str, on_progress: OnProgress) -> Kept:
        """Bring the data set to the platform's current version and return what is here then.

        Raises Refused: as `GrantBook.check` and `Ledger.ask`; `sharing.damaged`, `sharing.incomplete`,
        `sharing.stale`, `sharing.bad_time`, `sharing.bad_rows`, `sharing.older_version`, `sharing.wrong_resource`,
        `sharing.too_large` for what came; `sharing.pull_under_way`, and `sharing.pull_unfinished` when time is up.
        """
        if resource.name in self.under_way:
            raise Refused("sharing.pull_under_way", "somebody pulls it now", retry=True)
        self.under_way.add(resource.name)
        try:
            return await self._pull(transaction, resource, purpose, on_progress)
        finally:
            self.under_way.discard(resource.name)

    async def _pull(self, transaction: Transaction, resource: Resource, purpose: str, on_progress: OnProgress) -> Kept:
        loop = asyncio.get_running_loop()
        ends, restarts = loop.time() + PULL_SECONDS, 0
        kept, received = await self.kept(resource.name)
        while True:
            if kept.pulling is not None and received == kept.pulling.total:
                return await self._switch(transaction, resource, kept)
            if loop.time() >= ends or restarts > MOST_RESTARTS:
                raise Refused("sharing.pull_unfinished", f"{received} bytes are there", retry=True)
            _, grant = self.grants.check(resource.name, purpose, "dataset")
            wanted = _wanted(kept, received, is_changed=restarts > 0)
            try:
                await self._part(transaction, resource, grant, kept, wanted)
            except Refused as refused:
                if refused.code != "sharing.version_changed" or wanted == _BEGINNING:
                    raise
                log.info("dataset_version_changed", resource=resource.name, version=wanted[0])
                restarts += 1
                await self.ledger.office.journal.write(_dropped(resource.name))
                kept, received = await self.kept(resource.name)
                continue
            kept, received = await self.kept(resource.name)
            if kept.pulling is None and wanted != _BEGINNING:
                return kept  # the current version is still the platform's
            if kept.pulling is None or (kept.pulling.version, received) == wanted:
                raise Refused("journal.write_failed", "a part was not kept", retry=True)
            on_progress(received, kept.pulling.total)

    async def _part(
        self, transaction: Transaction, resource: Resource, grant: Grant, kept: Kept, wanted: tuple[int, int]
    ) -> None:
        def request(use: str) -> DatasetRequest:
            return DatasetRequest(use, grant.id, resource.name, grant.purpose, *wanted)

        async def take(part: DatasetPart) -> Taken:
            units = -(-len(part.body) // UNIT_BYTES)
            code = _problem(resource, kept, wanted, part)
            also = _dropped(resource.name) if code is not None else _stored(resource.name, kept, part)
            return Taken(resource.name, "dataset", units, part.counted_unix, code=code, also=also)

        try:
            await self.ledger.ask(transaction, request, DatasetPart, take)
        except Refused as refused:
            self.grants.refused(refused.code)
            raise

    async def _switch(self, transaction: Transaction, resource: Resource, kept: Kept) -> Kept:
        """Make a whole version the current one, or drop it; the platform is told (T12)."""
        whole = kept.pulling
        if whole is None:
            raise ValueError("no version is being pulled")
        journal = self.ledger.office.journal
        try:
            async with transaction.step("check_data", deadline_seconds=CHECK_SECONDS, no_answer="sharing.check_slow"):
                content, digest = await journal.read(lambda db: _content(db, resource.name, whole.version))
                quality.check_digest(digest, whole.digest)
                quality.check_age(resource, whole.as_of_unix, whole.counted_unix)
                await quality.check_lines(resource, content, whole.count)
        except Refused as refused:
            if refused.code.startswith("sharing."):
                await journal.write(_dropped(resource.name))
            raise
        switched = Kept(whole, kept.current)
        log.info("dataset_switched", resource=resource.name, version=whole.version, rows=whole.count)

        def work(db: sqlite3.Connection) -> None:
            _write(db, resource.name, switched)
            _forget(db, resource.name, switched)

        await journal.write(work, transaction.event("switch_dataset", "done", None, 0.0))
        return switched


def _wanted(kept: Kept, received: int, *, is_changed: bool) -> tuple[int, int]:
    """Return the version and offset to ask for: go on, look whether the current is still so, or begin."""
    if kept.pulling is not None:
        return kept.pulling.version, received
    if kept.current is not None and not is_changed:
        return kept.current.version, kept.current.total
    return _BEGINNING


def _problem(resource: Resource, kept: Kept, wanted: tuple[int, int], part: DatasetPart) -> str | None:
    """Return what is wrong with a part, by itself and beside what was said before."""
    if part.resource != resource.name:
        return "sharing.wrong_resource"
    if part.total > MOST_BYTES:
        return "sharing.too_large"
    if wanted == _BEGINNING and kept.current is not None and part.version <= kept.current.version:
        return "sharing.older_version"
    version, offset = wanted
    said = kept.pulling or (kept.current if version else None)
    names = ("version", "total", "digest", "count")
    is_other = said is not None and any(getattr(said, name) != getattr(part, name) for name in names)
    is_empty = not part.body and offset < part.total
    end = offset + len(part.body)
    if is_other or is_empty or not 1 <= part.version < 2**63 or part.offset != offset or end > part.total:
        return "sharing.damaged"
    try:
        quality.check_age(resource, part.as_of_unix, part.counted_unix)
    except Refused as refused:
        return refused.code
    return None


def _stored(resource: str, kept: Kept, part: DatasetPart) -> Callable[[sqlite3.Connection], None]:
    """Keep a part, or the later age of the version that is still the current one."""
    as_of = part.as_of_unix if kept.pulling is None else min(part.as_of_unix, kept.pulling.as_of_unix)
    said = Manifest(part.version, part.total, part.digest, part.count, as_of, part.counted_unix)

    def work(db: sqlite3.Connection) -> None:
        if kept.current is not None and kept.current.version == part.version:
            _write(db, resource, msgspec.structs.replace(kept, current=said))
            return
        _write(db, resource, msgspec.structs.replace(kept, pulling=said))
        row = (resource, part.version, part.offset, part.body)
        db.execute("INSERT OR REPLACE INTO datasets VALUES (?, ?, ?, ?)", row)

    return work


def _dropped(resource: str) -> Callable[[sqlite3.Connection], None]:
    """Forget the version that is being pulled."""

    def work(db: sqlite3.Connection) -> None:
        kept = msgspec.structs.replace(_read(db, resource)[0], pulling=None)
        _write(db, resource, kept)
        _forget(db, resource, kept)

    return work


def _forget(db: sqlite3.Connection, resource: str, kept: Kept) -> None:
    versions = [one.version for one in (kept.current, kept.previous) if one is not None]
    marks = ", ".join("?" * len(versions))
    db.execute(f"DELETE FROM datasets WHERE resource = ? AND version NOT IN ({marks})", (resource, *versions))  # noqa: S608 - marks only


def _read(db: sqlite3.Connection, resource: str) -> tuple[Kept, int]:
    row = db.execute("SELECT body FROM sharing WHERE name = ?", (f"dataset:{resource}",)).fetchone()
    kept = Kept() if row is None else msgspec.msgpack.decode(row[0], type=Kept)
    if kept.pulling is None:
        return kept, 0
    statement = "SELECT coalesce(sum(length(body)), 0) FROM datasets WHERE resource = ? AND version = ?"
    return kept, int(db.execute(statement, (resource, kept.pulling.version)).fetchone()[0])


def _write(db: sqlite3.Connection, resource: str, kept: Kept) -> None:
    row = (f"dataset:{resource}", msgspec.msgpack.encode(kept))
    db.execute("INSERT OR REPLACE INTO sharing VALUES (?, ?)", row)


_PARTS = "SELECT body FROM datasets WHERE resource = ? AND version = ? ORDER BY position"


def _content(db: sqlite3.Connection, resource: str, version: int) -> tuple[bytes, bytes]:
    """Return a version and its digest."""
    content = b"".join(body for (body,) in db.execute(_PARTS, (resource, version)))
    return content, sm3(content)


def _lines(db: sqlite3.Connection, resource: str, version: int, first: int, most: int) -> list[bytes]:
    """Return some lines of a version, without reading what lies behind them."""
    found: list[bytes] = []
    rest, number = b"", 0
    for (body,) in db.execute(_PARTS, (resource, version)):
        *whole, rest = (rest + body).split(b"\n")
        found += whole[max(0, first - number) : max(0, first + most - number)]
        number += len(whole)
        if number >= first + most:
            break
    return found
