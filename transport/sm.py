"""SM3 (GB/T 32905) and SM4-GCM (GB/T 32907, GB/T 36624, RFC 8998) from `cryptography`."""

from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SM3, Hash

from transport.errors import TransportError

KEY_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16

Bytes = bytes | bytearray | memoryview


def sm3(data: Bytes) -> bytes:
    """Return the 32-byte SM3 digest of `data` (GB/T 32905)."""
    digest = Hash(SM3())
    digest.update(data)
    return digest.finalize()


def seal(key: Bytes, nonce: bytes, plaintext: Bytes, additional: bytes) -> bytes:
    """Return ciphertext followed by the 16-byte tag; a nonce of 12 bytes must never come twice under a key."""
    encryptor = Cipher(_algorithm(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(additional)
    return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag


def unseal(key: Bytes, nonce: bytes, sealed: bytes, additional: bytes) -> bytes:
    """Return the plaintext of `seal`; raise TransportError (`envelope.forged`) when a bit differs."""
    if len(sealed) < TAG_BYTES:
        raise _forged()
    decryptor = Cipher(_algorithm(key), modes.GCM(nonce, sealed[-TAG_BYTES:])).decryptor()
    decryptor.authenticate_additional_data(additional)
    try:
        return decryptor.update(memoryview(sealed)[:-TAG_BYTES]) + decryptor.finalize()
    except InvalidTag:
        raise _forged() from None


def wipe(key: bytearray) -> None:
    """Overwrite a key and leave the array empty, so that whoever still holds it can use it no more."""
    key[:] = bytes(len(key))
    key.clear()


def self_test() -> None:
    """Run a known answer of SM3 (GB/T 32905) and SM4-GCM (RFC 8998 A.1); raise TransportError (`crypto.self_test`)."""
    digest = bytes.fromhex("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0")
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")
    nonce = bytes.fromhex("00001234567800000000abcd")
    plaintext = b"".join(bytes([letter] * 8) for letter in (0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF, 0xEE, 0xAA))
    additional = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    sealed = bytes.fromhex(
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
        "83de3541e4c2b58177e065a9bf7b62ec"
    )
    right = sm3(b"abc") == digest and seal(key, nonce, plaintext, additional) == sealed
    if not right or unseal(key, nonce, sealed, additional) != plaintext:
        raise TransportError(
            "crypto.self_test",
            "SM3 or SM4-GCM gives a wrong known answer",
            advice="reinstall the package `cryptography` from its wheel",
            retry=False,
        )


def _algorithm(key: Bytes) -> algorithms.SM4:
    """Take any buffer, so that a key kept in a bytearray is not copied; the library's own hint says bytes only."""
    return algorithms.SM4(cast("bytes", key))


def _forged() -> TransportError:
    return TransportError(
        "envelope.forged",
        "the authentication tag does not fit",
        advice="the message was altered or sealed under another key; find out who writes to this terminal's topics",
        retry=False,
    )
