"""A line whose terminal has a wrong wall clock, on virtual time: nothing waits for it, and it is told (T20)."""

import asyncio

import pytest

from tests.transport.line_rig import REQUEST, START, Rig, ask, now, on_virtual_time, until
from tests.transport.watched_keys import Watched, renewed, sealed_under
from transport.channel import WRONG_CLOCK_SECONDS, LineState

UP = LineState(connected=True)
YEARS = 10 * 366 * 86_400


@pytest.mark.parametrize("off", [-START, -YEARS, YEARS, 2 * WRONG_CLOCK_SECONDS])
def test_a_wrong_wall_clock_delays_nothing_and_is_told(off):
    """By years both ways: the line is up as fast as ever, and says by how much the clock is wrong."""

    @on_virtual_time
    async def story():
        rig = Rig()
        rig.clock_off = off
        rig.log.append("supervision")
        assert rig.channel.platform_time() is None
        async with rig.life():
            assert (await ask(rig)).body == b"answer to " + REQUEST.body
            await until(lambda: rig.log.acknowledged["supervision"] == 1)
            assert now() < 0.1
            (state,) = rig.states
            assert (state.connected, state.code) == (True, "clock.wrong")
            assert state.clock_off_seconds == pytest.approx(off, abs=1)
            assert rig.channel.platform_time() == pytest.approx(START + now(), abs=1)
            rig.platform.order("maintenance.window", rig.uplink.line.say, expires_in=10)
            rig.platform.order("maintenance.window", rig.uplink.line.say, expires_in=-10)
            await until(lambda: len(rig.commands.taken) == 2)
            assert [expired for *_, expired in rig.commands.taken] == [False, True], "by the platform's clock"
            rig.clock_off = 0.0
            await asyncio.sleep(1)
            assert len(rig.states) == 1
            rig.platform.order("key.rotation", rig.uplink.line.say)
            await renewed(rig, 2)
            assert rig.states[1:] == [UP], "told at the next grant"

    story()


@pytest.mark.parametrize("off", [-WRONG_CLOCK_SECONDS + 1, 0.0, WRONG_CLOCK_SECONDS - 1])
def test_a_clock_that_is_nearly_right_is_not_called_wrong(off):
    @on_virtual_time
    async def story():
        rig = Rig()
        rig.clock_off = off
        async with rig.life():
            assert rig.states == [UP]

    story()


@on_virtual_time
async def test_a_clock_that_is_set_wrong_later_delays_nothing():
    """Durations are monotonic: a step of the wall clock neither ends nor prolongs anything."""
    rig = Rig()
    rig.platform.key_seconds = 1_000
    async with rig.life() as life:
        rig.clock_off = YEARS
        await asyncio.sleep(890)
        assert rig.platform.requests == 1
        await asyncio.sleep(20)
        assert rig.platform.requests == 2
        assert rig.states[-1].code == "clock.wrong"
        rig.clock_off = -YEARS
        await asyncio.sleep(900)
        assert (await ask(rig)).body
        assert [state.clock_off_seconds for state in rig.states] == [None, YEARS, -YEARS]
        assert not life.done()


@pytest.mark.parametrize(
    ("valid", "off", "code"),
    [
        ((START - 10, START + 10), 0, None),
        ((START - 10, START + 10), YEARS, None),
        ((START - 20, START - 10), 0, "line.bad_certificate"),
        ((START - 20, START - 10), -15, "line.bad_certificate"),
        ((START + 10, START + 20), 15, "line.bad_certificate"),
        (None, YEARS, None),
    ],
    ids=[
        "valid",
        "valid, clock wrong",
        "past",
        "past, not by the wrong clock",
        "to come, not by the wrong clock",
        "none",
    ],
)
def test_the_brokers_certificate_is_judged_by_the_platforms_signed_time(valid, off, code):
    @on_virtual_time
    async def story():
        watched = Watched()
        rig = watched.rig()
        rig.clock_off, rig.uplink.valid = off, valid
        rig.log.append("supervision")
        if code is None:
            async with rig.life():
                await until(lambda: rig.log.acknowledged["supervision"] == 1)
            return
        error = await rig.failure()
        assert (error.code, error.retry) == (code, True)
        assert rig.states == [LineState(connected=False, code=code)]
        assert watched.wiped == [True, True]
        assert sealed_under(rig) == []
        assert rig.uplink.open == 0

    story()
