"""Calls without an answer are settled by their keys, on virtual time (rule 2; T12, T20)."""

import asyncio

import pytest

from tests.transport.line_rig import KEY, Rig, ask, ask_in_vain, on_virtual_time, until
from transport import settlements
from transport.channel import LineState
from transport.errors import TransportError


@pytest.mark.parametrize(("said", "outcome"), [(b"acted", "acted"), (b"void", "void")])
def test_a_call_without_an_answer_is_settled_by_its_key(said, outcome):
    """Rule 2: whatever became of it is known, and a late answer is shown to nobody."""

    @on_virtual_time
    async def story():
        rig = Rig()
        rig.platform.answer = lambda _call: [(5.0, b"too late, and somebody's")]
        rig.platform.settlement = said
        async with rig.life() as life:
            assert (await ask_in_vain(rig, deadline_seconds=1.0)).code == "platform.no_answer"
            await until(lambda: rig.platform.settled == [KEY], seconds=1)
            await until(lambda: rig.channel._settlements.outcomes == {outcome: 1}, seconds=1)
            await asyncio.sleep(60)
            assert rig.channel.dropped == {"answer.unwanted": 1}
            assert not life.done()
        assert rig.platform.settled == [KEY], "settled once"

    story()


@on_virtual_time
async def test_a_cancelled_call_is_settled_by_its_key():
    rig = Rig()
    rig.platform.answer = lambda _call: []
    async with rig.life():
        call = asyncio.create_task(ask(rig))
        await until(lambda: len(rig.platform.calls) == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: rig.platform.settled == [KEY], seconds=1)


@on_virtual_time
async def test_what_is_owed_is_settled_on_the_next_line():
    rig = Rig()
    rig.platform.answer = lambda _call: []
    async with rig.life() as life:
        call = asyncio.create_task(ask_in_vain(rig, deadline_seconds=3.0))
        await until(lambda: len(rig.platform.calls) == 1)
        rig.uplink.line.lose()
        assert (await call).code == "platform.no_answer"
        await asyncio.wait([life], timeout=1)
    await asyncio.sleep(3_600)
    assert rig.platform.settled == []
    async with rig.life():
        await until(lambda: rig.channel._settlements.outcomes == {"void": 1}, seconds=1)


@on_virtual_time
async def test_a_settlement_that_is_not_answered_is_asked_for_again():
    rig = Rig()
    rig.platform.answer = lambda _call: []
    rig.platform.settlement = b"perhaps"
    async with rig.life() as life:
        assert (await ask_in_vain(rig, deadline_seconds=1.0)).code == "platform.no_answer"
        await until(lambda: len(rig.platform.settled) == 3, seconds=2.5 * settlements.AGAIN_SECONDS)
        assert rig.channel._settlements.outcomes == {}
        rig.platform.settlement = b"acted"
        await until(lambda: rig.channel._settlements.outcomes == {"acted": 1}, seconds=settlements.AGAIN_SECONDS + 1)
        assert not life.done()


@on_virtual_time
async def test_a_call_can_be_settled_by_hand():
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


@on_virtual_time
async def test_no_more_than_so_many_calls_are_owed():
    rig = Rig()
    owed = rig.channel._settlements
    for number in range(2 * settlements.MOST_OWED):
        owed.owe(number.to_bytes(16, "big"))
    assert len(owed._owed) == settlements.MOST_OWED
    async with rig.life():
        await until(lambda: owed.outcomes == {"void": settlements.MOST_OWED})
    assert owed._owed == {}
    assert rig.states == [LineState(connected=True), LineState(connected=False)]
