"""The book of faults: clocks, restarts, reboots, lateness, and what is kept (T15, T12)."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable

import pytest

from runtime import tickets
from runtime.journal import Journal
from runtime.messages import SupervisionEvent, from_payload
from runtime.services.steps import Origin
from runtime.tickets import GRACE_SECONDS, LIMITS, Ticket, TicketError, Tickets
from sim.memory import InlineExecutor
from sim.virtual_time import run

EPOCH = 1_800_000_000.0


class Desk:
    """A book over a journal that outlives it."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:")
        self.boot_id = "boot-1"
        self.wall_offset = EPOCH
        self.counts: list[tuple[int, int]] = []
        self.devices = {"idcard", "printer"}

    def wall(self) -> float:
        return self.wall_offset + asyncio.get_running_loop().time()

    async def work(self, story: Callable[[Tickets], Awaitable[None]]) -> None:
        """Live one life of the daemon with the book."""
        journal = Journal(InlineExecutor(self.database), self.wall)
        await journal.open()
        self.journal = journal
        origin = Origin(self.boot_id, rig=False, wall_clock=self.wall)
        book = Tickets(journal, origin, self.devices, lambda *count: self.counts.append(count))
        ready = asyncio.Event()
        task = asyncio.create_task(book.run(ready.set))
        try:
            await ready.wait()
            await story(book)
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def events(self) -> list[SupervisionEvent]:
        records = await self.journal.unacknowledged(self.journal.streams["supervision"], 0, 99)
        return [from_payload(record.payload, SupervisionEvent) for record in records]


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.database.close()


async def only(book: Tickets) -> Ticket:
    (ticket,) = (await book.book()).tickets
    return ticket


async def broken(book: Tickets, *, seconds: float = GRACE_SECONDS + 1) -> Ticket:
    book.heard("idcard", "idcard.offline")
    await asyncio.sleep(seconds)
    return await only(book)


@pytest.mark.parametrize(("seconds", "opened"), [(GRACE_SECONDS - 1, 0), (GRACE_SECONDS + 1, 1)])
def test_only_what_lasts_opens_a_ticket(desk, seconds, opened):
    async def story(book: Tickets) -> None:
        book.heard("idcard", "idcard.offline")
        await asyncio.sleep(seconds)
        book.heard("idcard", None)
        await asyncio.sleep(GRACE_SECONDS * 2)
        assert len((await book.book()).tickets) == opened

    run(desk.work(story))


def test_the_clocks_are_those_of_the_agreement(desk):
    """T15: 30 min, 4 h, 48 h."""
    assert LIMITS == {"answer": 30 * 60, "on_site": 4 * 3600, "part": 48 * 3600}

    async def story(book: Tickets) -> None:
        await broken(book)
        book.heard("idcard", "idcard.no_answer")
        for late, limit in enumerate(LIMITS.values(), start=1):
            await asyncio.sleep(limit - (await only(book)).clocks["part"].seconds - 1)
            assert sum(clock.late for clock in (await only(book)).clocks.values()) == late - 1
            await asyncio.sleep(2)
            assert sum(clock.late for clock in (await only(book)).clocks.values()) == late
        assert desk.counts[-1] == (1, 1)
        book.heard("idcard", None)
        await asyncio.sleep(1)
        assert [event.step for event in await desk.events()] == [
            "ticket.opened",
            "ticket.answer_late",
            "ticket.on_site_late",
            "ticket.part_late",
            "ticket.closed",
        ]
        assert {(event.device, event.code) for event in await desk.events()} == {("idcard", "idcard.offline")}
        assert (await book.book()).late_answers == 1
        assert desk.counts[-1] == (0, 0)

    run(desk.work(story))


def test_a_stopped_clock_stays_and_is_never_late(desk):
    async def story(book: Tickets) -> None:
        ticket = await broken(book)
        await book.answer(ticket.ticket, "answer")
        await asyncio.sleep(3600)
        again = await book.answer(ticket.ticket, "answer")
        clock = again.clocks["answer"]
        assert (clock.seconds, clock.running, clock.late) == (pytest.approx(61, abs=0.1), False, False)
        assert again.clocks["on_site"].running
        assert [event.step for event in await desk.events()] == ["ticket.opened", "ticket.answer"]

    run(desk.work(story))


def test_an_answer_that_comes_late_is_counted_once(desk):
    async def story(book: Tickets) -> None:
        ticket = await broken(book)
        await asyncio.sleep(LIMITS["answer"])
        answered = await book.answer(ticket.ticket, "answer")
        assert answered.clocks["answer"].late
        assert (await book.book()).late_answers == 1

    run(desk.work(story))


def test_a_closed_or_unknown_ticket_is_refused(desk):
    async def story(book: Tickets) -> None:
        ticket = await broken(book)
        book.heard("idcard", None)
        await asyncio.sleep(1)
        for name in (ticket.ticket, "nothing"):
            with pytest.raises(TicketError):
                await book.answer(name, "part")

    run(desk.work(story))


def test_a_restart_of_the_daemon_stops_no_clock(desk):
    """The monotonic clock of the boot goes on, whatever the wall clock does meanwhile (L39)."""

    async def main() -> None:
        await desk.work(broken)
        await asyncio.sleep(600)
        desk.wall_offset += 86_400

        async def story(book: Tickets) -> None:
            ticket = await only(book)
            assert ticket.clocks["answer"].seconds == pytest.approx(661, abs=0.1)
            assert ticket.opened_at == pytest.approx(EPOCH, abs=0.1)
            await asyncio.sleep(LIMITS["answer"] - 661)
            assert [event.step for event in await desk.events()] == ["ticket.opened", "ticket.answer_late"]
            book.heard("idcard", None)
            await asyncio.sleep(1)
            assert not (await only(book)).clocks["part"].running

        await desk.work(story)

    run(main())


def test_over_a_reboot_the_wall_clock_counts_and_then_the_new_boot(desk):
    run(desk.work(broken))
    desk.boot_id = "boot-2"
    desk.wall_offset += 1000

    async def main() -> None:
        async def story(book: Tickets) -> None:
            assert (await only(book)).clocks["part"].seconds == pytest.approx(1000, abs=0.1)

        await desk.work(story)
        desk.wall_offset -= 5_000_000
        await desk.work(story)

    run(main())


def test_what_is_no_longer_configured_is_closed(desk):
    async def main() -> None:
        await desk.work(broken)
        desk.devices = {"printer"}

        async def story(book: Tickets) -> None:
            await asyncio.sleep(1)
            assert (await only(book)).closed_at is not None

        await desk.work(story)

    run(main())


def test_old_tickets_go_and_the_list_is_short(desk):
    async def story(book: Tickets) -> None:
        for _ in range(tickets.SHOWN + 5):
            book.heard("printer", "printer.paper_out")
            await asyncio.sleep(GRACE_SECONDS + 1)
            book.heard("printer", None)
            await asyncio.sleep(1)
        listed = (await book.book()).tickets
        assert len(listed) == tickets.SHOWN
        assert listed == sorted(listed, key=lambda one: -one.opened_at)
        desk.wall_offset += tickets.KEPT_SECONDS + 10_000
        book.heard("idcard", "idcard.offline")
        await asyncio.sleep(GRACE_SECONDS + 1)
        book.heard("idcard", None)
        await asyncio.sleep(1)
        assert desk.database.execute("SELECT count(*) FROM tickets").fetchone() == (1,)
        assert desk.database.execute("SELECT count(*) FROM ticket_clocks").fetchone() == (3,)

    run(desk.work(story))
