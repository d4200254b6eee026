"""The keys of a line on virtual time: renewed without loss, revoked at once, wiped (T20)."""

import asyncio

import pytest

from tests.transport.line_rig import (
    SIGNING,
    STRANGER,
    Rig,
    ask,
    ask_in_vain,
    now,
    on_virtual_time,
    until,
)
from tests.transport.watched_keys import Watched, renewed, sealed_under
from transport import envelope, wire
from transport.channel import LineState
from transport.errors import TransportError
from transport.grants import build_refusal
from transport.line_keys import ASK_AGAIN_SECONDS, KEY_LIFE_SECONDS, OVERLAP_SECONDS

UP, DOWN = LineState(connected=True), LineState(connected=False)


@pytest.mark.parametrize("life", [100, 1_000, 86_400, 10 * 86_400])
def test_keys_are_renewed_at_nine_tenths_of_their_life(life):
    """Of 24 h at the most, whatever the platform says."""

    @on_virtual_time
    async def story():
        rig = Rig()
        rig.platform.key_seconds = life
        async with rig.life() as line:
            due = 0.9 * min(life, KEY_LIFE_SECONDS)
            await asyncio.sleep(due - 1 - now())
            assert rig.platform.requests == 1
            await asyncio.sleep(2)
            assert rig.platform.requests == 2
            assert (await ask(rig)).body
            await asyncio.sleep(due)
            assert rig.platform.requests == 3
            assert not line.done()
        assert rig.states == [UP, DOWN], "a renewal is no transition"

    story()


@pytest.mark.parametrize(("limit", "value"), [("MAX_MESSAGES", 64), ("MAX_BYTES", 8_192)])
def test_keys_that_sealed_nearly_enough_are_renewed(limit, value, monkeypatch):
    monkeypatch.setattr(envelope, limit, value)

    @on_virtual_time
    async def story():
        rig = Rig()
        rig.uplink.latency_seconds = 0.05
        rig.platform.answer = lambda call: [(0.0, b"")]
        async with rig.life() as life:
            for number in range(300):
                await ask(rig, number.to_bytes(16, "big"))
            assert not life.done(), "no key was used up"
        assert len(rig.platform.calls) == 300
        assert rig.platform.requests == len(set(sealed_under(rig))) >= 3
        assert (rig.channel.dropped, rig.platform.complaints) == ({}, {})

    story()


@on_virtual_time
async def test_keys_are_renewed_when_the_platform_says_so():
    rig = Rig()
    async with rig.life():
        for number in range(2, 5):
            rig.platform.order("key.rotation", rig.uplink.line.say)
            await renewed(rig, number)
        await until(lambda: rig.platform.taken[-1] == {"command-1": 3})
    assert [schema for _, schema, _ in rig.commands.taken] == ["key.rotation"] * 3


@on_virtual_time
async def test_a_used_up_key_whose_renewal_is_not_granted_ends_the_line():
    rig = Rig()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envelope, "MAX_MESSAGES", 32)
        async with rig.life() as life:
            rig.platform.grants = "silent"
            for number in range(40):
                if life.done():
                    break
                await asyncio.wait([asyncio.create_task(ask(rig, bytes([number]) * 16, 0.1))])
            with pytest.raises(TransportError) as caught:
                await life
    assert (caught.value.code, caught.value.retry) == ("envelope.key_exhausted", True)
    assert len(sealed_under(rig)) == 32


@on_virtual_time
async def test_the_first_word_under_new_keys_is_what_was_taken():
    rig = Rig()
    async with rig.life():
        await ask(rig)
        rig.platform.order("key.rotation", rig.uplink.line.say)
        await renewed(rig, 2)
        ids = sealed_under(rig)
        first = next(message for message, _ in rig.uplink.published[1:] if message.body.find(ids[-1]) > 0)
        assert first.topic.endswith("/up/taken")


@on_virtual_time
async def test_twenty_rotations_under_a_steady_stream_lose_nothing():
    """Calls and records each way all the time, each rotation in the middle of both; nothing is even sent twice."""
    rig = Rig()
    rig.uplink.latency_seconds = 0.3
    rig.platform.answer = lambda call: [(0.4, call.key)]
    async with rig.life() as life:
        calls = []
        for number in range(1_000):
            if number % 50 == 25:
                rig.platform.order("key.rotation", rig.uplink.line.say)
            rig.log.append("supervision", b"%d" % number)
            calls.append(asyncio.create_task(ask(rig, number.to_bytes(16, "big"))))
            await asyncio.sleep(0.1)
        answers = await asyncio.gather(*calls)
        await until(lambda: rig.log.acknowledged["supervision"] == 1_000)
        assert not life.done()
    assert [answer.body for answer in answers] == [number.to_bytes(16, "big") for number in range(1_000)]
    assert len(rig.platform.calls) == 1_000
    assert [record.sequence for _, record in rig.platform.records] == list(range(1, 1_001))
    assert rig.platform.requests == 21
    assert len(set(rig.platform.heard_under)) == 21
    assert (rig.channel.dropped, rig.platform.complaints) == ({}, {})
    assert rig.states == [UP, DOWN]


@on_virtual_time
async def test_messages_under_the_keys_before_open_for_the_overlap_and_no_longer():
    rig = Rig()
    async with rig.life():
        before = rig.platform.ring._sealing
        assert before is not None
        rig.platform.order("key.rotation", rig.uplink.line.say)
        await renewed(rig, 2)
        late = [before.sealer.seal("receipt", wire.encode(wire.Receipt("elsewhere", 1, bytes(32)))) for _ in range(2)]
        await asyncio.sleep(OVERLAP_SECONDS - 1)
        rig.platform.say_raw(rig.uplink.line.deliver, "receipt", late[0])
        await asyncio.sleep(0.1)
        assert rig.channel.dropped == {"receipt.unknown_stream": 1}, "opened, and nobody's"
        await asyncio.sleep(1)
        rig.platform.say_raw(rig.uplink.line.deliver, "receipt", late[1])
        await asyncio.sleep(0.1)
        assert rig.channel.dropped == {"receipt.unknown_stream": 1, "envelope.unknown_key": 1}


@on_virtual_time
async def test_a_first_word_that_is_lost_is_made_up_for_by_the_next():
    rig = Rig()
    async with rig.life():
        rig.platform.order("key.rotation", rig.uplink.line.say)
        rig.uplink.loses = lambda message: message.topic.endswith("/taken")
        await until(lambda: rig.platform.requests == 2)
        await asyncio.sleep(5)
        assert (await ask(rig)).body
        assert rig.platform.ring._offered is None
        assert len(set(sealed_under(rig))) == 2


@on_virtual_time
async def test_a_platform_that_lost_the_keys_says_so_and_new_ones_are_asked_for():
    """Without that word the silence would tell, 15 s later."""
    rig = Rig()
    async with rig.life() as life:
        nonce = rig.channel._line_keys._nonce
        for signer, about, code in (
            (STRANGER, nonce, "key.none"),
            (SIGNING, bytes(16), "key.none"),
            (SIGNING, nonce, "terminal.unknown"),
        ):
            rig.platform.say_raw(rig.uplink.line.deliver, "grant", build_refusal(about, signer, code, retry=True))
        await asyncio.sleep(1)
        assert not life.done()
        assert rig.channel.dropped == {"key.stale_grant": 3}
        rig.platform.say_raw(rig.uplink.line.deliver, "grant", build_refusal(nonce, SIGNING, "key.none", retry=True))
        await asyncio.wait([life], timeout=1)
        assert life.exception().code == "key.none"


@on_virtual_time
async def test_a_slow_platform_renews_while_the_old_keys_serve():
    rig = Rig()
    rig.platform.key_seconds = 1_000
    async with rig.life():
        rig.platform.grant_after_seconds = ASK_AGAIN_SECONDS - 1
        await asyncio.sleep(901)
        assert len(set(sealed_under(rig))) == 1
        assert (await ask(rig)).body
        await renewed(rig, 2)
        assert now() == pytest.approx(900 + ASK_AGAIN_SECONDS - 1, abs=0.2)
        assert rig.channel.dropped == {}


@on_virtual_time
async def test_a_silent_platform_is_asked_again_until_the_keys_end():
    rig = Rig()
    rig.platform.key_seconds = 1_000
    async with rig.life() as life:
        rig.platform.grants = "silent"
        await asyncio.sleep(998 - now())
        assert (await ask(rig)).body, "the old keys serve to their end"
        assert rig.platform.requests == 2 + 100 // ASK_AGAIN_SECONDS
        await asyncio.wait([life], timeout=10)
        assert now() == pytest.approx(1_000, abs=0.5)
        assert (life.exception().code, life.exception().retry) == ("key.no_answer", True)
    assert rig.states == [UP, LineState(connected=False, code="key.no_answer")]


@on_virtual_time
async def test_a_platform_that_is_silent_for_a_while_renews_at_last():
    rig = Rig()
    rig.platform.key_seconds = 1_000
    async with rig.life() as life:
        rig.platform.grants = "silent"
        await asyncio.sleep(950 - now())
        rig.platform.grants = "granted"
        await until(lambda: len(set(sealed_under(rig))) == 2)
        assert now() < 950 + ASK_AGAIN_SECONDS + 1
        await asyncio.sleep(800)
        assert not life.done()
        assert rig.states == [UP]


@on_virtual_time
async def test_a_renewal_that_is_refused_ends_the_line():
    watched = Watched()
    rig = watched.rig()
    async with rig.life() as life:
        rig.platform.grants = "refused"
        rig.platform.order("key.rotation", rig.uplink.line.say)
        with pytest.raises(TransportError) as caught:
            await life
        assert (caught.value.code, caught.value.retry) == ("key.refused", False)
    assert rig.states == [UP, LineState(connected=False, code="key.refused")]
    assert watched.wiped == [True] * 2
    assert rig.uplink.open == 0


@on_virtual_time
async def test_a_forged_renewal_is_passed_over_and_the_keys_in_force_serve_on():
    """Anybody at the broker can read the nonce and answer."""
    rig = Rig()
    async with rig.life() as life:
        rig.platform.grants = "forged"
        rig.platform.order("key.rotation", rig.uplink.line.say)
        await until(lambda: rig.channel.dropped == {"key.bad_signature": 1})
        assert (await ask(rig)).body
        rig.platform.grants = "granted"
        await renewed(rig, 3)
        assert not life.done()


@on_virtual_time
async def test_after_a_revocation_nothing_is_sealed_and_the_state_says_so():
    watched = Watched()
    rig = watched.rig()
    rig.platform.answer = lambda _call: []
    async with rig.life() as life:
        sent = asyncio.create_task(ask_in_vain(rig, deadline_seconds=3.0))
        await until(lambda: len(rig.platform.calls) == 1)
        rig.platform.order("key.revocation", rig.uplink.line.deliver)
        rig.log.append("alarm")
        await asyncio.wait([life], timeout=5)
        assert (life.exception().code, life.exception().retry) == ("key.revoked", True)
        assert watched.wiped == [True, True]
        published = len(rig.uplink.published)
        unsent = await ask_in_vain(rig, bytes(16), deadline_seconds=1.0)
        assert (await sent).code == "platform.no_answer", "it left: the outcome is unknown"
        assert unsent.code == "line.down", "it never left"
        assert len(rig.uplink.published) == published
    assert [record for stream, record in rig.platform.records if stream == "alarm"] == []
    assert rig.states == [UP, LineState(connected=False, code="key.revoked")]
    assert rig.commands.marks == {"command-1": 1}
    async with rig.life():
        await until(lambda: rig.log.acknowledged["alarm"] == 1)
        assert rig.platform.taken[-1] == {"command-1": 1}, "the revocation is not taken again"


@on_virtual_time
async def test_a_call_under_way_at_a_revocation_is_answered_on_the_next_line():
    rig = Rig()
    rig.platform.answer = lambda _call: []
    async with rig.life() as life:
        call = asyncio.create_task(ask(rig))
        await until(lambda: len(rig.platform.calls) == 1)
        rig.platform.order("key.revocation", rig.uplink.line.say)
        await asyncio.wait([life], timeout=5)
        rig.platform.answer = lambda _call: [(0.0, b"once")]
    async with rig.life():
        assert (await call).body == b"once"


@on_virtual_time
async def test_keys_are_wiped_when_they_are_replaced_and_at_the_end():
    watched = Watched()
    rig = watched.rig()
    async with rig.life():
        rig.platform.order("key.rotation", rig.uplink.line.say)
        await renewed(rig, 2)
        assert watched.wiped == [False] * 4
        await asyncio.sleep(OVERLAP_SECONDS + 1)
        assert watched.wiped == [True, True, False, False]
        rig.platform.order("key.rotation", rig.uplink.line.say)
        await renewed(rig, 3)
        rig.platform.order("key.rotation", rig.uplink.line.say)
        await renewed(rig, 4)
        assert watched.wiped == [True] * 4 + [False] * 4, "a second rotation ends the overlap of the first"
    assert watched.wiped == [True] * 8
    assert [exchange._pair._handle for exchange in watched.exchanges] == [None] * 4


@pytest.mark.parametrize("end", ["lost", "cancelled", "silent", "refused", "never granted"])
def test_no_key_outlives_its_line(end):
    @on_virtual_time
    async def story():
        watched = Watched()
        rig = watched.rig()
        if end == "never granted":
            rig.platform.grants = "silent"
            assert (await rig.failure()).code == "key.no_answer"
        else:
            async with rig.life() as life:
                rig.log.append("supervision")
                match end:
                    case "lost":
                        rig.uplink.line.lose()
                    case "silent":
                        rig.platform.has_keys = False
                    case "refused":
                        rig.platform.grants = "refused"
                        rig.platform.order("key.rotation", rig.uplink.line.say)
                if end != "cancelled":
                    await asyncio.wait([life], timeout=60)
                    assert life.done()
        assert watched.wiped == [True] * len(watched.keys)
        assert [exchange._pair._handle for exchange in watched.exchanges] == [None] * len(watched.exchanges)
        assert watched.exchanges

    story()
