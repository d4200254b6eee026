"""The envelope: golden vector of the document, one flipped bit, replay, other places, limits (T20, I7, S5)."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.test_wire import VECTORS
from transport import envelope
from transport.envelope import Opener, Sealer
from transport.errors import TransportError

KEY, KEY_ID = VECTORS["key"], VECTORS["key_id"]
TERMINAL = "GT-0001"


def _ends() -> tuple[Sealer, Opener]:
    return Sealer(bytearray(KEY), KEY_ID, TERMINAL, "up"), _opener()


def _opener() -> Opener:
    return Opener(bytearray(KEY), KEY_ID, TERMINAL, "up")


def _refused(code: str, opener: Opener, body: bytes, stream: str = "call") -> None:
    with pytest.raises(TransportError) as caught:
        opener.open(stream, body)
    assert caught.value.code == code


def test_the_documents_envelope_opens():
    assert _opener().open("call", VECTORS["envelope"]) == VECTORS["plaintext"]


def test_the_documents_envelope_is_what_we_seal(monkeypatch):
    monkeypatch.setattr(envelope.os, "urandom", lambda count: VECTORS["nonce"][:count])
    sealer, _ = _ends()
    assert sealer.seal("call", VECTORS["plaintext"]) == VECTORS["envelope"]
    assert envelope.additional_data(KEY_ID, TERMINAL, "up", "call") == VECTORS["additional"]


def test_msgpack_reads_the_envelope():
    sealer, _ = _ends()
    version, algorithm, key_id, nonce, sealed = msgpack.unpackb(sealer.seal("call", b"text"))
    assert (version, algorithm, key_id, len(nonce), len(sealed)) == (1, 1, KEY_ID, 12, 4 + 16)
    assert nonce[4:] == (1).to_bytes(8, "big")


def test_epochs_come_from_the_system_and_counters_grow():
    nonces = [msgpack.unpackb(_ends()[0].seal("call", b"x"))[3] for _ in range(20)]
    assert len({nonce[:4] for nonce in nonces}) > 15
    sealer, _ = _ends()
    counters = [int.from_bytes(msgpack.unpackb(sealer.seal("call", b"x"))[3][4:], "big") for _ in range(5)]
    assert counters == [1, 2, 3, 4, 5]


@settings(max_examples=100, deadline=None)
@given(plaintexts=st.lists(st.binary(max_size=300), min_size=1, max_size=5), stream=st.sampled_from(["call", "record"]))
def test_what_is_sealed_opens_once(plaintexts, stream):
    sealer, opener = _ends()
    for plaintext in plaintexts:
        sealed = sealer.seal(stream, plaintext)
        assert len(sealed) - len(plaintext) in range(45, 49)
        assert opener.open(stream, sealed) == plaintext
        _refused("envelope.replayed", opener, sealed, stream)


@settings(max_examples=200, deadline=None)
@given(bit=st.integers(0, 8 * len(VECTORS["envelope"]) - 1))
def test_one_flipped_bit_is_refused(bit):
    flipped = bytearray(VECTORS["envelope"])
    flipped[bit // 8] ^= 1 << bit % 8
    opener = _opener()
    with pytest.raises(TransportError) as caught:
        opener.open("call", bytes(flipped))
    assert caught.value.code.startswith("envelope.")
    assert opener.open("call", VECTORS["envelope"]) == VECTORS["plaintext"], "a refused envelope changes nothing"


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, len(VECTORS["envelope"]) - 1))
def test_a_truncated_envelope_is_refused(length):
    _refused("envelope.malformed", _opener(), VECTORS["envelope"][:length])


@settings(max_examples=200, deadline=None)
@given(garbage=st.binary(max_size=300))
def test_garbage_is_refused(garbage):
    with pytest.raises(TransportError) as caught:
        _opener().open("call", garbage)
    assert caught.value.code.startswith("envelope.")


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
        _opener().open("call", msgpack.packb([version, algorithm, key_id, nonce, sealed]))
    assert caught.value.code.startswith("envelope.")


@pytest.mark.parametrize(("terminal", "direction", "stream"), [("GT-0002", "up", "call"), (TERMINAL, "down", "call")])
def test_it_opens_only_at_its_place(terminal, direction, stream):
    _refused("envelope.forged", Opener(bytearray(KEY), KEY_ID, terminal, direction), VECTORS["envelope"], stream)
    _refused("envelope.forged", _opener(), VECTORS["envelope"], "record")


def test_versions_algorithms_and_keys_it_does_not_know():
    _, _, _, nonce, sealed = msgpack.unpackb(VECTORS["envelope"])
    for parts, code in (
        ([2, 1, KEY_ID, nonce, sealed], "envelope.unknown_version"),
        ([1, 2, KEY_ID, nonce, sealed], "envelope.unknown_version"),
        ([1, 1, bytes(8), nonce, sealed], "envelope.unknown_key"),
    ):
        _refused(code, _opener(), msgpack.packb(parts))


def test_another_epoch_or_counter_zero_is_refused():
    first, opener = _ends()
    second, _ = _ends()
    opener.open("call", first.seal("call", b"x"))
    second.seal("call", b"x")
    _refused("envelope.replayed", opener, second.seal("call", b"counter 2 of another epoch"))
    additional = envelope.additional_data(KEY_ID, TERMINAL, "up", "call")
    sealed = envelope.sm.seal(KEY, bytes(12), b"x", additional)
    _refused("envelope.replayed", _opener(), msgpack.packb([1, 1, KEY_ID, bytes(12), sealed]))


@settings(max_examples=100, deadline=None)
@given(order=st.permutations(list(range(12))), step=st.sampled_from([1, 60, 256]))
def test_the_window_opens_each_of_it_once_in_any_order(order, step):
    """A model: a counter opens unless it was opened before or lies 1,024 or more below the highest."""
    sealer, opener = _ends()
    sealed = [sealer.seal("call", b"%d" % number) for number in range(11 * step + 1)][::step]
    opened: list[int] = []
    for index in order:
        counter = 1 + index * step
        if opened and max(opened) - counter >= envelope.REPLAY_WINDOW:
            _refused("envelope.replayed", opener, sealed[index])
        else:
            assert opener.open("call", sealed[index]) == b"%d" % (index * step)
            opened.append(counter)
        _refused("envelope.replayed", opener, sealed[index])


def test_limits(monkeypatch):
    sealer, opener = _ends()
    largest = bytes(envelope.MAX_PLAINTEXT_BYTES)
    assert opener.open("call", sealer.seal("call", largest)) == largest
    with pytest.raises(TransportError, match="limit") as caught:
        sealer.seal("call", largest + b"!")
    assert caught.value.code == "envelope.too_large"
    _refused("envelope.too_large", opener, bytes(envelope.MAX_PLAINTEXT_BYTES + 65))
    monkeypatch.setattr(envelope, "MAX_MESSAGES", 2)
    sealer.seal("call", b"second")
    with pytest.raises(TransportError) as caught:
        sealer.seal("call", b"third")
    assert (caught.value.code, caught.value.retry) == ("envelope.key_exhausted", True)
    monkeypatch.undo()
    monkeypatch.setattr(envelope, "MAX_BYTES", envelope.MAX_PLAINTEXT_BYTES + 10)
    with pytest.raises(TransportError) as caught:
        sealer.seal("call", b"eleven byte")
    assert caught.value.code == "envelope.key_exhausted"


def test_a_wiped_key_is_gone():
    sealer, opener = _ends()
    sealer.wipe()
    with pytest.raises(TransportError) as caught:
        sealer.seal("call", b"x")
    assert caught.value.code == "envelope.key_wiped"
    opener.wipe()
    _refused("envelope.key_wiped", opener, VECTORS["envelope"])
