"""The base class of every request/reply driver, with a protocol of single letters (rule 4, L5, L9, L15)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from devices.driver import SAFE_SECONDS, WRITE_SECONDS, Damage, Driver, finish
from devices.errors import DeviceError
from devices.link import LinkLost
from devices.status import DeviceState, DeviceStatus, StatusLog
from sim import virtual_time


class Letters:
    """Capitals are frames; "!" is damage; all else is nothing."""

    def feed(self, data: bytes) -> list[str | Damage]:
        return [
            Damage("!") if letter == "!" else letter for letter in data.decode() if letter.isupper() or letter == "!"
        ]

    def reset(self) -> None:
        """Nothing is kept."""


class Wire:
    """A link whose other end is the test."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = 0
        self.blocked = False
        self.lost = False
        self._said: asyncio.Queue[bytes] = asyncio.Queue()

    def say(self, data: bytes) -> None:
        self._said.put_nowait(data)

    async def read(self) -> bytes:
        data = await self._said.get()
        if not data:
            raise LinkLost("gone")
        return data

    async def write(self, data: bytes) -> None:
        if self.lost:
            raise LinkLost("gone")
        if self.blocked:
            await asyncio.Event().wait()
        self.written.append(data)

    async def close(self) -> None:
        self.closed += 1


class Simple(Driver[str]):
    kind = "simple"

    def __init__(self, wire: Wire, **hooks: Any) -> None:
        self.wire = wire
        self.statuses: list[DeviceStatus] = []
        self.unasked: list[str] = []
        self.left = 0
        self.hooks = hooks
        super().__init__("port", 9600, self._give, self.statuses.append)

    async def _give(self, _: str, __: int) -> Wire:
        return self.wire

    def _make_decoder(self) -> Letters:
        return Letters()

    async def _open(self) -> DeviceStatus:
        if "open" in self.hooks:
            raise self.hooks["open"]
        return DeviceStatus(DeviceState.ONLINE, identity="one")

    async def _check(self) -> DeviceStatus:
        await self.ask(b"check", lambda letter: letter == "C", seconds=1)
        return DeviceStatus(DeviceState.ONLINE, identity="one", details={"checked": True})

    async def _leave(self) -> None:
        self.left += 1
        if "leave" in self.hooks:
            await self.hooks["leave"]()

    def _unasked(self, frame: str) -> None:
        self.unasked.append(frame)

    async def command(self, letter: str = "A", seconds: float = 1) -> str:
        async with self._lock:
            return await self.ask(b"ask", lambda heard: heard == letter, seconds=seconds)


@asynccontextmanager
async def living(**hooks: Any) -> AsyncIterator[tuple[Simple, Wire, asyncio.Task[None]]]:
    driver = Simple(Wire(), **hooks)
    serving = asyncio.Event()
    life = asyncio.create_task(driver.run(serving.set), name="life")
    try:
        async with asyncio.timeout(10):
            await serving.wait()
        yield driver, driver.wire, life
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)


def refusal_of(caught: pytest.ExceptionInfo[DeviceError]) -> tuple[str, bool]:
    return caught.value.code, caught.value.retry


def test_only_the_answer_is_taken() -> None:
    """L15: what comes before, after or twice is told to `_unasked`."""

    async def story() -> None:
        async with living() as (driver, wire, _):
            wire.say(b"A")
            await asyncio.sleep(0)
            asking = asyncio.create_task(driver.command())
            await asyncio.sleep(0.1)
            wire.say(b"BxA")
            assert await asking == "A"
            wire.say(b"A")
            await asyncio.sleep(0.1)
            assert driver.unasked == ["A", "B", "A"]

    virtual_time.run(story())


def test_damage_silence_and_loss_are_three_codes() -> None:
    async def story() -> None:
        async with living() as (driver, wire, life):
            wire.say(b"!")  # nobody asks: it is nothing
            asking = asyncio.create_task(driver.command())
            await asyncio.sleep(0.1)
            wire.say(b"!")
            with pytest.raises(DeviceError) as caught:
                await asking
            assert refusal_of(caught) == ("simple.garbled", True)

            wire.blocked = True
            with pytest.raises(DeviceError) as caught:
                await driver.command()
            assert refusal_of(caught) == ("simple.no_answer", True)
            assert not life.done()
            wire.blocked = False

        async with living() as (driver, wire, life):
            asking = asyncio.create_task(driver.command())
            await asyncio.sleep(0.1)
            wire.say(b"")
            with pytest.raises(DeviceError) as caught:
                await asking
            assert refusal_of(caught) == ("simple.offline", True)
            with pytest.raises(LinkLost):
                await life
            with pytest.raises(DeviceError) as caught:
                await driver.command()
            assert refusal_of(caught) == ("simple.offline", True)

    virtual_time.run(story())


def test_a_silence_is_looked_into_at_once() -> None:
    """After a missing answer the health check does not wait for its turn, and a device that is dead ends the life."""

    async def story() -> None:
        async with living() as (driver, wire, life):
            loop = asyncio.get_running_loop()
            with pytest.raises(DeviceError):
                await driver.command()
            started = loop.time()
            with pytest.raises(DeviceError) as caught:
                await life
            assert refusal_of(caught) == ("simple.no_answer", True)
            assert loop.time() - started == pytest.approx(1)
            assert wire.written[-1] == b"check"
            assert driver.status == DeviceStatus(DeviceState.OFFLINE, "simple.no_answer", "one")
            assert wire.closed == 1

    virtual_time.run(story())


def test_an_idle_device_is_checked_and_its_details_are_told() -> None:
    async def story() -> None:
        async with living() as (driver, wire, _):
            await asyncio.sleep(driver.health_seconds + 0.5)
            wire.say(b"C")
            await asyncio.sleep(0.1)
            assert driver.statuses[-1].details == {"checked": True}
            told = len(driver.statuses)
            await asyncio.sleep(driver.health_seconds)
            wire.say(b"C")
            await asyncio.sleep(0.6)
            assert len(driver.statuses) == told, "a repeat is nothing"

    virtual_time.run(story())


@pytest.mark.parametrize("retry", [True, False])
def test_a_device_that_is_not_trusted_never_serves(retry: bool) -> None:
    error = DeviceError("simple.wrong", "another one", advice="look", retry=retry)

    async def story() -> None:
        driver = Simple(Wire(), open=error)
        with pytest.raises(DeviceError) as caught:
            await driver.run(lambda: pytest.fail("it serves"))
        assert caught.value is error
        assert driver.status.state is (DeviceState.OFFLINE if retry else DeviceState.HARDWARE_ERROR)
        assert (driver.left, driver.wire.closed) == (1, 1)
        with pytest.raises(DeviceError) as caught:
            await driver.command()
        assert refusal_of(caught) == ("simple.wrong", retry)

    virtual_time.run(story())


def test_a_tell_that_the_wire_does_not_take_ends() -> None:
    async def story() -> None:
        async with living() as (driver, wire, _):
            wire.blocked = True
            started = asyncio.get_running_loop().time()
            with pytest.raises(DeviceError) as caught:
                await driver.tell(b"x")
            assert refusal_of(caught) == ("simple.no_answer", True)
            assert asyncio.get_running_loop().time() - started == pytest.approx(WRITE_SECONDS)
            wire.blocked, wire.lost = False, True
            with pytest.raises(DeviceError) as caught:
                await driver.tell(b"x")
            assert refusal_of(caught) == ("simple.offline", True)

    virtual_time.run(story())


def test_a_device_that_cannot_be_left_safe_is_left_in_time() -> None:
    """The command under way fails first, so that leaving has the wire; leaving has its own deadline."""

    async def story() -> None:
        async with living(leave=asyncio.Event().wait) as (driver, wire, life):
            loop = asyncio.get_running_loop()
            asking = asyncio.create_task(driver.command(seconds=60))
            await asyncio.sleep(0.1)
            started = loop.time()
            life.cancel()
            with pytest.raises(asyncio.CancelledError):
                await life
            assert loop.time() - started == pytest.approx(SAFE_SECONDS)
            with pytest.raises(DeviceError):
                await asking
            assert (driver.left, wire.closed) == (1, 1)
            assert driver.status.state is DeviceState.OFFLINE

    virtual_time.run(story())


def test_work_is_finished_however_often_its_caller_is_cancelled() -> None:
    async def story() -> None:
        done = asyncio.Event()

        async def work() -> None:
            await asyncio.sleep(1)
            done.set()

        caller = asyncio.create_task(finish(work()))
        for _ in range(3):
            await asyncio.sleep(0.1)
            caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert done.is_set()
        assert await finish(asyncio.sleep(0, "result")) == "result"

    virtual_time.run(story())


def test_a_flapping_device_says_the_same_once_a_minute() -> None:
    """L9: what was held back is counted in the next line; another state is told at once."""
    online, offline = DeviceStatus(DeviceState.ONLINE), DeviceStatus(DeviceState.OFFLINE, "simple.stale")
    power_off = DeviceStatus(DeviceState.POWER_OFF)

    async def story() -> None:
        log = StatusLog("simple")
        for _ in range(10):
            log.note(online, offline)
            log.note(offline, online)
            await asyncio.sleep(5)
        log.note(online, power_off)
        log.note(power_off, DeviceStatus(DeviceState.POWER_OFF, details={"detail": True}))
        await asyncio.sleep(60)
        log.note(power_off, online)

    with capture_logs() as lines:
        virtual_time.run(story())
    assert [(line["state"], line.get("held_back")) for line in lines] == [
        ("offline", None),
        ("online", None),
        ("powerOff", 18),
        ("online", None),
    ]
