"""Alarms when the disk is full or slow and when the clock is wrong (T23): each leaves once, and its time is right."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runtime.alarms import LIMIT_SECONDS, RETRY_SECONDS, Alarms
from runtime.journal.store import ANSWER_SECONDS
from runtime.messages import Alarm, from_payload
from sim.virtual_time import run
from tests.runtime.test_alarms import EPOCH, Post, only
from tests.runtime.test_alarms import post as post  # noqa: PLC0414 - the fixture
from transport import wire
from transport.outbox import Outbox
from transport.payload import Payload
from transport.sm import sm3

YEAR = 365 * 86_400.0


class Platform:
    """The other end of the line: what it heard of both streams of alarms, and whether it says so."""

    def __init__(self, post: Post, alarms: Alarms) -> None:
        self.alarms = alarms
        self.streams = (post.journal.streams["alarm"], alarms.records.stream)
        self.places: dict[tuple[str, int], str] = {}
        self.heard: list[str] = []
        self.receipts = True

    @asynccontextmanager
    async def line(self) -> AsyncIterator[None]:
        """Be connected while the context lasts."""
        outboxes = {stream: Outbox(self.alarms.records, stream) for stream in self.streams}

        async def send(body: bytes) -> None:
            for record in (said := wire.decode(body, wire.Records)).records:
                payload = Payload(record.schema, record.version, personal=False, body=record.body)
                alarm = from_payload(payload, Alarm)
                assert self.places.setdefault((said.stream, record.sequence), alarm.id) == alarm.id
                self.heard.append(alarm.code)
                if self.receipts:
                    outboxes[said.stream].receive(wire.Receipt(said.stream, record.sequence, sm3(record.body)))

        async def watch() -> None:
            while True:
                await self.alarms.records.changed()
                for outbox in outboxes.values():
                    outbox.wake()

        tasks = [asyncio.create_task(one) for one in (watch(), *(box.deliver(send) for box in outboxes.values()))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def test_an_alarm_leaves_at_once_on_a_full_disk_and_is_journaled_later_without_leaving_again(post):
    async def story(alarms: Alarms) -> None:
        platform = Platform(post, alarms)
        post.executor.is_full = True
        async with platform.line():
            alarms.sound("pinpad.tampered", "pinpad")
            await asyncio.sleep(1)
            alarms.sound("egress.connect", "egress")
            await asyncio.sleep(1)
            assert platform.heard == ["pinpad.tampered", "egress.connect"]
            assert post.counts[-1] == (0, 0), "the platform has them"
            async with asyncio.timeout(1):
                post.executor.is_full = False
                await alarms.records.delivered()
            await asyncio.sleep(RETRY_SECONDS + 1)
            entries = await alarms.list()
            assert [(entry.code, entry.receipted) for entry in entries] == [
                ("egress.connect", True),
                ("pinpad.tampered", True),
            ]
            alarms.sound("pinpad.clear_digit", "pinpad")
            await asyncio.sleep(60)
        async with platform.line():
            await asyncio.sleep(60)
        assert platform.heard == ["pinpad.tampered", "egress.connect", "pinpad.clear_digit"]
        assert post.database.execute("SELECT code FROM alarms WHERE receipted_after IS NOT NULL").fetchall() == [
            ("pinpad.tampered",),
            ("egress.connect",),
            ("pinpad.clear_digit",),
        ]

    async def later(alarms: Alarms) -> None:
        platform = Platform(post, alarms)
        async with platform.line():
            await asyncio.sleep(60)
        assert platform.heard == []
        assert len(await alarms.list()) == 3

    async def main() -> None:
        await post.work(story)
        await post.work(later)

    run(main())


def test_an_alarm_that_no_line_was_given_is_the_journals_again_when_there_is_room(post):
    async def story(alarms: Alarms) -> None:
        platform = Platform(post, alarms)
        post.executor.is_full = True
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(60)
        post.executor.is_full = False
        await asyncio.sleep(RETRY_SECONDS + 1)
        assert [alarm.code for alarm in await post.sent()] == ["pinpad.tampered"]
        async with platform.line():
            await asyncio.sleep(60)
        assert list(platform.places) == [(post.journal.streams["alarm"], 1)]
        assert (await only(alarms)).receipted

    run(post.work(story))


def test_an_alarm_that_is_on_its_way_when_there_is_room_again_waits_for_its_receipt(post):
    """Over the end of the line too: it is sent again in its place, and nowhere else."""

    async def story(alarms: Alarms) -> None:
        platform = Platform(post, alarms)
        platform.receipts = False
        post.executor.is_full = True
        async with platform.line():
            alarms.sound("pinpad.tampered", "pinpad")
            await asyncio.sleep(1)
            post.executor.is_full = False
            await asyncio.sleep(RETRY_SECONDS * 3)
        assert post.counts[-1] == (1, 0)
        platform.receipts = True
        async with platform.line():
            await asyncio.sleep(60)
        assert list(platform.places) == [(alarms.records.stream, 1)]
        assert (await only(alarms)).receipted
        assert post.database.execute("SELECT stream, sequence FROM records").fetchall() == [(alarms.records.stream, 1)]
        assert await alarms.records.unacknowledged(alarms.records.stream, 0, 9) == []
        assert post.database.execute("SELECT count(*) FROM alarms").fetchone() == (1,)

    run(post.work(story))


def test_alarms_from_memory_go_on_under_another_name_where_the_platform_has_others_in_their_place(post):
    async def story(alarms: Alarms) -> None:
        post.executor.is_full = True
        alarms.sound("pinpad.tampered", "pinpad")
        alarms.sound("egress.connect", "egress")
        await asyncio.sleep(1)
        log, stream = alarms.records, alarms.records.stream
        first = await log.unacknowledged(stream, 0, 9)
        await log.acknowledge(stream, 1)
        await log.renew(stream)
        (again,) = await log.unacknowledged(stream, 0, 9)
        assert [record.stream for record in first] == [stream, stream]
        assert (again.stream != stream, again.sequence, again.payload) == (True, 1, first[1].payload)
        await log.acknowledge(stream, 1)
        post.executor.is_full = False
        await asyncio.sleep(RETRY_SECONDS + 1)
        places = post.database.execute("SELECT stream, sequence FROM records ORDER BY rowid").fetchall()
        assert places == [(stream, 1), (again.stream, 1)]
        assert all(entry.receipted for entry in await alarms.list())

    run(post.work(story))


def test_an_alarm_whose_commit_outlasts_the_deadline_is_journaled_once(post):
    async def story(alarms: Alarms) -> None:
        post.executor.late_seconds = ANSWER_SECONDS + 1
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(ANSWER_SECONDS + 2)
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(3 * ANSWER_SECONDS)
        post.executor.late_seconds = 0.0
        await asyncio.sleep(2 * ANSWER_SECONDS)
        assert len(await post.sent()) == 1
        assert (await only(alarms)).repeats == 1
        assert post.database.execute("SELECT repeats FROM alarms").fetchall() == [(1,)]
        await post.receipt(1)
        assert (await only(alarms)).receipted

    run(post.work(story))


@pytest.mark.parametrize("off", [YEAR, -YEAR, 3 * 3_600.0, -600.0])
def test_over_a_reboot_the_platforms_clock_sets_right_what_a_wrong_one_counted(post, off):
    """The terminal's clock lost its battery, say: once the platform is heard the alarm has waited as long as it has."""

    async def raises(alarms: Alarms) -> None:
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(1)

    async def counts(alarms: Alarms) -> None:
        await asyncio.sleep(10)
        assert (await only(alarms)).seconds >= 10, "no less than this boot"
        post.platform_offset = EPOCH + 1_000
        await post.receipt(1)
        entry = await only(alarms)
        assert (entry.receipted, entry.late) == (True, False)
        assert entry.seconds == pytest.approx(1_010, abs=1)
        assert post.counts[-1] == (0, 0)

    async def restarts(alarms: Alarms) -> None:
        entry = await only(alarms)
        assert (entry.receipted, entry.late) == (True, False)
        assert entry.seconds == pytest.approx(1_010, abs=1)

    run(post.work(raises))
    post.boot_id = "boot-2"
    post.wall_offset = EPOCH + 1_000 + off

    async def second_boot() -> None:
        await post.work(lambda _: asyncio.sleep(1))
        await post.work(counts)
        await post.work(restarts)

    run(second_boot())


def test_an_alarm_raised_by_a_wrong_clock_is_dated_by_the_platforms(post):
    """So that a reboot after that counts right."""
    post.wall_offset = EPOCH - YEAR

    async def raises(alarms: Alarms) -> None:
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(20)
        post.platform_offset = EPOCH
        alarms.sound("egress.connect", "egress")
        await asyncio.sleep(1)
        assert {entry.code: round(entry.raised_at - EPOCH) for entry in await alarms.list()} == {
            "pinpad.tampered": 0,
            "egress.connect": 20,
        }

    async def is_late(alarms: Alarms) -> None:
        await asyncio.sleep(1)
        assert post.counts[-1] == (2, 2)

    run(post.work(raises))
    post.boot_id, post.platform_offset = "boot-2", EPOCH + LIMIT_SECONDS + 60
    run(post.work(is_late))
