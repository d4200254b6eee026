"""All trust anchors of a rig: a certificate authority, TLS certificates and SM2 keys, made anew in a directory."""

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transport import sm2

_LIFE = datetime.timedelta(days=3_650)
_CLOCK_SLACK = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Trust:
    """The files of a rig's trust: TLS certificates and keys in PEM, SM2 keys in DER."""

    ca: Path
    broker_certificate: Path
    broker_key: Path
    terminal_certificate: Path
    terminal_key: Path
    platform_certificate: Path
    platform_key: Path
    identity_key: Path
    identity_public_key: Path
    signing_key: Path
    signing_public_key: Path
    seal_key: Path
    seal_public_key: Path

    @classmethod
    def in_directory(cls, directory: Path) -> Self:
        """Name the files, whether they exist or not."""
        return cls(
            ca=directory / "ca.pem",
            broker_certificate=directory / "broker.pem",
            broker_key=directory / "broker.key",
            terminal_certificate=directory / "terminal.pem",
            terminal_key=directory / "terminal.key",
            platform_certificate=directory / "platform.pem",
            platform_key=directory / "platform.key",
            identity_key=directory / "identity.der",
            identity_public_key=directory / "identity.pub.der",
            signing_key=directory / "signing.der",
            signing_public_key=directory / "signing.pub.der",
            seal_key=directory / "seal.der",
            seal_public_key=directory / "seal.pub.der",
        )


def make_trust(directory: Path, terminal_id: str) -> Trust:
    """Make every key and certificate in `directory` (mode 0700), files with mode 0400.

    Raises FileExistsError when one is there already: a rig's keys are never replaced silently.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    trust = Trust.in_directory(directory)
    authority = _Authority()
    _write(trust.ca, authority.certificate.public_bytes(serialization.Encoding.PEM))
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    authority.issue("broker", server, trust.broker_certificate, trust.broker_key)
    authority.issue(terminal_id, client, trust.terminal_certificate, trust.terminal_key)
    authority.issue("platform", client, trust.platform_certificate, trust.platform_key)
    for private_file, public_file in (
        (trust.identity_key, trust.identity_public_key),
        (trust.signing_key, trust.signing_public_key),
        (trust.seal_key, trust.seal_public_key),
    ):
        pair = sm2.generate()
        _write(private_file, pair.to_der())
        _write(public_file, pair.public.to_der())
    return trust


class _Authority:
    """A certificate authority whose key is forgotten once the certificates are made."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("govterm rig CA")
        public = self._key.public_key()
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        self.certificate = (
            self._start(self._name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(self._identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, name: str, purpose: x509.ObjectIdentifier, certificate_file: Path, key_file: Path) -> None:
        """Write a key and its certificate; a server's is for this machine's loopback names only."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        loopback = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            self._start(_name(name), public)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), critical=False
            )
        )
        if purpose == ExtendedKeyUsageOID.SERVER_AUTH:
            certificate = certificate.add_extension(x509.SubjectAlternativeName(loopback), critical=False)
        signed = certificate.sign(self._key, hashes.SHA256())
        _write(certificate_file, signed.public_bytes(serialization.Encoding.PEM))
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        _write(key_file, key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))

    def _start(self, subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
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


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
