"""The few functions of the system's libcrypto (OpenSSL >= 3.0) that SM2 needs, typed for ctypes."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_long, c_size_t, c_ubyte, c_ulong, c_void_p
from functools import cache

from transport.errors import TransportError

_ADVICE = "install OpenSSL 3 (Debian: apt-get install libssl3 or libssl3t64)"

_Handle = c_void_p
_FUNCTIONS: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "ERR_get_error": (c_ulong, ()),
    "ERR_reason_error_string": (c_char_p, (c_ulong,)),
    "EVP_sm3": (_Handle, ()),
    "EVP_PKEY_free": (None, (_Handle,)),
    "EVP_PKEY_CTX_new_from_name": (_Handle, (_Handle, c_char_p, c_char_p)),
    "EVP_PKEY_CTX_new_from_pkey": (_Handle, (_Handle, _Handle, c_char_p)),
    "EVP_PKEY_CTX_free": (None, (_Handle,)),
    "EVP_PKEY_CTX_set1_id": (c_int, (_Handle, c_void_p, c_int)),
    "EVP_PKEY_keygen_init": (c_int, (_Handle,)),
    "EVP_PKEY_generate": (c_int, (_Handle, POINTER(_Handle))),
    "EVP_PKEY_check": (c_int, (_Handle,)),
    "EVP_PKEY_public_check": (c_int, (_Handle,)),
    "EVP_PKEY_encrypt_init": (c_int, (_Handle,)),
    "EVP_PKEY_encrypt": (c_int, (_Handle, c_void_p, POINTER(c_size_t), c_void_p, c_size_t)),
    "EVP_PKEY_decrypt_init": (c_int, (_Handle,)),
    "EVP_PKEY_decrypt": (c_int, (_Handle, c_void_p, POINTER(c_size_t), c_void_p, c_size_t)),
    "EVP_MD_CTX_new": (_Handle, ()),
    "EVP_MD_CTX_free": (None, (_Handle,)),
    "EVP_DigestSignInit": (c_int, (_Handle, POINTER(_Handle), _Handle, _Handle, _Handle)),
    "EVP_DigestSign": (c_int, (_Handle, c_void_p, POINTER(c_size_t), c_void_p, c_size_t)),
    "EVP_DigestVerifyInit": (c_int, (_Handle, POINTER(_Handle), _Handle, _Handle, _Handle)),
    "EVP_DigestVerify": (c_int, (_Handle, c_void_p, c_size_t, c_void_p, c_size_t)),
    "OSSL_ENCODER_CTX_new_for_pkey": (_Handle, (_Handle, c_int, c_char_p, c_char_p, c_char_p)),
    "OSSL_ENCODER_CTX_free": (None, (_Handle,)),
    "OSSL_ENCODER_to_data": (c_int, (_Handle, POINTER(POINTER(c_ubyte)), POINTER(c_size_t))),
    "OSSL_DECODER_CTX_new_for_pkey": (
        _Handle,
        (POINTER(_Handle), c_char_p, c_char_p, c_char_p, c_int, _Handle, c_char_p),
    ),
    "OSSL_DECODER_CTX_free": (None, (_Handle,)),
    "OSSL_DECODER_from_data": (c_int, (_Handle, POINTER(POINTER(c_ubyte)), POINTER(c_size_t))),
    "CRYPTO_clear_free": (None, (c_void_p, c_size_t, c_char_p, c_int)),
    "d2i_X509": (_Handle, (c_void_p, POINTER(POINTER(c_ubyte)), c_long)),
    "X509_free": (None, (_Handle,)),
    "X509_get_X509_PUBKEY": (_Handle, (_Handle,)),
    "i2d_X509_PUBKEY": (c_int, (_Handle, POINTER(POINTER(c_ubyte)))),
}


@cache
def library() -> ctypes.CDLL:
    """Load `libcrypto.so.3` and declare the functions; raise TransportError (`sm2.no_library`) when it is absent."""
    try:
        loaded = ctypes.CDLL("libcrypto.so.3")
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype = result
            function.argtypes = arguments
    except (OSError, AttributeError) as error:
        message = f"the system's libcrypto.so.3 cannot be used: {error}"
        raise TransportError("sm2.no_library", message, advice=_ADVICE, retry=False) from None
    return loaded


def failure(code: str, what: str, advice: str) -> TransportError:
    """Drain this thread's error queue and return a TransportError that quotes the oldest reason."""
    lib = library()
    reasons: list[str] = []
    while number := lib.ERR_get_error():
        text = lib.ERR_reason_error_string(number)
        reasons.append(text.decode("ascii", "replace") if text else f"error {number:#x}")
    message = f"{what}: {reasons[0]}" if reasons else what
    return TransportError(code, message, advice=advice, retry=False)


@contextmanager
def owned(handle: int | None, free: Callable[[int], None]) -> Iterator[int]:
    """Give a handle to a block and free it at its end; raise TransportError (`sm2.no_memory`) for a null handle."""
    if not handle:
        raise failure("sm2.no_memory", "libcrypto gave no handle", "free memory and start again")
    try:
        yield handle
    finally:
        free(handle)
