"""Calls on virtual time: urgent before large, in parts over any loss, sent again (T12, T20, T23, I6)."""

import asyncio
import os
import random

import pytest

from tests.transport.line_rig import KEY, REQUEST, Rig, ask, ask_in_vain, now, on_virtual_time, until
from transport import calls, wire
from transport.parts import PART_BYTES, Outgoing
from transport.payload import Payload

MEBIBYTE = 2**20
LARGE = Payload("scan.submit", 1, personal=True, body=os.urandom(2 * MEBIBYTE))
PARTS = 33
"""Of LARGE with what is before its body."""


def _stream(message) -> str:
    return message.topic.split("/")[-1]


async def _send_large(rig: Rig, key: bytes = KEY, deadline_seconds: float = 60.0, on_progress=None) -> bytes:
    answer = await rig.channel.call(LARGE, key=key, deadline_seconds=deadline_seconds, on_progress=on_progress)
    return answer.body


def _answers_small(rig: Rig) -> None:
    rig.platform.answer = lambda call: [(0.0, b"%d bytes" % len(call.body))]


@on_virtual_time
async def test_an_alarm_goes_before_a_thousand_records_and_every_large_call():
    """T23: the next message that leaves is the alarm's, though all the line's places were taken."""
    rig = Rig(streams=("supervision",))
    _answers_small(rig)
    rig.uplink.acknowledge_seconds = 0.5
    async with rig.life():
        for _ in range(1_000):
            rig.log.append("supervision", bytes(1_000))
        large = [asyncio.create_task(_send_large(rig, bytes([number]) * 16, 600)) for number in range(17)]
        small = [asyncio.create_task(ask(rig, bytes([number]) * 16, 600)) for number in range(100, 120)]
        await asyncio.sleep(5.2)
        before = len(rig.platform.heard)
        appended = now()
        rig.log.append("alarm")
        await until(lambda: "alarm" in rig.platform.heard)
        assert rig.platform.heard[before] == "alarm"
        assert now() - appended < 0.5
        await asyncio.gather(*large, *small)
        await until(lambda: rig.log.acknowledged["supervision"] == 1_000)
    assert {len(call.body) for call in rig.platform.calls if call.schema == LARGE.schema} == {len(LARGE.body)}
    assert rig.channel.dropped == {}


@on_virtual_time
async def test_what_waits_leaves_by_its_urgency():
    rig = Rig()
    _answers_small(rig)
    rig.uplink.acknowledge_seconds = 1.0
    async with rig.life():
        large = [asyncio.create_task(_send_large(rig, bytes([number]) * 16, 600)) for number in range(20)]
        await asyncio.sleep(1.5)
        start = len(rig.platform.heard)
        rig.log.append("supervision")
        call = asyncio.create_task(ask(rig, bytes([99]) * 16))
        rig.log.append("alarm")
        await call
        assert rig.platform.heard[start : start + 3] == ["alarm", "call", "supervision"]
        for one in large:
            one.cancel()
        await asyncio.gather(*large, return_exceptions=True)


@on_virtual_time
async def test_a_small_call_is_not_held_up_by_a_large_one():
    rig = Rig()
    rig.uplink.latency_seconds = 0.1
    _answers_small(rig)
    async with rig.life():
        large = asyncio.create_task(_send_large(rig))
        for number in range(10, 15):
            await asyncio.sleep(0.2)
            started = now()
            assert await ask(rig, bytes([number]) * 16)
            assert now() - started < 0.25
        assert not large.done()
        await large


@on_virtual_time
async def test_a_large_call_goes_in_parts_and_tells_how_far_it_is():
    rig = Rig()
    rig.uplink.latency_seconds = 0.01
    _answers_small(rig)
    told: list[tuple[int, int]] = []
    async with rig.life():
        assert await _send_large(rig, on_progress=lambda *progress: told.append(progress)) == b"2097152 bytes"
    (call,) = rig.platform.calls
    assert call == wire.Call(KEY, LARGE.schema, LARGE.version, LARGE.body)
    assert [part.index for part in rig.platform.parts] == list(range(PARTS))
    assert [have for have, _ in told] == sorted(have for have, _ in told)
    assert len(told) == PARTS
    assert told[-1][0] == told[-1][1] == len(wire.encode(call))
    largest = max(len(message.body) for message, _ in rig.uplink.published)
    assert PART_BYTES < largest < PART_BYTES + 200
    assert (rig.channel.dropped, rig.platform.complaints) == ({}, {})


@on_virtual_time
async def test_a_large_answer_comes_in_parts():
    rig = Rig()
    body = os.urandom(2 * MEBIBYTE)
    rig.platform.answer = lambda _call: [(0.0, body)]
    async with rig.life():
        assert (await ask(rig)).body == body
        await until(lambda: rig.platform.outgoing[KEY].is_received, seconds=1)
    assert len(rig.platform.calls) == 1
    assert [_stream(one) for one in rig.platform.down_raw].count("part") == PARTS
    assert rig.channel.dropped == {}


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_what_fits_in_one_message_travels_whole(size):
    @on_virtual_time
    async def story():
        rig = Rig()
        _answers_small(rig)
        empty = len(wire.encode(wire.Call(KEY, LARGE.schema, 1, bytes(40_000)))) - 40_000
        request = Payload(LARGE.schema, 1, personal=True, body=bytes(PART_BYTES - empty + size))
        async with rig.life():
            await rig.channel.call(request, key=KEY, deadline_seconds=5)
        assert rig.platform.heard.count("part") == (2 if size > 0 else 0)
        assert rig.platform.heard.count("call") == (0 if size > 0 else 1)

    story()


@pytest.mark.parametrize("lost", ["part up", "part_receipt down", "part down", "part_receipt up", "any"])
def test_a_large_call_and_its_large_answer_survive_any_loss(lost):
    """A fifth of the messages of a kind never arrive: what shows no sign is sent again, the whole is unharmed."""

    @on_virtual_time
    async def story():
        chance = random.Random(7)  # noqa: S311 (which messages are lost)
        rig = Rig()
        body = os.urandom(MEBIBYTE)
        rig.platform.answer = lambda _call: [(0.0, body)]

        def loses(message) -> bool:
            *_, direction, stream = message.topic.split("/")
            return stream in _CALL_STREAMS and lost in (f"{stream} {direction}", "any") and chance.random() < 0.2

        async with rig.life() as life:
            rig.uplink.loses = loses
            assert await _send_large(rig, deadline_seconds=600) == body
            assert not life.done()
        assert {call.body for call in rig.platform.calls} == {LARGE.body}
        assert set(rig.channel.dropped) <= {"answer.unwanted"}
        assert rig.platform.complaints == {}

    story()


_CALL_STREAMS = {"call", "answer", "part", "part_receipt"}


@on_virtual_time
async def test_the_lost_answer_to_a_large_call_is_asked_for_with_its_last_part():
    rig = Rig()
    _answers_small(rig)
    async with rig.life():
        losing = [True]
        rig.uplink.loses = lambda message: _stream(message) == "answer" and losing and losing.pop()
        assert await _send_large(rig) == b"2097152 bytes"
        assert now() < 2 * calls.RESEND_SECONDS
    assert len(rig.platform.parts) == PARTS + 1
    assert len(rig.platform.calls) == 2


@on_virtual_time
async def test_a_large_call_goes_on_on_the_next_line_where_it_was():
    rig = Rig()
    rig.uplink.latency_seconds = 0.1
    _answers_small(rig)
    call = asyncio.create_task(_send_large(rig, deadline_seconds=60))
    async with rig.life() as life:
        await until(lambda: len(rig.platform.parts) == 20)
        rig.uplink.line.lose()
        await asyncio.wait([life], timeout=5)
    async with rig.life():
        assert await call == b"2097152 bytes"
    assert len(rig.platform.parts) <= PARTS + 2, "only what had no receipt was sent twice"


@on_virtual_time
async def test_a_large_answer_goes_on_on_the_next_line_where_it_was():
    rig = Rig()
    rig.uplink.latency_seconds = 0.1
    body = os.urandom(2 * MEBIBYTE)
    rig.platform.answer = lambda _call: [(0.0, body)]
    call = asyncio.create_task(ask(rig, deadline_seconds=60))

    def parts() -> int:
        return [_stream(one) for one in rig.platform.down_raw].count("part")

    async with rig.life() as life:
        await until(lambda: parts() == 20)
        rig.uplink.line.lose()
        await asyncio.wait([life], timeout=5)
    async with rig.life():
        assert (await call).body == body
    assert parts() <= PARTS + 4


@pytest.mark.parametrize("when", [1, 20, PARTS - 1])
def test_a_platform_that_lost_what_it_had_gets_all_of_it_again(when):
    @on_virtual_time
    async def story():
        rig = Rig()
        rig.uplink.latency_seconds = 0.1
        _answers_small(rig)
        told: list[int] = []
        async with rig.life():
            call = asyncio.create_task(_send_large(rig, on_progress=lambda have, _whole: told.append(have)))
            await until(lambda: len(rig.platform.parts) >= when)
            rig.platform.incoming.clear()
            assert await call == b"2097152 bytes"
        assert PARTS <= len(rig.platform.parts) <= PARTS + when + 4
        assert {one.body for one in rig.platform.calls} == {LARGE.body}

    story()


@on_virtual_time
async def test_a_large_answer_goes_on_when_the_platform_forgot_what_it_had_sent():
    """It restarted: it has the answer, and learns from the receipt how much of it arrived."""
    rig = Rig()
    rig.uplink.latency_seconds = 0.1
    body = os.urandom(2 * MEBIBYTE)
    rig.platform.answer = lambda _call: [(0.0, body)]
    async with rig.life():
        call = asyncio.create_task(ask(rig, deadline_seconds=60))
        await asyncio.sleep(1.0)
        assert rig.platform.outgoing[KEY].received_bytes > 2 * PART_BYTES
        rig.platform.outgoing.clear()
        assert (await call).body == body
    assert [_stream(one) for one in rig.platform.down_raw].count("part") <= PARTS + 6


@on_virtual_time
async def test_an_answer_with_a_wrong_digest_is_dropped_and_the_next_one_taken():
    rig = Rig()
    body = os.urandom(100_000)
    rig.platform.answer = lambda _call: []
    async with rig.life():
        call = asyncio.create_task(ask(rig, deadline_seconds=10))
        await until(lambda: len(rig.platform.calls) == 1)
        whole = wire.encode(wire.Answer(KEY, "scan.result", 1, body))
        first, last = Outgoing(KEY, whole).due()
        spoilt = wire.Part(KEY, 1, 2, last.digest, bytes(len(last.body)))
        say = rig.uplink.line.say
        for part in (first, spoilt):
            rig.platform.say(say, "part", part)
        await until(lambda: rig.channel.dropped == {"part.malformed": 1})
        for part in (first, last):
            rig.platform.say(say, "part", part)
        assert (await call).body == body


@on_virtual_time
async def test_parts_that_make_no_answer_of_the_call_are_dropped():
    """Another call's answer, no answer at all, an answer that would never end: the call goes on waiting."""
    rig = Rig()
    rig.platform.answer = lambda _call: []
    async with rig.life() as life:
        call = asyncio.create_task(ask_in_vain(rig, deadline_seconds=1.5))
        await until(lambda: len(rig.platform.calls) == 1)
        say = rig.uplink.line.say
        other = Outgoing(KEY, wire.encode(wire.Answer(bytes(16), "x", 1, bytes(10)))).due()[0]
        garbage = Outgoing(KEY, b"\xc1" * 20).due()[0]
        endless = wire.Part(KEY, 0, 2**16, bytes(32), bytes(PART_BYTES))
        unasked = Outgoing(bytes(16), b"\xc1").due()[0]
        for part in (other, garbage, endless, unasked):
            rig.platform.say(say, "part", part)
        await until(lambda: sum(rig.channel.dropped.values()) == 4)
        assert rig.channel.dropped == {"message.malformed": 2, "part.malformed": 1, "answer.unwanted": 1}
        assert (await call).code == "platform.no_answer"
        assert not life.done()


@on_virtual_time
async def test_what_came_of_an_answer_is_wiped_when_its_call_ends():
    rig = Rig()
    body = os.urandom(MEBIBYTE)
    rig.platform.answer = lambda _call: [(0.0, body)]
    rig.uplink.latency_seconds = 0.2
    async with rig.life():
        call = asyncio.create_task(ask_in_vain(rig, deadline_seconds=1.5))
        await asyncio.sleep(1.2)
        buffer = rig.channel._calls._calls[KEY].incoming._buffer
        assert len(buffer) > PART_BYTES
        assert (await call).code == "platform.no_answer"
        assert buffer == b""
        assert KEY not in rig.channel._calls._calls


@pytest.mark.parametrize("stream", ["call", "answer"])
def test_a_call_of_which_a_copy_or_answer_is_lost_is_sent_again_on_the_same_line(stream):
    """A PUBACK proves nothing: the key makes the second copy harmless."""

    @on_virtual_time
    async def story():
        rig = Rig()
        async with rig.life():
            losing = [True, True]
            rig.uplink.loses = lambda message: _stream(message) == stream and bool(losing) and losing.pop()
            started = now()
            assert (await ask(rig, deadline_seconds=10)).body
            assert now() - started == pytest.approx(3 * calls.RESEND_SECONDS, abs=0.1)
        assert {(call.key, call.body) for call in rig.platform.calls} == {(KEY, REQUEST.body)}
        copies = [message for message, _ in rig.uplink.published if _stream(message) == "call"]
        assert len(copies) == len({message.body for message in copies}) == 3, "each in an envelope of its own"

    story()
