"""Runs a service once and, at each of its points, lets a copy of everything go on without the daemon.

The copy is a fork of this process: the same platform, the same paper, the same messages on their way, and a daemon of
which nothing runs any more, since the copy leaves its event loop for ever and begins another one.
"""

import asyncio
import gc
import os
import signal
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import msgspec

from sim.crash.afterlife import is_open, settle
from sim.crash.life import WatchedWorld
from sim.crash.points import Point, Points
from sim.crash.sabotage import Sabotage
from sim.crash.service import Service
from sim.virtual_time import VirtualTimeLoop
from sim.world import Keys, Outside

LONGEST_COPY_SECONDS = 300
"""Real seconds that a copy may take; they take about one, with all that a recovery can be stopped at a minute."""
REST_SECONDS = 5.0
OUTCOMES = "outcomes.json"


class Outcome(msgspec.Struct, frozen=True):
    """What became of a world without its daemon, restarted on a view of the journal: `written` or `synced`.

    `late` is as `written`, but what was on its way to the platform arrives when all is settled.

    `again` is where the restarted daemon stopped once more before it had settled, if it did.
    """

    point: Point
    view: str
    seconds: float
    failures: list[str]
    again: Point | None = None


def survey(service: Service, font: Path) -> list[Point]:
    """Return the points of a run in which nothing happens to the daemon; raise RunFailed."""
    found: list[Point] = []

    def on_point(world: WatchedWorld, point: Point) -> None:
        found.append(msgspec.structs.replace(point, is_open=is_open(world.watched.written)))

    _run(service, font, on_point, skips_fsync=False)
    return found


def explore(
    service: Service,
    font: Path,
    chosen: Iterable[Point],
    directory: Path,
    *,
    again: Iterable[Point] = (),
    sabotage: Sabotage | None = None,
    workers: int = 1,
) -> list[Outcome]:
    """Stop the daemon at each of the chosen points of a run and return what became of the rest.

    After a stop at those in `again` it stops once more, at each point of its recovery. What failed leaves its journal
    and the platform's database in `directory`.
    """
    once, twice = ({point.number for point in points} for points in (chosen, again))
    crew = _Crew(workers, directory)

    def on_point(world: WatchedWorld, point: Point) -> None:
        if point.number in once | twice:
            _stop(crew, service, world, point, sabotage=sabotage, is_again=point.number in twice)

    _run(service, font, on_point, skips_fsync=sabotage is Sabotage.SKIP_FSYNC)
    return crew.outcomes()


def _stop(
    crew: "_Crew", service: Service, world: WatchedWorld, point: Point, *, sabotage: Sabotage | None, is_again: bool
) -> None:
    """Stop the daemon here in copies of everything, one for each view of the journal."""
    journal = world.watched
    views = [("written", journal.written)]
    if journal.synced != journal.written:
        views.append(("synced", journal.synced))
    if world.on_way:
        views.append(("late", journal.written))
    for view, content in views:
        nested = _Crew(1, crew.place(point, view))
        seen: set[int] = set()

        def on_point(life: WatchedWorld, stopped: Point, nested: _Crew = nested, seen: set[int] = seen) -> None:
            if is_again and stopped.world not in seen:
                seen.add(stopped.world)
                _stop(nested, service, life, stopped, sabotage=None, is_again=False)

        afterlife = partial(
            settle,
            service,
            world,
            content,
            nested.directory,
            is_late=view == "late",
            sabotage=sabotage,
            on_point=on_point,
        )
        crew.send(partial(_go_on, asyncio.get_running_loop(), afterlife), point, view, nested)


def _run(service: Service, font: Path, on_point: Callable[[WatchedWorld, Point], None], *, skips_fsync: bool) -> None:
    """Run a service's citizen once, from a terminal at rest to a terminal at rest."""

    async def main(directory: Path) -> None:
        points = Points(lambda point: on_point(world, point))
        world = WatchedWorld(directory, Outside(Keys(), font), points, skips_fsync=skips_fsync)
        platform = asyncio.create_task(world.serve_platform(), name="platform")
        daemon = asyncio.create_task(world.daemon(), name="daemon")
        first = world.caller()
        await world.settled(first)
        first.hang_up()
        await asyncio.sleep(REST_SECONDS)
        world.watched.checkpoint()
        points.arm()
        await service.serve(world, world.citizen())
        await asyncio.sleep(REST_SECONDS)
        points.disarm()
        world.stop.set()
        async with asyncio.timeout(60):
            await daemon
        platform.cancel()
        await asyncio.gather(platform, return_exceptions=True)

    with TemporaryDirectory(prefix="govterm-crash-") as directory, _runner(0.0) as runner:
        runner.run(main(Path(directory)))


def _go_on(loop: asyncio.AbstractEventLoop, afterlife: Callable[[], Coroutine[Any, Any, list[str]]]) -> list[str]:
    """Leave the loop in which the daemon was, for ever, and go on in another; return what does not hold."""
    buried = asyncio.all_tasks(loop)  # held, or what they hold would be cleaned up
    gc.disable()
    asyncio._set_running_loop(loop)  # noqa: SLF001 - a fork loses it, and leaving a task takes it
    if (task := asyncio.current_task(loop)) is not None:
        asyncio._leave_task(loop, task)  # noqa: SLF001 - the documented way out of a task
    asyncio._set_running_loop(None)  # noqa: SLF001 - the documented way out of a loop
    with _runner(loop.time()) as runner:
        failures = runner.run(afterlife())
    del buried
    return failures


def _runner(began_at: float) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(began_at))


class _Crew:
    """Copies of this process, so many at a time; what each found is in a directory of its own."""

    def __init__(self, workers: int, directory: Path) -> None:
        self.directory = directory
        self._workers = workers
        self._living: set[int] = set()
        self._sent: list[tuple[Point, str]] = []

    def place(self, point: Point, view: str) -> Path:
        """Return the directory of what is found at a point."""
        return self.directory / f"{point.number}-{view}"

    def send(self, work: Callable[[], list[str]], point: Point, view: str, nested: "_Crew") -> None:
        """Let a copy of this process do `work` as soon as there is room for one; it may send the `nested` ones."""
        while len(self._living) >= self._workers:
            self._reap()
        self.place(point, view).mkdir()
        child = os.fork()
        if child == 0:
            _work(work, point, view, nested)
        self._living.add(child)
        self._sent.append((point, view))

    def outcomes(self) -> list[Outcome]:
        """Wait for every copy to end and return what they found."""
        while self._living:
            self._reap()
        return [outcome for point, view in self._sent for outcome in self._read(point, view)]

    def _reap(self) -> None:
        child, _ = os.waitpid(-1, 0)
        self._living.discard(child)

    def _read(self, point: Point, view: str) -> list[Outcome]:
        file = self.place(point, view) / OUTCOMES
        if not file.exists():
            return [Outcome(point, view, 0.0, ["the copy ended without a word"])]
        return msgspec.json.decode(file.read_bytes(), type=list[Outcome])


def _work(work: Callable[[], list[str]], point: Point, view: str, nested: _Crew) -> NoReturn:
    signal.alarm(LONGEST_COPY_SECONDS)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    try:
        failures = work()
        outcomes = [msgspec.structs.replace(one, point=point, view=view, again=one.point) for one in nested.outcomes()]
    except BaseException:  # noqa: BLE001 - nothing of the copy may run on, not even its way out
        failures = [traceback.format_exc()]
    outcomes.insert(0, Outcome(point, view, round(time.monotonic() - began, 3), failures))
    (nested.directory / OUTCOMES).write_bytes(msgspec.json.encode(outcomes))
    os._exit(0)
