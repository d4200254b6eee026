"""Key requests, grants and refusals: each forged, stale, altered or malformed one is refused (T20)."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.test_wire import VECTORS
from transport import sm2
from transport.errors import TransportError
from transport.grants import PendingRequest, ReceivedRequest, build_grant, build_refusal

TERMINAL, NOW = "GT-0001", 1_800_000_000
IDENTITY, SIGNING, STRANGER = sm2.generate(), sm2.generate(), sm2.generate()
PENDING = PendingRequest(TERMINAL, "b7", NOW + 0.5, IDENTITY)
REQUEST = ReceivedRequest.read(PENDING.message).request
GRANT, GRANTED = build_grant(REQUEST, SIGNING, NOW + 86_400)


def _signed(content: bytes, key: sm2.PrivateKey = SIGNING) -> bytes:
    return msgpack.packb([content, key.sign(content)])


def _refused(code: str, body: bytes, pending: PendingRequest = PENDING) -> TransportError:
    with pytest.raises(TransportError) as caught:
        pending.open(body, SIGNING.public)
    assert caught.value.code == code
    return caught.value


def _verify(received: ReceivedRequest, terminal: str = TERMINAL, now: float = NOW) -> None:
    received.verify(terminal, IDENTITY.public, now, tolerance_seconds=600)


def _request_refused(code: str, received: ReceivedRequest, terminal: str = TERMINAL, now: float = NOW) -> None:
    with pytest.raises(TransportError) as caught:
        _verify(received, terminal, now)
    assert caught.value.code == code


def test_both_ends_get_the_same_keys():
    keys = PENDING.open(GRANT, SIGNING.public)
    assert keys.up != keys.down
    assert (keys.up, keys.down, keys.up_id, keys.down_id) == (GRANTED.up, GRANTED.down, GRANTED.up_id, GRANTED.down_id)
    assert (keys.terminal, keys.expires_unix) == (TERMINAL, NOW + 86_400)
    terminal_sealer, terminal_opener = keys.terminal_ends()
    platform_sealer, platform_opener = GRANTED.platform_ends()
    assert platform_opener.open("call", terminal_sealer.seal("call", b"up")) == b"up"
    assert terminal_opener.open("answer", platform_sealer.seal("answer", b"down")) == b"down"


def test_the_documents_forms_by_another_codec():
    """docs/wire-format.md, read by msgpack."""
    content, signature = msgpack.unpackb(PENDING.message)
    IDENTITY.public.verify(signature, content)
    version, terminal, boot_id, unix_time, nonce, point = msgpack.unpackb(content)
    assert (version, terminal, boot_id, unix_time, len(nonce)) == (1, TERMINAL, "b7", NOW, 16)
    assert sm2.PublicKey.from_point(point)
    content, signature = msgpack.unpackb(GRANT)
    SIGNING.public.verify(signature, content)
    version, granted_nonce, up_id, down_id, wrapped, expires = msgpack.unpackb(content)
    assert (version, granted_nonce, len(up_id), len(down_id), expires) == (1, nonce, 8, 8, NOW + 86_400)
    assert 130 <= len(wrapped) <= 150
    refusal = build_refusal(bytes(range(16, 32)), SIGNING, "terminal.unknown", retry=False)
    assert msgpack.unpackb(refusal)[0] == VECTORS["refusal"]


def test_everything_is_fresh_each_time():
    others = [ReceivedRequest.read(PendingRequest(TERMINAL, "b7", NOW, IDENTITY).message).request for _ in range(5)]
    assert len({request.nonce for request in others}) == len({request.point for request in others}) == 5
    grants = [build_grant(REQUEST, SIGNING, NOW)[1] for _ in range(5)]
    for part in ("up", "down", "up_id", "down_id"):
        assert len({bytes(getattr(keys, part)) for keys in grants}) == 5


def test_a_sound_request_verifies():
    received = ReceivedRequest.read(PENDING.message)
    assert _verify(received) is None
    assert _verify(received, now=NOW + 600) is None


def test_requests_that_are_refused():
    received = ReceivedRequest.read(PENDING.message)
    _request_refused("key.wrong_terminal", received, terminal="GT-0002")
    _request_refused("key.stale_request", received, now=NOW + 601)
    _request_refused("key.stale_request", received, now=NOW - 601)
    by_stranger = PendingRequest(TERMINAL, "b7", NOW, STRANGER)
    _request_refused("key.bad_signature", ReceivedRequest.read(by_stranger.message))
    content, _ = msgpack.unpackb(by_stranger.message)
    _, signature = msgpack.unpackb(PENDING.message)
    _request_refused("key.bad_signature", ReceivedRequest.read(msgpack.packb([content, signature])))


def test_a_request_with_a_point_off_the_curve_gets_no_grant():
    content = msgpack.packb([1, TERMINAL, "b7", NOW, bytes(16), b"\x04" + bytes(64)])
    received = ReceivedRequest.read(_signed(content, IDENTITY))
    assert _verify(received) is None
    with pytest.raises(TransportError) as caught:
        build_grant(received.request, SIGNING, NOW)
    assert caught.value.code == "sm2.bad_key"


def test_a_refusal_tells_the_platforms_code():
    error = _refused("key.refused", build_refusal(REQUEST.nonce, SIGNING, "terminal.unknown", retry=False))
    assert "terminal.unknown" in str(error)
    assert not error.retry
    assert _refused("key.refused", build_refusal(REQUEST.nonce, SIGNING, "platform.busy", retry=True)).retry


def test_grants_that_are_refused():
    _refused("key.bad_signature", build_grant(REQUEST, STRANGER, NOW)[0])
    _refused("key.bad_signature", build_refusal(REQUEST.nonce, STRANGER, "terminal.unknown", retry=False))
    other = PendingRequest(TERMINAL, "b7", NOW, IDENTITY)
    _refused("key.stale_grant", GRANT, other)
    content = msgpack.unpackb(msgpack.unpackb(GRANT)[0])
    for index, value, code in (
        (0, 2, "key.malformed"),
        (2, bytes(7), "key.malformed"),
        (4, b"", "sm2.bad_ciphertext"),
        (4, STRANGER.public.encrypt(bytes(32)), "sm2.bad_ciphertext"),
        (4, sm2.PublicKey.from_point(REQUEST.point).encrypt(bytes(31)), "key.bad_grant"),
        (4, sm2.PublicKey.from_point(REQUEST.point).encrypt(bytes(33)), "key.bad_grant"),
        (5, -1, "key.malformed"),
    ):
        changed = [*content]
        changed[index] = value
        _refused(code, _signed(msgpack.packb(changed)))


def test_a_request_of_another_version_is_refused():
    content = msgpack.packb([2, TERMINAL, "b7", NOW, bytes(16), REQUEST.point])
    with pytest.raises(TransportError) as caught:
        ReceivedRequest.read(_signed(content, IDENTITY))
    assert caught.value.code == "key.malformed"


@settings(max_examples=100, deadline=None)
@given(bit=st.integers(0, 8 * len(GRANT) - 1))
def test_one_flipped_bit_in_a_grant_is_refused(bit):
    flipped = bytearray(GRANT)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TransportError) as caught:
        PENDING.open(bytes(flipped), SIGNING.public)
    assert caught.value.code in {"key.malformed", "key.stale_grant", "key.bad_signature"}


@settings(max_examples=100, deadline=None)
@given(bit=st.integers(0, 8 * len(PENDING.message) - 1))
def test_one_flipped_bit_in_a_request_is_refused(bit):
    flipped = bytearray(PENDING.message)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TransportError) as caught:
        _verify(ReceivedRequest.read(bytes(flipped)))
    assert caught.value.code in {"key.malformed", "key.wrong_terminal", "key.bad_signature"}


@settings(max_examples=200, deadline=None)
@given(garbage=st.binary(max_size=300))
def test_garbage_is_refused_at_both_ends(garbage):
    for body in (garbage, _signed(garbage[:200])):
        _refused("key.malformed", body)
        with pytest.raises(TransportError) as caught:
            ReceivedRequest.read(body)
        assert caught.value.code == "key.malformed"


def test_keys_and_ephemeral_key_are_wiped():
    pending = PendingRequest(TERMINAL, "b7", NOW, IDENTITY)
    grant, _ = build_grant(ReceivedRequest.read(pending.message).request, SIGNING, NOW)
    keys = pending.open(grant, SIGNING.public)
    sealer, opener = keys.terminal_ends()
    keys.wipe()
    assert keys.up == keys.down == b""
    for use in (lambda: sealer.seal("call", b"x"), lambda: opener.open("answer", VECTORS["envelope"])):
        with pytest.raises(TransportError) as caught:
            use()
        assert caught.value.code == "envelope.key_wiped"
    pending.wipe()
    _refused("sm2.wiped", grant, pending)
