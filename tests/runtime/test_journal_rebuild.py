"""A damaged journal is set aside and made anew of what can be read; nothing is lost silently (I6, T23, L29)."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from runtime.board import ThreadExecutor
from runtime.journal import Journal, JournalError
from runtime.journal.files import KEPT_ASIDE, Files
from runtime.journal.schema import PAGE_BYTES, SUSPECT
from runtime.messages import Alarm, SupervisionEvent, TrialHealth, from_payload

NOW = 1_800_000_000.0
EVENTS = 400


def event(step: str) -> SupervisionEvent:
    return SupervisionEvent("t" * 16, step, "done", None, NOW, 0.5, "boot", rig=True)


async def life(file: Path, story: Callable, at: float = NOW):
    """Run a story with the journal of a file, on its thread, and close it without a checkpoint of ours."""
    executor = ThreadExecutor(file)
    try:
        journal = Journal(executor, lambda: at)
        await journal.open()
        return await story(journal)
    finally:
        await executor.close()


async def fills(journal: Journal) -> None:
    """400 events of which 150 are receipted, an alarm, telemetry, an open intent and a settled one."""
    for number in range(EVENTS):
        await journal.append(event(f"step_{number}_"))
    await journal.acknowledge(journal.streams["supervision"], 150)
    alarm = Alarm("a" * 16, "pinpad.tampered", "pinpad", NOW, "boot", rig=True)
    row = (alarm.id, alarm.code, alarm.subject, NOW, "boot", 1.0, 1, 0, 0, None)
    await journal.write(lambda db: db.execute("INSERT INTO alarms VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row), alarm)
    for number in range(5):
        await journal.append(TrialHealth(f"{number:036}", b"", b"x"))
    settled = await journal.open_intent("print", "print_1", "t" * 16)
    await journal.close_intent(settled, "done", None, event("printed_"))
    await journal.open_intent("charge", "charge_open", "t" * 16)
    await journal.checkpoint()


async def told(journal: Journal) -> dict[str, list[str]]:
    """What the platform hears of: by stream, steps of events and ids of others; sequences must have no gap."""
    found: dict[str, list[str]] = {}
    for stream, name in journal.streams.items():
        records = await journal.unacknowledged(name, 0, 9_999)
        assert [one.sequence for one in records] == list(range(1, len(records) + 1))
        assert {one.stream for one in records} <= {next(iter(records)).stream if records else ""}
        kinds = {"alarm": Alarm, "supervision": SupervisionEvent, "telemetry": TrialHealth}
        messages = [from_payload(one.payload, kinds[stream]) for one in records]
        found[stream] = [one.step if isinstance(one, SupervisionEvent) else one.id for one in messages]
    return found


def spoil(file: Path, text: bytes, *, count: int = 1, whole: bool = True) -> int:
    """Write garbage over the first `count` pages with this text in them; return how many there were."""
    content = bytearray(file.read_bytes())
    pages = [at for at in range(0, len(content), PAGE_BYTES) if text in content[at : at + PAGE_BYTES]][:count]
    for at in pages:
        content[at : at + (PAGE_BYTES if whole else PAGE_BYTES // 2)] = b"\x5a" * (PAGE_BYTES if whole else 1024)
    file.write_bytes(content)
    return len(pages)


async def test_what_the_pages_around_a_damaged_one_hold_is_kept(tmp_path):
    """T12: records are told under another name and numbered anew; the intent is settled as ever."""
    file = tmp_path / "journal.db"
    await life(file, fills)
    assert spoil(file, b"step_300_") == 1
    damaged = file.read_bytes()

    async def rebuilt(journal: Journal) -> None:
        (one,) = await journal.untold()
        assert (one.source, one.is_whole, one.intents, one.at) == ("file", False, 1, NOW)
        assert one.aside is not None
        assert (tmp_path / one.aside).read_bytes() == damaged
        heard = await told(journal)
        lost = {f"step_{number}_" for number in range(150, EVENTS)} - set(heard["supervision"])
        assert "step_300_" in lost
        assert len(lost) < 20, "one page"
        assert one.skipped >= 1
        assert one.records == sum(map(len, heard.values()))
        assert heard["supervision"][:2] == ["step_150_", "step_151_"]
        assert (heard["alarm"], len(heard["telemetry"])) == (["a" * 16], 5)
        assert [intent.name for intent in await journal.open_intents("charge")] == ["charge_open"]
        assert await journal.append(event("later_")) == 150 + len(heard["supervision"]) + 1

    await life(file, rebuilt)

    async def again(journal: Journal) -> None:
        assert len(await journal.untold()) == 1, "until it was told"

    await life(file, again)


async def test_the_backup_copy_fills_in_what_is_lost(tmp_path):
    file = tmp_path / "journal.db"

    async def fills_and_copies(journal: Journal) -> None:
        await fills(journal)
        assert await journal.back_up(seconds=60.0)
        assert not await journal.back_up(seconds=60.0), "a young copy is enough"
        await journal.append(event("after_"))
        await journal.checkpoint()

    await life(file, fills_and_copies, at=NOW)
    assert spoil(file, b"step_300_") == 1

    async def rebuilt(journal: Journal) -> None:
        (one,) = await journal.untold()
        assert (one.source, one.is_whole) == ("file_and_backup", False)
        heard = await told(journal)
        assert heard["supervision"] == [*(f"step_{number}_" for number in range(150, EVENTS)), "printed_", "after_"]

    await life(file, rebuilt)


@pytest.mark.parametrize("lost", ["a page", "the file"])
async def test_a_grant_of_the_staff_does_not_come_back_from_the_backup_copy(tmp_path, lost):
    """H6: it may have been revoked since the copy was made, and the platform says that but once."""
    file = tmp_path / "journal.db"
    grant = ("staff.grant", "g-1", 1, b"grant_of_zhang" * 20)
    others = [("catalogue.announcement", str(number), 1, b"catalogue_" * 20) for number in range(30)]

    async def fills_and_copies(journal: Journal) -> None:
        statement = "INSERT INTO announcements VALUES (?, ?, ?, ?, 1)"
        await journal.write(lambda db: db.executemany(statement, [grant, *others]))
        await journal.back_up(seconds=60.0)
        await journal.write(lambda db: db.execute("DELETE FROM announcements WHERE id = 'g-1'"))
        await journal.checkpoint()

    await life(file, fills_and_copies)
    if lost == "a page":
        assert spoil(file, b"catalogue_" * 19) == 1
    else:
        file.unlink()

    async def rebuilt(journal: Journal) -> None:
        (one,) = await journal.untold()
        assert one.source == ("file_and_backup" if lost == "a page" else "backup")
        rows = await journal.read(lambda db: db.execute("SELECT DISTINCT schema FROM announcements").fetchall())
        assert rows == [("catalogue.announcement",)]

    await life(file, rebuilt)


@pytest.mark.parametrize("damage", ["garbage", "first_page", "gone", "empty", "empty_table_of_contents"])
async def test_a_file_of_which_nothing_can_be_read_is_the_backup_copy_again(tmp_path, damage):
    file = tmp_path / "journal.db"

    async def fills_and_copies(journal: Journal) -> str:
        await fills(journal)
        await journal.back_up(seconds=60.0)
        await journal.append(event("after_"))
        await journal.checkpoint()
        return journal.streams["supervision"]

    stream = await life(file, fills_and_copies)
    content = bytearray(file.read_bytes())
    if damage == "garbage":
        file.write_bytes(b"\x5a" * len(content))
    if damage == "first_page":
        content[:PAGE_BYTES] = b"\x5a" * PAGE_BYTES
        file.write_bytes(content)
    if damage == "empty_table_of_contents":
        content[100:PAGE_BYTES] = bytes(PAGE_BYTES - 100)
        file.write_bytes(content)
    if damage == "gone":
        file.unlink()
    if damage == "empty":
        file.write_bytes(b"")

    async def rebuilt(journal: Journal) -> None:
        (one,) = await journal.untold()
        assert (one.source, one.is_whole, one.intents) == ("backup", False, 1)
        locks = await journal.read(lambda db: db.execute("SELECT code, subject, kind FROM lockdowns").fetchall())
        assert locks == [("journal.damaged", "journal", "journal_damage")], "nobody knows whether it was locked (T23)"
        assert (one.aside is None) == (damage == "gone")
        assert journal.streams["supervision"] == stream
        heard = await told(journal)
        assert heard["supervision"] == [*(f"step_{number}_" for number in range(150, EVENTS)), "printed_"]

    await life(file, rebuilt)


async def test_where_nothing_is_left_there_is_a_new_journal_under_another_name(tmp_path):
    """I6: no sequence is used again."""
    file = tmp_path / "journal.db"

    async def fills_it(journal: Journal) -> str:
        await fills(journal)
        return journal.streams["supervision"]

    stream = await life(file, fills_it)
    file.write_bytes(b"\x5a" * 40_000)

    async def rebuilt(journal: Journal) -> None:
        (one,) = await journal.untold()
        assert (one.source, one.is_whole, one.records, one.intents) == ("nothing", False, 0, 0)
        assert journal.streams["supervision"] != stream
        assert await journal.append(event("first_")) == 1

    await life(file, rebuilt)


async def test_another_programs_database_is_set_aside_whole(tmp_path):
    file = tmp_path / "journal.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE notes (text)")
        other.execute("INSERT INTO notes VALUES ('kept')")
        other.commit()

    async def rebuilt(journal: Journal) -> str | None:
        (one,) = await journal.untold()
        assert "another program's database" in one.reason
        return one.aside

    aside = await life(file, rebuilt)
    with closing(sqlite3.connect(tmp_path / aside)) as other:
        assert other.execute("SELECT text FROM notes").fetchall() == [("kept",)]


async def test_an_open_alarm_whose_record_is_lost_is_told_by_another_record(tmp_path):
    """T23."""
    file = tmp_path / "journal.db"

    async def fills_it(journal: Journal) -> None:
        await fills(journal)
        await journal.write(lambda db: db.execute("DELETE FROM records WHERE stream LIKE 'alarm%'"))
        await journal.checkpoint()

    await life(file, fills_it)
    assert spoil(file, b"step_300_") == 1

    async def rebuilt(journal: Journal) -> None:
        (record,) = await journal.unacknowledged(journal.streams["alarm"], 0, 9)
        assert from_payload(record.payload, Alarm) == Alarm(
            "a" * 16, "pinpad.tampered", "pinpad", NOW, "boot", rig=True
        )
        assert await journal.read(lambda db: db.execute("SELECT sequence FROM alarms").fetchall()) == [(1,)]

    await life(file, rebuilt)


async def test_damage_that_shows_while_it_is_open_is_mended_at_the_next_start(tmp_path):
    file = tmp_path / "journal.db"
    await life(file, fills)

    async def finds_it(journal: Journal) -> None:
        heard: list[str] = []
        journal.watch_damage(lambda: heard.append("damaged"))
        assert spoil(file, b"step_350_") == 1
        await journal.read(lambda db: db.execute("PRAGMA shrink_memory").fetchall())
        for _ in range(2):
            with pytest.raises(JournalError) as failed:
                await journal.unacknowledged(journal.streams["supervision"], 0, 9_999)
            assert failed.value.code == "journal.damaged"
        assert heard == ["damaged"]
        assert journal.damage is not None
        assert await journal.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (SUSPECT,)

    await life(file, finds_it)

    async def rebuilt(journal: Journal) -> None:
        assert len(await journal.untold()) == 1
        assert await journal.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (0,)
        assert "step_151_" in (await told(journal))["supervision"]

    await life(file, rebuilt)


async def test_damaged_journals_are_kept_within_bounds_the_newest_ones(tmp_path):
    file = tmp_path / "journal.db"

    async def opens(journal: Journal) -> str | None:
        return (await journal.untold())[-1].aside

    names = []
    for day in range(KEPT_ASIDE + 2):
        file.write_bytes(b"\x5a" * 8192)
        names.append(await life(file, opens, at=NOW + 86_400 * (day // 2)))
    assert len(set(names)) == KEPT_ASIDE + 2, "also within a second"
    left = sorted(one.name for one in tmp_path.glob("*.damaged-*"))
    assert left == sorted(names)[-KEPT_ASIDE:]


async def test_two_rebuilds_in_one_reading_of_the_clock_are_both_told(tmp_path):
    """The clock of a board without a battery may begin at the same second each time."""
    file = tmp_path / "journal.db"
    await life(file, fills)
    for step in (b"step_300_", b"step_200_"):
        assert spoil(file, step) == 1
        rebuilds = await life(file, Journal.untold)
    assert [one.source for one in rebuilds] == ["file"] * 2
    assert rebuilds[0].at < rebuilds[1].at < NOW + 1e-3


async def test_a_lock_that_cannot_be_read_any_more_is_one(tmp_path):
    """T23: no damage opens a locked terminal, whatever is configured of damage; other damage locks none."""
    file = tmp_path / "journal.db"
    lock = ("usb.unknown", "stranger_at_the_port", "0a1b2c3d", "usb", NOW)

    async def locks(journal: Journal) -> None:
        await fills(journal)
        await journal.write(lambda db: db.execute("INSERT INTO lockdowns VALUES (?, ?, ?, ?, ?)", lock))
        await journal.checkpoint()

    async def codes(journal: Journal) -> list[str]:
        return [code for (code,) in await journal.read(lambda db: db.execute("SELECT code FROM lockdowns").fetchall())]

    await life(file, locks)
    spoil(file, b"step_300_")
    assert await life(file, codes) == ["usb.unknown"]
    assert spoil(file, b"stranger_at_the_port", count=9) >= 1
    assert await life(file, codes, at=NOW + 1) == ["journal.damaged"]


@pytest.mark.parametrize("damage", ["a page", "gone"])
@pytest.mark.parametrize("cut", range(1, 8))
async def test_a_power_cut_while_it_is_put_in_place_loses_neither_file(tmp_path, monkeypatch, cut, damage):
    """After each step of the swap the next start has the rebuilt journal, or rebuilds it."""
    file = tmp_path / "journal.db"

    async def fills_and_copies(journal: Journal) -> None:
        await fills(journal)
        await journal.back_up(seconds=60.0)

    await life(file, fills_and_copies)
    if damage == "gone":
        file.unlink()
    else:
        spoil(file, b"step_300_")
    Files(file).rebuilding.write_bytes(b"half of a journal")
    steps = 0

    class Cut(Exception):
        pass

    def counting(function: Callable) -> Callable:
        def counted(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps == cut:
                raise Cut
            return function(*arguments)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr("runtime.journal.files.os.rename", counting(__import__("os").rename))
        patch.setattr("runtime.journal.files.sync_directory", counting(lambda _: None))
        executor = ThreadExecutor(file)
        try:
            journal = Journal(executor, lambda: NOW)
            with suppress(Cut):
                await journal.open()
        finally:
            await executor.close()

    async def rebuilt(journal: Journal) -> None:
        assert len(await journal.untold()) == 1
        assert [intent.name for intent in await journal.open_intents("charge")] == ["charge_open"]
        assert (await told(journal))["supervision"][0] == "step_150_"

    await life(file, rebuilt)
    assert not Files(file).rebuilt.exists()
    assert not Files(file).rebuilding.exists()
    assert len(list(tmp_path.glob("*.damaged-*Z"))) == (damage == "a page")
