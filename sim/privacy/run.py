"""A whole visit at real processes, after which everything is searched for what the citizen brought (T20, T22).

First the memory of the daemon and its vision process, while the session is open and at once after its end. Then a
session is open once more while both processes are made to crash, and every file is searched that any process wrote.
"""

import asyncio
import gzip
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec

from runtime.client import ClientError, RpcError
from sim.privacy import memory, planted
from sim.privacy.finder import Finder
from sim.privacy.stage import Stage, staged
from sim.scan import contents

MUST_BE_THERE = {
    "daemon": {
        "name",
        "ID number",
        "address",
        "telephone",
        "permit number",
        "form's address",
        "document",
        "card number",
    },
    "vision": {"template", "document", "document frame"},
}
"""What an open session holds by and by: a search that does not find these finds nothing else either."""
_ITS_OWN = ("platform.db", "paper")
"""What the rig's platform and printer keep of citizens: the other side of the line, and paper in the citizen's hand."""
_END_SECONDS = 10.0

Say = Callable[[str], None]
Reads = dict[str, list[memory.Run]]
"""What was read of each process."""


class Sabotage(StrEnum):
    """What can be broken on purpose; the verdict must find each."""

    ALLOCATOR = "allocator"
    PLANT_FILE = "plant-file"


class Place(msgspec.Struct, frozen=True):
    """A search of one process: what was read, and how often each kind of value was found."""

    mebibytes: float
    runs: int
    hits: dict[str, int]


class Memory(msgspec.Struct, frozen=True):
    """Both processes while the session is open and after its end; all was read `read_seconds` after the end's answer.

    The open session's is read as well while a face is compared and while a bank card waits for its PIN. `where` says
    where something was found after the end; `locked` whether a process's memory is kept out of swap.
    """

    open: dict[str, Place]
    closed: dict[str, Place]
    where: list[memory.Hit]
    read_seconds: float
    locked: dict[str, bool]


class Files(msgspec.Struct, frozen=True):
    """The search of every file that was written: how many, how large, what was found, and of the planted ones."""

    searched: int
    mebibytes: float
    found: list[str]
    controls: int
    controls_found: int


class Report(msgspec.Struct, frozen=True):
    """The whole run; nothing was found when `failures` is empty."""

    needles: int
    memory: Memory
    crashes: dict[str, int]
    files: Files
    failures: list[str]


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
        await session.close()
        ended = time.monotonic()
        await _read(stage, closed, *closed)
        read_seconds = time.monotonic() - ended
        finder = await stage.finder()
        searched = await asyncio.to_thread(_searched, opened, closed, finder, read_seconds, stage)
        say("memory is searched")
        crashes = await _crash(stage)
        say("both processes crashed with a session open")
    files = await asyncio.to_thread(_search_files, places, finder, sabotage)
    return Report(len(finder.needles), searched, crashes, files, _judge(searched, crashes, files))


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


async def _crash(stage: Stage) -> dict[str, int]:
    """Open a session, have both processes fail as a bug in native code would, and return the signals they died of."""
    with suppress(ClientError, RpcError):  # the daemon ends under the call
        await stage.visit.begin()
    pids = stage.pids
    watched = {name: os.pidfd_open(pid) for name, pid in pids.items()}
    ended = {}
    for name in ("vision", "daemon"):
        os.kill(pids[name], signal.SIGSEGV)
        ended[name] = await _end(watched[name])
        os.close(watched[name])
    async with asyncio.timeout(_END_SECONDS):
        return ended | {"daemon": -await stage.process.wait()}


async def _end(watched: int) -> int:
    """Wait until a process has ended, of SIGSEGV since nothing else is sent to it."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(watched, over.set)
    try:
        async with asyncio.timeout(_END_SECONDS):
            await over.wait()
    finally:
        loop.remove_reader(watched)
    return int(signal.SIGSEGV)


def _search_files(places: Callable[[], list[Path]], finder: Finder, sabotage: Sabotage | None) -> Files:
    """Search whatever was written, with files beside it that must be found: in three encodings, packed, and shared."""
    text = planted.REQUEST
    controls = {
        Path("/var/tmp/control.hex"): text.encode("gb18030").hex().encode(),  # noqa: S108
        Path("/dev/shm/control.shared"): text.encode("utf-16-le"),  # noqa: S108
        Path("/etc/control.gzip"): gzip.compress(text.encode()),
    }
    for path, content in controls.items():
        path.write_bytes(content)
    if sabotage is Sabotage.PLANT_FILE:
        Path("/var/tmp/planted").write_text(text, encoding="utf-8")  # noqa: S108
    found: set[str] = set()
    searched = size = 0
    for path in (one for place in places() for one in sorted(place.rglob("*"))):
        if path.is_symlink() or not path.is_file() or any(part.startswith(_ITS_OWN) for part in path.parts):
            continue
        data = path.read_bytes()
        searched, size = searched + 1, size + len(data)
        for place, content in contents(data, str(path)):
            found |= {f"{what}, {form}, in {place} at {at}" for at, what, form in finder.find(content)}
    of_control = {name for name in found if "/control." in name}
    controls_found = sum(any(f"/{path.name}" in name for name in of_control) for path in controls)
    return Files(searched, round(size / 2**20, 1), sorted(found - of_control), len(controls), controls_found)


def _judge(searched: Memory, crashes: dict[str, int], files: Files) -> list[str]:
    failures = []
    for name, kinds in MUST_BE_THERE.items():
        if missing := kinds - searched.open[name].hits.keys():
            failures.append(f"{name}: the search of the open session does not find {', '.join(sorted(missing))}")
        for what, number in searched.closed[name].hits.items():
            failures.append(f"{name}: {what} is in memory {number} times after the session")
    failures += [f"{name} did not crash" for name, code in crashes.items() if code != signal.SIGSEGV]
    failures += [f"written: {one}" for one in files.found]
    if files.controls_found != files.controls:
        failures.append(f"only {files.controls_found} of {files.controls} planted files are found")
    return failures
