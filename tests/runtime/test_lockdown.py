"""The lock-down that follows tampering: first in line, exact, kept, and ended by a named operator alone (T23, H6)."""

import asyncio
import dataclasses
import sqlite3

import pytest

from devices.hotplug import UsbDevice
from runtime.audit import Audit
from runtime.journal import Journal, JournalError
from runtime.lockdown import LOCKED, RETRY_SECONDS, Cause, Lockdown, LockdownError
from runtime.messages import SupervisionEvent
from runtime.policy import Security
from runtime.route_watch import SETTLE_SECONDS
from runtime.seams import Seams
from runtime.services.steps import Origin
from runtime.state import StateBoard
from sim.memory import InlineExecutor, SlowExecutor
from sim.virtual_time import run
from tests.runtime.house import EPOCH, STRANGER_UID, Caller, Refusal, living
from tests.runtime.tamper_rig import Cabinet, alarms, ended, locks, only_lock, operator, play, until
from transport.routes import DefaultRoute

STICK = UsbDevice("/sys/devices/usb1/1-4", "0951:1666", frozenset({"080650"}))
ROUTES = (DefaultRoute("eth0", 4, "192.0.2.1"), DefaultRoute("usb0", 4, "192.168.42.129"))
WAITING = 1_000


def test_the_alarm_is_the_first_record_that_the_platform_receives_before_a_thousand(tmp_path):
    """T23: ahead of all other traffic, whatever waited longer; its clock ends with the receipt."""

    async def main() -> None:
        database = sqlite3.connect(":memory:", isolation_level=None)
        journal = Journal(InlineExecutor(database), lambda: EPOCH)
        await journal.open()
        for number in range(WAITING):
            await journal.append(SupervisionEvent("t" * 16, str(number), "done", None, EPOCH, 0.1, "boot", rig=False))
        house = Cabinet(tmp_path, journal=database)
        house.uplink.stop()
        async with living(house):
            ui, care = house.caller(), await operator(house)
            await until(care, "environment", "online")
            await ui.call("session.open")
            house.unit.open_door()
            assert await ended(ui) == "tamper"
            await asyncio.sleep(60)
            house.uplink.start()
            platform = house.store.database
            await house.until(lambda: platform.execute("SELECT 1 FROM records WHERE schema <> 'alarm'").fetchone())
            (first,) = platform.execute("SELECT schema FROM records ORDER BY id LIMIT 1").fetchone()
            assert first == "alarm"
            (alarm,) = (await care.call("alarms.list"))["alarms"]
            assert (alarm["code"], alarm["receipted"]) == ("environment.door_open", True)
            assert 60 < alarm["seconds"] < 120

    run(main())


def test_a_lock_outlives_the_daemon_and_its_cause(tmp_path):
    """A restart, a power cut and time open nothing; the operator does, and the platform is told of both."""

    async def main() -> None:
        first = Cabinet(tmp_path)
        async with living(first):
            ui, care = first.caller(), await operator(first)
            await first.settled(ui)
            first.hotplug.attach(STICK)
            await until(care, "lockdown", "locked")
            await first.until(lambda: first.rows("SELECT 1 FROM lockdowns"))
            image = first.journal.serialize()
            await first.until(first.steps)
            assert first.steps() == [("lockdown.began", "0951:1666", "usb.storage")]
        journal = sqlite3.connect(":memory:", isolation_level=None)
        journal.deserialize(image)
        async with living(Cabinet(tmp_path, journal=journal)) as second:
            ui, care = second.caller(), await operator(second)
            with pytest.raises(Refusal, match=r"session\.locked"):
                await ui.call("session.open")
            assert await locks(care) == [("usb.storage", "0951:1666", False)]
            await asyncio.sleep(3_600)
            with pytest.raises(Refusal, match=r"session\.locked"):
                await ui.call("session.open")
            lock = await only_lock(care)
            assert await care.call("lockdown.clear", lock=lock) == {"locks": []}
            await ui.call("session.open")
            (line,) = second.audited("lockdown_clear_ordered")
            assert line["actor"] == f"uid {care.client.uid}"
            assert line["details"]["lock"] == lock
            assert second.rows("SELECT * FROM lockdowns") == []
            await second.until(lambda: ("lockdown.cleared", "0951:1666", "usb.storage") in second.steps())

    run(main())


class Slow(Cabinet):
    """A cabinet whose disk takes its time."""

    def seams(self) -> Seams:
        return dataclasses.replace(super().seams(), journal=SlowExecutor(self.journal, 0.02))


def test_what_goes_on_over_a_restart_is_one_alarm_and_what_begins_anew_is_another(tmp_path):
    """T23: a daemon that restarts floods nobody, and tells of the next stick however soon it comes."""

    async def image(house: Cabinet, *, clears: bool) -> bytes:
        async with living(house):
            care = await operator(house)
            await until(care, "lockdown", "locked")
            await house.until(lambda: house.rows("SELECT 1 FROM lockdowns"))
            found = (await care.call("alarms.list"))["alarms"]
            told.append((len(found), len({one["alarm"] for one in found})))
            if clears:
                house.hotplug.detach(STICK.path)
                await care.call("lockdown.clear", lock=await only_lock(care))
            return house.journal.serialize()

    told: list[tuple[int, int]] = []

    async def main() -> None:
        left = b""
        for clears in (False, False, True, False):
            journal = sqlite3.connect(":memory:", isolation_level=None)
            if left:
                journal.deserialize(left)
            house = Slow(tmp_path, journal=journal)
            house.hotplug.attach(STICK)
            left = await image(house, clears=clears)

    run(main())
    assert told == [(1, 1), (1, 1), (1, 1), (2, 2)]


def test_another_role_may_not(tmp_path):
    """H6."""

    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        house.hotplug.attach(STICK)
        house.hotplug.detach(STICK.path)
        lock = await only_lock(care)
        for caller in (ui, house.caller(STRANGER_UID)):
            with pytest.raises((Refusal, ConnectionError)):
                await caller.call("lockdown.clear", lock=lock)
            with pytest.raises((Refusal, ConnectionError)):
                await caller.call("lockdown.list")
        assert await only_lock(care) == lock
        assert house.audited("lockdown_clear_ordered") == []

    play(tmp_path, story)


def test_several_at_once_are_each_cleared_by_itself_and_the_same_twice_is_one(tmp_path):
    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        house.hotplug.attach(STICK)
        house.hotplug.detach(STICK.path)
        house.hotplug.attach(STICK)
        house.routes.set(*ROUTES)
        await asyncio.sleep(SETTLE_SECONDS + 0.1)
        assert await locks(care) == [("usb.storage", "0951:1666", True), ("network.second_route", "network", True)]
        assert (await care.call("terminal.status"))["state"]["lockdown"] == {
            "state": "locked",
            "code": "usb.storage",
            "details": {"locks": "2"},
        }
        house.hotplug.detach(STICK.path)
        first, second = (one["lock"] for one in (await care.call("lockdown.list"))["locks"])
        with pytest.raises(Refusal, match=r"lockdown\.cause_persists"):
            await care.call("lockdown.clear", lock=second)
        (left,) = (await care.call("lockdown.clear", lock=first))["locks"]
        assert left["lock"] == second
        with pytest.raises(Refusal, match=r"session\.locked"):
            await ui.call("session.open")
        for unknown in (first, "00000000"):
            with pytest.raises(Refusal, match=r"lockdown\.unknown"):
                await care.call("lockdown.clear", lock=unknown)
        house.routes.set(ROUTES[0])
        await care.call("lockdown.clear", lock=second)
        await ui.call("session.open")
        assert len(await alarms(care)) == 2

    play(tmp_path, story)


def test_what_happens_again_after_it_was_cleared_is_told_again(tmp_path):
    """T23: an operator saw to the first door; the second, minutes later, is another alarm and not a repeat of it."""

    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        for number in (1, 2):
            house.hotplug.attach(STICK)
            house.hotplug.detach(STICK.path)
            await asyncio.sleep(60)
            assert await alarms(care) == [("usb.storage", "0951:1666")] * number
            await care.call("lockdown.clear", lock=await only_lock(care))

    play(tmp_path, story)


def test_where_the_policy_says_alarm_the_session_ends_and_the_next_begins(tmp_path):
    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        await ui.call("session.open")
        house.hotplug.attach(STICK)
        assert await ended(ui) == "tamper"
        await asyncio.sleep(1)
        await ui.call("session.open")
        assert await alarms(care) == [("usb.storage", "0951:1666")]
        assert (await care.call("terminal.status"))["state"]["lockdown"] == {"state": "none"}
        assert len(house.audited("tamper_found")) == 1

    play(tmp_path, story, Security(usb="alarm"))


def test_what_a_rig_ignores_is_nothing(tmp_path):
    async def story(house: Cabinet, ui: Caller, care: Caller) -> None:
        session = (await ui.call("session.open"))["session"]
        house.hotplug.attach(STICK)
        house.routes.set(*ROUTES)
        await asyncio.sleep(10)
        await ui.call("session.extend", session=session)
        assert (await alarms(care), await locks(care)) == ([], [])

    play(tmp_path, story, Security(usb="ignore", network="ignore"))


class Place:
    """A place for sessions that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.is_open = True

    def end(self, reason: str) -> None:
        self.said.append(reason)

    def refuse(self, code: str) -> None:
        assert code == LOCKED
        self.is_open = False

    def admit(self, code: str) -> None:
        assert code == LOCKED
        self.is_open = True


class Stubborn(InlineExecutor):
    """A disk that commits nothing while `is_broken`, and takes its time."""

    is_broken = False

    async def run(self, work):
        await asyncio.sleep(0.1)
        if self.is_broken and work.__name__ == "_commit":
            raise sqlite3.OperationalError("disk")
        return await super().run(work)


class Stand:
    """A lock-down alone."""

    def __init__(self, directory) -> None:
        self.disk = Stubborn(sqlite3.connect(":memory:", isolation_level=None))
        self.journal = Journal(self.disk, lambda: EPOCH)
        self.place = Place()
        self.sounded: list[str] = []
        self.lockdown = Lockdown(
            Security(),
            self.journal,
            Audit(self.disk, directory / "audit.jsonl", lambda: EPOCH),
            origin=Origin("boot", rig=False, wall_clock=lambda: EPOCH),
            board=StateBoard(),
            alarms=self,
        )

    def sound(self, code, _subject) -> None:
        self.sounded.append(code)

    def dealt_with(self, code, _subject) -> None:
        self.sounded.append(f"dealt with {code}")

    async def live(self, story) -> None:
        await self.journal.open()
        await self.lockdown.open()
        self.lockdown.guard(self.place)
        task = asyncio.create_task(self.lockdown.run(lambda: None))
        try:
            await story()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.disk.close()

    def kept(self) -> int:
        count: int = self.disk._connection.execute("SELECT count(*) FROM lockdowns").fetchone()[0]
        return count


FORGED = Cause("catalogue", "catalogue.bad_signature", "catalogue")


def test_a_disk_that_takes_nothing_opens_nothing(tmp_path):
    """I6: the lock holds from the moment it was found, and is written as soon as it can be."""
    stand = Stand(tmp_path)

    async def story() -> None:
        stand.disk.is_broken = True
        stand.lockdown.found(FORGED)
        assert (stand.place.is_open, stand.place.said, stand.sounded[-1:]) == (False, ["tamper"], [FORGED.code])
        await asyncio.sleep(60)
        stand.disk.is_broken = False
        await asyncio.sleep(RETRY_SECONDS + 1)
        assert stand.kept() == 1
        (lock,) = stand.lockdown.list()
        stand.disk.is_broken = True
        with pytest.raises(JournalError):
            await stand.lockdown.clear(lock.lock, actor="uid 0")
        assert not stand.place.is_open

    run(stand.live(story))


def test_what_is_found_again_while_it_is_cleared_is_locked_again(tmp_path):
    """No moment in which the terminal is open over a cause that was just found; two operators clear one lock once."""
    stand = Stand(tmp_path)

    async def story() -> None:
        stand.lockdown.found(FORGED)
        (lock,) = stand.lockdown.list()
        both = [asyncio.create_task(stand.lockdown.clear(lock.lock, actor="uid 0")) for _ in range(2)]
        await asyncio.sleep(0.35)
        stand.lockdown.found(FORGED)
        cleared, refused = await asyncio.gather(*both, return_exceptions=True)
        assert cleared is None
        assert isinstance(refused, LockdownError)
        assert refused.code == "lockdown.unknown"
        assert not stand.place.is_open
        (again,) = stand.lockdown.list()
        assert again.lock != lock.lock
        await asyncio.sleep(2)
        assert stand.kept() == 1

    run(stand.live(story))
