"""Commands of the platform: each taken once, its place, effect and event in one transaction (T17, T20, H5)."""

import asyncio
import sqlite3
from collections.abc import Sequence

import msgspec
import pytest

from runtime.board import ThreadExecutor
from runtime.commands import LOOK_SECONDS, MOST_STREAMS, Announcement, Commands, StaffWord
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
from runtime.messages.audit import RemoteWindow, StaffGrant, StaffRevocation
from runtime.messages.payment import PaymentResult
from runtime.messages.sharing import SharingChanged
from runtime.services.steps import Origin
from runtime.staff import StaffError
from sim.memory import InlineExecutor
from sim.virtual_time import run
from transport import wire
from transport.payload import Payload

NOW = 1_800_000_000.0
STREAM = "command-ab"
CATALOGUE = CatalogueAnnouncement(7, bytes(32))
WINDOW = MaintenanceWindow("w1", int(NOW) + 172_800, int(NOW) + 176_400)


class Slow(InlineExecutor):
    """Answers only `done` is set; what it was asked is done all the same, as on a thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.done = asyncio.Event()
        self.done.set()

    async def run(self, work):
        value = await super().run(work)
        await self.done.wait()
        return value


class Desk:
    """One life of the daemon's handler on a journal that stays."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.now = NOW
        self.platform_time: float | None = NOW
        self.announced: list[Announcement] = []
        self.sharing_changes = 0
        self.payments: list[str] = []
        self.staff_words: list[str] = []
        self.executor = Slow(database)
        self.journal = Journal(self.executor, lambda: self.now)
        origin = Origin("boot", rig=False, wall_clock=lambda: self.now)
        self.commands = Commands(
            self.journal,
            origin,
            lambda: self.platform_time,
            on_announced=self._tell,
            on_sharing=self._tell_of_sharing,
            on_payment=self.payments.append,
            staff=self,
        )

    def _tell(self, announced: Sequence[Announcement]) -> None:
        self.announced = list(announced)

    def _tell_of_sharing(self) -> None:
        self.sharing_changes += 1

    def verify(self, word: StaffWord) -> None:
        if word.signature != b"right":
            raise StaffError("staff.bad_signature", "forged")

    async def taken(self, word: StaffWord | StaffRevocation) -> None:
        self.staff_words.append(word.id)

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


async def test_a_change_of_sharing_is_handed_on_and_nothing_of_it_is_kept(desk, database):
    """S4, S7: each start asks for the grants anew."""
    assert await desk.take(1, SharingChanged("ordered")) is None
    assert desk.sharing_changes == 1
    assert await desk.take(2, SharingChanged("ordered"), expired=True) is None
    assert desk.sharing_changes == 1
    assert await desk.told() == [("command.sharing.changed", "done", None), ("command", "refused", "command.expired")]
    assert database.execute("SELECT count(*) FROM announcements").fetchone() == (0,)


async def test_an_order_that_has_ended_is_handed_on(desk):
    """T10."""
    assert await desk.take(1, PaymentResult("P-0000-0000-1")) is None
    assert desk.payments == ["P-0000-0000-1"]


async def test_what_was_announced_and_taken_outlives_a_restart(desk, database):
    await desk.take(1, CATALOGUE)
    await desk.take(2, WINDOW)
    await desk.take(3, CatalogueAnnouncement(8, bytes(32)))
    assert desk.announced == [WINDOW, CatalogueAnnouncement(8, bytes(32))]
    again = await Desk(database).open()
    assert again.commands.high_water() == {STREAM: 3}
    assert again.announced == desk.announced


async def test_a_window_of_the_same_id_replaces_it_and_one_that_is_over_goes(desk, database):
    await desk.take(1, WINDOW)
    moved = MaintenanceWindow("w1", WINDOW.begins_unix + 3_600, WINDOW.ends_unix + 3_600)
    await desk.take(2, moved)
    assert desk.announced == [moved]
    desk.now = moved.ends_unix + 86_400
    await desk.take(3, SharingChanged("ordered"))
    assert desk.announced == [moved], "only the platform's clock counts"
    desk.platform_time = None
    await desk.take(4, SharingChanged("ordered"))
    assert desk.announced == [moved], "and it is not known"
    desk.platform_time = moved.ends_unix + 1
    await desk.take(5, CATALOGUE)
    assert desk.announced == [CATALOGUE]
    assert database.execute("SELECT schema FROM announcements").fetchall() == [("catalogue.announcement",)]


async def test_the_journals_thread_asks_for_no_clock(tmp_path):
    """The platform's clock is the event loop's, which that thread does not have."""
    executor = ThreadExecutor(tmp_path / "journal.db")
    journal = Journal(executor, lambda: NOW)
    await journal.open()
    announced: list[Announcement] = []
    commands = Commands(
        journal,
        Origin("boot", rig=False, wall_clock=lambda: NOW),
        lambda: NOW + asyncio.get_running_loop().time() * 0,
        on_announced=announced.extend,
        on_sharing=lambda: None,
        on_payment=lambda _: None,
        staff=Desk(sqlite3.connect(":memory:")),
    )
    try:
        await commands.open()
        await commands.take(STREAM, 1, to_payload(WINDOW), expired=False)
        await commands.take(STREAM, 2, to_payload(KeyRotation("ordered")), expired=False)
    finally:
        await executor.close()
    assert announced == [WINDOW]


def test_a_window_that_is_over_goes_by_itself(database):
    """H5: nobody is told of a maintenance that has been."""

    async def story() -> None:
        desk = await Desk(database).open()
        began = asyncio.get_running_loop().time()
        await desk.take(1, WINDOW)
        await desk.take(2, CATALOGUE)
        ready = asyncio.Event()
        task = asyncio.create_task(desk.commands.run(ready.set))
        await ready.wait()
        desk.platform_time = WINDOW.ends_unix - 1.0
        await asyncio.sleep(LOOK_SECONDS + 1)
        assert desk.announced == [WINDOW, CATALOGUE]
        desk.platform_time = None
        await asyncio.sleep(LOOK_SECONDS)
        assert desk.announced == [WINDOW, CATALOGUE]
        desk.platform_time = WINDOW.ends_unix + 1.0
        await asyncio.sleep(LOOK_SECONDS)
        assert desk.announced == [CATALOGUE]
        assert asyncio.get_running_loop().time() - began < 5 * LOOK_SECONDS
        task.cancel()
        await asyncio.wait([task])

    run(story())


GRANT = StaffGrant("g1", "zhang", "operator", False, int(NOW), int(NOW) + 86_400, b"right")
REMOTE = RemoteWindow("w9", ("zhang",), "bastion-1", int(NOW), int(NOW) + 3_600, b"right")


async def test_words_about_staff_are_kept_revoked_and_forgotten_when_they_are_over(desk, database):
    """H6, H10: they outlive a restart, and end by themselves."""
    await desk.take(1, GRANT)
    await desk.take(2, REMOTE)
    assert desk.announced == [GRANT, REMOTE]
    assert (await Desk(database).open()).announced == [GRANT, REMOTE]
    await desk.take(3, StaffRevocation("w9"))
    assert desk.announced == [GRANT]
    assert desk.staff_words == ["g1", "w9", "w9"]
    desk.platform_time = GRANT.ends_unix + 1.0
    await desk.take(4, CATALOGUE)
    assert desk.announced == [CATALOGUE]
    assert database.execute("SELECT schema FROM announcements").fetchall() == [("catalogue.announcement",)]


async def test_a_revocation_that_comes_late_counts_all_the_same(desk, database):
    """H6: a line that was down for longer than the command lives leaves nobody his role."""
    await desk.take(1, GRANT)
    await desk.take(2, StaffRevocation("g1"), expired=True)
    assert desk.announced == []
    assert (await Desk(database).open()).announced == []
    assert (await desk.told())[-1] == ("command.staff.revocation", "done", None)
    await desk.take(3, GRANT, expired=True)
    assert desk.announced == []
    assert (await desk.told())[-1] == ("command", "refused", "command.expired")


async def test_a_forged_word_about_staff_is_refused_and_not_kept(desk):
    await desk.take(1, msgspec.structs.replace(GRANT, signature=b"wrong"))
    assert desk.announced == []
    assert desk.staff_words == []
    assert await desk.told() == [("command", "refused", "staff.bad_signature")]


@pytest.mark.parametrize("command", [CATALOGUE, KeyRotation("ordered"), PaymentResult("P-1")])
async def test_a_command_whose_commit_outlives_its_line_is_taken_once(desk, command):
    """The line breaks while the disk writes: the command comes again, and all that is left to do is done then."""
    desk.executor.done.clear()
    taking = asyncio.create_task(desk.take(1, command))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.wait([taking])
    desk.executor.done.set()
    assert desk.commands.high_water() == {}, "nobody knows"
    order = await desk.take(1, command)
    assert order == ("rotate_keys" if isinstance(command, KeyRotation) else None)
    assert desk.commands.high_water() == {STREAM: 1}
    assert len(await desk.told()) == 1
    assert desk.announced == ([CATALOGUE] if command == CATALOGUE else [])
    assert desk.payments == (["P-1"] if isinstance(command, PaymentResult) else [])


async def test_the_marks_that_are_told_are_those_of_the_streams_used_last(desk, database):
    """The wire names no more than 16; what an older stream has taken is known all the same, and not taken again."""
    for number in range(MOST_STREAMS + 4):
        await desk.commands.take(f"s{number}", 1, to_payload(KeyRotation("ordered")), expired=False)
    last = {f"s{number}": 1 for number in range(4, MOST_STREAMS + 4)}
    assert desk.commands.high_water() == last
    wire.decode(wire.encode(wire.Taken(desk.commands.high_water())), wire.Taken)
    await desk.commands.take("s4", 2, to_payload(KeyRotation("ordered")), expired=False)
    assert (await Desk(database).open()).commands.high_water() == last | {"s4": 2}
    told = len(await desk.told())
    await desk.commands.take("s0", 1, to_payload(KeyRotation("ordered")), expired=False)
    assert len(await desk.told()) == told
    assert list(desk.commands.high_water())[-2:] == ["s4", "s0"]
    assert len(desk.commands.high_water()) == MOST_STREAMS


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
