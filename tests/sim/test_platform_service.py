"""The platform on its broker: it comes back when the broker does, and speaks late when it is slow."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.people import Population
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.service import serve
from sim.platform.store import Store
from sim.uplink import MemoryUplink
from sim.virtual_time import run
from tests.sim.platform_client import event
from tests.transport.line_rig import SETTINGS, TERMINAL, FakeCommands, FakeLog, until
from transport import sm2
from transport.channel import Channel
from transport.errors import TransportError
from transport.gate import Urgency
from transport.grants import PendingRequest
from transport.keys import IdentityKey
from transport.line_keys import ChannelKeys
from transport.uplink import Message, UplinkLost
from transport.wire import topic

SIGNING, SEAL, IDENTITY = (sm2.generate() for _ in range(3))
NOW = 1_800_000_000.0


@pytest.fixture
def platform() -> Iterator[Platform]:
    store = Store(":memory:")
    keys = PlatformKeys(SIGNING, SEAL, {TERMINAL: IDENTITY.public})
    yield Platform(store, keys, Population(), Path(), lambda: NOW)
    store.close()


async def ask_for_keys(uplink: MemoryUplink) -> float:
    """Ask for keys and return how long the answer took."""
    request = PendingRequest(TERMINAL, "boot", NOW, IdentityKey(IDENTITY))
    loop = asyncio.get_running_loop()
    async with uplink.connect([topic(TERMINAL, "down", "grant")]) as connection, asyncio.timeout(60):
        asked = loop.time()
        await connection.publish(Message(topic(TERMINAL, "up", "grant"), request.message))
        request.open((await connection.receive()).body, SIGNING.public)
        return loop.time() - asked


def test_it_answers_comes_back_and_can_be_slow(platform: Platform) -> None:
    connected = 0

    async def story() -> None:
        nonlocal connected
        uplink = MemoryUplink()
        up = asyncio.Event()

        def ready() -> None:
            nonlocal connected
            connected += 1
            up.set()

        serving = asyncio.create_task(serve(platform, uplink, ready))
        await up.wait()
        assert await ask_for_keys(uplink) == pytest.approx(0, abs=0.01)
        up.clear()
        uplink.stop()
        await asyncio.sleep(5)
        with pytest.raises(UplinkLost):
            await ask_for_keys(uplink)
        uplink.start()
        await up.wait()
        platform.faults.slow(2.5)
        assert await ask_for_keys(uplink) == pytest.approx(2.5, abs=0.01)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    run(story())
    assert connected == 2
    assert platform.summary()["grants"] == 2


def test_a_platform_that_restarts_gets_every_record(platform: Platform) -> None:
    """Its keys are gone with its memory; the terminal, which sees no line lost, asks for new ones (T12, I6)."""
    states: list[str | None] = []

    async def story() -> None:
        uplink, log, loop = MemoryUplink(), FakeLog("supervision"), asyncio.get_running_loop()
        channel = Channel(
            SETTINGS,
            uplink,
            ChannelKeys(IdentityKey(IDENTITY), SIGNING.public),
            log,
            streams={"supervision": Urgency.RECORD},
            commands=FakeCommands(),
            boot_id="boot",
            software_version="0.1.0",
            wall_clock=lambda: NOW + loop.time(),
            on_state=lambda state: states.append(state.code),
            on_dropped=lambda _: None,
        )

        async def live() -> None:
            while True:
                with contextlib.suppress(TransportError):
                    await channel.run(lambda: None)
                await asyncio.sleep(0.2)

        living = asyncio.create_task(live())
        for sequence in (1, 2):
            restarted = Platform(platform.store, platform.keys, platform.people, platform.font, platform.wall_clock)
            serving = asyncio.create_task(serve(restarted, uplink, lambda: None))
            await until(lambda: channel.connected)
            log.append("supervision", event(sequence))
            await until(lambda sequence=sequence: log.acknowledged["supervision"] == sequence, 20)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)

    run(story())
    assert states == [None, "key.none", None, None]
    assert platform.summary()["records"] == 2


def test_a_platform_that_is_cancelled_as_its_broker_is_lost_ends(platform: Platform) -> None:
    class Lost(MemoryUplink):
        @contextlib.asynccontextmanager
        async def _connected(self, subscriptions, will):
            try:
                async with super()._connected(subscriptions, will) as connection:
                    yield connection
            except asyncio.CancelledError:
                raise ExceptionGroup("lost", [UplinkLost("in the same moment")]) from None

    async def story() -> None:
        up = asyncio.Event()
        serving = asyncio.create_task(serve(platform, Lost(), up.set))
        await up.wait()
        serving.cancel()
        await asyncio.wait([serving], timeout=60)
        assert serving.cancelled()

    run(story())
