"""No data key outlives a cancellation that meets its grant (T20)."""

import asyncio

import pytest

from tests.transport.line_rig import SIGNING, TERMINAL, on_virtual_time, until
from tests.transport.watched_keys import Watched
from transport import wire
from transport.line_keys import ChannelKeys, LineKeys


@pytest.fixture
def cancels(monkeypatch) -> list[int]:
    """Cancel who waits for a grant of these numbers, counted from 1, when it has just come; and the whole life."""
    cancels: list[int] = []
    grants: list[None] = []
    take = LineKeys.take

    def meeting(self: LineKeys, body: bytes) -> None:
        take(self, body)
        grants.append(None)
        if len(grants) in cancels:
            for task in asyncio.all_tasks():
                if task.get_name() in ("channel-keys", "life"):
                    task.cancel()

    monkeypatch.setattr(LineKeys, "take", meeting)
    return cancels


def test_a_cancellation_that_meets_the_first_grant_wipes_its_keys(cancels):
    cancels.append(1)

    @on_virtual_time
    async def story():
        watched = Watched()
        rig = watched.rig()
        life = asyncio.create_task(rig.channel.run(lambda: None), name="life")
        await asyncio.gather(life, return_exceptions=True)
        assert life.cancelled()
        assert watched.wiped == [True] * 2

    story()


def test_a_cancellation_that_meets_a_renewal_wipes_both_generations(cancels):
    cancels.append(2)

    @on_virtual_time
    async def story():
        watched = Watched()
        rig = watched.rig()
        life = asyncio.create_task(rig.channel.run(lambda: None), name="life")
        await until(lambda: rig.channel.connected)
        rig.platform.order("key.rotation", rig.uplink.line.say)
        await asyncio.gather(life, return_exceptions=True)
        assert life.cancelled()
        assert watched.wiped == [True] * 4

    story()


@on_virtual_time
async def test_a_cancellation_after_the_grant_but_before_the_line_wipes_its_keys():
    """The one who listens is waited for meanwhile."""
    watched = Watched()
    rig = watched.rig()
    keys = LineKeys(
        TERMINAL, "b7", ChannelKeys(watched, SIGNING.public), wall_clock=lambda: 0.0, on_drop=lambda _code: None
    )
    down, will = wire.topic(TERMINAL, "down", "#"), rig.channel._presence(online=False)
    async with rig.uplink.connect([down], will) as connection:
        obtaining = asyncio.create_task(keys.obtain(connection))
        while not (obtaining.done() or keys._nonce):  # noqa: ASYNC110 - the very turn of the loop matters
            await asyncio.sleep(0)
        assert not obtaining.done()
        obtaining.cancel()
        await asyncio.gather(obtaining, return_exceptions=True)
        assert obtaining.cancelled()
    assert watched.wiped == [True] * 2
