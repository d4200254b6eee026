"""Calls and answers in parts: any loss, any order, any garbage; bounded memory (S5)."""

import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport import parts
from transport.errors import TransportError
from transport.parts import Incoming, Outgoing
from transport.sm import sm3
from transport.wire import Part, PartReceipt

KEY = bytes(range(16))
REAL, SMALL = parts.PART_BYTES, 8


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Parts of 8 bytes, so that a few dozen bytes make a whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_BYTES", SMALL)
        yield


def _whole(count: int, short_by: int = 0) -> bytes:
    return os.urandom(count * SMALL - short_by)


def _refused(act) -> None:
    with pytest.raises(TransportError) as caught:
        act()
    assert caught.value.code == "part.malformed"


def _part(whole: bytes, index: int, /, **changes) -> Part:
    count = -(-len(whole) // SMALL)
    fields = {"index": index, "count": count, "digest": sm3(whole), "body": whole[index * SMALL : (index + 1) * SMALL]}
    return Part(KEY, **{**fields, **changes})


def test_a_whole_goes_over_two_parts_ahead_of_the_receipt():
    whole = _whole(5, short_by=3)
    out = Outgoing(KEY, whole)
    sent = out.due()
    assert [part.index for part in sent] == [0, 1]
    assert out.due() == [], "each is returned once"
    incoming = Incoming(sent[0])
    told, got = [], None
    while sent:
        part = sent.pop(0)
        assert (part.key, part.count, part.digest) == (KEY, 5, sm3(whole))
        got = incoming.add(part)
        assert out.receive(incoming.receipt)
        told.append(out.received_bytes)
        sent += out.due()
        assert len(sent) <= parts.WINDOW
    assert got == whole
    assert told == [8, 16, 24, 32, 37]


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(1, 20), short_by=st.integers(0, SMALL - 1), seed=st.integers(0, 2**32), forgets=st.integers(0, 3)
)
def test_any_loss_on_either_way_only_delays(count, short_by, seed, forgets):
    """Parts and receipts are lost, the receiver forgets what it had: the whole arrives all the same, once."""
    chance = random.Random(seed)  # noqa: S311 (which parts are lost)
    whole = _whole(count, min(short_by, count * SMALL - 1))
    out, incoming, got = Outgoing(KEY, whole), None, None
    for _ in range(400):
        for part in out.due() or (out.again() or out.due()):
            if chance.random() < 0.4:
                continue
            if forgets and chance.random() < 0.1:
                forgets, incoming = forgets - 1, None
            incoming = incoming or Incoming(part)
            got = incoming.add(part)
            if got is not None:
                break
            if chance.random() < 0.6:
                assert out.receive(incoming.receipt)
        if got is not None:
            break
    assert got == whole


@settings(max_examples=200, deadline=None)
@given(count=st.integers(1, 6), order=st.lists(st.integers(0, 5), max_size=60))
def test_parts_in_any_order_build_the_whole_or_nothing(count, order):
    """A model: only the next one counts, and the last one of a whole that is there."""
    whole = _whole(count)
    incoming, expected = Incoming(_part(whole, 0)), 0
    for index in order:
        if index >= count:
            _refused(lambda index=index: incoming.add(_part(whole, 0, index=index)))
            continue
        got = incoming.add(_part(whole, index))
        expected += index == expected
        assert (got == whole) == (expected == count and index == count - 1)
        assert incoming.receipt == PartReceipt(KEY, sm3(whole), expected)
        assert len(incoming._buffer) == expected * SMALL


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_garbage_takes_no_more_memory_than_the_whole_and_is_refused(data):
    """Parts of a sender gone mad: refused or out of turn, never more kept than was announced."""
    count = data.draw(st.integers(1, 4))
    incoming = Incoming(Part(KEY, 0, count, bytes(32), b""))
    for _ in range(data.draw(st.integers(0, 12))):
        digest = data.draw(st.sampled_from([bytes(32), b"\1" * 32]))
        body = data.draw(st.sampled_from([b"", b"x", b"x" * SMALL, b"x" * (SMALL + 1), b"x" * 1_000]))
        part = Part(KEY, data.draw(st.integers(0, 5)), data.draw(st.sampled_from([count, 5])), digest, body)
        try:
            assert incoming.add(part) is None
        except TransportError as error:
            assert error.code == "part.malformed"  # noqa: PT017 (both ways are right)
        assert len(incoming._buffer) <= count * SMALL
        assert incoming.receipt.next_index <= count


@settings(max_examples=200, deadline=None)
@given(receipts=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.booleans()), max_size=30))
def test_any_receipts_send_only_parts_of_the_whole_in_the_window(receipts):
    whole = _whole(5)
    out = Outgoing(KEY, whole)
    out.due()
    for is_ours, next_index, again in receipts:
        before = out.received_bytes
        took = out.receive(PartReceipt(KEY, sm3(whole) if is_ours else bytes(32), next_index))
        assert took == (is_ours and next_index <= 5)
        assert out.received_bytes == (next_index * SMALL if took else before)
        if again:
            out.again()
        due = [part.index for part in out.due()]
        assert due == list(range(out._sent - len(due), out._sent))
        assert len(due) <= parts.WINDOW
        assert out._sent <= min(5, out.received_bytes // SMALL + parts.WINDOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": bytes(32)},
        {"count": 4},
        {"index": 3},
        {"body": b""},
        {"body": b"x"},
        {"body": b"x" * (SMALL + 1)},
    ],
    ids=["another digest", "another count", "past the end", "empty", "too short", "too long"],
)
def test_a_part_that_does_not_fit_is_refused_and_changes_nothing(changes):
    whole = _whole(3)
    incoming = Incoming(_part(whole, 0))
    incoming.add(_part(whole, 0))
    _refused(lambda: incoming.add(_part(whole, 1, **changes)))
    assert incoming.receipt.next_index == 1
    incoming.add(_part(whole, 1))
    assert incoming.add(_part(whole, 2)) == whole


def test_a_wrong_digest_starts_the_whole_anew():
    whole = _whole(2)
    incoming = Incoming(_part(whole, 0))
    incoming.add(_part(whole, 0, body=bytes(SMALL)))
    _refused(lambda: incoming.add(_part(whole, 1)))
    assert (incoming.receipt.next_index, incoming._buffer) == (0, b"")
    incoming.add(_part(whole, 0))
    assert incoming.add(_part(whole, 1)) == whole


def test_the_last_part_again_gives_the_whole_again():
    """How a sender asks once more for the answer that was lost."""
    whole = _whole(3)
    out, incoming = Outgoing(KEY, whole), Incoming(_part(whole, 0))
    for _ in range(3):
        for part in out.due():
            incoming.add(part)
        out.receive(incoming.receipt)
    assert out.received_bytes == len(whole)
    assert out.due() == []
    out.again()
    (part,) = out.due()
    assert part.index == 2
    assert incoming.add(part) == whole
    assert out.receive(incoming.receipt)


def test_a_receiver_that_lost_what_it_had_gets_it_again():
    whole = _whole(4)
    out = Outgoing(KEY, whole)
    first, second = out.due()
    incoming = Incoming(first)
    incoming.add(first)
    incoming.add(second)
    out.receive(incoming.receipt)
    assert [part.index for part in out.due()] == [2, 3]
    assert out.receive(PartReceipt(KEY, sm3(whole), 0))
    assert (out.received_bytes, [part.index for part in out.due()]) == (0, [0, 1])


def test_wiping_clears_what_arrived():
    incoming = Incoming(_part(b"x" * 16, 0))
    incoming.add(_part(b"x" * 16, 0))
    buffer = incoming._buffer
    incoming.wipe()
    assert buffer == b""


def test_the_largest_whole(monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", REAL)
    with pytest.raises(TransportError) as caught:
        Outgoing(KEY, bytes(parts.MAX_WHOLE_BYTES + 1))
    assert caught.value.code == "call.unfit"
    out = Outgoing(KEY, bytes(parts.MAX_WHOLE_BYTES))
    part = out.due()[0]
    assert (part.count, len(part.body)) == (512, parts.PART_BYTES)
    assert Incoming(part).add(part) is None
    _refused(lambda: Incoming(Part(KEY, 0, 514, bytes(32), b"")))
