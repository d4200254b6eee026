"""Filing over a bad line: told only what is sure, filed at most once, settled by itself (T8, T13, rule 2)."""

import asyncio
import sqlite3
from typing import Self

import pytest

from runtime.messages import CATALOGUE
from runtime.messages.applications import ReceiptVoid
from runtime.session import SessionError
from sim.virtual_time import run
from tests.runtime.matters_rig import (
    EXAMINED,
    NEXT_CITIZEN,
    PDF,
    PLAIN,
    Terminal,
    World,
    has_catalogue,
    living,
    receipt_of,
    served,
    tell,
)

SCANS = PDF + bytes(400_000)
"""Long enough for several parts."""


def voids(world: World) -> int:
    statement = "SELECT count(*) FROM records WHERE schema = 'receipt.void'"
    return world.store.database.execute(statement).fetchone()[0]


def test_large_scans_go_in_parts_with_progress():
    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete(pdf=SCANS)
        told: list[tuple[int, int]] = []
        filed = await terminal.applications.file(session, lambda sent, total: told.append((sent, total)))
        assert filed.outcome == "done"
        assert len(told) > 5
        assert told == sorted(told)
        assert told[-1][0] == told[-1][1] > 2 * len(SCANS)
        rows = world.store.database.execute("SELECT bytes FROM filed_scans").fetchall()
        assert rows == [(len(SCANS),), (len(SCANS),)]

    tell(story)


def test_a_line_lost_in_the_middle_of_the_parts_is_gone_on_with():
    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete(pdf=SCANS)
        receipt = receipt_of(session)
        cut: list[int] = []

        def on_progress(sent: int, total: int) -> None:
            if sent > total // 2 and not cut:
                cut.append(sent)
                world.uplink.drop()

        filed = await terminal.applications.file(session, on_progress)
        assert cut
        assert (filed.outcome, world.filings()) == ("done", [receipt])

    tell(story)


def test_a_line_that_stays_down_in_the_middle_of_the_parts_files_nothing():
    """Rule 2: unsure at first; settled as not filed once the line is back, and the number says so."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete(pdf=SCANS)
        receipt = receipt_of(session)
        began = asyncio.get_running_loop().time()
        filed = await terminal.applications.file(session, lambda sent, total: world.uplink.stop())
        assert (filed.outcome, filed.code, filed.retry) == ("refused", "application.unsure", True)
        assert asyncio.get_running_loop().time() - began <= 7.0
        assert (await terminal.progress.by_receipt(receipt, "x")).code == "line.down"
        session.close()
        world.uplink.start()
        await terminal.settled()
        assert (world.filings(), voids(world)) == ([], 1)
        assert await terminal.asked(receipt) == ("not_filed", None)
        assert terminal.rows("SELECT state, code FROM intents") == [("refused", "application.not_filed")]

    tell(story)


def test_a_line_that_is_down_from_the_start_files_nothing_for_sure():
    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete()
        receipt = receipt_of(session)
        world.uplink.stop()
        await terminal.until(lambda: terminal.board.get("platform").state == "offline")
        filed = await terminal.file(session)
        assert (filed.outcome, filed.code, filed.retry) == ("refused", "line.down", True)
        assert terminal.rows("SELECT state, code FROM intents") == [("refused", "line.down")]
        world.uplink.start()
        assert (await terminal.file(session)).outcome == "done"
        assert world.filings() == [receipt]

    tell(story)


def test_a_platform_that_acts_and_does_not_answer_is_asked_again():
    """The second call finds out that it was filed, and files nothing again."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete()
        receipt = receipt_of(session)
        world.platform.faults.silent()
        filed = await terminal.file(session)
        assert (filed.outcome, filed.code) == ("refused", "application.unsure")
        assert session.application is not None
        world.platform.faults.mend()
        again = await terminal.file(session)
        assert (again.outcome, again.state, again.said) == ("done", "accepted", "您的申请已受理。")
        assert (world.filings(), session.application) == ([receipt], None)
        await terminal.settled()
        assert terminal.rows("SELECT state FROM intents") == [("done",)]
        assert voids(world) == 0

    tell(story)


def test_what_never_arrived_is_filed_again_under_the_same_number():
    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete()
        receipt = receipt_of(session)
        world.platform.faults.outage()
        assert (await terminal.file(session)).code == "application.unsure"
        assert (await terminal.file(session)).code == "application.unsure", "still nobody to ask"
        world.platform.faults.mend()
        await terminal.until(lambda: terminal.board.get("platform").state == "online")
        again = await terminal.file(session)
        assert (again.outcome, world.filings()) == ("done", [receipt])
        await terminal.settled()
        assert await terminal.asked(receipt) == ("accepted", None)
        assert terminal.rows("SELECT count(*) FROM intents WHERE state = 'done'") == [(1,)]
        assert voids(world) == 0, "the number is of use"

    tell(story)


def test_a_late_answer_is_shown_to_nobody():
    """T13, T20: it comes while the next citizen is served, who hears nothing of it; the intent is settled as done."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete(EXAMINED)
        receipt = receipt_of(session)
        world.platform.faults.slow(9.0)
        filed = await terminal.file(session)
        assert (filed.outcome, filed.code) == ("refused", "application.unsure")
        assert filed.seconds <= 5.5
        session.close()
        world.platform.faults.mend()
        await asyncio.sleep(20)
        following = await terminal.citizen(NEXT_CITIZEN)
        begun = await terminal.applications.begin(following, PLAIN)
        assert begun.receipt != receipt
        assert (await terminal.progress.mine(following)).receipts == []
        await terminal.settled()
        assert terminal.rows("SELECT state FROM intents") == [("done",)]
        assert await terminal.asked(receipt) == ("pending", None)
        assert following.application is not None

    tell(story)


def test_a_double_answer_files_once():
    async def story(world: World, terminal: Terminal) -> None:
        world.platform.faults.double_answer()
        session = await terminal.complete()
        assert (await terminal.file(session)).outcome == "done"
        await asyncio.sleep(5)
        assert len(world.filings()) == 1

    tell(story)


def test_an_answer_about_another_receipt_proves_nothing():
    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete()
        receipt = receipt_of(session)
        world.platform.faults.wrong_receipt()
        filed = await terminal.file(session)
        assert (filed.outcome, filed.code, filed.receipt) == ("refused", "application.unsure", None)
        await terminal.settled()
        assert await terminal.asked(receipt) == ("accepted", None)

    tell(story)


def test_a_session_that_ends_while_it_is_filed_is_settled():
    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete()
        receipt = receipt_of(session)
        world.platform.faults.silent()
        filing = asyncio.create_task(terminal.file(session))
        await terminal.until(world.filings)
        session.request_end("client_lost")
        await session.cancel_operations()
        with pytest.raises(SessionError, match="has ended"):
            await filing
        session.close()
        world.platform.faults.mend()
        await terminal.settled()
        assert terminal.rows("SELECT state FROM intents") == [("done",)]
        assert await terminal.asked(receipt) == ("accepted", None)

    tell(story)


def test_a_platform_that_refused_unheard_is_settled_as_refused():
    """The call was answered, by a refusal: nothing was filed, and the intent says why."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete("parking_permit")
        receipt = receipt_of(session)
        world.matters.publish()
        world.platform.faults.silent()
        assert (await terminal.file(session)).code == "application.unsure"
        world.platform.faults.mend()
        assert (await terminal.file(session)).code == "matter.withdrawn"
        await terminal.settled()
        assert terminal.rows("SELECT state, code FROM intents") == [("refused", "matter.withdrawn")]
        assert await terminal.asked(receipt) == ("refused", None)

    tell(story)


class Doomed:
    """Journal and line of a terminal that dies at the n-th thing it does: before it, or just after it.

    Dead, it neither writes nor says anything more; `left` is the journal as it stood then.
    """

    def __init__(self, world: World, database: sqlite3.Connection) -> None:
        self._world, self._database = world, database
        self.count = 0
        self.point = 0
        self.left: sqlite3.Connection | None = None
        self.is_armed = False
        self.dead = asyncio.Event()

    async def pass_point(self) -> None:
        """Count a point; at the chosen one die, and never return from then on."""
        if self.left is None and self.is_armed:
            self.count += 1
            if self.count == self.point:
                self.left = sqlite3.connect(":memory:")
                self._database.backup(self.left)
                self.dead.set()
        if self.left is not None:
            await asyncio.Event().wait()

    async def run(self, work):
        await self.pass_point()
        answer = work(self._database)
        await self.pass_point()
        return answer

    async def close(self) -> None:
        pass

    def connect(self, subscriptions, will=None):
        return _DoomedConnection(self, self._world.uplink.connect(subscriptions, will))


class _DoomedConnection:
    def __init__(self, doomed: Doomed, connecting) -> None:
        self._doomed, self._connecting = doomed, connecting
        self.valid = None

    async def __aenter__(self) -> Self:
        self._inner = await self._connecting.__aenter__()
        return self

    async def __aexit__(self, *error) -> None:
        await self._connecting.__aexit__(*error)

    async def publish(self, message, *, retain=False) -> None:
        await self._doomed.pass_point()
        await self._inner.publish(message, retain=retain)
        await self._doomed.pass_point()

    async def receive(self):
        message = await self._inner.receive()
        await self._doomed.pass_point()
        return message


async def _life(world: World, database: sqlite3.Connection, doomed: Doomed, point: int) -> tuple[str, str | None]:
    """Serve a citizen until the terminal dies at `point`; return the receipt and what the citizen was told."""
    doomed.point = point
    async with living(Terminal(world, database, uplink=doomed, executor=doomed)) as terminal:
        await terminal.until(lambda: has_catalogue(terminal))
        session = await terminal.complete(pdf=PDF + bytes(100_000))
        receipt = receipt_of(session)
        await asyncio.sleep(1)
        doomed.is_armed = True
        filing = asyncio.create_task(terminal.file(session))
        told: str | None = None
        death = asyncio.create_task(doomed.dead.wait())
        await asyncio.wait({filing, death}, return_when=asyncio.FIRST_COMPLETED)
        if filing.done():
            told = filing.result().outcome
            await asyncio.sleep(2)
        for task in (filing, death):
            task.cancel()
        await asyncio.gather(filing, death, return_exceptions=True)
    return receipt, told


async def _crash_at(point: int) -> tuple[int, str]:
    """Crash at a point, start again on the journal as it stood; return how many points there were, and the end."""
    async with served() as world:
        database = sqlite3.connect(":memory:")
        doomed = Doomed(world, database)
        receipt, told = await _life(world, database, doomed, point)
        left = doomed.left or database
        async with living(Terminal(world, left)) as terminal:
            await terminal.until(lambda: has_catalogue(terminal))
            await terminal.settled()
            state, code = await terminal.asked(receipt)
            filings = world.filings()
            assert filings in ([], [receipt]), "never filed twice"
            if told in ("done", "pending"):
                assert filings == [receipt], "never lost"
            if filings:
                assert (state, code) == ("accepted", None)
            else:
                assert (state, code) in (("not_filed", None), (None, "receipt.not_filed"), (None, "receipt.unknown"))
            intents = terminal.rows("SELECT state FROM intents")
            assert intents in ([], [("done",)] if filings else [("refused",)])
        end = f"{'filed' if filings else 'not filed'}, told {told}"
        for one in {database, left}:
            one.close()
    return doomed.count, end


def test_a_crash_at_every_journal_write_and_message():
    """Rule 2: at each point of a filing, before and after: never twice, never lost, and the number tells the truth."""
    points, _ = run(_crash_at(0))
    assert points > 40
    ends = [run(_crash_at(point))[1] for point in range(1, points + 1)]
    assert {"not filed, told None", "filed, told None", "filed, told done"} == set(ends)
    print(f"{points} crash points: " + ", ".join(f"{ends.count(end)} {end}" for end in sorted(set(ends))))


def test_a_void_record_is_no_personal_message():
    entry = CATALOGUE[ReceiptVoid]
    assert (entry.personal, entry.stream) == (False, "supervision")
