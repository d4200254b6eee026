"""A watched device is asked seldom while nothing depends on it, and is never called stale for that (rule 4, L10)."""

import asyncio

from devices.config import Environment
from devices.environment.driver import EnvironmentUnit
from devices.ups.status import STALE, Source
from sim.devices.environment import VirtualEnvironmentUnit
from sim.virtual_time import run
from tests.devices.sensor_rig import Rig, running
from tests.devices.ups_rig import megatec_rig


def test_a_calm_ups_that_may_be_asked_seldom_is_asked_every_thirty_seconds():
    async def story() -> None:
        async with megatec_rig() as rig:
            rig.driver.watch(closely=False)
            await asyncio.sleep(31)
            ages = []
            for _ in range(120):
                await asyncio.sleep(1)
                ages.append(rig.driver.reading().age_seconds)
            assert all(age is not None for age in ages), "a stale limit of 20 s fits a poll every 30 s"
            assert 28 < max(ages) < 31

    run(story())


def test_watched_closely_it_is_asked_at_once():
    async def story() -> None:
        async with megatec_rig() as rig:
            rig.driver.watch(closely=False)
            await asyncio.sleep(50)
            assert rig.driver.reading().age_seconds > 5
            rig.driver.watch(closely=True)
            assert rig.driver.reading() != STALE
            await asyncio.sleep(1)
            assert rig.driver.reading().age_seconds <= 1
            await asyncio.sleep(20)
            assert rig.driver.reading().age_seconds < 6

    run(story())


def test_what_is_not_calm_is_asked_often_whoever_watches():
    """On battery every figure counts; on the mains again it may be asked seldom."""

    async def story() -> None:
        async with megatec_rig() as rig:
            rig.driver.watch(closely=False)
            await asyncio.sleep(40)
            rig.device.mains_off()
            await rig.until_detail("source", "on_battery")
            for _ in range(20):
                await asyncio.sleep(1)
                assert rig.driver.reading().age_seconds < 6
            assert rig.driver.reading().source is Source.ON_BATTERY
            rig.device.mains_on()
            await asyncio.sleep(20)
            assert rig.driver.reading().age_seconds > 6

    run(story())


def test_a_silent_one_is_stale_in_time_also_when_it_was_asked_seldom():
    """20 s, and the 25 s by which its next poll was put off."""

    async def story() -> None:
        async with megatec_rig() as rig:
            rig.driver.watch(closely=False)
            await asyncio.sleep(40)
            asked = asyncio.get_running_loop().time() - rig.driver.reading().age_seconds
            rig.device.silent()
            await asyncio.sleep(44 - (asyncio.get_running_loop().time() - asked))
            assert rig.driver.reading() != STALE
            await asyncio.sleep(2)
            assert rig.driver.reading() == STALE

    run(story())


def test_an_open_door_is_watched_closely():
    async def story() -> None:
        device = VirtualEnvironmentUnit()
        settings = Environment(port="unit")
        rig = Rig(device, "unit", lambda opened, told: EnvironmentUnit(settings, opened, told))
        async with running(rig):
            rig.driver.watch(closely=False)
            await asyncio.sleep(40)
            device.open_door()
            await rig.until_detail("cabinetDoor", "open")
            await asyncio.sleep(40)
            assert rig.driver.reading().age_seconds <= 11

    run(story())
