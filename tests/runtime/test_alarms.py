"""Alarms on virtual time (T23): journaled at once, watched until the platform's receipt, over restarts and reboots."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from runtime import alarm_rows
from runtime import alarms as alarms_module
from runtime.alarm_report import BLANK, draft
from runtime.alarms import LIMIT_SECONDS, REPEAT_SECONDS, RETRY_SECONDS, WAITS_SECONDS, AlarmEntry, Alarms
from runtime.journal import Journal
from runtime.messages import Alarm, from_payload
from runtime.services.steps import Origin
from sim.memory import InlineExecutor
from sim.virtual_time import run

EPOCH = 1_800_000_000.0


class Failing(InlineExecutor):
    """Does nothing while `is_broken`, commits nothing while `is_full`; takes `late_seconds` to say what it did."""

    is_broken = False
    is_full = False
    late_seconds = 0.0

    async def run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        await asyncio.sleep(0)
        if self.is_broken or (self.is_full and work.__name__ == "_commit"):
            error = sqlite3.OperationalError("disk")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL if self.is_full else sqlite3.SQLITE_IOERR
            raise error
        value = await super().run(work)
        await asyncio.sleep(self.late_seconds)
        return value


class Post:
    """A terminal whose journal outlives its daemon."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:")
        self.executor = Failing(self.database)
        self.boot_id = "boot-1"
        self.wall_offset = EPOCH
        self.platform_offset: float | None = None
        self.counts: list[tuple[int, int]] = []
        self.lines: list[Any] = []

    def wall(self) -> float:
        return self.wall_offset + asyncio.get_running_loop().time()

    @property
    def platform_time(self) -> float | None:
        """The platform's clock, once a grant has told it."""
        offset = self.platform_offset
        return None if offset is None else offset + asyncio.get_running_loop().time()

    async def work(self, story: Callable[[Alarms], Awaitable[None]]) -> None:
        """Live one life of the daemon."""
        self.journal = Journal(self.executor, self.wall)
        await self.journal.open()
        origin = Origin(self.boot_id, rig=True, wall_clock=self.wall)
        alarms = Alarms(self.journal, origin, lambda: self.platform_time, lambda *count: self.counts.append(count))
        with capture_logs() as self.lines:
            await self.unit(alarms, story)

    async def unit(self, alarms: Alarms, story: Callable[[Alarms], Awaitable[None]]) -> None:
        """Live one life of the unit."""
        ready = asyncio.Event()
        task = asyncio.create_task(alarms.run(ready.set))
        try:
            await ready.wait()
            await story(alarms)
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def sent(self) -> list[Alarm]:
        records = await self.journal.unacknowledged(self.journal.streams["alarm"], 0, 99)
        return [from_payload(record.payload, Alarm) for record in records]

    async def receipt(self, sequence: int) -> None:
        await self.journal.acknowledge(self.journal.streams["alarm"], sequence)
        await asyncio.sleep(0.01)

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


@pytest.fixture
def post() -> Iterator[Post]:
    post = Post()
    yield post
    post.database.close()


async def only(alarms: Alarms) -> AlarmEntry:
    (entry,) = await alarms.list()
    return entry


def test_an_alarm_is_journaled_at_once_and_settled_by_its_receipt(post):
    async def story(alarms: Alarms) -> None:
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(0.01)
        (told,) = await post.sent()
        assert (told.code, told.subject, told.boot_id, told.rig) == ("pinpad.tampered", "pinpad", "boot-1", True)
        assert told.at == pytest.approx(EPOCH, abs=1)
        assert post.counts[-1] == (1, 0)
        await asyncio.sleep(20)
        assert (await only(alarms)).seconds == pytest.approx(20, abs=0.1)
        await post.receipt(1)
        await asyncio.sleep(LIMIT_SECONDS * 2)
        entry = await only(alarms)
        assert (entry.alarm, entry.receipted, entry.late) == (told.id, True, False)
        assert entry.seconds == pytest.approx(20, abs=0.1)
        assert post.counts[-1] == (0, 0)
        assert post.events() == ["alarm_raised", "alarm_receipted"]
        assert post.lines[0]["log_level"] == "error"

    run(post.work(story))


def test_the_clock_is_that_of_the_law(post):
    """A warning after a minute, a breach after 30, each said once."""
    assert (WAITS_SECONDS, LIMIT_SECONDS) == (60, 30 * 60)

    async def story(alarms: Alarms) -> None:
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(WAITS_SECONDS - 1)
        assert post.events() == ["alarm_raised"]
        await asyncio.sleep(2)
        assert post.events() == ["alarm_raised", "alarm_waits"]
        await asyncio.sleep(LIMIT_SECONDS - WAITS_SECONDS - 2)
        assert post.counts[-1] == (1, 0)
        await asyncio.sleep(2)
        assert post.events() == ["alarm_raised", "alarm_waits", "alarm_late"]
        assert post.lines[-1]["log_level"] == "error"
        assert post.counts[-1] == (1, 1)
        assert (await only(alarms)).late
        await asyncio.sleep(86_400)
        await post.receipt(1)
        assert post.events()[3:] == ["alarm_receipted"]
        assert (await only(alarms)).late
        assert post.counts[-1] == (0, 0)

    run(post.work(story))


def test_the_same_within_an_hour_is_counted_also_after_its_receipt(post):
    async def story(alarms: Alarms) -> None:
        for _ in range(3):
            alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(1)
        await post.receipt(1)
        alarms.sound("pinpad.tampered", "pinpad")
        alarms.sound("pinpad.tampered", "another")
        await asyncio.sleep(1)
        alarms.sound("pinpad.clear_digit", "pinpad")
        await asyncio.sleep(1)
        assert len(await post.sent()) == 2
        assert [(one.code, one.subject, one.repeats) for one in reversed(await alarms.list())] == [
            ("pinpad.tampered", "pinpad", 3),
            ("pinpad.tampered", "another", 0),
            ("pinpad.clear_digit", "pinpad", 0),
        ]
        await asyncio.sleep(REPEAT_SECONDS)
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(1)
        assert len(await post.sent()) == 3
        assert post.database.execute("SELECT repeats FROM alarms ORDER BY sequence").fetchall() == [
            (3,),
            (0,),
            (0,),
            (0,),
        ]

    run(post.work(story))


def test_an_alarm_that_cannot_be_written_is_kept_and_tried_again(post):
    async def story(alarms: Alarms) -> None:
        post.executor.is_broken = True
        alarms.sound("pinpad.tampered", "pinpad")
        alarms.sound("egress.connect", "egress")
        await asyncio.sleep(LIMIT_SECONDS + 1)
        assert post.counts[-1] == (2, 2), "the clock runs all the same"
        assert post.events().count("alarm_not_journaled") == 1
        post.executor.is_broken = False
        await asyncio.sleep(RETRY_SECONDS + 1)
        assert [alarm.code for alarm in await post.sent()] == ["pinpad.tampered", "egress.connect"]
        assert [alarm.at for alarm in await post.sent()] == [pytest.approx(EPOCH, abs=1)] * 2
        await post.receipt(2)
        assert post.counts[-1] == (0, 0)

    run(post.work(story))


def test_the_unit_may_end_at_any_moment_and_no_alarm_is_told_twice_or_lost(post):
    """Cancelled before, while and after the journal writes; then the next life of the unit goes on."""

    async def story(alarms: Alarms) -> None:
        for number in range(12):
            alarms.sound("pinpad.tampered", f"pad {number}")
            for _ in range(number):
                await asyncio.sleep(0)

    async def again(alarms: Alarms) -> None:
        await asyncio.sleep(1)
        assert [alarm.subject for alarm in await post.sent()] == [f"pad {number}" for number in range(12)]
        assert len(await alarms.list()) == 12

    async def main() -> None:
        async def lives(alarms: Alarms) -> None:
            await story(alarms)

        post.journal = Journal(post.executor, post.wall)
        await post.journal.open()
        origin = Origin("boot-1", rig=True, wall_clock=post.wall)
        alarms = Alarms(post.journal, origin, lambda: None, lambda *_: None)
        await post.unit(alarms, lives)
        await post.unit(alarms, again)

    run(main())


def test_a_restart_of_the_daemon_stops_no_clock(post):
    """The monotonic clock of the boot goes on, whatever the wall clock does meanwhile."""

    async def main() -> None:
        async def raises(alarms: Alarms) -> None:
            alarms.sound("pinpad.tampered", "pinpad")
            await asyncio.sleep(1)

        async def waits(alarms: Alarms) -> None:
            assert (await only(alarms)).seconds == pytest.approx(601, abs=0.1)
            alarms.sound("pinpad.tampered", "pinpad")
            assert (await only(alarms)).repeats == 1
            await asyncio.sleep(LIMIT_SECONDS - 602)
            assert post.counts[-1] == (1, 0)
            await asyncio.sleep(2)
            assert post.counts[-1] == (1, 1)

        async def is_late(alarms: Alarms) -> None:
            assert (await only(alarms)).late
            assert "alarm_late" not in post.events(), "that was said"
            assert post.counts[-1] == (1, 1)

        await post.work(raises)
        await asyncio.sleep(600)
        post.wall_offset += 86_400
        await post.work(waits)
        await post.work(is_late)

    run(main())


def test_over_a_reboot_the_wall_clock_counts(post):
    async def raises(alarms: Alarms) -> None:
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(1)

    async def counts(alarms: Alarms) -> None:
        assert (await only(alarms)).seconds == pytest.approx(1_000, abs=0.1)
        await asyncio.sleep(LIMIT_SECONDS - 1_001)
        assert post.counts[-1] == (1, 0)
        await asyncio.sleep(2)
        assert post.counts[-1] == (1, 1)

    async def goes_on(alarms: Alarms) -> None:
        assert (await only(alarms)).seconds == pytest.approx(LIMIT_SECONDS + 1, abs=0.1)

    run(post.work(raises))
    post.boot_id = "boot-2"
    post.wall_offset += 1_000

    async def second_boot() -> None:
        await post.work(counts)
        post.wall_offset -= 5_000_000
        await post.work(goes_on)

    run(second_boot())


def test_a_receipt_that_came_just_before_the_daemon_ended_settles_the_alarm(post):
    """The journal knows of it, the alarm's row does not: it is no breach."""

    async def raises(alarms: Alarms) -> None:
        alarms.sound("pinpad.tampered", "pinpad")
        await asyncio.sleep(1)

    async def settled(alarms: Alarms) -> None:
        await asyncio.sleep(1)
        entry = await only(alarms)
        assert (entry.receipted, entry.late) == (True, False)

    async def main() -> None:
        await post.work(raises)
        await post.journal.acknowledge(post.journal.streams["alarm"], 1)
        await asyncio.sleep(LIMIT_SECONDS * 2)
        await post.work(settled)

    run(main())


def test_old_alarms_go_and_the_list_is_short(post, monkeypatch):
    for module in (alarms_module, alarm_rows):
        monkeypatch.setattr(module, "KEPT", 20)
    monkeypatch.setattr(alarms_module, "SHOWN", 5)

    async def story(alarms: Alarms) -> None:
        alarms.sound("pinpad.tampered", "waits")
        for number in range(30):
            alarms.sound("pinpad.tampered", str(number))
            await asyncio.sleep(1)
        post.database.execute("UPDATE alarms SET receipted_after = 1 WHERE subject <> 'waits'")
        await asyncio.sleep(REPEAT_SECONDS)

    async def later(alarms: Alarms) -> None:
        alarms.sound("pinpad.tampered", "last")
        await asyncio.sleep(1)
        subjects = [entry.subject for entry in await alarms.list()]
        assert subjects == ["last", "29", "28", "27", "26", "25", "waits"]
        assert post.database.execute("SELECT count(*) FROM alarms").fetchone() == (20 + 1,)

    async def main() -> None:
        await post.work(story)
        post.database.commit()
        await post.work(later)

    run(main())


ENTRY = AlarmEntry("0123abcd", "pinpad.tampered", "pinpad", EPOCH, 12.0, True, False, 2)


def test_the_draft_says_what_is_known_and_leaves_the_rest_to_a_person():
    """T23, in China time."""
    text = draft(ENTRY, terminal="GT-0001", rig=False, now=EPOCH + 60)
    assert "事件代码：pinpad.tampered" in text
    assert "终端编号：GT-0001" in text
    assert "发现时间：2027-01-15 16:00:00" in text
    assert "于 2027-01-15 16:30:00 前报送" in text
    assert "草稿生成时间：2027-01-15 16:01:00" in text
    assert "防拆机构已触发" in text
    assert "已停用密码键盘" in text
    assert "平台在 12 秒后确认收到" in text
    assert text.count(BLANK) == 8
    assert "测试" not in text


@pytest.mark.parametrize("code", ["idcard.swapped", "egress.connect", "line.meddled"])
def test_a_draft_is_made_of_every_alarm(code):
    entry = AlarmEntry("0123abcd", code, code.partition(".")[0], EPOCH, 90.0, False, False, 0)
    text = draft(entry, terminal="GT-0001", rig=True, now=EPOCH)
    assert "【测试终端】" in text
    assert "已等待 90 秒，平台尚未确认收到" in text
    assert ("终端只知道上述事件代码" in text) == (code == "line.meddled")
