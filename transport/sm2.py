"""SM2 signatures and encryption (GB/T 32918) through the system's libcrypto.

Signatures are DER over SM3 with the default signer id; ciphertexts are SM2Cipher of GM/T 0009 (DER); public keys
travel as the 65-byte uncompressed point or as SubjectPublicKeyInfo, private keys as PKCS #8.
"""

import ctypes
import weakref
from ctypes import c_size_t, c_ubyte, c_void_p
from typing import Self

from transport.errors import TransportError
from transport.libcrypto import failure, library, owned

SIGNER_ID = b"1234567812345678"
POINT_BYTES = 65

_SELECT_PUBLIC = 0x86  # EVP_PKEY_PUBLIC_KEY
_SELECT_PAIR = 0x87  # EVP_PKEY_KEYPAIR
_SPKI_HEADER = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")
_MAX_KEY_BYTES = 4_096
_MAX_CIPHERTEXT_BYTES = 65_536

_KEY_ADVICE = "give an SM2 key: PKCS #8 or SubjectPublicKeyInfo in DER, curve sm2p256v1"
_DATA_ADVICE = "the bytes were altered, cut short or made for another key"
_LIBRARY_ADVICE = "check the system's OpenSSL installation"


class PublicKey:
    """A point of the SM2 curve that verifies signatures and encrypts."""

    def __init__(self, handle: int) -> None:
        """Take over an EVP_PKEY and free it with this object."""
        self._handle = handle
        self._finalizer = weakref.finalize(self, library().EVP_PKEY_free, handle)

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read a SubjectPublicKeyInfo with an uncompressed point; raise TransportError (`sm2.bad_key`)."""
        if len(der) != len(_SPKI_HEADER) + POINT_BYTES or not der.startswith(_SPKI_HEADER):
            raise _bad_key("not the SubjectPublicKeyInfo of an SM2 key with an uncompressed point")
        handle = _decode(der, b"SubjectPublicKeyInfo", _SELECT_PUBLIC)
        key = cls(handle)
        with owned(_context(handle), library().EVP_PKEY_CTX_free) as context:
            if library().EVP_PKEY_public_check(context) != 1:
                raise _bad_key("not a point of the SM2 curve")
        return key

    @classmethod
    def from_point(cls, point: bytes) -> Self:
        """Read a 65-byte uncompressed point; raise TransportError (`sm2.bad_key`), also for one off the curve."""
        if len(point) != POINT_BYTES or point[0] != 0x04:
            raise _bad_key("not an uncompressed point of 65 bytes")
        return cls.from_der(_SPKI_HEADER + point)

    def to_der(self) -> bytes:
        """Return the SubjectPublicKeyInfo, 91 bytes."""
        return _encode(self._handle, b"SubjectPublicKeyInfo", _SELECT_PUBLIC)

    @property
    def point(self) -> bytes:
        """The uncompressed point, 65 bytes."""
        return self.to_der()[-POINT_BYTES:]

    def verify(self, signature: bytes, data: bytes) -> None:
        """Return when `signature` (DER) signs `data`; raise TransportError (`sm2.bad_signature`) otherwise."""
        lib = library()
        with owned(lib.EVP_MD_CTX_new(), lib.EVP_MD_CTX_free) as context:
            _start_digest(context, lib.EVP_DigestVerifyInit, self._handle)
            if lib.EVP_DigestVerify(context, signature, len(signature), data, len(data)) != 1:
                raise failure("sm2.bad_signature", "the signature does not verify", _DATA_ADVICE)

    def encrypt(self, plaintext: bytes | bytearray) -> bytes:
        """Return `plaintext` (1 byte or more) as SM2Cipher, DER; raise TransportError (`sm2.failed`)."""
        if not plaintext:
            raise TransportError("sm2.failed", "nothing to encrypt", advice="give at least one byte", retry=False)
        lib = library()
        with owned(_context(self._handle), lib.EVP_PKEY_CTX_free) as context:
            _expect(lib.EVP_PKEY_encrypt_init(context), "encrypt")
            given = (c_ubyte * len(plaintext)).from_buffer_copy(plaintext)
            size = c_size_t()
            try:
                _expect(lib.EVP_PKEY_encrypt(context, None, size, given, len(given)), "encrypt")
                out = (c_ubyte * size.value)()
                _expect(lib.EVP_PKEY_encrypt(context, out, size, given, len(given)), "encrypt")
            finally:
                _wipe(given)
            return bytes(out[: size.value])


class PrivateKey:
    """An SM2 key pair that signs and decrypts; libcrypto clears it when it is dropped or wiped."""

    def __init__(self, handle: int) -> None:
        """Take over an EVP_PKEY and free it with this object."""
        self._handle: int | None = handle
        self._finalizer = weakref.finalize(self, library().EVP_PKEY_free, handle)
        self.public = PublicKey.from_der(_encode(handle, b"SubjectPublicKeyInfo", _SELECT_PUBLIC))

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read a PKCS #8 PrivateKeyInfo; raise TransportError (`sm2.bad_key`) for anything but a sound SM2 key."""
        handle = _decode(der, b"PrivateKeyInfo", _SELECT_PAIR)
        with owned(_context(handle), library().EVP_PKEY_CTX_free) as context:
            sound = library().EVP_PKEY_check(context) == 1
        if not sound:
            library().EVP_PKEY_free(handle)
            raise _bad_key("private and public key do not fit each other")
        return cls(handle)

    def to_der(self) -> bytes:
        """Return the PKCS #8 PrivateKeyInfo."""
        return _encode(self._alive(), b"PrivateKeyInfo", _SELECT_PAIR)

    def sign(self, data: bytes) -> bytes:
        """Return the DER signature of `data` over SM3 under the default signer id."""
        lib = library()
        with owned(lib.EVP_MD_CTX_new(), lib.EVP_MD_CTX_free) as context:
            _start_digest(context, lib.EVP_DigestSignInit, self._alive())
            size = c_size_t()
            _expect(lib.EVP_DigestSign(context, None, size, data, len(data)), "sign")
            out = (c_ubyte * size.value)()
            _expect(lib.EVP_DigestSign(context, out, size, data, len(data)), "sign")
            return bytes(out[: size.value])

    def decrypt(self, ciphertext: bytes) -> bytearray:
        """Return the plaintext of an SM2Cipher (DER), the caller's to wipe.

        Raises TransportError (`sm2.bad_ciphertext`).
        """
        handle = self._alive()
        if not _is_one_sequence(ciphertext):
            raise failure("sm2.bad_ciphertext", "not one DER sequence", _DATA_ADVICE)
        lib = library()
        with owned(_context(handle), lib.EVP_PKEY_CTX_free) as context:
            _expect(lib.EVP_PKEY_decrypt_init(context), "decrypt")
            out = (c_ubyte * len(ciphertext))()
            size = c_size_t(len(out))
            try:
                if lib.EVP_PKEY_decrypt(context, out, size, ciphertext, len(ciphertext)) != 1:
                    raise failure("sm2.bad_ciphertext", "the ciphertext does not open", _DATA_ADVICE)
                return bytearray(memoryview(out)[: size.value])
            finally:
                _wipe(out)

    def wipe(self) -> None:
        """Clear and free the key now; later use raises TransportError (`sm2.wiped`)."""
        self._handle = None
        self._finalizer()

    def _alive(self) -> int:
        if self._handle is None:
            raise TransportError("sm2.wiped", "the key was wiped", advice="make or load a new key", retry=False)
        return self._handle


def generate() -> PrivateKey:
    """Return a new key pair from the operating system's randomness; raise TransportError (`sm2.failed`)."""
    lib = library()
    with owned(lib.EVP_PKEY_CTX_new_from_name(None, b"SM2", None), lib.EVP_PKEY_CTX_free) as context:
        _expect(lib.EVP_PKEY_keygen_init(context), "generate")
        handle = c_void_p()
        _expect(lib.EVP_PKEY_generate(context, handle), "generate")
    return PrivateKey(_value(handle))


def self_test() -> None:
    """Run the recommended curve's examples of GB/T 32918.5 (verify, decrypt) and a round trip.

    Raises TransportError (`crypto.self_test`).
    """
    pair = PrivateKey.from_der(bytes.fromhex(_EXAMPLE_PAIR))
    message = b"message digest"
    fresh = generate()
    try:
        pair.public.verify(bytes.fromhex(_EXAMPLE_SIGNATURE), message)
        pair.public.verify(pair.sign(message), message)
        right = pair.decrypt(bytes.fromhex(_EXAMPLE_CIPHERTEXT)) == b"encryption standard"
        right = right and fresh.decrypt(fresh.public.encrypt(message)) == message
    except TransportError as error:
        raise _self_test_failed() from error
    if not right:
        raise _self_test_failed()


_EXAMPLE_PAIR = (
    "308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420"
    "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8a144034200"
    "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)
_EXAMPLE_SIGNATURE = (
    "3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
    "022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
)
_EXAMPLE_CIPHERTEXT = (
    "307c022004ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73"
    "022100e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0"
    "042059983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766"
    "041321886ca989ca9c7d58087307ca93092d651efa"
)


def _context(handle: int) -> int | None:
    context: int | None = library().EVP_PKEY_CTX_new_from_pkey(None, handle, None)
    return context


def _start_digest(context: int, start: "ctypes._NamedFuncPointer", handle: int) -> None:
    lib = library()
    key_context = c_void_p()
    _expect(start(context, key_context, lib.EVP_sm3(), None, handle), "prepare the digest")
    _expect(lib.EVP_PKEY_CTX_set1_id(key_context, SIGNER_ID, len(SIGNER_ID)), "set the signer id")


def _decode(der: bytes, structure: bytes, selection: int) -> int:
    if len(der) > _MAX_KEY_BYTES:
        raise _bad_key("too long")
    lib = library()
    handle = c_void_p()
    decoder = lib.OSSL_DECODER_CTX_new_for_pkey(handle, b"DER", structure, b"SM2", selection, None, None)
    with owned(decoder, lib.OSSL_DECODER_CTX_free):
        given = (c_ubyte * len(der)).from_buffer_copy(der)
        position = ctypes.cast(given, ctypes.POINTER(c_ubyte))
        left = c_size_t(len(der))
        try:
            read = lib.OSSL_DECODER_from_data(decoder, position, left) == 1
        finally:
            _wipe(given)
    if not read or not handle.value:
        raise _bad_key("not an SM2 key")
    if left.value:
        lib.EVP_PKEY_free(handle)
        raise _bad_key("bytes after the key")
    return _value(handle)


def _encode(handle: int, structure: bytes, selection: int) -> bytes:
    lib = library()
    encoder = lib.OSSL_ENCODER_CTX_new_for_pkey(handle, selection, b"DER", structure, None)
    with owned(encoder, lib.OSSL_ENCODER_CTX_free):
        out = ctypes.POINTER(c_ubyte)()
        size = c_size_t()
        _expect(lib.OSSL_ENCODER_to_data(encoder, out, size), "export the key")
    try:
        return ctypes.string_at(out, size.value)
    finally:
        lib.CRYPTO_clear_free(out, size, b"", 0)


def _is_one_sequence(der: bytes) -> bool:
    """Whether the bytes are exactly one DER sequence: libcrypto would not mind bytes after it."""
    if not 2 <= len(der) <= _MAX_CIPHERTEXT_BYTES or der[0] != 0x30:
        return False
    if der[1] < 0x80:
        return len(der) == 2 + der[1]
    width = der[1] & 0x7F
    return len(der) == 2 + width + int.from_bytes(der[2 : 2 + width], "big")


def _expect(result: int, what: str) -> None:
    if result != 1:
        raise failure("sm2.failed", f"libcrypto cannot {what}", _LIBRARY_ADVICE)


def _value(handle: c_void_p) -> int:
    if handle.value is None:
        raise failure("sm2.failed", "libcrypto gave no key", _LIBRARY_ADVICE)
    return handle.value


def _wipe(buffer: "ctypes.Array[c_ubyte]") -> None:
    ctypes.memset(buffer, 0, len(buffer))


def _bad_key(what: str) -> TransportError:
    return failure("sm2.bad_key", what, _KEY_ADVICE)


def _self_test_failed() -> TransportError:
    return TransportError("crypto.self_test", "SM2 gives a wrong known answer", advice=_LIBRARY_ADVICE, retry=False)
