"""The journal after a power cut during each write: it opens, and what was promised is there (rule 2, T12, L29)."""

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runtime.journal import JournalError
from runtime.journal.schema import SCHEMA_VERSION, prepare
from sim.crash.disk import Epoch, Files, Image, Recording, images, outcomes
from sim.virtual_time import run
from tests.runtime.house import House

Dump = dict[str, list[tuple[object, ...]]]
CITIZENS = 15
VECTORS = Path(__file__).parents[1] / "vectors/journal"


class Kept(sqlite3.Connection):
    """A connection that its user's close leaves open."""

    def close(self) -> None:
        """Do nothing: the recording goes on."""


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - which images are tried


def dump(database: sqlite3.Connection) -> Dump:
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {table: sorted(database.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}  # noqa: S608


def found(files: Files, place: Path) -> Dump:
    """What a start finds in these files; raises JournalError or sqlite3.Error where they do not open."""
    files.store(place)
    with closing(sqlite3.connect(place, isolation_level=None)) as database:
        prepare(database)
        return dump(database)


def check(epochs: list[Epoch], tried: Iterator[Image], place: Path) -> int:
    """Hold each image against what may be there: everything promised before its epoch, and a commit of it or none."""
    allowed: dict[int, list[Dump]] = {}
    count = 0
    for image in tried:
        if image.epoch not in allowed:
            allowed[image.epoch] = [found(files, place) for files in outcomes(epochs[image.epoch])]
        assert found(image.files, place) in allowed[image.epoch], (image.epoch, image.what)
        count += 1
    return count


def sessions(directory: Path) -> list[Epoch]:
    """Record some citizens, a line that is lost, an unplugged reader, an alarm and an orderly stop."""
    file = directory / "journal.db"

    async def story() -> list[Epoch]:
        journal = sqlite3.connect(file, isolation_level=None, factory=Kept)
        prepare(journal)
        recording = Recording(journal, file)
        house = House(directory, journal=journal)
        platform, daemon = asyncio.create_task(house.serve_platform()), asyncio.create_task(house.daemon())
        try:
            ui = house.caller()
            await house.settled(ui)
            journal.execute("PRAGMA wal_autocheckpoint = 40")  # many checkpoints in a short recording
            for _ in range(CITIZENS):
                await ui.call("session.close", session=await house.verified(ui))
            platform.cancel()
            house.reader_port.unplug()
            house.egress[0]("connect")
            await asyncio.sleep(90)
            await ui.call("session.close", session=await house.consenting(ui))
            house.stop.set()
            await daemon
            now = recording.end()
            assert found(now, directory / "copy.db") == dump(journal), "the recording ends where the journal does"
        finally:
            for task in (platform, daemon):
                task.cancel()
            await asyncio.gather(platform, daemon, return_exceptions=True)
            house.store.close()
            sqlite3.Connection.close(journal)
        return recording.epochs

    return run(story())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Epoch]:
    return sessions(tmp_path_factory.mktemp("recorded"))


def test_the_recording_holds_commits_checkpoints_and_a_log_begun_anew(recorded):
    kinds = [{write.which for write in epoch.writes} for epoch in recorded if epoch.writes]
    assert kinds.count({"log"}) > 50
    assert kinds.count({"database"}) > 5
    assert all(len(kind) == 1 for kind in kinds), "one file between two syncs"
    assert kinds[-1] == {"log"}, "cut off at the end"
    begun = [epoch for epoch in recorded for write in epoch.writes if (write.which, write.offset) == ("log", 0)]
    assert len(begun) > 5
    assert max(len(epoch.writes) for epoch in recorded) > 10


def test_a_sample_of_power_cuts(recorded, tmp_path):
    chance = seeded(7)
    every = list(images(recorded, chance))
    sample = sorted(chance.sample(every, 700), key=lambda image: image.epoch)
    assert check(recorded, iter(sample), tmp_path / "journal.db") == 700


@pytest.mark.slow
def test_every_power_cut(recorded, tmp_path):
    count = check(recorded, images(recorded, seeded(1)), tmp_path / "journal.db")
    print(f"{count} images of {len(recorded)} epochs")
    assert count > 3_000


def test_it_would_show_that_a_sync_is_missing(recorded, tmp_path):
    """A log that is begun anew before the database is synced breaks journals: the check can fail."""
    three = zip(recorded, recorded[1:], recorded[2:], strict=False)
    merged = [
        Epoch(first.before, [*first.writes, *second.writes, *third.writes])
        for first, second, third in three
        if first.writes and first.writes[0].which == "database"
    ]
    assert len(merged) > 5
    with pytest.raises((AssertionError, JournalError, sqlite3.DatabaseError)):
        check(merged, images(merged, seeded(1)), tmp_path / "journal.db")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_migration_that_is_cut_opens_again(tmp_path, version):
    """I1."""
    file = tmp_path / "journal.db"
    for old in VECTORS.glob(f"version-{version}.db*"):
        shutil.copy(old, tmp_path / old.name.replace(f"version-{version}", "journal"))
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        recording = Recording(database, file)
        prepare(database)
        done = dump(database)
        recording.end()
    tried = [image for image in images(recording.epochs, seeded(3)) if image.epoch or recording.epochs[0].writes]
    assert len(tried) > 50
    for image in seeded(3).sample(tried, 50):
        assert found(image.files, tmp_path / "again.db") == done, image.what
