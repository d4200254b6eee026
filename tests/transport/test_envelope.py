"""The envelope: the document's vectors, each way to meddle with one and its own reason, order, limits (T20, I7, S5)."""

from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.wire_document import CALL, SEALED, TERMINAL, opener, sealer
from transport import envelope, sm
from transport.envelope import Opener, Sealer, read
from transport.errors import TransportError

KEY, KEY_ID = CALL["key"], CALL["key_id"]


def _open(end: Opener, body: bytes, stream: str = "call") -> bytes:
    return end.open(stream, read(body))


def _refused(code: str, end: Opener, body: bytes, stream: str = "call") -> None:
    with pytest.raises(TransportError) as caught:
        _open(end, body, stream)
    assert caught.value.code == code
    assert not caught.value.retry


def _flipped(body: bytes, bit: int) -> bytes:
    flipped = bytearray(body)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


@pytest.mark.parametrize("message", SEALED, ids=lambda one: one.topic.split("/", 3)[3])
def test_the_documents_envelopes_open_and_are_what_we_seal(message, monkeypatch):
    """Another implementation's envelope of each stream and direction, both ways."""
    plaintext = _open(opener(message.direction), message.payload, message.stream)
    assert msgpack.unpackb(plaintext) == message.contents
    nonce = msgpack.unpackb(message.payload)[3]
    monkeypatch.setattr(envelope.os, "urandom", lambda count: nonce[:count])
    end = sealer(message.direction)
    end._messages = int.from_bytes(nonce[4:], "big") - 1
    assert end.seal(message.stream, plaintext) == message.payload


def test_the_documents_envelopes_open_one_after_the_other():
    ends = {"up": opener("up"), "down": opener("down")}
    for message in SEALED:
        _open(ends[message.direction], message.payload, message.stream)
        _refused("envelope.replayed", ends[message.direction], message.payload, message.stream)


def test_the_documents_additional_data_is_ours():
    assert envelope.additional_data(KEY_ID, TERMINAL, "up", "call") == CALL["additional"]


def test_msgpack_reads_the_envelope():
    version, algorithm, key_id, nonce, sealed = msgpack.unpackb(sealer().seal("call", b"text"))
    assert (version, algorithm, key_id, len(nonce), len(sealed)) == (1, 1, KEY_ID, 12, 4 + 16)
    assert nonce[4:] == (1).to_bytes(8, "big")


def test_epochs_come_from_the_system_and_counters_grow():
    nonces = [msgpack.unpackb(sealer().seal("call", b"x"))[3] for _ in range(20)]
    assert len({nonce[:4] for nonce in nonces}) > 15
    end = sealer()
    streams = ("call", "record", "call", "part", "taken")
    counters = [int.from_bytes(msgpack.unpackb(end.seal(stream, b"x"))[3][4:], "big") for stream in streams]
    assert counters == [1, 2, 3, 4, 5]


@settings(max_examples=100, deadline=None)
@given(plaintexts=st.lists(st.binary(max_size=300), min_size=1, max_size=5), stream=st.sampled_from(["call", "record"]))
def test_what_is_sealed_opens_once(plaintexts, stream):
    sending, receiving = sealer(), opener()
    for plaintext in plaintexts:
        sealed = sending.seal(stream, plaintext)
        assert len(sealed) - len(plaintext) in range(45, 49)
        assert _open(receiving, sealed, stream) == plaintext
        _refused("envelope.replayed", receiving, sealed, stream)


def _repacked(*changes: tuple[int, object]) -> bytes:
    fields = msgpack.unpackb(CALL["envelope"])
    for index, value in changes:
        fields[index] = value
    return msgpack.packb(fields)


def _sealed_by_hand(nonce: bytes) -> bytes:
    """An envelope with a right tag and any nonce."""
    return _repacked((3, nonce), (4, sm.seal(KEY, nonce, b"x", CALL["additional"])))


ELSEWHERE: dict[str, tuple[str, Callable[[], Opener], str]] = {
    "re-addressed to another terminal": ("envelope.forged", lambda: opener(terminal="GT-0002"), "call"),
    "re-labelled as a record": ("envelope.forged", opener, "record"),
    "re-labelled as a part": ("envelope.forged", opener, "part"),
    "turned back down": ("envelope.forged", lambda: opener(bound="down"), "call"),
    "under the other direction's key": ("envelope.unknown_key", lambda: opener("down"), "call"),
}


@pytest.mark.parametrize(("code", "end", "stream"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_it_opens_only_at_its_place(code, end, stream):
    """The tag binds terminal, direction, stream and topic (T20)."""
    _refused(code, end(), CALL["envelope"], stream)


ALTERED = {
    "another version": ("envelope.unknown_version", _repacked((0, 2))),
    "another algorithm": ("envelope.unknown_version", _repacked((1, 2))),
    "another key": ("envelope.unknown_key", _repacked((2, bytes(8)))),
    "a key id cut short": ("envelope.malformed", _repacked((2, KEY_ID[:7]))),
    "another counter": ("envelope.forged", _repacked((3, CALL["nonce"][:-1] + b"\x63"))),
    "another epoch": ("envelope.forged", _repacked((3, bytes(4) + CALL["nonce"][4:]))),
    "a nonce cut short": ("envelope.malformed", _repacked((3, CALL["nonce"][:-1]))),
    "a flipped bit of ciphertext": ("envelope.forged", _repacked((4, _flipped(CALL["sealed"], 0)))),
    "a flipped bit of the tag": ("envelope.forged", _repacked((4, _flipped(CALL["sealed"], 8 * 61)))),
    "a byte more": ("envelope.forged", _repacked((4, CALL["sealed"] + b"\0"))),
    "a byte fewer": ("envelope.forged", _repacked((4, CALL["sealed"][:-1]))),
    "no tag": ("envelope.malformed", _repacked((4, bytes(15)))),
    "the counter 0": ("envelope.replayed", _sealed_by_hand(CALL["nonce"][:4] + bytes(8))),
    "a field more": ("envelope.malformed", msgpack.packb([*msgpack.unpackb(CALL["envelope"]), 0])),
    "bytes after it": ("envelope.malformed", CALL["envelope"] + b"\0"),
    "nothing": ("envelope.malformed", b""),
    "too much": ("envelope.too_large", bytes(envelope.MAX_PLAINTEXT_BYTES + 65)),
}


@pytest.mark.parametrize(("code", "body"), ALTERED.values(), ids=ALTERED)
def test_an_altered_envelope_is_refused_with_its_reason_and_changes_nothing(code, body):
    end = opener()
    _refused(code, end, body)
    assert _open(end, CALL["envelope"]) == CALL["plaintext"]


def test_a_replayed_envelope_is_refused_also_on_another_stream():
    """Seen before, too old to tell, of another epoch under the right key."""
    sending, end = sealer(), opener()
    first, *_ = sealed = [sending.seal("call", b"x") for _ in range(envelope.REPLAY_WINDOW + 1)]
    _open(end, first)
    _refused("envelope.replayed", end, first)
    _refused("envelope.replayed", end, first, "record")
    _open(end, sealed[-1])
    _refused("envelope.replayed", end, first)
    other = sealer()
    for _ in range(envelope.REPLAY_WINDOW + 1):
        other.seal("call", b"x")
    _refused("envelope.replayed", end, other.seal("call", b"a counter never seen, but of another epoch"))


def test_streams_may_overtake_each_other_but_each_keeps_its_order():
    sending, end = sealer(), opener()
    calls = [sending.seal("call", b"call %d" % number) for number in range(3)]
    alarm = sending.seal("record", b"alarm")
    assert _open(end, alarm, "record") == b"alarm"
    assert [_open(end, calls[0]), _open(end, calls[2])] == [b"call 0", b"call 2"]
    _refused("envelope.reordered", end, calls[1])
    _refused("envelope.forged", end, calls[1], "record")
    assert _open(end, sending.seal("call", b"call 3")) == b"call 3"


@settings(max_examples=200, deadline=None)
@given(bit=st.integers(0, 8 * len(CALL["envelope"]) - 1))
def test_one_flipped_bit_is_refused(bit):
    end = opener()
    with pytest.raises(TransportError) as caught:
        _open(end, _flipped(CALL["envelope"], bit))
    assert caught.value.code.startswith("envelope.")
    assert _open(end, CALL["envelope"]) == CALL["plaintext"], "a refused envelope changes nothing"


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, len(CALL["envelope"]) - 1))
def test_a_truncated_envelope_is_refused(length):
    _refused("envelope.malformed", opener(), CALL["envelope"][:length])


@settings(max_examples=200, deadline=None)
@given(garbage=st.binary(max_size=300))
def test_garbage_is_refused(garbage):
    _refused("envelope.malformed", opener(), garbage)


@settings(max_examples=100, deadline=None)
@given(
    version=st.integers(0, 3),
    algorithm=st.integers(0, 3),
    key_id=st.binary(min_size=7, max_size=9),
    nonce=st.binary(min_size=11, max_size=13),
    sealed=st.binary(max_size=40),
)
def test_a_well_formed_stranger_is_refused(version, algorithm, key_id, nonce, sealed):
    with pytest.raises(TransportError) as caught:
        _open(opener(), msgpack.packb([version, algorithm, key_id, nonce, sealed]))
    assert caught.value.code.startswith("envelope.")


@settings(max_examples=100, deadline=None)
@given(
    sent=st.lists(st.sampled_from(["call", "record", "part"]), min_size=2, max_size=12),
    step=st.sampled_from([1, 60, 256]),
    data=st.data(),
)
def test_each_opens_once_in_its_streams_order(sent, step, data):
    """A model: opened before or 1,024 or more back is replayed, before the last of its stream is reordered."""
    sending, end = sealer(), opener()
    sealed = []
    for stream in sent:
        sealed.append((sending._messages + 1, stream, sending.seal(stream, b"%d" % len(sealed))))
        for _ in range(step - 1):
            sending.seal("taken", b"lost")
    opened: dict[int, str] = {}
    for index in data.draw(st.permutations(range(len(sent)))):
        counter, stream, body = sealed[index]
        if opened and max(opened) - counter >= envelope.REPLAY_WINDOW:
            _refused("envelope.replayed", end, body, stream)
        elif any(other > counter for other, its in opened.items() if its == stream):
            _refused("envelope.reordered", end, body, stream)
        else:
            assert _open(end, body, stream) == b"%d" % index
            opened[counter] = stream
            _refused("envelope.replayed", end, body, stream)


def _exhausted(end: Sealer, plaintext: bytes) -> None:
    with pytest.raises(TransportError) as caught:
        end.seal("call", plaintext)
    assert (caught.value.code, caught.value.retry) == ("envelope.key_exhausted", True)


def test_the_longest_plaintext():
    end = sealer()
    largest = bytes(envelope.MAX_PLAINTEXT_BYTES)
    assert _open(opener(), end.seal("call", largest)) == largest
    with pytest.raises(TransportError, match="limit") as caught:
        end.seal("call", largest + b"!")
    assert caught.value.code == "envelope.too_large"


def test_a_key_seals_so_many_messages_and_says_when_it_is_nearly_used(monkeypatch):
    monkeypatch.setattr(envelope, "MAX_MESSAGES", 32)
    end, told = sealer(), []
    for _ in range(32):
        end.seal("call", b"x")
        told.append(end.is_nearly_used)
    assert told == [False] * 29 + [True] * 3
    _exhausted(end, b"x")


def test_a_key_seals_so_many_bytes_and_says_when_it_is_nearly_used(monkeypatch):
    monkeypatch.setattr(envelope, "MAX_BYTES", 1_600)
    end, told = sealer(), []
    for _ in range(16):
        end.seal("call", bytes(100))
        told.append(end.is_nearly_used)
    assert told == [False] * 14 + [True] * 2
    _exhausted(end, b"x")


def test_a_wiped_key_is_gone():
    sending, end = sealer(), opener()
    held = sending._key, end._key
    sending.wipe()
    with pytest.raises(TransportError) as caught:
        sending.seal("call", b"x")
    assert (caught.value.code, caught.value.retry) == ("envelope.key_wiped", True)
    end.wipe()
    with pytest.raises(TransportError) as caught:
        _open(end, CALL["envelope"])
    assert caught.value.code == "envelope.key_wiped"
    assert [key._key for key in held] == [b"", b""]
