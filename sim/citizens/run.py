"""`govterm soak citizens`: start everything, serve the citizens, measure, count, judge (T12, T13)."""

import asyncio
import sqlite3
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from runtime.client import Terminal, connect
from sim.citizens.count import Count, count
from sim.citizens.hand import Ears, Hand
from sim.citizens.ledger import Ledger, Line, NotServed, read
from sim.citizens.plan import Visit, luck, plan
from sim.citizens.report import Memory, Report, Sabotage
from sim.citizens.round_trip import RoundTrip, measure
from sim.citizens.times import LIMIT_SECONDS, PLACE_OF, machine_seconds, operations, shares
from sim.citizens.visits import Citizen
from sim.control import ControlError
from sim.delivery import Delivery, waiting
from sim.delivery import count as count_records
from sim.kept import kept_rig
from sim.settings import RigError, RigFiles, RigSettings, free_port, make_rig
from sim.terminal import COMPONENTS, connected, daemon
from vision import store
from vision.store import cache_directory

ROUND_TRIPS = 2_000
ROUND_TRIPS_A_CITIZEN = 50
WARM_SESSION = 10
"""By then every kind of visit was made, and everything is loaded that is loaded when it is wanted."""
JUDGED_SESSIONS = 50
"""Fewer sessions say nothing about growth."""
MOST_GROWTH_MEBIBYTES = 5.0
NEEDED = (*COMPONENTS, "camera", "document_camera", "cardreader", "pinpad")
SABOTAGED_RECORDS = 2
SABOTAGED_SECONDS = 4.6
"""How late the platform answers the first citizen: still within its own deadline, but with card and face over T13's."""
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_DRAIN_SECONDS = 30.0
_POLL_SECONDS = 0.1

Say = Callable[[str], None]


async def serve_citizens(citizens: int, seed: int, keep: Path | None, sabotage: Sabotage | None, say: Say) -> Report:
    """Serve so many citizens and return what it came to; with `keep` everything lies in that new directory afterwards.

    Raises RigError when something does not start or breaks by itself, VisionError without models.
    """
    with kept_rig(keep) as files:
        await asyncio.to_thread(store.prepare, cache_directory() / "models")
        make_rig(files, RigSettings(seed=seed, broker_port=free_port(), nut_port=free_port(), person="nobody"))
        try:
            run = _Run(files, seed, sabotage, say)
            await run.serve(plan(citizens, seed))
            return run.report(None if keep is None else str(files.directory))
        except (ControlError, sqlite3.Error, TimeoutError) as error:
            raise RigError(f"{error or 'nothing answers'}; see {files.directory}") from error


class _Run:
    """One run, in the files of a rig."""

    def __init__(self, files: RigFiles, seed: int, sabotage: Sabotage | None, say: Say) -> None:
        self._files = files
        self._seed = seed
        self._sabotage = sabotage
        self._say = say
        self._hand = Hand(files)
        self._visits: list[Visit] = []
        self._served = 0
        self._seconds = 0.0
        self._daemon: list[float] = []
        self._vision: list[float] = []
        self._trip: RoundTrip | None = None
        self._failures: list[str] = []

    @property
    def _calls(self) -> Path:
        return self._files.directory / "calls.jsonl"

    async def serve(self, visits: list[Visit]) -> None:
        """Serve the citizens, measure, let everything be delivered and stop."""
        self._visits = visits
        async with _rig(self._files), daemon(self._files) as process:
            await _online(self._files)
            self._say("everything is online")
            async with connect(self._files.api) as terminal:
                await self._serve(terminal, process.pid)
                self._trip = await measure(terminal, min(ROUND_TRIPS, ROUND_TRIPS_A_CITIZEN * len(visits)))
            await self._drain()
        if process.returncode != 0:
            self._failures.append(f"the daemon ended with code {process.returncode}")

    async def _serve(self, terminal: Terminal, pid: int) -> None:
        ledger, ears = Ledger(self._calls), Ears(terminal)
        listening = asyncio.create_task(ears.listen(), name="citizens' ears")
        receipts: list[str] = []
        try:
            await self._break()
            for number, visit in enumerate(self._visits):
                ledger.citizen, ledger.visit = number, visit
                choice = luck(self._seed, number)
                citizen = Citizen(number, terminal, self._hand, ears, ledger, choice, receipts)
                began = time.monotonic()
                try:
                    await citizen.visit(visit)
                    self._served += 1
                except (NotServed, ControlError, TimeoutError) as error:
                    self._failures.append(f"citizen {number} ({visit}): {error or 'nothing happened'}")
                self._seconds += time.monotonic() - began
                self._daemon.append(_resident_mebibytes(pid))
                self._vision.append(sum(map(_resident_mebibytes, _children(pid))))
                if number == 0 and self._sabotage is Sabotage.SLOW_ANSWER:
                    await self._hand.order("mend")
                if (number + 1) % 10 == 0:
                    self._say(f"{number + 1} citizens in {self._seconds:.0f} s, daemon {self._daemon[-1]:.1f} MiB")
        finally:
            ledger.close()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _break(self) -> None:
        match self._sabotage:
            case Sabotage.DROP_EVENT:
                await self._hand.order("drop_record", count=SABOTAGED_RECORDS)
            case Sabotage.DOUBLE_EVENT:
                await self._hand.order("double_record", count=SABOTAGED_RECORDS)
            case Sabotage.SLOW_ANSWER:
                await self._hand.order("slow", seconds=SABOTAGED_SECONDS)

    async def _drain(self) -> None:
        """Wait until the platform receipted every record; what it did not in time, the count finds."""
        for _ in range(int(_DRAIN_SECONDS / _POLL_SECONDS)):
            if not waiting(self._files.state / "journal.db"):
                return
            await asyncio.sleep(_POLL_SECONDS)

    def report(self, directory: str | None) -> Report:
        """Count, and return what the run came to."""
        if self._trip is None:
            raise RigError("the run did not come to its end")
        lines = read(self._calls)
        counted = count(lines, self._files.platform_database)
        terminal = RigSettings().terminal_id
        delivery = count_records(self._files.state / "journal.db", self._files.platform_database, terminal)
        memory = _memory(self._daemon)
        return Report(
            seed=self._seed,
            citizens=len(self._visits),
            served=self._served,
            visits=dict(Counter(self._visits)),
            seconds=round(self._seconds, 1),
            sessions_per_hour=round(3600 * len(self._visits) / self._seconds, 1),
            operations=operations(lines, counted.by_call),
            shares=shares((line, steps) for line, steps in zip(lines, counted.by_call, strict=True) if steps),
            refused=dict(Counter(f"{line.method} {line.code}" for line in lines if line.outcome == "refused")),
            daemon_memory=memory,
            vision_memory=_memory(self._vision),
            round_trip=self._trip,
            events=counted.events,
            deeds=counted.deeds,
            delivery=delivery,
            directory=directory,
            failures=self._failures + _wrong(lines, counted, delivery) + _grown(memory, len(self._visits)),
        )


def _wrong(lines: list[Line], counted: Count, delivery: Delivery) -> list[str]:
    """Say what is not as promised of times and counts."""
    failures = []
    events = counted.events
    if not events.told:
        failures.append("events: nobody was told of any step")
    for what, number in (("missing", events.missing), ("doubled", events.doubled)):
        if number:
            failures.append(f"events: {number} of {events.told} {what}")
    wrong = {"lost": delivery.lost, "doubled": delivery.duplicates, "altered": delivery.altered}
    failures += [f"records: {number} of {delivery.sent} {name}" for name, number in wrong.items() if number]
    for step, deed in counted.deeds.items():
        if deed.platform != deed.events:
            failures.append(f"{step}: the platform did it {deed.platform} times, {deed.events} events tell of it")
    failures += [f"the platform's {name}: {number}" for name, number in counted.complaints.items()]
    unplaced = sorted({step[0] for line in lines for step in line.steps} - PLACE_OF.keys())
    failures += [f"nobody said where the time of the step {step} goes" for step in unplaced]
    for line, steps in zip(lines, counted.by_call, strict=True):
        if steps is not None and (seconds := max(line.seconds, machine_seconds(steps))) > LIMIT_SECONDS:
            failures.append(f"citizen {line.citizen} ({line.visit}): {line.method} took {seconds:.2f} s")
    return failures


def _grown(memory: Memory, sessions: int) -> list[str]:
    growth = memory.end - memory.warm
    if sessions < JUDGED_SESSIONS or growth <= MOST_GROWTH_MEBIBYTES:
        return []
    return [f"the daemon's memory grew by {growth:.1f} MiB from session {memory.warm_session} on"]


def _memory(mebibytes: list[float]) -> Memory:
    warm = min(WARM_SESSION, len(mebibytes))
    first, last, most = (round(value, 1) for value in (mebibytes[warm - 1], mebibytes[-1], max(mebibytes)))
    return Memory(warm, first, last, most)


@asynccontextmanager
async def _rig(files: RigFiles) -> AsyncIterator[None]:
    """Run the rig, the broker and the platform; raise RigError when they do not start."""
    with (files.directory / "rig.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sim.citizens.rig", "--config", str(files.sockets / files.settings.name)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(_START_SECONDS):
            if process.stdout is None or not await process.stdout.readline():
                raise RigError(f"the rig does not start; {log.name} says why")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


async def _online(files: RigFiles) -> None:
    """Wait until every kind of visit can be made; raise RigError."""
    wanted = dict.fromkeys(NEEDED, "online") | {"catalogue": "current", "sharing": "active"}
    async with connected(files) as terminal:
        for component, state in wanted.items():
            await terminal.wait_until(component, state, seconds=_START_SECONDS)


def _resident_mebibytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    kibibytes = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
    return kibibytes / 1_024


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
