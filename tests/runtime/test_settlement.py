"""Open intents are settled, each by itself and none that somebody has in hand (rule 2)."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest

from runtime.journal import Intent, Journal
from runtime.messages import MessageError
from runtime.services.office import Office
from runtime.services.settlement import AGAIN_SECONDS, SettlementDesk
from runtime.services.steps import Origin, Refused, Transaction, event
from sim.memory import SlowExecutor
from sim.virtual_time import run
from tests.runtime.house import Noted
from transport.errors import TransportError

ORIGIN = Origin("boot", rig=True, wall_clock=lambda: 0.0)
TROUBLE = (
    Refused("platform.busy", "busy", retry=True),
    MessageError("message.unexpected", "what is that"),
    TransportError("platform.no_answer", "silence", advice="again", retry=True),
)


class Platform:
    """Acted on nothing."""

    async def settle(self, _key, *, deadline_seconds):
        return "void"


class Desk:
    """The settlement desk of an office, whose journal takes 20 ms for everything; knows what was settled when."""

    def __init__(self, connection) -> None:
        self.journal = Journal(SlowExecutor(connection, 0.02), lambda: 0.0)
        self.office = Office(Platform(), self.journal, Noted(), ORIGIN, 5.0)
        self.settled: list[str] = []
        self.trouble: dict[str, Exception] = {}
        self.desk = SettlementDesk(self.office, {"file": self.settle, "charge": self.settle})

    async def settle(self, intent: Intent, outcome: str) -> None:
        assert outcome == "void"
        if intent.name in self.trouble:
            raise self.trouble[intent.name]
        assert intent.key not in self.office.live
        self.settled.append(intent.name)
        told = event(ORIGIN, intent.transaction, intent.kind, outcome="refused", code="x.void", seconds=0.0)
        await self.journal.close_intent(intent, "refused", "x.void", told)

    async def effect(self, name: str, *, seconds: float = 0.05, is_known: bool = True) -> None:
        transaction = Transaction(self.journal, ORIGIN, "test")
        async with self.office.effect(transaction, "charge", name) as effect:
            await asyncio.sleep(seconds)
            assert name not in self.settled
            if is_known:
                effect.done()

    async def write(self, times: int) -> None:
        """What others write meanwhile."""
        for number in range(times):
            told = event(ORIGIN, "other", f"step{number}", outcome="done", code=None, seconds=0.0)
            await self.journal.append(told)

    def states(self) -> dict[str, str]:
        return dict(self.journal._executor._connection.execute("SELECT name, state FROM intents").fetchall())


@asynccontextmanager
async def settling():
    with closing(sqlite3.connect(":memory:")) as connection:
        desk = Desk(connection)
        await desk.journal.open()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(desk.desk.run(lambda: None))
            yield desk
            running.cancel()


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda error: error.code)
def test_the_platforms_trouble_with_one_holds_up_no_other_and_it_is_tried_again(trouble):
    """T10: money is settled although a filing cannot be looked up."""

    async def main() -> None:
        async with settling() as desk:
            desk.trouble["A-1"] = trouble
            await desk.journal.open_intent("file", "A-1", "a" * 16)
            await desk.journal.open_intent("charge", "P-1", "b" * 16)
            desk.desk.look()
            await asyncio.sleep(1)
            assert desk.states() == {"A-1": "open", "P-1": "refused"}
            del desk.trouble["A-1"]
            await asyncio.sleep(AGAIN_SECONDS)
            assert desk.settled == ["P-1", "A-1"]

    run(main())


def test_what_is_in_hand_is_left_alone_however_often_and_when_somebody_looks():
    """T8, T10: nobody voids a call that is about to be made."""

    async def main() -> None:
        async with settling() as desk:

            async def look() -> None:
                for _ in range(400):
                    desk.desk.look()
                    await asyncio.sleep(0.01)

            async with asyncio.TaskGroup() as group:
                group.create_task(look())
                for _ in range(3):
                    group.create_task(desk.write(60))
                for number in range(20):
                    await desk.effect(f"P-{number}")
            assert set(desk.states().values()) == {"done"}
            assert desk.settled == []

    run(main())


@pytest.mark.parametrize("offset", [0.0, 0.01, 0.03, 0.05, 0.07])
def test_what_ended_unknown_is_settled_at_once_whatever_is_written_meanwhile(offset):
    """T8: nothing that nobody waits for stays open."""

    async def main() -> None:
        async with settling() as desk:
            work = asyncio.create_task(desk.effect("P-1", seconds=0.1 + offset, is_known=False))
            await desk.write(20)
            await work
            await asyncio.sleep(1)
            assert desk.states() == {"P-1": "refused"}

    run(main())


@pytest.mark.parametrize("after", [0.0, 0.01, 0.02, 0.03])
def test_an_effect_that_is_cut_short_as_it_begins_leaves_nothing_open(after):
    async def main() -> None:
        async with settling() as desk:
            other = asyncio.create_task(desk.write(3))
            work = asyncio.create_task(desk.effect("P-1"))
            await asyncio.sleep(after)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await other
            await asyncio.sleep(1)
            assert set(desk.states().values()) <= {"refused"}
            assert desk.office.live == set()

    run(main())
