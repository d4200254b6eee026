"""SM3 and SM4-GCM against the standards and against gmssl, an independent implementation (T20, I7)."""

import ctypes
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from gmssl import func, sm4
from gmssl import sm3 as gmssl_sm3
from hypothesis import given, settings
from hypothesis import strategies as st

from transport import sm
from transport.errors import TransportError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/crypto/sm.json").read_text())
GCM = {name: bytes.fromhex(value) for name, value in VECTORS["sm4_gcm"].items()}


@pytest.mark.parametrize("vector", VECTORS["sm3"], ids=["abc", "64 bytes"])
def test_sm3_known_answers(vector):
    """GB/T 32905 appendix A."""
    assert sm.sm3(bytes.fromhex(vector["message"])).hex() == vector["digest"]


def test_sm4_block_known_answer():
    """GB/T 32907 appendix A.1."""
    vector = VECTORS["sm4_block"]
    encryptor = Cipher(algorithms.SM4(bytes.fromhex(vector["key"])), modes.ECB()).encryptor()  # noqa: S305 (the bare block is meant)
    assert encryptor.update(bytes.fromhex(vector["plaintext"])).hex() == vector["once"]


@pytest.mark.slow
def test_sm4_block_a_million_times():
    """GB/T 32907 appendix A.2."""
    vector = VECTORS["sm4_block"]
    encryptor = Cipher(algorithms.SM4(bytes.fromhex(vector["key"])), modes.ECB()).encryptor()  # noqa: S305 (the bare block is meant)
    block = bytes.fromhex(vector["plaintext"])
    for _ in range(1_000_000):
        block = encryptor.update(block)
    assert block.hex() == vector["million_times"]


def test_sm4_gcm_known_answer():
    """RFC 8998 A.1, both ways."""
    sealed = sm.seal(GCM["key"], GCM["nonce"], GCM["plaintext"], GCM["additional"])
    assert sealed == GCM["ciphertext"] + GCM["tag"]
    assert sm.unseal(GCM["key"], GCM["nonce"], sealed, GCM["additional"]) == GCM["plaintext"]


def test_self_test_passes():
    sm.self_test()
    assert sm.sm3(b"") == bytes.fromhex(gmssl_sm3.sm3_hash([]))


def test_self_test_tells_a_wrong_library(monkeypatch):
    monkeypatch.setattr(sm, "sm3", lambda _: bytes(32))
    with pytest.raises(TransportError) as caught:
        sm.self_test()
    assert caught.value.code == "crypto.self_test"


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=200))
def test_sm3_agrees_with_gmssl(data):
    assert sm.sm3(data).hex() == gmssl_sm3.sm3_hash(func.bytes_to_list(data))


def _multiplied(x: int, y: int) -> int:
    """The product in GF(2^128) as GCM writes it: the first bit is the highest (SP 800-38D, 6.3)."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def _gcm_by_gmssl(key: bytes, nonce: bytes, plaintext: bytes, additional: bytes) -> bytes:
    """SM4-GCM (RFC 8998) from gmssl's block cipher and a GHASH of our own (SP 800-38D)."""
    oracle = sm4.CryptSM4(padding_mode=-1)
    oracle.set_key(key, sm4.SM4_ENCRYPT)
    count = (len(plaintext) + 15) // 16
    blocks = b"".join(nonce + counter.to_bytes(4, "big") for counter in range(1, 2 + count))
    stream = oracle.crypt_ecb(blocks)
    ciphertext = bytes(a ^ b for a, b in zip(plaintext, stream[16:], strict=False))
    hashed = b"".join(part + bytes(-len(part) % 16) for part in (additional, ciphertext))
    hashed += (8 * len(additional)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    subkey, digest = int.from_bytes(oracle.crypt_ecb(bytes(16)), "big"), 0
    for at in range(0, len(hashed), 16):
        digest = _multiplied(digest ^ int.from_bytes(hashed[at : at + 16], "big"), subkey)
    return ciphertext + (digest ^ int.from_bytes(stream[:16], "big")).to_bytes(16, "big")


def test_the_oracle_gives_the_known_answer():
    """RFC 8998 A.1."""
    sealed = _gcm_by_gmssl(GCM["key"], GCM["nonce"], GCM["plaintext"], GCM["additional"])
    assert sealed == GCM["ciphertext"] + GCM["tag"]


@settings(max_examples=30, deadline=None)
@given(
    key=st.binary(min_size=16, max_size=16),
    nonce=st.binary(min_size=12, max_size=12),
    plaintext=st.binary(max_size=100),
    additional=st.binary(max_size=100),
)
def test_sm4_gcm_agrees_with_gmssl(key, nonce, plaintext, additional):
    """Ciphertext and tag."""
    sealed = _gcm_by_gmssl(key, nonce, plaintext, additional)
    assert sm.seal(key, nonce, plaintext, additional) == sealed
    assert sm.unseal(key, nonce, sealed, additional) == plaintext


@settings(max_examples=100, deadline=None)
@given(bit=st.integers(0, 8 * (len(GCM["ciphertext"]) + 16) - 1))
def test_one_flipped_bit_is_refused(bit):
    sealed = bytearray(GCM["ciphertext"] + GCM["tag"])
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TransportError) as caught:
        sm.unseal(GCM["key"], GCM["nonce"], bytes(sealed), GCM["additional"])
    assert caught.value.code == "envelope.forged"


@pytest.mark.parametrize("length", [0, 1, 15, 16, 40, 79])
def test_a_truncated_ciphertext_is_refused(length):
    sealed = GCM["ciphertext"] + GCM["tag"]
    with pytest.raises(TransportError) as caught:
        sm.unseal(GCM["key"], GCM["nonce"], sealed[:length], GCM["additional"])
    assert caught.value.code == "envelope.forged"


def test_other_additional_data_is_refused():
    with pytest.raises(TransportError) as caught:
        sm.unseal(GCM["key"], GCM["nonce"], GCM["ciphertext"] + GCM["tag"], b"elsewhere")
    assert caught.value.code == "envelope.forged"


def test_a_wiped_key_is_overwritten_in_place():
    key = bytearray(GCM["key"])
    place = (ctypes.c_ubyte * len(key)).from_buffer(key)
    with pytest.raises(BufferError):
        sm.wipe(key)
    assert bytes(place) == bytes(16)
    del place
    sm.wipe(key)
    assert key == b""
