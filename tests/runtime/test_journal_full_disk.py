"""The journal on a disk that is really full: a small tmpfs in a mount namespace of its own (I6, T12, T23)."""

import json
import os
import subprocess
import sys
from pathlib import Path

STORY = """
import asyncio, json, os, sys
from pathlib import Path
from structlog.testing import capture_logs
from runtime.board import ThreadExecutor
from runtime.journal import Journal, JournalError
from runtime.journal.room import RESERVE_BYTES
from runtime.messages import Alarm, TrialHealth, TrialRecord
from sim.soak.disk import Disk
from tests.runtime.journal_reader import whole

home = Path(sys.argv[1])
disk, reserve = Disk(home), home / "journal.reserve"
told = {}


def reserved():
    return reserve.exists() and reserve.stat().st_blocks * 512 >= RESERVE_BYTES


async def until_refused(journal, make):
    for count in range(100_000):
        try:
            await journal.append(make(count))
        except JournalError as error:
            return count, error.code
    raise AssertionError("never full")


async def life(story):
    executor = ThreadExecutor(home / "journal.db")
    try:
        journal = Journal(executor, lambda: 0.0)
        await journal.open()
        return await story(journal)
    finally:
        await executor.close()


def alarm(count):
    return Alarm(f"{count:016}", "pinpad.tampered", "pinpad", 0.0, "boot", rig=False)


def health(count):
    return TrialHealth(str(count), b"", b"x" * 700)


def record(count):
    return TrialRecord(str(count), b"", b"x" * 700)


async def fills(journal):
    assert reserved()
    sent = [await journal.append(health(count)) for count in range(2_000)]
    disk.fill()
    assert reserved(), "nobody else can have the reserve's blocks"
    taken = 0
    while journal.shed == 0:
        await journal.append(record(taken))
        taken += 1
    told["until_shed"] = taken
    assert not reserved()
    await journal.append(alarm(0))
    disk.fill()
    assert await journal.append(alarm(1)) == 2, "also when another program took what the reserve left"
    assert await journal.append(health(2_000)) == 2_001
    more, code = await until_refused(journal, record)
    told.update(after_shed=more, code=code, shed=journal.shed)
    found = await whole(journal)
    assert len(found["alarm"]) == 2
    assert len(found["supervision"]) == taken + more
    assert len(found["telemetry"]) == 2_001 - journal.shed
    return taken + more


async def starts_on_a_full_disk(journal):
    told["at_start"] = len((await whole(journal))["supervision"])
    disk.free()
    with capture_logs() as lines:
        await journal.append(record(0))
    assert [line["event"] for line in lines] == ["disk_has_room"], lines
    assert reserved()
    await journal.append(health(0))
    for stream, name in journal.streams.items():
        waiting = await journal.unacknowledged(name, 0, 99_999)
        await journal.acknowledge(name, waiting[-1].sequence)
    assert set((await journal.waiting()).values()) == {0}
    await journal.append(alarm(3))
    await journal.checkpoint()


async def starts_on_a_full_disk_after_a_clean_stop(journal):
    assert not reserved()
    assert await journal.append(alarm(4)) == 4
    assert await journal.append(record(0)) == told["taken"] + 2
    await journal.checkpoint()
    disk.free()
    await journal.append(record(1))
    assert reserved()


told["taken"] = asyncio.run(life(fills))
disk.fill()
asyncio.run(life(starts_on_a_full_disk))
assert sorted(path.name for path in home.iterdir()) == ["journal.db", "journal.reserve"]
disk.fill()
asyncio.run(life(starts_on_a_full_disk_after_a_clean_stop))
print(json.dumps(told))
"""


REBUILD = """
import asyncio, json, sys
from pathlib import Path
from runtime.journal import Journal, JournalError
from runtime.messages import TrialRecord
from sim.soak.disk import Disk
from tests.runtime.test_journal_rebuild import fills, life, spoil

home = Path(sys.argv[1])
disk, file = Disk(home), home / "journal.db"


async def fills_more_than_the_reserve(journal):
    await fills(journal)
    for _ in range(10):
        await asyncio.gather(*(journal.append(TrialRecord("1", b"", b"x" * 700)) for _ in range(500)))
    assert await journal.back_up(seconds=60.0)
    await journal.checkpoint()


async def finds(journal):
    return (await journal.untold())[0].records


asyncio.run(life(file, fills_more_than_the_reserve))
assert spoil(file, b"step_300_") == 1
damaged = file.read_bytes()
disk.fill()
for start in range(2):
    try:
        asyncio.run(life(file, finds))
    except JournalError as error:
        told = {"code": error.code, "retry": error.retry}
    assert file.read_bytes() == damaged
    assert (home / "journal.backup.db").exists(), "the rebuild has need of it"
    assert not [one.name for one in home.iterdir() if "damaged" in one.name or "rebuilt" in one.name]
disk.free()
print(json.dumps(told | {"records": asyncio.run(life(file, finds))}))
"""


def on_a_small_disk(story: str, home: Path, mebibytes: int = 16) -> dict:
    """Run a story on a small tmpfs at `home`; return the object on its last line."""
    home.mkdir()
    mount = f'mount -t tmpfs -o size={mebibytes}m,mode=0700 test {home} && exec {sys.executable} -c "$STORY" {home}'
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mount],
        env=os.environ | {"STORY": story, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_full_disk_sheds_telemetry_keeps_the_rest_and_heals(tmp_path):
    """Telemetry goes, alarms and supervision stay, a refused call is refused clearly, and no gap is unexplained."""
    told = on_a_small_disk(STORY, tmp_path / "state")
    assert told["code"] == "journal.disk_full"
    assert told["at_start"] == told["taken"] > 1_000
    assert told["shed"] >= 1_000, "half of the telemetry at least, before anything was refused"


def test_a_damaged_journal_waits_as_it_is_for_the_room_to_be_rebuilt(tmp_path):
    """L28, L29: each start on the full disk says so and changes nothing; with room again what is readable is there."""
    told = on_a_small_disk(REBUILD, tmp_path / "state", 48)
    assert (told["code"], told["retry"]) == ("journal.disk_full", True)
    assert told["records"] > 5_200
