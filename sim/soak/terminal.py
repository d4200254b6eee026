"""`govterm soak terminal`: citizens come, everything fails in turn, and somebody else counts (T12, T14)."""

import asyncio
import random
import shutil
import sqlite3
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from sim import assets
from sim.citizens import ledger
from sim.citizens.plan import Visit
from sim.control import ControlError
from sim.crash.afterlife import left as left_open
from sim.kept import kept_rig
from sim.people import Population
from sim.settings import RigError
from sim.simulate import sabotage as of_simulation
from sim.soak import hall
from sim.soak.books import Books, bugs, count, wrong
from sim.soak.gauges import Gauges
from sim.soak.mishaps import MISHAPS, Held, schedule
from sim.soak.sabotage import TerminalSabotage
from sim.soak.search import CONTROL, Search, brought, search
from sim.soak.stage import Stage, staged, stop
from sim.soak.terminal_report import (
    Citizens,
    TerminalReport,
    duplicates,
    lost,
    recoveries,
)
from vision import store
from vision.store import cache_directory

RECOVERY_SECONDS = 180.0
"""Within this time after a fault a citizen must have been served to the end."""
DEED_SECONDS = 300.0
"""What bringing a fault about and taking it back may take, a start of every process included."""
DRAIN_SECONDS = 60.0
_SABOTAGED = 3
_SABOTAGED_SECONDS = 15.0
_QUIET_SECONDS = 90.0
_LOOK_SECONDS = 0.5
_ITS_OWN = ("platform.db", "paper", "trust")
"""What the rig's platform and printer keep of citizens; of `trust` the broker's store is searched by itself."""

Say = Callable[[str], None]


async def soak_terminal(
    minutes: float,
    seed: int,
    kinds: Sequence[str],
    *,
    keep: Path | None,
    sabotage: TerminalSabotage | None,
    written: Callable[[], list[Path]],
    say: Say,
) -> TerminalReport:
    """Run a soak with these kinds of faults and return what it came to; with `keep` everything is left there.

    `written` says where everything lies that any process wrote elsewhere (`sim.privacy.overlay.write_aside`).
    Raises DiskError where the terminal cannot have a disk of its own, RigError when something does not start or is
    in `keep` already, VisionError without models.
    """
    with kept_rig(keep) as files:
        await asyncio.to_thread(store.prepare, cache_directory() / "models")
        try:
            async with staged(files, seed, restarts=sabotage is not TerminalSabotage.NO_RESTART) as stage:
                run = _Run(stage, seed, sabotage, written, say)
                await run.last(minutes * 60.0, kinds)
                await run.finish()
                if keep is not None:
                    await asyncio.to_thread(shutil.copytree, files.state, files.directory / "terminal")
            return run.report(minutes, kinds, None if keep is None else str(files.directory))
        except (ControlError, sqlite3.Error) as error:
            raise RigError(f"{error}; see {files.directory}") from error


class _Run:
    """One run on a stage."""

    def __init__(
        self,
        stage: Stage,
        seed: int,
        sabotage: TerminalSabotage | None,
        written: Callable[[], list[Path]],
        say: Say,
    ) -> None:
        self._stage = stage
        self._seed = seed
        self._sabotage = sabotage
        self._written = written
        self._say = say
        self._gauges = Gauges()
        self._came: Counter[str] = Counter()
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._failures: list[str] = []
        self._books: Books | None = None
        self._personal: Search | None = None

    async def last(self, seconds: float, kinds: Sequence[str]) -> None:
        """Let citizens come for so long, with faults."""
        gauging = asyncio.create_task(self._gauge(), name="soak gauges")
        try:
            began = time.monotonic()
            await self._one_served()
            if self._sabotage is None:
                await self._suffer(began, began + seconds, kinds)
            else:
                await self._spoil(began + seconds)
        except TimeoutError:
            raise RigError("nobody is served even without a fault; see the logs") from None
        finally:
            gauging.cancel()
            await asyncio.gather(gauging, return_exceptions=True)

    async def _suffer(self, began: float, until: float, kinds: Sequence[str]) -> None:
        """Bring about every kind of fault, and then faults at random until it is time, or until one is not got over.

        Every kind alone at first; then every fourth fault comes before the terminal has recovered from the one before.
        """
        rng = random.Random(f"mishaps {self._seed}")
        share = (until - time.monotonic()) / len(kinds)
        held = Held(self._stage, rng, longest_seconds=max(1.0, 0.4 * share))
        measures: list[asyncio.Task[None]] = []
        try:
            for kind in schedule(rng, list(kinds)):
                is_whole = len(self._came) == len(kinds)
                if self._failures or (is_whole and time.monotonic() >= until):
                    break
                self._say(f"{time.monotonic() - began:7.1f} s  {kind}")
                visit = MISHAPS[kind].visit
                self._stage.visitors.want(visit)
                since = await self._do(kind, held)
                if since is None:
                    break
                self._came[kind] += 1
                measures.append(asyncio.create_task(self._measure(kind, since), name=f"soak recovery from {kind}"))
                if not is_whole or rng.random() < 0.75 or kind == "mains_failure":
                    await asyncio.wait(measures)
                await asyncio.sleep(rng.uniform(0.1, 1.5))
                self._failures += self._stage.complaints
                self._stage.complaints.clear()
            await asyncio.gather(*measures)
        finally:
            self._stage.visitors.want(None)
            for measure in measures:
                measure.cancel()
            await asyncio.gather(*measures, return_exceptions=True)

    async def _do(self, kind: str, held: Held) -> float | None:
        """Bring a fault about and return when it was over; None, a failure, when it did not come to its end."""
        try:
            async with asyncio.timeout(DEED_SECONDS):
                return await MISHAPS[kind].deed(held)
        except TimeoutError:
            self._failures.append(f"{kind} did not come to its end within {DEED_SECONDS:g} s")
            return None

    async def _measure(self, kind: str, since: float) -> None:
        within = _SABOTAGED_SECONDS if self._sabotage else RECOVERY_SECONDS
        visit = MISHAPS[kind].visit
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + within):
                seconds = await self._stage.visitors.served_since(since, visit) - since
        except TimeoutError:
            what = "" if visit is None else f" for {visit}"
            self._failures.append(f"nobody was served{what} for {within:g} s after {kind}")
        else:
            self._seconds[kind].append(seconds)
            self._say(f"            {kind}: served after {seconds:.1f} s")

    async def _spoil(self, until: float) -> None:
        stage = self._stage
        match self._sabotage:
            case TerminalSabotage.DROP_RECORD:
                await stage.order("drop_record", count=_SABOTAGED)
            case TerminalSabotage.DOUBLE_CHARGE:
                stage.visitors.want("fee_by_qr")
                await self._one_served("fee_by_qr")
            case TerminalSabotage.NO_RESTART:
                await self._measure("kill_daemon", await MISHAPS["kill_daemon"].deed(Held(stage, random.Random(), 1.0)))
                return
        await self._one_served()
        await asyncio.sleep(until - time.monotonic())

    async def _one_served(self, visit: Visit | None = None) -> None:
        """Wait until a citizen who comes from now on is served; raise TimeoutError."""
        async with asyncio.timeout(_QUIET_SECONDS):
            await self._stage.visitors.served_since(time.monotonic(), visit)

    async def _gauge(self) -> None:
        """Look at both processes all the time."""
        while True:
            self._stage.visitors.look()
            self._gauges.look(self._stage, len(self._stage.visitors.served))
            await asyncio.sleep(_LOOK_SECONDS)

    async def finish(self) -> None:
        """Let the last citizen go and everything be settled and delivered; stop, count and search."""
        stage, files = self._stage, self._stage.files
        stage.visitors.want(None)
        await stop(stage.hall)
        stage.visitors.look()
        self._say("the last citizen has gone")
        if self._sabotage is not TerminalSabotage.NO_RESTART:
            if (amiss := await stage.online()) is not None:
                self._failures.append(f"when all faults were over: {amiss}")
            await self._settle()
            if (code := await stop(stage.daemon)) != 0:
                self._failures.append(f"the daemon ended with code {code} when it was told to stop")
        await stop(stage.platform)
        if self._sabotage is TerminalSabotage.DOUBLE_CHARGE:
            with closing(sqlite3.connect(files.platform_database)) as platform:
                of_simulation.spoil_platform(of_simulation.Sabotage.DOUBLE_CHARGE, platform)
        if self._sabotage is TerminalSabotage.PLANT_NAME:
            with files.daemon_log.open("a", encoding="utf-8") as log:
                log.write(f'{{"event": "planted", "name": "{Population(self._seed).citizen(0).name}"}}\n')
        self._books = count(
            ledger.read(files.directory / hall.CALLS),
            [receipt for left in stage.visitors.left for receipt in left.receipts],
            files.state / "journal.db",
            files.platform_database,
            files.paper,
        )
        self._failures += bugs(files.daemon_log)
        self._say("counted; searching for personal data")
        self._personal = await asyncio.to_thread(self._search)

    async def _settle(self) -> None:
        """Wait until nothing is open; the citizen whose bank card is still at the gate comes and takes it."""
        until = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < until:
            with suppress(ControlError):
                await self._stage.do_now("cardreader", "take_card")
            with suppress(sqlite3.Error):
                journal = (self._stage.files.state / "journal.db").absolute().as_uri()
                with closing(sqlite3.connect(f"{journal}?mode=ro", uri=True)) as database:
                    if not left_open(database):
                        return
            await asyncio.sleep(0.5)

    def _search(self) -> Search:
        files = self._stage.files
        portraits = assets.prepare(cache_directory() / "assets")
        photos = [assets.chip_photo(portraits, name) for name in portraits.portraits]
        wanted = brought(self._seed, len(self._stage.visitors.came), photos)
        places: dict[Path, tuple[str, ...]] = {files.directory: _ITS_OWN, files.trust_directory / "mosquitto": ()}
        places |= dict.fromkeys(self._written(), (files.sockets.parent.name,))  # where the rig lies without `keep`
        return search(places, wanted, [files.directory / CONTROL, Path("/var/tmp", CONTROL)])  # noqa: S108 - aside

    def report(self, minutes: float, kinds: Sequence[str], directory: str | None) -> TerminalReport:
        """Return what the run came to."""
        books, personal, stage = self._books, self._personal, self._stage
        if books is None or personal is None:
            raise RigError("the run did not come to its count")
        unasked = [what for keeper in stage.keepers for what in keeper.unasked]
        return TerminalReport(
            minutes=minutes,
            seed=self._seed,
            faults={kind: recoveries(self._came[kind], self._seconds[kind]) for kind in kinds},
            recovery=recoveries(self._came.total(), [one for many in self._seconds.values() for one in many]),
            citizens=self._citizens(),
            refused=self._refused(),
            lost=lost(books),
            duplicates=duplicates(books),
            double_charges=books.charges.doubled,
            books=books,
            memory=self._gauges.memory,
            descriptors=self._gauges.descriptors,
            starts={keeper.name: keeper.starts for keeper in stage.keepers},
            watchdog=stage.watchdog.bites,
            unasked=unasked,
            personal=personal,
            directory=directory,
            failures=self._failures + wrong(books) + self._gauges.grown() + _leaks(personal) + self._missing(kinds),
        )

    def _citizens(self) -> Citizens:
        visitors = self._stage.visitors
        served = visitors.served
        seconds = [left.at - visitors.came[left.citizen].at for left in served]
        return Citizens(
            came=len(visitors.came),
            served=len(served),
            refused=len(visitors.left) - len(served),
            cut_off=len(visitors.came) - len(visitors.left),
            visit_seconds=round(statistics.median(seconds), 2) if seconds else None,
        )

    def _refused(self) -> dict[str, int]:
        reasons = Counter(left.why for left in self._stage.visitors.left if left.why is not None)
        return dict(reasons.most_common())

    def _missing(self, kinds: Sequence[str]) -> list[str]:
        missing = [] if self._sabotage else [kind for kind in kinds if not self._came[kind]]
        return [f"faults that never happened: {', '.join(missing)}"] if missing else []


def _leaks(personal: Search) -> list[str]:
    failures = [f"personal data: {one}" for one in personal.found]
    if personal.controls_found != personal.controls:
        failures.append(f"only {personal.controls_found} of {personal.controls} planted files were found")
    return failures
