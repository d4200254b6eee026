"""The rig's certificate authority: TLS certificates, and an X.509 certificate around an SM2 key."""

import datetime
import ipaddress
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transport import sm2

_LIFE = datetime.timedelta(days=3_650)
_CLOCK_SLACK = datetime.timedelta(days=1)
_PEM, _DER = serialization.Encoding.PEM, serialization.Encoding.DER
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_SM2_WITH_SM3 = bytes.fromhex("300a06082a811ccf55018375")


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """A certificate authority and its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str) -> Self:
        """Make an authority of its own."""
        key = new_key()
        public = key.public_key()
        builder = (
            _start(_name(name), _name(name), public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> Self:
        """Read an authority's certificate and key (PEM)."""
        loaded = serialization.load_pem_private_key(key, None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError("the authority's key is not for an elliptic curve")
        return cls(loaded, x509.load_pem_x509_certificate(certificate))

    @property
    def pem(self) -> bytes:
        """The authority's certificate in PEM."""
        return self.certificate.public_bytes(_PEM)

    def issue(self, name: str, purpose: x509.ObjectIdentifier, public: ec.EllipticCurvePublicKey) -> bytes:
        """Return a certificate in PEM; a server's is for this machine's loopback names only."""
        identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        loopback = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            _start(_name(name), self.certificate.subject, public)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        if purpose == ExtendedKeyUsageOID.SERVER_AUTH:
            builder = builder.add_extension(x509.SubjectAlternativeName(loopback), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new TLS key."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a TLS key as PKCS #8 in PEM."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def sm2_certificate(name: str, pair: sm2.PrivateKey) -> bytes:
    """Return a self-signed certificate of an SM2 key in DER, signed by SM2 with SM3 (GB/T 20518).

    `cryptography` writes it for a key of P-256, whose public key and algorithm are as long as SM2's and replaced by
    them.
    """
    stand_in = new_key()
    public = stand_in.public_key()
    built = _start(_name(name), _name(name), public).add_extension(_usage(sign_certificates=False), critical=True)
    content = built.sign(stand_in, hashes.SHA256()).tbs_certificate_bytes
    info = public.public_bytes(_DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    content = content.replace(info, pair.public.to_der()).replace(_ECDSA_WITH_SHA256, _SM2_WITH_SM3)
    return _tagged(0x30, content + _SM2_WITH_SM3 + _tagged(0x03, b"\0" + pair.sign(content)))


def _start(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + _LIFE)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _tagged(tag: int, content: bytes) -> bytes:
    """Return a DER element."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
