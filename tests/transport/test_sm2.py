"""SM2 through libcrypto: the standard's examples, and refusal of everything that is not exactly right (T20, I3)."""

import gc
import json
import weakref
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from transport import libcrypto, sm2
from transport.errors import TransportError
from transport.sm2 import PrivateKey, PublicKey

VECTOR = json.loads((Path(__file__).parents[1] / "vectors/crypto/sm2.json").read_text())
POINT = bytes.fromhex("04" + VECTOR["x"] + VECTOR["y"])
# PKCS #8 of RFC 5208 around the ECPrivateKey of RFC 5915, OIDs ecPublicKey and sm2p256v1.
PRIVATE_DER = bytes.fromhex(
    "308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420"
    + VECTOR["private"]
    + "a144034200"
    + POINT.hex()
)
MESSAGE = bytes.fromhex(VECTOR["signature"]["message"])
SIGNATURE = encode_dss_signature(int(VECTOR["signature"]["r"], 16), int(VECTOR["signature"]["s"], 16))
PAIR = PrivateKey.from_der(PRIVATE_DER)
CIPHERTEXT = PAIR.public.encrypt(b"thirty-two bytes of two SM4 keys")


def _der_integer(number: str) -> bytes:
    content = bytes.fromhex(number)
    content = b"\0" + content if content[0] & 0x80 else content
    return bytes([0x02, len(content)]) + content


def _standard_ciphertext() -> bytes:
    """SM2Cipher of GM/T 0009: SEQUENCE { x INTEGER, y INTEGER, hash OCTET STRING, text OCTET STRING }."""
    parts = VECTOR["encryption"]
    c3, c2 = bytes.fromhex(parts["c3"]), bytes.fromhex(parts["c2"])
    content = _der_integer(parts["c1_x"]) + _der_integer(parts["c1_y"])
    content += bytes([0x04, len(c3)]) + c3 + bytes([0x04, len(c2)]) + c2
    return bytes([0x30, len(content)]) + content


def _refused(code: str, act) -> None:
    with pytest.raises(TransportError) as caught:
        act()
    assert caught.value.code == code
    assert libcrypto.library().ERR_get_error() == 0, "the error queue is not drained"


def test_the_standards_signature_verifies():
    """GB/T 32918.5 appendix A: recommended curve, default signer id."""
    assert PAIR.public.verify(SIGNATURE, MESSAGE) is None
    assert PublicKey.from_point(POINT).verify(SIGNATURE, MESSAGE) is None
    _refused("sm2.bad_signature", lambda: PAIR.public.verify(SIGNATURE, MESSAGE + b"!"))


def test_the_standards_ciphertext_opens():
    """GB/T 32918.5 appendix A, in the form of GM/T 0009."""
    assert PAIR.decrypt(_standard_ciphertext()) == bytes.fromhex(VECTOR["encryption"]["message"])


def test_the_private_key_gives_the_standards_point():
    assert PAIR.public.point == POINT
    assert PAIR.to_der() == PRIVATE_DER


def test_self_test_passes_and_tells_a_wrong_library(monkeypatch):
    sm2.self_test()
    monkeypatch.setattr(PrivateKey, "decrypt", lambda _self, _ciphertext: bytearray())
    _refused("crypto.self_test", sm2.self_test)


def test_keys_go_out_and_come_back():
    pair = sm2.generate()
    again = PrivateKey.from_der(pair.to_der())
    public = PublicKey.from_der(pair.public.to_der())
    assert public.point == again.public.point == PublicKey.from_point(public.point).point
    assert public.verify(again.sign(b"text"), b"text") is None
    assert again.decrypt(public.encrypt(b"key")) == b"key"


def test_generated_keys_differ():
    assert len({sm2.generate().to_der() for _ in range(8)}) == 8


def test_signatures_and_ciphertexts_are_randomised():
    """gmssl's fault was predictable nonces: equal inputs must give different r and C1."""
    assert len({PAIR.sign(b"same") for _ in range(8)}) == 8
    assert len({PAIR.public.encrypt(b"same") for _ in range(8)}) == 8


@settings(max_examples=60, deadline=None)
@given(bit=st.integers(0, 8 * len(CIPHERTEXT) - 1))
def test_a_tampered_ciphertext_is_refused(bit):
    tampered = bytearray(CIPHERTEXT)
    tampered[bit // 8] ^= 1 << bit % 8
    _refused("sm2.bad_ciphertext", lambda: PAIR.decrypt(bytes(tampered)))


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, len(CIPHERTEXT) - 1))
def test_a_truncated_ciphertext_is_refused(length):
    _refused("sm2.bad_ciphertext", lambda: PAIR.decrypt(CIPHERTEXT[:length]))


@settings(max_examples=100, deadline=None)
@given(garbage=st.binary(max_size=300))
def test_garbage_is_refused_everywhere(garbage):
    _refused("sm2.bad_ciphertext", lambda: PAIR.decrypt(garbage))
    _refused("sm2.bad_key", lambda: PrivateKey.from_der(garbage))
    _refused("sm2.bad_key", lambda: PublicKey.from_der(garbage))
    _refused("sm2.bad_key", lambda: PublicKey.from_point(garbage))
    _refused("sm2.bad_signature", lambda: PAIR.public.verify(garbage, b"text"))


@settings(max_examples=60, deadline=None)
@given(bit=st.integers(0, 8 * len(SIGNATURE) - 1))
def test_a_tampered_signature_is_refused(bit):
    tampered = bytearray(SIGNATURE)
    tampered[bit // 8] ^= 1 << bit % 8
    _refused("sm2.bad_signature", lambda: PAIR.public.verify(bytes(tampered), MESSAGE))


def test_bytes_after_the_end_are_refused():
    _refused("sm2.bad_signature", lambda: PAIR.public.verify(SIGNATURE + b"\0", MESSAGE))
    _refused("sm2.bad_ciphertext", lambda: PAIR.decrypt(CIPHERTEXT + b"\0"))
    _refused("sm2.bad_key", lambda: PrivateKey.from_der(PRIVATE_DER + b"\0"))
    _refused("sm2.bad_key", lambda: PublicKey.from_der(PAIR.public.to_der() + b"\0"))


@settings(max_examples=60, deadline=None)
@given(bit=st.integers(8, 8 * 65 - 1))
def test_a_point_off_the_curve_is_refused(bit):
    point = bytearray(POINT)
    point[bit // 8] ^= 1 << bit % 8
    _refused("sm2.bad_key", lambda: PublicKey.from_point(bytes(point)))


@pytest.mark.parametrize(
    "point",
    [bytes(1), b"\x02" + POINT[1:33], b"\x04" + bytes(64), b"\x04" + b"\xff" * 64, b"\x06" + POINT[1:]],
    ids=["infinity", "compressed", "zero", "over p", "hybrid"],
)
def test_a_point_of_another_form_is_refused(point):
    _refused("sm2.bad_key", lambda: PublicKey.from_point(point))


def test_a_private_key_of_another_point_is_refused():
    swapped = PRIVATE_DER[:-65] + sm2.generate().public.point
    _refused("sm2.bad_key", lambda: PrivateKey.from_der(swapped))


def test_keys_of_another_curve_are_refused():
    other = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    private = other.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, plain)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = other.public_key().public_bytes(serialization.Encoding.DER, form)
    _refused("sm2.bad_key", lambda: PrivateKey.from_der(private))
    _refused("sm2.bad_key", lambda: PublicKey.from_der(public))


def test_another_key_opens_and_verifies_nothing():
    other = sm2.generate()
    _refused("sm2.bad_ciphertext", lambda: other.decrypt(CIPHERTEXT))
    _refused("sm2.bad_signature", lambda: other.public.verify(SIGNATURE, MESSAGE))


def test_nothing_is_not_encrypted():
    _refused("sm2.failed", lambda: PAIR.public.encrypt(b""))


def test_a_wiped_key_does_nothing_more():
    pair = sm2.generate()
    pair.wipe()
    pair.wipe()
    _refused("sm2.wiped", lambda: pair.sign(b"text"))
    _refused("sm2.wiped", lambda: pair.decrypt(CIPHERTEXT))
    _refused("sm2.wiped", pair.to_der)


def test_every_handle_is_freed_also_on_errors(monkeypatch):
    """Counts allocations and releases of every kind of handle over good and bad calls."""
    real = libcrypto.library()
    balance = dict.fromkeys(("EVP_PKEY_CTX", "EVP_MD_CTX", "OSSL_ENCODER_CTX", "OSSL_DECODER_CTX"), 0)

    class Counting:
        def __getattr__(self, name: str):
            function = getattr(real, name)
            kind = next((kind for kind in balance if name.startswith((f"{kind}_new", f"{kind}_free"))), None)
            if kind is None:
                return function
            step = -1 if name.endswith("_free") else 1

            def counted(*arguments):
                balance[kind] += step
                return function(*arguments)

            return counted

    monkeypatch.setattr(sm2, "library", Counting)
    pair = sm2.generate()
    test_keys_go_out_and_come_back()
    pair.public.verify(pair.sign(b"text"), b"text")
    for bad in (lambda: pair.decrypt(CIPHERTEXT), lambda: PrivateKey.from_der(b"\x30\x00"), lambda: pair.decrypt(b"")):
        with pytest.raises(TransportError):
            bad()
    assert all(count == 0 for count in balance.values()), balance


def test_a_dropped_key_is_freed(monkeypatch):
    freed: list[int] = []
    real = libcrypto.library()
    monkeypatch.setattr(
        sm2.weakref, "finalize", lambda owner, _free, handle: _Finalizer(owner, real.EVP_PKEY_free, handle, freed)
    )
    pair = sm2.generate()
    handles = {pair._handle, pair.public._handle}
    del pair
    gc.collect()
    assert set(freed) == handles


_finalize = weakref.finalize


def _Finalizer(owner, free, handle, freed):  # noqa: N802 (stands in for a class)
    def release() -> None:
        freed.append(handle)
        free(handle)

    return _finalize(owner, release)


def test_an_absent_library_is_told_with_advice(monkeypatch):
    def absent(_name: str):
        raise OSError("libcrypto.so.3: cannot open shared object file")

    monkeypatch.setattr(libcrypto.ctypes, "CDLL", absent)
    with pytest.raises(TransportError) as caught:
        libcrypto.library.__wrapped__()
    assert caught.value.code == "sm2.no_library"
    assert "libssl3" in caught.value.advice
