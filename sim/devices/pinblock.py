"""Reference computations of PIN blocks, check values and message codes, for the rig's PIN pad (protocols 6.3)."""

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4

BLOCK = {"sm4": 16, "3des": 8}


def encrypt(algorithm: str, key: bytes, data: bytes) -> bytes:
    """Encrypt whole blocks, each by itself, with SM4 or 3DES."""
    encryptor = Cipher(_cipher(algorithm, key), modes.ECB()).encryptor()  # noqa: S305 - what PIN pads do
    return encryptor.update(data) + encryptor.finalize()


def decrypt(algorithm: str, key: bytes, data: bytes) -> bytes:
    """Undo `encrypt`: a working key under its master key."""
    decryptor = Cipher(_cipher(algorithm, key), modes.ECB()).decryptor()  # noqa: S305 - what PIN pads do
    return decryptor.update(data) + decryptor.finalize()


def check_value(algorithm: str, key: bytes) -> bytes:
    """Return the KCV: the first 8 bytes of an encrypted block of zeros."""
    return encrypt(algorithm, key, bytes(BLOCK[algorithm]))[:8]


def clear_block(algorithm: str, pin: str, pan12: str) -> bytes:
    """Return the PIN block before encryption: ISO 9564 form 0, under SM4 made as long as its block."""
    size = BLOCK[algorithm]
    field = bytes.fromhex(f"0{len(pin):X}{pin}".ljust(2 * size, "F"))
    return _xor(field, bytes.fromhex(pan12.rjust(2 * size, "0")))


def pin_block(algorithm: str, key: bytes, pin: str, pan12: str) -> bytes:
    """Return the encrypted PIN block."""
    return encrypt(algorithm, key, clear_block(algorithm, pin, pan12))


def message_code(algorithm: str, key: bytes, start: bytes, data: bytes) -> bytes:
    """Return the CBC-MAC of whole blocks, going on from `start`."""
    size, mac = BLOCK[algorithm], start
    for at in range(0, len(data), size):
        mac = encrypt(algorithm, key, _xor(mac, data[at : at + size]))
    return mac


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _cipher(algorithm: str, key: bytes) -> SM4 | TripleDES:
    return SM4(key) if algorithm == "sm4" else TripleDES(key if len(key) == 24 else key + key[:8])
