"""`govterm soak delivery`: load, faults, drain, count and verdict (I6, T12)."""

import asyncio
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sim.control import ControlError
from sim.kept import kept_rig
from sim.settings import RigError
from sim.soak import faults
from sim.soak.count import Count, count
from sim.soak.progress import Progress
from sim.soak.report import Report, Sabotage, recovery
from sim.soak.watch import Watch
from sim.soak.world import World, open_world
from transport.mqtt import MqttUplink

QUIET_SECONDS = 2.0
"""Load without a fault, at the beginning."""
DRAIN_SECONDS = 60.0
"""Within this time after the load everything must be delivered."""
LEAST_RECORDS_PER_SECOND = 5
_SABOTAGED = 3
_PATIENCE_SECONDS = 20.0
_LONGEST_RECOVERY_SECONDS = 120.0

Say = Callable[[str], None]


async def soak_delivery(minutes: float, seed: int, keep: Path | None, sabotage: Sabotage | None, say: Say) -> Report:
    """Run a soak and return what it came to; with `keep` everything lies in that new directory afterwards.

    Raises DiskError where the terminal cannot have a disk of its own, RigError when something did not start, broke by
    itself or did not come back.
    """
    with kept_rig(keep) as files:
        try:
            async with open_world(files, seed) as world:
                run = _Run(world, sabotage, say)
                await run.load(minutes * 60.0, seed)
                if keep is not None:
                    shutil.copytree(files.state, files.directory / "terminal")
            return run.report(seed, None if keep is None else str(files.directory))
        except (ControlError, sqlite3.Error) as error:
            raise RigError(str(error)) from error


class _Run:
    """One run in a world."""

    def __init__(self, world: World, sabotage: Sabotage | None, say: Say) -> None:
        self._world = world
        self._sabotage = sabotage
        self._say = say
        self._progress = Progress(world.ledger, world.files.state / "journal.db")
        trust = world.files.trust
        uplink = MqttUplink(
            "127.0.0.1",
            world.settings.broker_port,
            "watch",
            ca_file=trust.ca,
            certificate_file=trust.platform_certificate,
            private_key_file=trust.platform_key,
        )
        self._watch = Watch(uplink, reuses_nonce=sabotage is Sabotage.REUSE_NONCE)
        self._faults: Counter[str] = Counter()
        self._recoveries: list[float] = []
        self._failures: list[str] = []
        self._count: Count | None = None
        self.seconds = 0.0
        """How long the load lasted."""

    async def load(self, seconds: float, seed: int) -> None:
        """Load the line for so long, with faults; then let everything be delivered, stop, and count."""
        helpers = [
            asyncio.create_task(self._watch.run(), name="soak watch"),
            asyncio.create_task(self._progress.follow(), name="soak progress"),
        ]
        try:
            began = time.monotonic()
            await asyncio.sleep(QUIET_SECONDS)
            if self._sabotage is None:
                await self._break(random.Random(seed), began + seconds)
            else:
                await self._do_sabotage()
                await asyncio.sleep(began + seconds - time.monotonic())
            self.seconds = time.monotonic() - began
            await self._finish()
            for helper in helpers:
                if helper.done():
                    helper.result()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _do_sabotage(self) -> None:
        match self._sabotage:
            case Sabotage.DROP_RECORD:
                await self._world.tell_platform("drop_record", count=_SABOTAGED)
            case Sabotage.DOUBLE_RECORD:
                await self._world.tell_platform("double_record", count=_SABOTAGED)
            case Sabotage.FLIP_BYTE:
                await self._world.tell_platform("flip_byte", count=_SABOTAGED)

    async def _break(self, rng: random.Random, until: float) -> None:
        """Bring about every kind of fault, and then faults at random until it is time.

        Mostly the line may recover before the next one, but not always, and not for long where there is little time.
        A recovery is measured to its end, whatever other faults fall into it.
        """
        began = time.monotonic()
        share = (until - began) / len(faults.KINDS)
        held = faults.Held(self._world, rng, longest_seconds=0.4 * share)
        measures: list[asyncio.Task[None]] = []
        try:
            for kind in faults.schedule(rng):
                if time.monotonic() >= until and len(self._faults) == len(faults.KINDS):
                    break
                for part in self._world.parts:
                    part.check()
                self._say(f"{time.monotonic() - began:7.1f} s  {kind}")
                ended = await faults.KINDS[kind](held)
                self._faults[kind] += 1
                measures.append(asyncio.create_task(self._measure(kind, ended), name=f"soak recovery from {kind}"))
                patience = rng.choice((0.0, 1.0, 1.0, 1.0)) * min(_PATIENCE_SECONDS, 0.6 * share)
                await asyncio.wait(measures[-1:], timeout=patience)
                await asyncio.sleep(rng.uniform(0.1, 0.2 * min(share, 5.0)))
            await asyncio.gather(*measures)
        finally:
            for measure in measures:
                measure.cancel()
            await asyncio.gather(*measures, return_exceptions=True)

    async def _measure(self, kind: str, ended: float) -> None:
        try:
            async with asyncio.timeout(_LONGEST_RECOVERY_SECONDS):
                seconds = await self._progress.recovered(ended)
        except TimeoutError:
            self._failures.append(f"nothing was delivered for {_LONGEST_RECOVERY_SECONDS:g} s after {kind}")
        else:
            self._recoveries.append(seconds)
            self._say(f"            {kind}: again after {seconds:.2f} s")

    async def _finish(self) -> None:
        """Stop the load, wait until nothing waits, stop everything and count."""
        world = self._world
        await world.load.stop()
        self._say("load stopped")
        if (waiting := await self._progress.drained(DRAIN_SECONDS)) != 0:
            self._failures.append(f"{waiting} records were not receipted within {DRAIN_SECONDS:g} s")
        for part in (world.terminal, world.platform):
            part.check()
            await part.stop()
        self._count = count(world.ledger, world.files.platform_database)

    def report(self, seed: int, directory: str | None) -> Report:
        """Return what the run came to."""
        if self._count is None:
            raise RigError("the run did not come to its count")
        records, calls = self._count.records, self._count.calls
        failures = list(self._failures)
        failures += [
            f"{what}: {number} {name}"
            for what, counted in (("records", records), ("calls", calls))
            for name in ("lost", "duplicates", "altered")
            if (number := getattr(counted, name))
        ]
        if self._watch.reused:
            failures.append(f"{self._watch.reused} nonces were used twice")
        if not self._watch.envelopes:
            failures.append("nobody watched: no envelope was seen on the broker")
        if self._sabotage is None and (missing := [kind for kind in faults.KINDS if not self._faults[kind]]):
            failures.append(f"faults that never happened: {', '.join(missing)}")
        least = round(LEAST_RECORDS_PER_SECOND * self.seconds)
        if records.sent < least:
            failures.append(f"{records.sent} records are too few, {least} are the least in {self.seconds:.0f} s")
        if not calls.answered:
            failures.append("no call was answered")
        return Report(
            seed=seed,
            seconds=round(self.seconds, 1),
            records=records,
            calls=calls,
            faults={kind: self._faults[kind] for kind in faults.KINDS},
            recovery_seconds=recovery(self._recoveries),
            envelopes=self._watch.envelopes,
            nonces_reused=self._watch.reused,
            directory=directory,
            failures=failures,
        )
