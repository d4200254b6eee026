"""The care for the journal's file: what a rebuild is told by (T12, T23), and the backup copy of each day (L29)."""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from functools import partial

import structlog

from runtime.alarms import Alarms
from runtime.audit import Audit
from runtime.journal import Journal, JournalError
from runtime.journal.rebuild import Rebuild, complete, incomplete, tell
from runtime.messages import MessageError
from runtime.messages.storage import CallList, CallsRequest, IntentLost, JournalRebuilt
from runtime.services.office import Office
from runtime.services.steps import Origin, Refused
from runtime.supervisor import error_code
from transport.errors import TransportError

log = structlog.get_logger(__name__)

DAMAGED = "journal.damaged"
"""The alarm of a journal that could not be read."""
LOOK_SECONDS = 600.0
"""Between two looks whether nobody is at the terminal; at the second such look in a row the copy is made."""
COPY_SECONDS = 900.0
"""What a copy may take beside other work: 256 MiB take about a minute."""
PAUSE_SECONDS = 0.02
"""After each 128 KiB: at most 6 MB/s, of which a citizen who comes meanwhile notices nothing."""
BEFORE_SECONDS = 7 * 86_400.0
"""How long before the damage was found an intent that is lost may have been opened."""
AGAIN_SECONDS = 10.0
"""Between two tries while the line is down."""
STOP_SECONDS = 4.0
"""What the copy may take when the daemon stops."""


async def keep_backup(journal: Journal, is_occupied: Callable[[], bool], ready: Callable[[], None]) -> None:
    """Make the backup copy once a day, while nobody is at the terminal; one supervised life of that."""
    ready()
    was_occupied = True
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        occupied = is_occupied()
        if not occupied and not was_occupied:
            await journal.back_up(seconds=COPY_SECONDS, pause_seconds=PAUSE_SECONDS)
        was_occupied = occupied


async def tell_rebuilds(
    journal: Journal, audit: Audit, alarms: Alarms, origin: Origin, also: Callable[[sqlite3.Connection], None]
) -> None:
    """Tell of each rebuild that was not told of yet; a full disk leaves it for the next start.

    The record is written with the note that it was told and what follows (`also`: a lock), so a power cut before it
    repeats the alarm and the line, and none can lose them. Raises JournalError for other trouble with the disk.
    """
    for one in await journal.untold():
        try:
            await alarms.sound_at_once(DAMAGED, "journal")
            await audit.note("journal_rebuilt", actor="daemon", details=_details(one))
            told = JournalRebuilt(
                one.at,
                one.source,
                one.records,
                one.intents,
                one.skipped,
                one.is_whole,
                origin.wall_clock(),
                origin.boot_id,
                origin.rig,
            )

            def note(db: sqlite3.Connection, at: float = one.at) -> None:
                tell(db, at=at)
                also(db)

            await journal.write(note, told)
        except JournalError as error:
            if error.code != "journal.disk_full":
                raise
            log.error("rebuild_not_told", code=error.code, advice="it is at the next start")


def _details(one: Rebuild) -> dict[str, str | int | None]:
    return {
        "reason": one.reason,
        "source": one.source,
        "aside": one.aside,
        "records": one.records,
        "intents": one.intents,
        "skipped": one.skipped,
        "is_whole": int(one.is_whole),
    }


async def find_lost_intents(office: Office, ready: Callable[[], None]) -> None:
    """Ask the platform what it did that a rebuilt journal does not know of, and tell of it; one supervised life of it.

    Raises JournalError.
    """
    ready()
    while True:
        try:
            for at in await office.journal.read(incomplete):
                await _find_lost(office, at)
        except (Refused, TransportError, MessageError) as error:
            log.info("lost_intents_not_asked_for_yet", code=error_code(error))
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            await asyncio.sleep(LOOK_SECONDS)


async def _find_lost(office: Office, at: float) -> None:
    """Have an intent that ended as unknown for each call of the last week that has none, with a record of it."""
    said = await office.ask(CallsRequest(at - BEFORE_SECONDS), CallList, key=secrets.token_bytes(16))
    known = await office.journal.read(lambda db: {key for (key,) in db.execute("SELECT key FROM intents")})
    lost = [call for call in said.calls if call.key.hex() not in known]
    origin = office.origin
    for call in lost:
        now, key = origin.wall_clock(), call.key.hex()
        row = (key, call.schema, secrets.token_hex(8), DAMAGED, call.at, now)
        told = IntentLost(key, call.schema, call.at, now, origin.boot_id, origin.rig)
        await office.journal.write(partial(_note_lost, row), told)
    await office.audit.note("lost_intents_told", actor="daemon", details={"lost": len(lost)})
    await office.journal.write(partial(complete, at=at))
    log.warning("lost_intents_told", lost=len(lost))


def _note_lost(row: tuple[str, str, str, str, float, float], db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO intents VALUES (?, ?, ?, 'unknown', ?, ?, ?, '')", row)
