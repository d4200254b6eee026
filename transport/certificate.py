"""The platform's certificate: X.509 around an SM2 key, which `cryptography` parses but cannot use (GB/T 20518)."""

import ctypes
import datetime
from ctypes import c_ubyte
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from transport import sm
from transport.errors import TransportError
from transport.libcrypto import failure, library, owned
from transport.sm2 import PublicKey

SM2_WITH_SM3 = x509.ObjectIdentifier("1.2.156.10197.1.501")
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for X.509 from strangers."""

_MAX_BYTES = 16_384
_ADVICE = "give the platform's self-signed certificate with its SM2 signing key, in DER, as the platform issued it"


@dataclass(frozen=True, slots=True, repr=False)
class SigningCertificate:
    """A self-signed certificate of an SM2 key that signs; only its fingerprint, given out of band, makes it trusted."""

    der: bytes
    key: PublicKey
    not_before: datetime.datetime
    not_after: datetime.datetime

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read a certificate and check all but its dates, since a terminal's clock may be wrong.

        Raises TransportError (`enroll.bad_certificate`) for anything but an X.509 certificate whose key is a point of
        the SM2 curve, whose signature (SM2 with SM3, default signer id) that key made, and whose key usage, if it
        has one, allows signing.
        """
        if len(der) > _MAX_BYTES:
            raise _bad(f"{len(der):,} bytes")
        try:
            parsed = x509.load_der_x509_certificate(der)
            signs = _may_sign(parsed)
            dates = parsed.not_valid_before_utc, parsed.not_valid_after_utc
            content, signature = parsed.tbs_certificate_bytes, parsed.signature
            algorithm = parsed.signature_algorithm_oid
        except UNREADABLE:
            raise _bad("not an X.509 certificate") from None
        if algorithm != SM2_WITH_SM3:
            raise _bad(f"signed by {algorithm.dotted_string}, not by SM2 with SM3")
        if not der.endswith(b"\0" + signature):
            raise _bad("its signature is no whole number of bytes")
        if not signs:
            raise _bad("its key usage does not allow signing")
        try:
            key = PublicKey.from_der(_public_key_info(der))
            key.verify(signature, content)
        except TransportError as error:
            raise _bad(str(error)) from None
        return cls(der, key, *dates)

    @property
    def digest(self) -> bytes:
        """SM3 of the whole certificate: what the platform's operator reads out."""
        return sm.sm3(self.der)


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return True


def _public_key_info(der: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo as it stands in a certificate, without looking into it."""
    lib = library()
    given = (c_ubyte * len(der)).from_buffer_copy(der)
    position = ctypes.cast(given, ctypes.POINTER(c_ubyte))
    certificate = lib.d2i_X509(None, position, len(der))
    if not certificate:
        raise failure("enroll.bad_certificate", "not an X.509 certificate", _ADVICE)
    with owned(certificate, lib.X509_free):
        info = lib.X509_get_X509_PUBKEY(certificate)  # lives as long as the certificate
        size = lib.i2d_X509_PUBKEY(info, None)
        if size <= 0:
            raise failure("enroll.bad_certificate", "no public key", _ADVICE)
        out = (c_ubyte * size)()
        lib.i2d_X509_PUBKEY(info, ctypes.cast(out, ctypes.POINTER(c_ubyte)))
        return bytes(out)


def _bad(what: str) -> TransportError:
    return TransportError("enroll.bad_certificate", f"the certificate: {what}", advice=_ADVICE, retry=False)
