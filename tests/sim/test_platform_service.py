"""The platform on its broker: it comes back when the broker does, and speaks late when it is slow."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.memory import MemoryUplink
from sim.people import Population
from sim.platform.logic import Platform, PlatformKeys
from sim.platform.service import serve
from sim.platform.store import Store
from sim.virtual_time import run
from transport import sm2
from transport.grants import PendingRequest
from transport.uplink import Message, UplinkLost
from transport.wire import topic

SIGNING, SEAL, IDENTITY = (sm2.generate() for _ in range(3))
NOW = 1_800_000_000.0
TERMINAL = "GT-0001"


@pytest.fixture
def platform() -> Iterator[Platform]:
    store = Store(":memory:")
    keys = PlatformKeys(SIGNING, SEAL, {TERMINAL: IDENTITY.public})
    yield Platform(store, keys, Population(), Path(), lambda: NOW)
    store.close()


async def ask_for_keys(uplink: MemoryUplink) -> float:
    """Ask for keys and return how long the answer took."""
    request = PendingRequest(TERMINAL, "boot", NOW, IDENTITY)
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
