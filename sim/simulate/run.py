"""One seed's run in a process of its own, and many of them."""

import asyncio
import gc
import os
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import structlog

from sim.simulate.faults import Density
from sim.simulate.hall import Hall, Plan
from sim.simulate.loop import MortalLoop
from sim.simulate.outside import typeset_plainly
from sim.simulate.papers import print_plainly
from sim.simulate.sabotage import spoil_daemon
from sim.world import Keys

WORTH_WARMING = 4
WARMING_HOURS = 0.01
"""Too short for any fault: seven citizens, one for everything."""
OUTCOME = "outcome.json"
TRACE = "trace.txt"


class Outcome(msgspec.Struct, frozen=True):
    """What a seed's run came to. `seconds` are real ones of a processor, `lived` virtual ones."""

    seed: int
    digest: str
    events: int
    citizens: int
    tried: int
    served: int
    judged: dict[str, int]
    faults: dict[str, int]
    lives: int
    availability: dict[str, float]
    lived: float
    seconds: float
    violations: list[str]


def simulate(plans: Iterable[Plan], keys: Keys, directory: Path, *, workers: int) -> Iterator[Outcome]:
    """Run each plan in a process of its own, so many at a time, and yield what came of it, in the order of the plans.

    Each leaves its trace in a directory of its own in `directory`, with journal, audit log and platform database.
    """
    plans = list(plans)
    reading, writing = os.pipe()
    nurseries = [_fork(partial(_nurse, plans[first::workers], keys, directory, writing)) for first in range(workers)]
    os.close(writing)
    done: set[int] = set()
    order = deque(plans)
    try:
        with os.fdopen(reading) as lines:
            for line in lines:
                done.add(int(line))
                while order and order[0].seed in done:
                    yield _read(order.popleft(), directory)
    finally:
        for nursery in nurseries:
            os.kill(nursery, signal.SIGTERM)
            os.waitpid(nursery, 0)


def place(directory: Path, seed: int) -> Path:
    """Return the directory of what a seed leaves."""
    return directory / f"seed-{seed}"


def _read(plan: Plan, directory: Path) -> Outcome:
    file = place(directory, plan.seed) / OUTCOME
    if file.exists():
        return msgspec.json.decode(file.read_bytes(), type=Outcome)
    return _failed(plan, "the run ended without a word")


def _failed(plan: Plan, why: str) -> Outcome:
    return Outcome(plan.seed, "", 0, 0, 0, 0, {}, {}, 0, {}, 0.0, 0.0, [why])


def _fork(work: Callable[[], None]) -> int:
    """Do some work in a copy of this process, which then ends without cleaning anything up."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            work()
        finally:
            os._exit(0)
    return child


def _nurse(plans: Sequence[Plan], keys: Keys, directory: Path, writing: int) -> None:
    """Run plans one after the other in copies of this process, which has loaded before what every one of them needs."""
    if len(plans) >= WORTH_WARMING:
        with TemporaryDirectory(dir=directory) as warm:
            live(Plan(0, WARMING_HOURS, Density.LIGHT), keys, Path(warm))
    gc.collect()
    gc.freeze()
    for plan in plans:
        place(directory, plan.seed).mkdir()
        os.waitpid(_fork(partial(_work, plan, keys, place(directory, plan.seed))), 0)
        os.write(writing, b"%d\n" % plan.seed)


def _work(plan: Plan, keys: Keys, directory: Path) -> None:
    """Run a plan in a process that then leaves: what a dead daemon held would else be cleaned up in its name."""
    gc.set_threshold(20_000, 20, 50)
    try:
        outcome = live(plan, keys, directory)
    except BaseException:  # noqa: BLE001 - whatever it was, it is told
        outcome = _failed(plan, traceback.format_exc())
    (directory / OUTCOME).write_bytes(msgspec.json.encode(outcome))


def live(plan: Plan, keys: Keys, directory: Path) -> Outcome:
    """Run a plan in this process, which is good for nothing else afterwards."""
    began = time.process_time()
    typeset_plainly()
    print_plainly()
    spoil_daemon(plan.sabotage)
    loop = MortalLoop()
    asyncio.set_event_loop(loop)

    async def main() -> Hall:
        hall = Hall(plan, keys, directory)
        structlog.configure(
            processors=[hall.judge.logged],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            cache_logger_on_first_use=False,
        )
        loop.set_exception_handler(lambda _, context: hall.judge.fail(f"the loop is told: {_said(context)}"))
        try:
            await hall.run()
        finally:
            _leave(hall, directory)
        return hall

    hall = loop.run_until_complete(main())
    judge = hall.judge
    return Outcome(
        seed=plan.seed,
        digest=hall.trace.digest,
        events=len(hall.trace.lines),
        citizens=len(hall.people.came),
        tried=judge.tried,
        served=judge.served,
        judged=judge.counts(),
        faults=dict(sorted(Counter(window.kind.name for window in judge.windows).items())),
        lives=len(hall.board.lives),
        availability={cause: round(seconds, 3) for cause, seconds in sorted(judge.availability.seconds.items())},
        lived=loop.time(),
        seconds=round(time.process_time() - began, 3),
        violations=judge.violations,
    )


def _said(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


def _leave(hall: Hall, directory: Path) -> None:
    """Leave what somebody else can count."""
    hall.trace.write(directory / TRACE)
    hall.around.store.commit()
    (directory / "platform.db").write_bytes(hall.around.store.database.serialize())
    if hall.board.lives:
        (directory / "journal.db").write_bytes(hall.board.lives[-1].disk.serialize())
    (directory / "told.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(hall.judge.ledger))
