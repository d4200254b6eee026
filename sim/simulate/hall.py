"""The hall in which a terminal stands: its lives, the citizens that come, the faults that happen, and who watches."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sim.caller import CallRefused
from sim.citizens.plan import VISITS, Visit
from sim.platform.service import serve
from sim.scripted import ScriptedVision
from sim.simulate import reckoning
from sim.simulate.board import Board, until
from sim.simulate.faults import Density, Kind, Window
from sim.simulate.judge import Judge
from sim.simulate.kinds import schedule
from sim.simulate.outside import DEVICES, Surroundings
from sim.simulate.people import People, Person
from sim.simulate.sabotage import Sabotage, spoil_platform
from sim.simulate.screen import Screen
from sim.simulate.tampering import meddle
from sim.simulate.trace import Trace
from sim.simulate.visits import NotServed, Visitor
from sim.world import Keys

ARRIVAL_SECONDS = {Density.LIGHT: 600.0, Density.HEAVY: 60.0}
"""Between a citizen's end and the next one, on average."""
SCREEN_SECONDS = 3.0
"""How soon a screen's program that died is there again."""
LONGEST_MENDING_SECONDS = 1_200.0
REST_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A seed's run."""

    seed: int
    hours: float
    density: Density
    sabotage: Sabotage | None = None


class Hall:
    """A run of one seed; make it in a running MortalLoop."""

    def __init__(self, plan: Plan, keys: Keys, directory: Path) -> None:
        self.plan = plan
        self.chance = random.Random(f"faults {plan.seed}")
        self.trace = Trace(asyncio.get_running_loop().time)
        self.people = People()
        self.around = Surroundings(keys, self.people, self.chance)
        self.judge = Judge(self.trace, self.people, directory / "audit.jsonl")
        self.around.on_paper = self.judge.printed
        self.board = Board(
            directory,
            self.around,
            self.judge,
            self.trace,
            chance=random.Random(f"lives {plan.seed}"),
            on_notice=self._heard,
            skips_fsync=plan.sabotage is Sabotage.SKIP_FSYNC,
        )
        self._visitor: Visitor | None = None
        self._is_spoiled = False

    async def run(self) -> None:
        """Live the whole run; what must not be is in `judge`."""
        works = {
            "platform": serve(self.around.platform, self.around.uplink, lambda: None),
            "board": self.board.run(),
            "mains": self.board.watch_power(),
            "staff": self._maintain(),
            "faults": self._go_wrong(),
            "tampering": meddle(self),
        }
        others = [asyncio.create_task(work, name=name) for name, work in works.items()]
        citizens = asyncio.create_task(self._come(), name="citizens")
        try:
            running = {citizens, *others}
            while citizens in running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
        finally:
            for task in (citizens, *others):
                task.cancel()
            await asyncio.gather(citizens, *others, return_exceptions=True)

    # Stage: what a visitor finds.

    @property
    def screen(self) -> Screen:
        """The citizens' screen; raises ConnectionError while there is none."""
        if self.board.screen is None:
            raise ConnectionError("the screen is dark")
        return self.board.screen

    def scan_shows(self, pdf: bytes) -> None:
        """Let this lie before the document camera."""
        self.vision.document = pdf

    def companion(self, person: Person) -> Person:
        """Return somebody who takes a citizen's place at the terminal, in the same session."""
        other = self.people.next()
        self.trace.tell(f"{other.name} takes the place of {person.name}")
        self.judge.sees(other)
        return other

    def told(self, person: Person, method: str, result: dict[str, Any]) -> None:
        """Take note of a call's result."""
        self.judge.told(person, method, result)
        if method == "session.open":
            self.judge.sees(person)
            self.judge.locks.opened()

    def refused(self, person: Person, method: str, code: str) -> None:
        """Take note of a call's error."""
        self.judge.refused(person, method, code)
        if method == "session.open":
            self.judge.locks.refused(code)

    def order(self, verb: str, **args: Any) -> Any:
        """Have the platform do something; raise ValueError when it cannot."""
        return self.around.platform.verbs[verb](**args)

    # Place: what a fault can reach.

    @property
    def vision(self) -> ScriptedVision:
        """The vision process of the present life."""
        return self.board.lives[-1].vision

    def kill(self, *, at_point: bool) -> None:
        """Kill the daemon's process."""
        self.board.end("killed", at_point=at_point)

    def stall(self, *, stalls: bool) -> None:
        """Let the citizens' screen take nothing that it is told, or take it again."""
        if self.board.screen is not None:
            self.board.screen.stall(stalls=stalls)

    def stop(self) -> None:
        """Stop the daemon in order, as for another release of it."""
        if self.board.life is not None:
            self.board.life.stop.set()

    def cut(self, *, at_point: bool) -> None:
        """Take the power soon; from now on the disk tells written from synced."""
        self.board.expect_cut(expected=True)
        soon = self.chance.uniform(0, 10)
        asyncio.get_running_loop().call_later(soon, partial(self.board.end, "cut", at_point=at_point))

    def expect_cut(self, *, expected: bool) -> None:
        """Take note that the power may be cut from now on, or not any more."""
        self.board.expect_cut(expected=expected)

    def _heard(self, method: str, params: dict[str, Any]) -> None:
        if self._visitor is not None:
            self._visitor.hands.hear(method, params)

    async def _go_wrong(self) -> None:
        """Let faults happen, each for its time."""
        loop = asyncio.get_running_loop()
        ends: list[asyncio.Task[None]] = []
        for at, kind, seconds in schedule(self.plan.density, self.plan.hours * 3600, self.chance):
            await asyncio.sleep(at - loop.time())
            ends = [task for task in ends if not task.done()]
            if any(task.get_name() == kind.name for task in ends) or not self.board.lives:
                continue
            ends.append(asyncio.create_task(self._suffer(kind, seconds), name=kind.name))
        if ends:
            await asyncio.wait(ends)

    async def _suffer(self, kind: Kind, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        window = Window(kind, loop.time())
        self.judge.windows.append(window)
        self.trace.tell(f"fault {kind.name} for {seconds:.0f} s")
        kind.begin(self)
        await asyncio.sleep(seconds)
        kind.end(self)
        window.until = loop.time()
        self.trace.tell(f"fault {kind.name} is over")

    async def _come(self) -> None:
        """Let citizens come until the time is over; then mend everything, and one more for everything."""
        loop = asyncio.get_running_loop()
        chance = random.Random(f"citizens {self.plan.seed}")
        latest = self.plan.hours * 3600
        visits: list[Visit] = []
        while True:
            await asyncio.sleep(chance.expovariate(1 / ARRIVAL_SECONDS[self.plan.density]))
            if loop.time() >= latest:
                break
            visits = visits or chance.sample(VISITS, len(VISITS))
            await self._serve(visits.pop(), chance, patient=chance.random() < 0.3)
        await self._mend()
        for visit in VISITS:
            await self._serve(visit, chance, patient=True, is_well=True)
        await self._rest()
        self.judge.availability.end(loop.time())
        reckoning.reckon(self)
        await self.board.stop()

    async def _serve(self, visit: Visit, chance: random.Random, *, patient: bool, is_well: bool = False) -> None:
        loop = asyncio.get_running_loop()
        person = self.people.next()
        luck = random.Random(f"{self.plan.seed} {person.ordinal}")
        since = loop.time()
        self.trace.tell(f"{person.name} comes for {visit}{'' if patient else ', restless'}")
        self._visitor = Visitor(self, person, visit, luck, patient=patient)
        how = "served"
        try:
            await self._visitor.come()
        except NotServed as not_served:
            how = not_served.code
        except TimeoutError:
            how = "no answer"
            self.judge.fail(f"{person.name} was not answered")
        self._visitor.hands.go()
        self.judge.visit_ended(
            person, how, visit=visit, since=since, now=loop.time(), is_demanding=patient, is_well=is_well
        )
        await asyncio.sleep(SCREEN_SECONDS)
        self.board.turn_on_screen()
        await asyncio.sleep(chance.uniform(1, 20))
        self._visitor.hands.take_everything()
        if (life := self.board.life) is not None:
            self.judge.session_over(life.disk, self.around.store.database)
            self.judge.at_rest([task.get_name() for task in life.process.tasks.values()])
        if not self._is_spoiled:
            self._is_spoiled = spoil_platform(self.plan.sabotage, self.around.store.database)

    async def _mend(self) -> None:
        """Wait until every fault is over, have everything tried again, and wait until the terminal is well."""
        loop = asyncio.get_running_loop()
        await until(lambda: all(window.until <= loop.time() for window in self.judge.windows))
        self.board.lives[-1].fuse = None
        self.around.clock_off_seconds = 0.0
        self.trace.tell("every fault is over")
        latest = loop.time() + LONGEST_MENDING_SECONDS
        while loop.time() < latest and (unwell := self.judge.availability.unwell()):
            for device in unwell:
                if self.board.staff is not None and device in self.around.ports:
                    with suppress(ConnectionError, CallRefused):
                        await self.board.staff.call("devices.retry", device=device)
            await asyncio.sleep(10.0)
        for component in self.judge.availability.unwell():
            self.judge.fail(f"{component} is not well, and nothing is wrong")

    async def _rest(self) -> None:
        """Wait until nothing is open and everything is delivered."""
        for _ in range(int(REST_SECONDS)):
            await asyncio.sleep(1.0)
            if self.board.life is not None and not reckoning.left(self.board.life.disk):
                return

    async def _maintain(self) -> None:
        """Let an operator look after the terminal now and then."""
        chance = random.Random(f"staff {self.plan.seed}")
        while True:
            await asyncio.sleep(chance.expovariate(1 / (5 * ARRIVAL_SECONDS[self.plan.density])))
            if (staff := self.board.staff) is None:
                continue
            with suppress(ConnectionError, CallRefused):
                listed = (await staff.call("tickets.list"))["tickets"]
                open_ones = [one["ticket"] for one in listed if one["closed_at"] is None]
                if open_ones and chance.random() < 0.5:
                    step = chance.choice(("answer", "on_site", "part"))
                    await staff.call("tickets.answer", ticket=open_ones[-1], step=step)
                if chance.random() < 0.3:
                    await staff.call("devices.retry", device=chance.choice(DEVICES))
                await staff.call("alarms.list")
