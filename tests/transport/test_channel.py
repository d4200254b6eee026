"""The channel against a platform in memory, on virtual time: every way a line can fail (T12, T20, I6, I7)."""

import asyncio
import os

import msgspec
import pytest

from tests.transport.line_rig import (
    KEY,
    REQUEST,
    SETTINGS,
    TERMINAL,
    Rig,
    ask,
    ask_in_vain,
    now,
    on_virtual_time,
    until,
)
from transport import wire
from transport.channel import LineState
from transport.errors import TransportError
from transport.parts import MAX_WHOLE_BYTES
from transport.payload import Payload
from transport.uplink import Message

UP, DOWN = LineState(connected=True), LineState(connected=False)


@on_virtual_time
async def test_a_life_says_online_gets_keys_and_serves():
    rig = Rig()
    assert not rig.channel.connected
    async with rig.life():
        assert rig.channel.connected
        presence, retained = rig.uplink.published[0]
        assert presence.topic == f"govterm/v1/{TERMINAL}/up/presence"
        assert retained
        assert rig.platform.presence == [wire.Presence(online=True, boot_id="b7", software_version="0.1.0")]
        will = wire.decode(rig.uplink.line.will.body, wire.Presence)
        assert not will.online
        assert rig.uplink.line.will.topic == presence.topic
        assert rig.uplink.line.subscriptions == {wire.topic(TERMINAL, "down", "#")}
        assert rig.platform.taken == [{}], "the first word under new keys shows that they came"
    assert rig.states == [UP, DOWN]
    assert rig.uplink.open == 0


@on_virtual_time
async def test_a_call_is_answered_whatever_the_answer_says():
    rig = Rig()
    async with rig.life():
        answer = await ask(rig)
    assert answer.body == b"answer to " + REQUEST.body
    assert (answer.schema, answer.version, answer.personal) == ("certificate.issue", 1, True)
    assert "张" not in repr(answer)
    assert rig.platform.calls == [wire.Call(KEY, REQUEST.schema, REQUEST.version, REQUEST.body)]


@on_virtual_time
async def test_calls_at_once_each_get_their_own_answer():
    rig = Rig()
    rig.platform.answer = lambda call: [(1.0 - call.key[0] / 100, call.key)]
    async with rig.life():
        keys = [bytes([number]) * 16 for number in range(30)]
        calls = []
        for key in keys:
            calls.append(asyncio.create_task(ask(rig, key)))
            await asyncio.sleep(0.01)
        answers = await asyncio.gather(*calls)
    assert [answer.body for answer in answers] == keys
    assert [call.key for call in rig.platform.calls] == keys, "each is sent once on one line"


@on_virtual_time
async def test_a_call_waits_for_the_line_within_its_deadline():
    rig = Rig()
    call = asyncio.create_task(ask(rig))
    await asyncio.sleep(3)
    async with rig.life():
        assert (await call).body == b"answer to " + REQUEST.body


@on_virtual_time
async def test_a_call_that_never_left_says_so():
    rig = Rig()
    error = await ask_in_vain(rig)
    assert (error.code, error.retry) == ("line.down", True)
    assert now() == pytest.approx(5.0, abs=0.01)
    async with rig.life():
        await asyncio.sleep(1)
    assert rig.platform.calls == []


@on_virtual_time
async def test_a_connection_lost_in_mid_call_sends_it_again_under_the_same_key():
    rig = Rig()
    rig.platform.answer = lambda _call: []
    async with rig.life() as life:
        call = asyncio.create_task(ask(rig))
        await until(lambda: len(rig.platform.calls) == 1)
        rig.uplink.line.lose()
        with pytest.raises(TransportError) as caught:
            await life
    assert (caught.value.code, caught.value.retry) == ("line.down", True)
    rig.platform.answer = lambda _call: [(0.0, b"once")]
    async with rig.life():
        assert (await call).body == b"once"
    assert [call.key for call in rig.platform.calls] == [KEY, KEY]
    assert rig.states == [UP, LineState(connected=False, code="line.down"), UP, DOWN]


@on_virtual_time
async def test_an_answer_that_never_comes_is_unknown():
    rig = Rig()
    rig.platform.answer = lambda _call: []
    async with rig.life():
        started = now()
        error = await ask_in_vain(rig, deadline_seconds=2.0)
        assert (error.code, error.retry) == ("platform.no_answer", True)
        assert now() - started == pytest.approx(2.0, abs=0.01)


@on_virtual_time
async def test_a_late_answer_is_dropped_and_counted():
    rig = Rig()
    rig.platform.answer = lambda _call: [(3.0, b"too late")]
    async with rig.life() as life:
        assert (await ask_in_vain(rig, deadline_seconds=2.0)).code == "platform.no_answer"
        await asyncio.sleep(2)
        assert rig.channel.dropped == {"answer.unwanted": 1}
        assert not life.done()


@on_virtual_time
async def test_the_second_of_two_answers_is_dropped_and_counted():
    rig = Rig()
    rig.platform.answer = lambda _call: [(0.0, b"first"), (0.0, b"second"), (1.0, b"third")]
    async with rig.life():
        assert (await ask(rig)).body == b"first"
        await asyncio.sleep(2)
        assert rig.channel.dropped == {"answer.unwanted": 2}


@on_virtual_time
async def test_a_message_delivered_twice_is_opened_once():
    """MQTT QoS 1 may deliver twice, an attacker may replay."""
    rig = Rig()
    async with rig.life():
        await ask(rig)
        rig.uplink.line.deliver(rig.platform.down_raw[-1])
        await asyncio.sleep(1)
        assert rig.channel.dropped == {"envelope.replayed": 1}


@on_virtual_time
async def test_garbage_on_every_topic_is_dropped_and_the_line_lives():
    rig = Rig()
    async with rig.life() as life:
        for stream in ("answer", "receipt", "grant"):
            for body in (b"", b"\xc1", bytes(100), os.urandom(100), b"\x95\x01\x01"):
                rig.uplink.line.deliver(Message(wire.topic(TERMINAL, "down", stream), body))
        rig.platform.say(rig.uplink.line.deliver, "answer", wire.Receipt("supervision", 1, bytes(32)))
        rig.platform.say(rig.uplink.line.deliver, "receipt", wire.Answer(KEY, "x", 1, b""))
        rig.platform.say(rig.uplink.line.deliver, "receipt", wire.Receipt("unheard-of", 1, bytes(32)))
        await asyncio.sleep(1)
        assert not life.done()
        assert (await ask(rig)).body == b"answer to " + REQUEST.body
        assert rig.channel.dropped == {
            "envelope.malformed": 10,
            "key.stale_grant": 5,
            "message.malformed": 2,
            "receipt.unknown_stream": 1,
        }


@on_virtual_time
async def test_an_envelope_moved_to_another_topic_is_refused():
    """The additional data binds stream and topic."""
    rig = Rig()
    rig.log.append("supervision")
    async with rig.life():
        await until(lambda: rig.log.acknowledged["supervision"] == 1)
        sealed = rig.platform.ring.seal("answer", wire.encode(wire.Receipt("supervision", 2, bytes(32))))
        rig.platform.say_raw(rig.uplink.line.deliver, "receipt", sealed)
        await asyncio.sleep(1)
        assert rig.channel.dropped == {"envelope.forged": 1}


@on_virtual_time
async def test_a_call_under_way_is_not_asked_twice():
    rig = Rig()
    rig.platform.answer = lambda _call: [(1.0, b"once")]
    async with rig.life():
        first = asyncio.create_task(ask(rig))
        await asyncio.sleep(0.1)
        assert (await ask_in_vain(rig)).code == "call.pending"
        assert (await first).body == b"once"
    assert len(rig.platform.calls) == 1


@on_virtual_time
async def test_a_call_the_wire_does_not_take_is_refused_and_the_line_lives():
    rig = Rig()
    async with rig.life() as life:
        huge = Payload("certificate.request", 1, personal=False, body=bytes(MAX_WHOLE_BYTES))
        with pytest.raises(TransportError) as caught:
            await rig.channel.call(huge, key=KEY, deadline_seconds=1.0)
        assert caught.value.code == "call.unfit"
        assert (await ask_in_vain(rig, key=b"short")).code == "call.unfit"
        assert not life.done()
        assert (await ask(rig)).body


@on_virtual_time
async def test_a_cancelled_call_is_not_sent():
    rig = Rig()
    call = asyncio.create_task(ask(rig))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    async with rig.life():
        await asyncio.sleep(1)
    assert rig.platform.calls == []


@pytest.mark.parametrize(
    ("grants", "code", "retry"),
    [
        ("refused", "key.refused", False),
        ("forged", "key.bad_signature", False),
        ("silent", "key.no_answer", True),
    ],
)
def test_no_keys_no_line(grants, code, retry):
    @on_virtual_time
    async def story():
        rig = Rig()
        rig.platform.grants = grants
        rig.log.append("supervision")
        error = await rig.failure()
        assert (error.code, error.retry) == (code, retry)
        assert error.advice
        assert now() <= SETTINGS.connect_seconds + 0.01
        assert (await rig.failure()).code == code
        assert rig.states == [LineState(connected=False, code=code)], "told on transitions only"
        assert rig.platform.records == []
        assert rig.uplink.open == 0
        rig.platform.grants = "granted"
        async with rig.life():
            await until(lambda: rig.log.acknowledged["supervision"] == 1)

    story()


@pytest.mark.parametrize(
    ("grants", "dropped"),
    [("stale_first", {"key.stale_grant": 1}), ("garbage_first", {"key.malformed": 1, "message.before_grant": 1})],
)
def test_a_grant_for_another_request_is_passed_over(grants, dropped):
    @on_virtual_time
    async def story():
        rig = Rig()
        rig.platform.grants = grants
        async with rig.life():
            assert rig.channel.dropped == dropped
            assert (await ask(rig)).body == b"answer to " + REQUEST.body

    story()


@on_virtual_time
async def test_a_broker_out_of_reach_is_line_down():
    rig = Rig()
    rig.uplink.down = True
    error = await rig.failure()
    assert (error.code, error.retry) == ("line.down", True)


@on_virtual_time
async def test_a_broker_that_hangs_at_the_start_is_line_down_in_time():
    rig = Rig()
    rig.uplink.hangs = True
    assert (await rig.failure()).code == "line.down"
    assert now() == pytest.approx(SETTINGS.connect_seconds, abs=0.02)


@on_virtual_time
async def test_a_broker_that_hangs_later_ends_the_life():
    rig = Rig()
    async with rig.life() as life:
        rig.uplink.hangs = True
        error = await ask_in_vain(rig, deadline_seconds=1.0)
        assert error.code == "platform.no_answer", "it may have left: the outcome is unknown"
        await asyncio.wait([life], timeout=10)
        assert life.exception().code == "line.down"


@on_virtual_time
async def test_a_platform_that_lost_its_keys_is_asked_for_new_ones():
    """It restarted behind a broker that stayed: the line looks well, and no record is ever receipted."""
    rig = Rig()
    async with rig.life() as life:
        await asyncio.sleep(1_000)
        rig.platform.has_keys = False
        rig.log.append("supervision")
        await asyncio.wait([life], timeout=20)
        assert now() == pytest.approx(1_015, abs=0.1)
        assert (life.exception().code, life.exception().retry) == ("platform.no_answer", True)
    async with rig.life():
        await until(lambda: rig.log.acknowledged["supervision"] == 1)
    assert rig.states == [UP, LineState(connected=False, code="platform.no_answer"), UP, DOWN]
    assert rig.uplink.open == 0


@on_virtual_time
async def test_calls_that_are_not_answered_end_the_life_of_their_keys():
    rig = Rig()
    async with rig.life() as life:
        rig.platform.has_keys = False
        assert (await ask_in_vain(rig)).code == "platform.no_answer"
        await asyncio.wait([life], timeout=20)
        assert life.exception().code == "platform.no_answer"
    async with rig.life():
        assert (await ask(rig)).body


@on_virtual_time
async def test_a_line_that_is_asked_nothing_or_hears_anything_lives_on():
    rig = Rig()
    rig.platform.answer = lambda _call: [(4.9, b"late")]
    async with rig.life() as life:
        await asyncio.sleep(3_600)
        rig.platform.receipts = False
        rig.log.append("supervision")
        for number in range(10):
            assert (await ask(rig, bytes([number]) * 16)).body == b"late"
        assert not life.done()


@on_virtual_time
async def test_a_call_may_take_as_long_as_the_platform_is_given():
    rig = Rig(settings=msgspec.structs.replace(SETTINGS, answer_seconds=60.0))
    rig.platform.answer = lambda _call: [(50.0, b"slow")]
    async with rig.life():
        assert (await ask(rig, deadline_seconds=60.0)).body == b"slow"
    assert 1 < len(rig.platform.calls) < 10, "sent again, but ever more seldom"


@on_virtual_time
async def test_an_eavesdropper_at_the_broker_reads_nothing():
    """No known plaintext, key or idempotency key in any byte published by either side (T20, I7)."""
    rig = Rig()
    rig.log.append("supervision", b"certificate printed")
    async with rig.life():
        await ask(rig)
        await until(lambda: rig.log.acknowledged["supervision"] == 1)
    seen = b"".join(message.body for message, _ in rig.uplink.published)
    seen += b"".join(message.body for message in rig.platform.down_raw)
    text = REQUEST.body.decode()
    known = [REQUEST.body, text.encode("utf-16-le"), text.encode("gb18030"), "张三丰".encode(), b"110101199003071234"]
    known += [b"certificate printed", b"answer to", b"certificate.request", b"supervision", KEY]
    assert len(rig.platform.calls) == len(rig.platform.records) == 1
    assert [secret for secret in known if secret in seen] == []
