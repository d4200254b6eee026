"""Key requests, grants and refusals: each forged, stale, altered or malformed one is refused (T20)."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport import wire_document as document
from transport import grants, sm2
from transport.envelope import read
from transport.errors import TransportError
from transport.grants import Granted, PendingRequest, ReceivedRequest, build_grant, build_refusal
from transport.keys import IdentityKey, MemoryExchange, MemoryKey

TERMINAL, NOW = "GT-0001", 1_800_000_000
IDENTITY, SIGNING, STRANGER = sm2.generate(), sm2.generate(), sm2.generate()
PROVIDER = IdentityKey(IDENTITY)
PENDING = PendingRequest(TERMINAL, "b7", NOW + 0.5, PROVIDER)
REQUEST = ReceivedRequest.read(PENDING.message).request
POINT = sm2.PublicKey.from_point(REQUEST.point)


def _grant(signing: sm2.PrivateKey = SIGNING, request: grants.KeyRequest = REQUEST) -> Granted:
    return build_grant(request, signing, unix_time=NOW + 4.9, life_seconds=86_400)


GRANTED = _grant()


def _signed(content: bytes, key: sm2.PrivateKey = SIGNING) -> bytes:
    return msgpack.packb([content, key.sign(content)])


def _refused(code: str, body: bytes, pending: PendingRequest = PENDING) -> TransportError:
    with pytest.raises(TransportError) as caught:
        pending.open(body, SIGNING.public)
    assert caught.value.code == code
    return caught.value


def _verify(received: ReceivedRequest, terminal: str = TERMINAL) -> None:
    received.verify(terminal, IDENTITY.public)


def _request_refused(code: str, received: ReceivedRequest, terminal: str = TERMINAL) -> None:
    with pytest.raises(TransportError) as caught:
        _verify(received, terminal)
    assert caught.value.code == code


def test_both_ends_get_the_same_keys():
    grant = PENDING.open(GRANTED.message, SIGNING.public)
    assert (grant.life_seconds, grant.unix_time) == (86_400, NOW + 4)
    terminal, platform = grant.ends, GRANTED.ends
    assert (platform.opener.key_id, terminal.opener.key_id) == GRANTED.key_ids
    up, down = terminal.sealer.seal("call", b"up"), platform.sealer.seal("answer", b"down")
    assert platform.opener.open("call", read(up)) == b"up"
    assert terminal.opener.open("answer", read(down)) == b"down"
    assert bytes(terminal.sealer._key._key) != bytes(terminal.opener._key._key)


class _DocumentsKeys(IdentityKey):
    """Gives the exchange of the document's ephemeral key."""

    def begin_exchange(self) -> MemoryExchange:
        exchange = MemoryExchange()
        exchange.wipe()
        exchange._pair = document.private_key("ephemeral")
        exchange.point = exchange._pair.public.point
        return exchange


def test_the_documents_request_grant_and_refusal(monkeypatch):
    """Made by another implementation: signatures and wrapped keys too."""
    platform = sm2.PublicKey.from_point(document.KEYS["platform_point"])
    received = ReceivedRequest.read(document.REQUEST.payload)
    received.verify(TERMINAL, sm2.PublicKey.from_point(document.KEYS["identity_point"]))
    assert received.request.nonce == document.REQUEST.contents[4]
    monkeypatch.setattr(grants.os, "urandom", lambda _count: received.request.nonce)
    pending = PendingRequest(TERMINAL, "b7", NOW, _DocumentsKeys(document.private_key("identity")))
    assert msgpack.unpackb(pending.message)[0] == received.content, "the request is what we write"
    grant = pending.open(document.GRANT.payload, platform)
    assert (grant.unix_time, grant.life_seconds) == (1_800_000_004, 86_400)
    for message in document.SEALED:
        if message.direction == "down":
            plaintext = grant.ends.opener.open(message.stream, read(message.payload))
            assert msgpack.unpackb(plaintext) == message.contents
    assert bytes(grant.ends.sealer._key._key) == document.KEYS["up_key"]
    with pytest.raises(TransportError) as caught:
        pending.open(document.REFUSAL.payload, platform)
    assert (caught.value.code, caught.value.retry) == ("key.refused", False)
    assert "terminal.unknown" in str(caught.value)


def test_the_documents_forms_by_another_codec():
    """docs/wire-format.md, what we write read by msgpack."""
    content, signature = msgpack.unpackb(PENDING.message)
    IDENTITY.public.verify(signature, content)
    version, terminal, boot_id, unix_time, nonce, point = msgpack.unpackb(content)
    assert (version, terminal, boot_id, unix_time, len(nonce)) == (1, TERMINAL, "b7", NOW, 16)
    assert sm2.PublicKey.from_point(point)
    content, signature = msgpack.unpackb(GRANTED.message)
    SIGNING.public.verify(signature, content)
    version, granted_nonce, up_id, down_id, up, down, unix_time, life = msgpack.unpackb(content)
    assert (version, granted_nonce, (up_id, down_id)) == (1, nonce, GRANTED.key_ids)
    assert (unix_time, life) == (NOW + 4, 86_400)
    assert len(up) in range(115, 130)
    assert up != down
    refusal = build_refusal(bytes(range(16, 32)), SIGNING, "terminal.unknown", retry=False)
    assert msgpack.unpackb(refusal)[0] == msgpack.packb(document.REFUSAL.contents)


def test_everything_is_fresh_each_time():
    others = [ReceivedRequest.read(PendingRequest(TERMINAL, "b7", NOW, PROVIDER).message).request for _ in range(5)]
    assert len({request.nonce for request in others}) == len({request.point for request in others}) == 5
    granted = [_grant() for _ in range(5)]
    keys = [end._key._key for one in granted for end in (one.ends.sealer, one.ends.opener)]
    assert len({bytes(key) for key in keys}) == len({key_id for one in granted for key_id in one.key_ids}) == 10


@pytest.mark.parametrize("clock", [-1e9, 0.0, NOW - 3 * 366 * 86_400, NOW + 3 * 366 * 86_400, 2.0**52])
def test_a_request_is_not_refused_for_its_time(clock):
    """A terminal whose wall clock is wrong by years gets keys all the same."""
    pending = PendingRequest(TERMINAL, "b7", clock, PROVIDER)
    received = ReceivedRequest.read(pending.message)
    _verify(received)
    assert received.request.unix_time == max(0, int(clock))
    assert pending.open(_grant(request=received.request).message, SIGNING.public).unix_time == NOW + 4


def test_requests_that_are_refused():
    received = ReceivedRequest.read(PENDING.message)
    assert _verify(received) is None
    _request_refused("key.wrong_terminal", received, terminal="GT-0002")
    by_stranger = PendingRequest(TERMINAL, "b7", NOW, IdentityKey(STRANGER))
    _request_refused("key.bad_signature", ReceivedRequest.read(by_stranger.message))
    content, _ = msgpack.unpackb(by_stranger.message)
    _, signature = msgpack.unpackb(PENDING.message)
    _request_refused("key.bad_signature", ReceivedRequest.read(msgpack.packb([content, signature])))


def test_a_request_with_a_point_off_the_curve_gets_no_grant():
    content = msgpack.packb([1, TERMINAL, "b7", NOW, bytes(16), b"\x04" + bytes(64)])
    received = ReceivedRequest.read(_signed(content, IDENTITY))
    assert _verify(received) is None
    with pytest.raises(TransportError) as caught:
        _grant(request=received.request)
    assert caught.value.code == "sm2.bad_key"


def test_a_refusal_tells_the_platforms_code():
    error = _refused("key.refused", build_refusal(REQUEST.nonce, SIGNING, "terminal.unknown", retry=False))
    assert "terminal.unknown" in str(error)
    assert not error.retry
    assert _refused("key.refused", build_refusal(REQUEST.nonce, SIGNING, "platform.busy", retry=True)).retry


def test_grants_of_others_are_refused():
    _refused("key.bad_signature", _grant(STRANGER).message)
    _refused("key.bad_signature", build_refusal(REQUEST.nonce, STRANGER, "terminal.unknown", retry=False))
    _refused("key.stale_grant", GRANTED.message, PendingRequest(TERMINAL, "b7", NOW, PROVIDER))


@pytest.mark.parametrize(
    ("index", "value", "code"),
    [
        (0, 2, "key.malformed"),
        (1, bytes(15), "key.malformed"),
        (2, bytes(7), "key.malformed"),
        (3, bytes(9), "key.malformed"),
        (4, b"", "sm2.bad_ciphertext"),
        (5, b"", "sm2.bad_ciphertext"),
        (4, STRANGER.public.encrypt(bytes(16)), "sm2.bad_ciphertext"),
        (5, STRANGER.public.encrypt(bytes(16)), "sm2.bad_ciphertext"),
        (4, POINT.encrypt(bytes(15)), "key.bad_grant"),
        (5, POINT.encrypt(bytes(17)), "key.bad_grant"),
        (4, bytes(513), "key.malformed"),
        (6, -1, "key.malformed"),
        (7, 0, "key.malformed"),
        (7, 2**31, "key.malformed"),
    ],
)
def test_grants_that_are_refused(index, value, code):
    changed = msgpack.unpackb(msgpack.unpackb(GRANTED.message)[0])
    changed[index] = value
    _refused(code, _signed(msgpack.packb(changed)))


def test_a_grant_that_fails_half_way_leaves_no_key(monkeypatch):
    made: list[MemoryKey] = []
    unwrap = MemoryExchange.unwrap

    def noting(self: MemoryExchange, wrapped: bytes) -> MemoryKey:
        made.append(unwrap(self, wrapped))
        return made[-1]

    monkeypatch.setattr(MemoryExchange, "unwrap", noting)
    changed = msgpack.unpackb(msgpack.unpackb(GRANTED.message)[0])
    changed[5] = b""
    _refused("sm2.bad_ciphertext", _signed(msgpack.packb(changed)))
    assert [key._key for key in made] == [b""]


def test_a_request_of_another_version_is_refused():
    content = msgpack.packb([2, TERMINAL, "b7", NOW, bytes(16), REQUEST.point])
    with pytest.raises(TransportError) as caught:
        ReceivedRequest.read(_signed(content, IDENTITY))
    assert caught.value.code == "key.malformed"


@settings(max_examples=100, deadline=None)
@given(bit=st.integers(0, 8 * len(GRANTED.message) - 1))
def test_one_flipped_bit_in_a_grant_is_refused(bit):
    flipped = bytearray(GRANTED.message)
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
    pending = PendingRequest(TERMINAL, "b7", NOW, PROVIDER)
    granted = _grant(request=ReceivedRequest.read(pending.message).request)
    ends = pending.open(granted.message, SIGNING.public).ends
    keys = ends.sealer._key, ends.opener._key
    ends.wipe()
    assert [key._key for key in keys] == [b"", b""]
    for use in (lambda: ends.sealer.seal("call", b"x"), lambda: ends.opener.open("answer", _down(granted))):
        with pytest.raises(TransportError) as caught:
            use()
        assert caught.value.code == "envelope.key_wiped"
    pending.wipe()
    _refused("sm2.wiped", granted.message, pending)


def _down(granted: Granted):
    return read(granted.ends.sealer.seal("answer", b"x"))
