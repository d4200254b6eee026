"""An alarm as it is known and as the journal has it (T23)."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from runtime.journal import records
from runtime.messages import Alarm, to_payload

KEPT = 1_000
"""Alarms that stay in the journal."""

Row = tuple[str, str, str, float, str, float, int, int, int, float | None]
ROWS = "SELECT id, code, subject, raised_at, boot_id, began, sequence, repeats, late, receipted_after FROM alarms"


@dataclass(slots=True)
class Known:
    """An alarm that is open, or young enough to be repeated; `sequence` is its record's, None until it is written.

    One that left from memory has none; it is then the last one of the stream.
    """

    alarm: Alarm
    raised_at: float
    began: float
    sequence: int | None = None
    repeats: int = 0
    is_late: bool = False
    receipted_after: float | None = None
    is_changed: bool = False
    said_waits: bool = False
    said_not_journaled: bool = False
    is_dealt_with: bool = False
    """The same again is another alarm, in this life of the daemon."""

    @property
    def is_open(self) -> bool:
        """Whether it has no receipt."""
        return self.receipted_after is None

    @property
    def is_unwritten(self) -> bool:
        """Whether the journal does not have it as it is."""
        return self.is_changed or self.sequence is None


class WrittenBefore(Exception):
    """The journal has this alarm, though its answer came too late."""

    def __init__(self, sequence: int) -> None:
        super().__init__()
        self.sequence = sequence


def writing(
    known: Known, stream: str, boot_id: str, place: tuple[str, int] | None
) -> Callable[[sqlite3.Connection], int]:
    """Return the work that writes an alarm's row and returns its sequence.

    `stream` is the journal's own of alarms. One that left from memory has its `place` in another stream, and is
    journaled there with its receipt. The work raises WrittenBefore when the row is there and nobody was told.
    """
    alarm, sequence = known.alarm, known.sequence
    head = (alarm.id, alarm.code, alarm.subject, known.raised_at, boot_id, known.began)
    tail = (known.repeats, int(known.is_late), known.receipted_after)

    def work(db: sqlite3.Connection) -> int:
        at = sequence
        if at is None:
            if before := db.execute("SELECT sequence FROM alarms WHERE id = ?", (alarm.id,)).fetchone():
                raise WrittenBefore(int(before[0]))
            if place is not None:
                records.put(db, *place, to_payload(alarm))
                records.acknowledge(db, *place, KEPT)
            at = records.last(db, stream)
            db.execute("DELETE FROM alarms WHERE sequence <= ? AND receipted_after IS NOT NULL", (at - KEPT,))
        db.execute("INSERT OR REPLACE INTO alarms VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*head, at, *tail))
        return at

    return work
