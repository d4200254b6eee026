"""A disk that answers EIO, as a dying card does: what was accepted is there, nothing is told twice (I6)."""

import pytest

from runtime.journal import Journal, JournalError
from tests.runtime.failing_disk import fail
from tests.runtime.test_journal_rebuild import EVENTS, event, fills, life, told


@pytest.mark.parametrize("calls", [("fsync", "fdatasync"), ("pwrite64",)], ids=["sync", "write"])
async def test_what_cannot_be_written_is_refused_and_what_was_accepted_is_there(tmp_path, calls):
    """A commit whose sync failed may be on the disk or not: the caller hears of a failure that a retry may mend."""
    file = tmp_path / "journal.db"

    async def fails(journal: Journal) -> None:
        await journal.append(event("before_"))
        await journal.read(lambda _: fail(*calls))
        for number in range(3):
            with pytest.raises(JournalError) as failed:
                await journal.append(event(f"refused_{number}_"))
            assert (failed.value.code, failed.value.retry) == ("journal.write_failed", True)
        assert journal.damage is None

    await life(file, fails)

    async def goes_on(journal: Journal) -> None:
        await journal.append(event("after_"))
        assert await journal.untold() == []
        steps = (await told(journal))["supervision"]
        assert [step for step in steps if not step.startswith("refused_")] == ["before_", "after_"]
        assert len(steps) == len(set(steps))

    await life(file, goes_on)


async def test_what_cannot_be_read_is_damage_and_is_looked_at_again_by_the_next_start(tmp_path):
    """L29: a sector that is not given back does not come back by waiting."""
    file = tmp_path / "journal.db"
    await life(file, fills)

    async def fails(journal: Journal) -> None:
        heard: list[str] = []
        journal.watch_damage(lambda: heard.append("damaged"))
        await journal.read(lambda db: db.execute("PRAGMA shrink_memory").fetchall())
        await journal.read(lambda _: fail("pread64"))
        with pytest.raises(JournalError) as failed:
            await journal.unacknowledged(journal.streams["supervision"], 0, 9_999)
        assert failed.value.code == "journal.damaged"
        assert heard == ["damaged"]

    await life(file, fails)

    async def reads(journal: Journal) -> None:
        assert await journal.untold() == [], "it gives back every sector"
        records = await journal.unacknowledged(journal.streams["supervision"], 0, 9_999)
        assert [one.sequence for one in records] == list(range(151, EVENTS + 2))

    await life(file, reads)
