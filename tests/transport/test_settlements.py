"""A call is settled by its key when somebody asks: the platform acted on it, or never will (rule 2; T12, T20)."""

import asyncio

import pytest

from tests.transport.line_rig import KEY, Rig, ask, ask_in_vain, on_virtual_time, until
from transport.errors import TransportError


@on_virtual_time
async def test_the_line_keeps_nothing_of_a_call_that_ended_without_an_answer():
    """What is to be settled is on disk, as an intent; a late answer is shown to nobody."""
    rig = Rig()
    rig.platform.answer = lambda _call: [(5.0, b"too late, and somebody's")]
    async with rig.life() as life:
        assert (await ask_in_vain(rig, deadline_seconds=1.0)).code == "platform.no_answer"
        call = asyncio.create_task(ask(rig))
        await until(lambda: len(rig.platform.calls) == 2)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert rig.channel._calls._calls == {}
        await asyncio.sleep(60)
        assert rig.channel.dropped == {"answer.unwanted": 2}
        assert rig.platform.settled == []
        assert not life.done()


@on_virtual_time
async def test_a_call_is_settled_by_its_key():
    rig = Rig()
    with pytest.raises(TransportError) as caught:
        await rig.channel.settle(KEY, deadline_seconds=1.0)
    assert caught.value.code == "line.down"
    async with rig.life():
        assert await rig.channel.settle(KEY, deadline_seconds=1.0) == "void"
        rig.platform.settlement = b"acted"
        assert await rig.channel.settle(KEY, deadline_seconds=1.0) == "acted"
        rig.platform.settlement = b"perhaps"
        with pytest.raises(TransportError) as caught:
            await rig.channel.settle(KEY, deadline_seconds=1.0)
        assert caught.value.code == "message.malformed"
        rig.platform.settlement = None
        with pytest.raises(TransportError) as caught:
            await rig.channel.settle(KEY, deadline_seconds=1.0)
        assert caught.value.code == "platform.no_answer"
    assert rig.platform.settled[:3] == [KEY] * 3
    keys = [call.key for call in rig.platform.calls]
    assert keys == [], "a settlement is no call of its own to the platform's services"
