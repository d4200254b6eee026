"""A whole visit at real processes, after which everything is searched for what the citizen brought (T20, T22).

First the memory of the daemon and its vision process, while the session is open and at once after its end. Then a
session is open once more while both processes are made to crash, a tester records both card readers, and every file is
searched that any process wrote.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec

from sim.privacy import broker, captures, memory, planted
from sim.privacy.crash import crash
from sim.privacy.files import search_files
from sim.privacy.finder import Finder
from sim.privacy.report import Memory, Place, Report, judge
from sim.privacy.stage import Stage, staged

Say = Callable[[str], None]
Reads = dict[str, list[memory.Run]]
"""What was read of each process."""


class Sabotage(StrEnum):
    """What can be broken on purpose; the verdict must find each."""

    ALLOCATOR = "allocator"
    PLANT_FILE = "plant-file"
    CLEAR_MESSAGE = "clear-message"
    UNMASKED_CAPTURE = "unmasked-capture"


async def prove(directory: Path, places: Callable[[], list[Path]], sabotage: Sabotage | None, say: Say) -> Report:
    """Run the visit in a new directory and search; `places` says where whatever was written lies.

    Raises RigError when something does not start, VisitError when the visit does not go as told, VisionError.
    """
    async with staged(directory, settled=sabotage is not Sabotage.ALLOCATOR) as stage:
        say("everything is online")
        opened: Reads = {"daemon": [], "vision": []}
        stage.visit.moments["comparing"] = partial(_read, stage, opened, "vision")
        stage.visit.moments["paying"] = partial(_read, stage, opened, "daemon")
        session = await stage.visit.begin()
        await stage.visit.serve(session)
        say("the citizen got everything")
        closed: Reads = {"daemon": [], "vision": []}
        await _read(stage, opened, *opened)
        _, is_refused = await asyncio.gather(stage.exits.ask(), captures.is_refused(stage))
        await session.close()
        ended = time.monotonic()
        await _read(stage, closed, *closed)
        read_seconds = time.monotonic() - ended
        finder = await stage.finder()
        searched = await asyncio.to_thread(_searched, opened, closed, finder, read_seconds, stage)
        say("memory is searched")
        stage.visit.moments.clear()
        crashed = await crash(stage)
        say("both processes crashed with a session open")
        crashes, recorded, said = await asyncio.gather(
            asyncio.to_thread(lambda: {name: one.searched(finder) for name, one in crashed.items()}),
            captures.record(stage, masked=sabotage is not Sabotage.UNMASKED_CAPTURE),
            stage.exits.export(),
        )
        if sabotage is Sabotage.CLEAR_MESSAGE:
            await broker.say(stage.rig.files.trust_directory, stage.rig.settings.broker_port, planted.REQUEST)
    files = await asyncio.to_thread(search_files, places, directory, finder, plant=sabotage is Sabotage.PLANT_FILE)
    report = Report(len(finder.needles), searched, crashes, said, is_refused, recorded, files, [])
    return msgspec.structs.replace(report, failures=judge(report))


async def _read(stage: Stage, reads: Reads, *processes: str) -> None:
    for name in processes:
        reads[name] += await asyncio.to_thread(memory.read, stage.pids[name])


def _searched(
    opened: Reads,
    closed: Reads,
    finder: Finder,
    read_seconds: float,
    stage: Stage,
) -> Memory:
    found = [{name: memory.search(runs, finder) for name, runs in moment.items()} for moment in (opened, closed)]
    return Memory(
        open={name: _place(runs, found[0][name]) for name, runs in opened.items()},
        closed={name: _place(runs, found[1][name]) for name, runs in closed.items()},
        where=[hit for hits in found[1].values() for hit in hits],
        read_seconds=round(read_seconds, 3),
        locked={name: _locked(pid) for name, pid in stage.pids.items()},
    )


def _place(runs: list[memory.Run], hits: list[memory.Hit]) -> Place:
    mebibytes = round(sum(len(run.data) for run in runs) / 2**20, 1)
    return Place(mebibytes, len(runs), dict(Counter(hit.what for hit in hits)))


def _locked(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return any(line.startswith("VmLck:") and int(line.split()[1]) > 0 for line in status.splitlines())
