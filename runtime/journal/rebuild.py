"""A damaged journal is rebuilt from what of it can be read, and from the backup copy where something cannot (L29).

What was not receipted is told under another name afterwards, as after a restored image (`Journal.renew`): sequences
that the platform may have already are never used again. What was rebuilt, and of what, is a row that is told of until
it was told (`Rebuild`).
"""

import math
import os
import re
import secrets
import sqlite3
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from runtime.journal import records
from runtime.journal.errors import JournalError
from runtime.journal.files import Files, sync_directory, sync_file
from runtime.journal.salvage import copy
from runtime.journal.schema import (
    PAGE_BYTES,
    SCHEMA_VERSION,
    migrate,
    readable_version,
    tables_of,
    transaction,
)
from runtime.messages import CATALOGUE, STREAMS, Alarm, RecordsShed, SupervisionEvent, to_payload

log = structlog.get_logger(__name__)

Source = Literal["file", "file_and_backup", "backup", "nothing"]

_SHED = CATALOGUE[RecordsShed].schema
_ALARM = CATALOGUE[Alarm].schema
_EVENT = CATALOGUE[SupervisionEvent].schema
_NAME = re.compile("(alarm|supervision|telemetry)-[0-9a-f]{8}")
_FETCHED = {"catalogues": ("catalogues",), "datasets": ("datasets", "sharing"), "sharing": ("datasets", "sharing")}
"""Tables whose rows are worth nothing without each other, and what goes with them: the platform has them all."""
_STEPS_ABOVE_1 = """
    SELECT sequence, before FROM (
        SELECT sequence, lag(sequence, 1, ?) OVER (ORDER BY sequence) AS before FROM records
        WHERE stream = ? AND sequence > ?)
    WHERE sequence > before + 1 ORDER BY sequence"""
_OWN = {"meta", "rebuilds", "streams"}


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One rebuild: what was wrong, what the new journal was made of, and where the damaged one is.

    `records` that wait for the platform, and open `intents`, are there again; `skipped` places could not be read. What
    was written after the backup copy and stood there is lost, so unless it `is_whole` nobody knows how much.
    """

    at: float
    reason: str
    source: Source
    aside: str | None
    records: int
    intents: int
    skipped: int
    is_whole: bool


def untold(db: sqlite3.Connection) -> list[Rebuild]:
    """Return the rebuilds that nobody was told of yet."""
    statement = """
        SELECT at, reason, source, aside, records, intents, skipped, is_whole FROM rebuilds
        WHERE NOT told ORDER BY at"""
    return [Rebuild(*row[:-1], bool(row[-1])) for row in db.execute(statement)]  # type: ignore[call-arg]


def tell(db: sqlite3.Connection, at: float) -> None:
    """Note that a rebuild was told of."""
    db.execute("UPDATE rebuilds SET told = 1 WHERE at = ?", (at,))


def incomplete(db: sqlite3.Connection) -> list[float]:
    """Return the times of rebuilds that lost something, were told of, and not compared with the platform yet."""
    return [at for (at,) in db.execute("SELECT at FROM rebuilds WHERE told = 1 AND NOT is_whole")]


def complete(db: sqlite3.Connection, at: float) -> None:
    """Note that what the platform knows of was compared."""
    db.execute("UPDATE rebuilds SET told = 2 WHERE at = ?", (at,))


def rebuild(files: Files, reason: str, at: float) -> None:
    """Build a journal of what there is and put it in the place of the damaged one, which is set aside.

    Runs where SQLite runs, on a journal that nobody has open. The damaged file stays what it was until the new one is
    whole on the disk; a power cut leaves the one or the other. `at` is UTC seconds. Raises JournalError
    `journal.newer`, OSError, sqlite3.Error (no room).
    """
    aside = files.free_aside(at) if files.database.exists() else None
    try:
        made = _build(files, reason, at, aside)
        os.rename(files.rebuilding, files.rebuilt)  # noqa: PTH104 - the write guard sees this call
        sync_directory(files.database.parent)
    except BaseException:
        files.rebuilding.unlink(missing_ok=True)  # a full disk has need of the room
        raise
    files.swap(aside or files.free_aside(at))
    log.error("journal_rebuilt", **asdict(made))


def _build(files: Files, reason: str, at: float, aside: Path | None) -> Rebuild:
    """Build the new journal whole on the disk, beside the damaged one."""
    files.rebuilding.unlink(missing_ok=True)
    with closing(sqlite3.connect(files.rebuilding, isolation_level=None)) as db:
        for pragma in (f"page_size = {PAGE_BYTES}", "journal_mode = OFF", "synchronous = OFF", "temp_store = MEMORY"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        with transaction(db):
            source, skipped, is_whole = _fill(db, files, at)
            journal_id = _identify(db)
            alarms = f"alarm-{journal_id}"
            open_alarms = _waiting_alarms(db, alarms)
            lost = sum(_mend(db, f"{stream}-{journal_id}") for stream in STREAMS)
            _mend_alarms(db, alarms, open_alarms)
            waiting = sum(records.waiting(db, f"{stream}-{journal_id}") for stream in STREAMS)
            (intents,) = db.execute("SELECT count(*) FROM intents WHERE state = 'open'").fetchone()
            name = None if aside is None else aside.name
            while db.execute("SELECT 1 FROM rebuilds WHERE at = ?", (at,)).fetchone():  # a clock may stand still
                at = math.nextafter(at, math.inf)
            made = Rebuild(at, reason, source, name, waiting, intents, skipped + lost, is_whole and not lost)
            db.execute("INSERT INTO rebuilds VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", astuple(made))
    sync_file(files.rebuilding)
    return made


def _fill(db: sqlite3.Connection, files: Files, at: float) -> tuple[Source, int, bool]:
    """Copy what can be read; return of what the journal is made, how many places are lost, and whether none is.

    Where nobody knows any more whether the terminal was locked, it is, whatever is configured of damage (T23).
    """
    version, skipped, is_sound = 0, dict.fromkeys(tables_of(SCHEMA_VERSION) - _OWN, 1), False
    if files.database.exists():
        with closing(sqlite3.connect(files.database, isolation_level=None)) as damaged:
            damaged.execute("PRAGMA query_only = 1").close()
            if version := readable_version(damaged):
                migrate(db, 0, version)
                skipped = copy(damaged, db)
                is_sound = _is_sound(damaged)
    migrate(db, version)
    source: Source = "file" if version else "nothing"
    for table in skipped.keys() & _FETCHED.keys():
        for one in _FETCHED[table]:
            db.execute(f"DELETE FROM {one}")  # noqa: S608 - our own names
    wanted = skipped.keys() - (_FETCHED.keys() if version else set())
    if wanted and _fill_up(db, files.backup, wanted):
        source = "file_and_backup" if version else "backup"
    if "announcements" in wanted:  # a grant that was revoked after the copy was made would count again
        db.execute("DELETE FROM announcements WHERE schema LIKE 'staff.%'")
    if "lockdowns" in skipped and (files.database.exists() or files.backup.exists()):
        lock = ("journal.damaged", "journal", secrets.token_hex(4), "journal_damage", at)
        db.execute("INSERT OR IGNORE INTO lockdowns VALUES (?, ?, ?, ?, ?)", lock)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
    return source, sum(skipped.values()), is_sound and not wanted


def _is_sound(damaged: sqlite3.Connection) -> bool:
    """Whether no page is out of its place: where one is, a table may be read to its end and have lost rows."""
    try:
        return bool(damaged.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _fill_up(db: sqlite3.Connection, backup: Path, wanted: set[str]) -> bool:
    """Copy from the backup copy the rows of tables that could not be read whole; False where there is none."""
    if not backup.exists():
        return False
    try:
        with closing(sqlite3.connect(backup, isolation_level=None)) as old:
            with transaction(old):
                if not (version := readable_version(old)):
                    return False
                migrate(old, version)
                old.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (str(SCHEMA_VERSION),))
            copy(old, db, wanted | {"meta"})
    except JournalError as error:  # a later release made it
        log.warning("backup_copy_not_used", code=error.code)
        return False
    return True


def _identify(db: sqlite3.Connection) -> str:
    """Return the id in the names of the streams; where it is lost they say it, and where there are none it is new."""
    row = db.execute("SELECT value FROM meta WHERE name = 'journal_id'").fetchone()
    if row is not None:
        return str(row[0])
    names = db.execute("SELECT stream FROM cursors UNION SELECT max(stream) FROM records").fetchall()
    found = [name.partition("-")[2] for (name,) in names if name is not None and _NAME.fullmatch(name)]
    journal_id = found[0] if found else secrets.token_hex(4)
    db.execute("INSERT INTO meta VALUES ('journal_id', ?)", (journal_id,))
    return journal_id


def _mend(db: sqlite3.Connection, stream: str) -> int:
    """Close the gaps in what waits, have it told under another name, and return how many records were in them.

    Of a stream whose cursor is lost all that is left waits, and the platform gets some of it once more.
    """
    after = records.cursor(db, stream)
    for last, one in _tombstones(db, stream, after):  # what it stands for may have come back from the backup copy
        db.execute(
            "DELETE FROM records WHERE stream = ? AND sequence >= ? AND sequence < ?",
            (stream, max(one.first, after + 1), last),
        )
    tombstones = dict(_tombstones(db, stream, after))
    (first,) = db.execute(
        "SELECT min(sequence) FROM records WHERE stream = ? AND sequence > ?", (stream, after)
    ).fetchone()
    if after == 0 and first is not None:
        after = (tombstones[first].first if first in tombstones else first) - 1
        db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (stream, after))
    steps = db.execute(_STEPS_ABOVE_1, (after, stream, after)).fetchall()
    ends = [sequence for sequence, _ in steps[1:]] + [records.last(db, stream) + 1]
    lost = 0
    for (sequence, before), end in zip(steps, ends, strict=False):  # without a step there is nothing to do
        stands_for, shed = 1, tombstones.get(sequence)
        if shed is not None:
            stands_for = sequence - max(before, shed.first - 1)
        lost += sequence - before - stands_for
        if shed is not None:
            place = sequence - lost
            body = to_payload(RecordsShed(place - stands_for + 1, place, shed.at)).body
            db.execute("UPDATE records SET body = ? WHERE stream = ? AND sequence = ?", (body, stream, sequence))
        _move(db, stream, range(sequence, end), lost)
    records.rename(db, stream, f"{stream.partition('-')[0]}-{secrets.token_hex(8)}")
    return lost


def _tombstones(db: sqlite3.Connection, stream: str, after: int) -> list[tuple[int, RecordsShed]]:
    statement = "SELECT sequence, body FROM records WHERE stream = ? AND sequence > ? AND schema = ? ORDER BY sequence"
    found = db.execute(statement, (stream, after, _SHED))
    return [(sequence, msgspec.msgpack.decode(body, type=RecordsShed)) for sequence, body in found]


def _move(db: sqlite3.Connection, stream: str, sequences: range, lower: int) -> None:
    """Number records lower, where nothing is any more."""
    if lower:
        where = (stream, sequences.start, sequences.stop)
        statement = "UPDATE records SET sequence = {} WHERE stream = ? AND sequence >= ? AND sequence < ?"
        db.execute(statement.format(f"{lower} - sequence"), where)  # below 0 first: no two are ever the same
        where = (stream, lower - sequences.stop + 1, lower - sequences.start + 1)
        db.execute(statement.format("-sequence"), where)


def _mend_alarms(db: sqlite3.Connection, stream: str, waiting: list[tuple[str, str, str, float, str]]) -> None:
    """Have each alarm that waits know its record by its new number; one whose record is lost gets another."""
    statement = "SELECT sequence, body FROM records WHERE stream = ? AND sequence > ? AND schema = ?"
    rows = db.execute(statement, (stream, records.cursor(db, stream), _ALARM)).fetchall()
    places = {msgspec.msgpack.decode(body, type=Alarm).id: sequence for sequence, body in rows}
    for name, code, subject, at, boot_id in waiting:
        place = places.get(name)
        if place is None:
            alarm = Alarm(name, code, subject, at, boot_id, _is_rig(db))
            place = records.append(db, stream, to_payload(alarm))
        db.execute("UPDATE alarms SET sequence = ? WHERE id = ?", (place, name))


def _waiting_alarms(db: sqlite3.Connection, stream: str) -> list[tuple[str, str, str, float, str]]:
    statement = (
        "SELECT id, code, subject, raised_at, boot_id FROM alarms WHERE receipted_after IS NULL AND sequence > ?"
    )
    return db.execute(f"{statement} ORDER BY sequence", (records.cursor(db, stream),)).fetchall()


def _is_rig(db: sqlite3.Connection) -> bool:
    """Return what another record says of this terminal."""
    row = db.execute("SELECT body FROM records WHERE schema IN (?, ?) LIMIT 1", (_ALARM, _EVENT)).fetchone()
    return row is not None and bool(msgspec.msgpack.decode(row[0]).get("rig", False))
