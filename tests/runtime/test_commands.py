"""Commands of the platform: each taken once, its place, effect and event in one transaction (T17, T20, H5)."""

import sqlite3
from collections.abc import Sequence

import pytest

from runtime.commands import Announcement, Commands
from runtime.journal import Journal, JournalError
from runtime.messages import (
    CatalogueAnnouncement,
    KeyRevocation,
    KeyRotation,
    MaintenanceWindow,
    Refusal,
    SupervisionEvent,
    from_payload,
    to_payload,
)
from runtime.services.steps import Origin
from sim.memory import InlineExecutor
from transport.payload import Payload

NOW = 1_800_000_000.0
STREAM = "command-ab"
CATALOGUE = CatalogueAnnouncement(7, bytes(32))
WINDOW = MaintenanceWindow("w1", int(NOW) + 172_800, int(NOW) + 176_400)


class Desk:
    """One life of the daemon's handler on a journal that stays."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.now = NOW
        self.announced: list[Announcement] = []
        self.journal = Journal(InlineExecutor(database), lambda: self.now)
        self.commands = Commands(self.journal, Origin("boot", rig=False, wall_clock=lambda: self.now), self._tell)

    def _tell(self, announced: Sequence[Announcement]) -> None:
        self.announced = list(announced)

    async def open(self) -> "Desk":
        await self.journal.open()
        await self.commands.open()
        return self

    async def take(self, sequence: int, message, *, expired: bool = False):
        payload = message if isinstance(message, Payload) else to_payload(message)
        return await self.commands.take(STREAM, sequence, payload, expired=expired)

    async def told(self) -> list[tuple[str, str, str | None]]:
        records = await self.journal.unacknowledged(self.journal.streams["supervision"], 0, 99)
        events = [from_payload(record.payload, SupervisionEvent) for record in records]
        return [(event.step, event.outcome, event.code) for event in events]


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:")
    yield connection
    connection.close()


@pytest.fixture
async def desk(database) -> Desk:
    return await Desk(database).open()


async def test_orders_to_the_line_are_handed_on_and_told(desk):
    assert await desk.take(1, KeyRotation("ordered")) == "rotate_keys"
    assert await desk.take(2, KeyRevocation("ordered")) == "revoke_keys"
    assert await desk.take(3, CATALOGUE) is None
    assert desk.commands.high_water() == {STREAM: 3}
    assert await desk.told() == [
        ("command.key.rotation", "done", None),
        ("command.key.revocation", "done", None),
        ("command.catalogue.announcement", "done", None),
    ]


async def test_what_was_announced_and_taken_outlives_a_restart(desk, database):
    await desk.take(1, CATALOGUE)
    await desk.take(2, WINDOW)
    await desk.take(3, CatalogueAnnouncement(8, bytes(32)))
    assert desk.announced == [WINDOW, CatalogueAnnouncement(8, bytes(32))]
    again = await Desk(database).open()
    assert again.commands.high_water() == {STREAM: 3}
    assert again.announced == desk.announced


async def test_a_window_of_the_same_id_replaces_it_and_one_that_is_over_goes(desk):
    await desk.take(1, WINDOW)
    moved = MaintenanceWindow("w1", WINDOW.begins_unix + 3_600, WINDOW.ends_unix + 3_600)
    await desk.take(2, moved)
    assert desk.announced == [moved]
    desk.now = moved.ends_unix + 1
    await desk.take(3, CATALOGUE)
    assert desk.announced == [CATALOGUE]


@pytest.mark.parametrize(
    ("command", "expired", "code"),
    [
        (KeyRevocation("ordered"), True, "command.expired"),
        (Payload("key.revocation", 2, False, b"\x80"), False, "message.unknown"),
        (Payload("coffee.make", 1, False, b"\x80"), False, "message.unknown"),
        (Payload("key.revocation", 1, False, b"\xc1"), False, "message.malformed"),
        (Refusal("x", retry=False), False, "message.unexpected"),
    ],
)
async def test_what_cannot_be_done_is_refused_and_passed(desk, command, expired, code):
    """One bad command does not hold up those behind it."""
    assert await desk.take(1, command, expired=expired) is None
    assert await desk.told() == [("command", "refused", code)]
    assert await desk.take(2, KeyRotation("ordered")) == "rotate_keys"
    assert desk.commands.high_water() == {STREAM: 2}


async def test_a_journal_that_cannot_write_takes_nothing(desk, database, monkeypatch):
    """Neither effect nor place: it comes again on the next line."""
    database.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT raise(ABORT, 'disk'); END")
    with pytest.raises((JournalError, sqlite3.Error)):
        await desk.take(1, CATALOGUE)
    assert desk.commands.high_water() == {}
    assert desk.announced == []
    database.execute("DROP TRIGGER full")
    assert (await Desk(database).open()).commands.high_water() == {}
    await desk.take(1, CATALOGUE)
    assert desk.announced == [CATALOGUE]


async def test_an_announcement_of_a_later_release_does_not_stop_the_start(desk, database):
    """A release that is rolled back finds what the later one journaled (T19, I1)."""
    database.execute("INSERT INTO announcements VALUES ('maintenance.window', 'w2', 9, x'80', 1)")
    database.commit()
    await desk.take(1, CATALOGUE)
    again = await Desk(database).open()
    assert again.announced == [CATALOGUE]
