"""SM2 against gmssl, an implementation in pure Python that shares nothing with libcrypto (T20, I7)."""

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from gmssl.sm2 import CryptSM2
from hypothesis import given, settings
from hypothesis import strategies as st

from transport import sm2
from transport.errors import TransportError

PAIR = sm2.generate()
_PRIVATE_AT = 36  # in PKCS #8 (RFC 5208) around an ECPrivateKey (RFC 5915)
MESSAGES = st.binary(min_size=1, max_size=100)


def _oracle() -> CryptSM2:
    oracle = CryptSM2(PAIR.to_der()[_PRIVATE_AT : _PRIVATE_AT + 32].hex(), "", mode=1)
    oracle.public_key = PAIR.public.point[1:].hex()  # its own constructor strips more than the 04
    return oracle


def _integers(der: bytes) -> tuple[int, int, bytes, bytes]:
    """Read an SM2Cipher (GM/T 0009): x, y, digest, text; every length here is short."""
    assert der[0] == 0x30
    at, fields = 2 if der[1] < 0x80 else 3, []
    for _ in range(4):
        size = der[at + 1]
        fields.append(der[at + 2 : at + 2 + size])
        at += 2 + size
    x, y, digest, text = fields
    return int.from_bytes(x, "big"), int.from_bytes(y, "big"), digest, text


def _cipher(raw: bytes) -> bytes:
    """Write C1 || C3 || C2 as an SM2Cipher."""

    def integer(number: bytes) -> bytes:
        content = number.lstrip(b"\0")
        content = b"\0" + content if not content or content[0] & 0x80 else content
        return bytes([0x02, len(content)]) + content

    digest, text = raw[64:96], raw[96:]
    content = integer(raw[:32]) + integer(raw[32:64]) + bytes([0x04, 32]) + digest + bytes([0x04, len(text)]) + text
    return bytes([0x30, *([0x81] if len(content) >= 0x80 else []), len(content)]) + content


@settings(max_examples=10, deadline=None)
@given(message=MESSAGES)
def test_each_verifies_the_others_signature(message):
    oracle = _oracle()
    r, s = decode_dss_signature(PAIR.sign(message))
    assert oracle.verify_with_sm3(f"{r:064x}{s:064x}", message)
    assert not oracle.verify_with_sm3(f"{r:064x}{s:064x}", message + b"!")
    theirs = oracle.sign_with_sm3(message)
    signature = encode_dss_signature(int(theirs[:64], 16), int(theirs[64:], 16))
    assert PAIR.public.verify(signature, message) is None
    with pytest.raises(TransportError):
        PAIR.public.verify(signature, message + b"!")


@settings(max_examples=10, deadline=None)
@given(message=MESSAGES)
def test_each_decrypts_what_the_other_encrypted(message):
    oracle = _oracle()
    x, y, digest, text = _integers(PAIR.public.encrypt(message))
    assert oracle.decrypt(x.to_bytes(32, "big") + y.to_bytes(32, "big") + digest + text) == message
    assert PAIR.decrypt(_cipher(oracle.encrypt(message))) == message
