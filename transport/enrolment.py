"""How a terminal becomes known to its platform, once (T20, H8): the two messages, both halves; docs/enrolment.md.

Each is `[content, signature]` in MessagePack like the key grants, and begins with a name of its own so that it is
never taken for another message that the same key signed.
"""

import hmac
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Meta

from transport import sm, sm2
from transport.certificate import UNREADABLE, SigningCertificate
from transport.errors import TransportError
from transport.wire import Bytes16, Name, decode, encode

LARGEST_BYTES = 131_072
"""A request or an answer is never larger."""

TerminalId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{4,32}\Z")]
_Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,253}\Z")]
_DIGEST_BYTES = 32
_GROUP = 4


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    content: Annotated[bytes, Meta(max_length=LARGEST_BYTES)]
    signature: Annotated[bytes, Meta(max_length=512)]


class EnrolmentRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the terminal asks for: `hardware` names the machine (H8), `csr` is the PKCS #10 request of its TLS key."""

    kind: Literal["govterm-enrolment-request"]
    version: Literal[1]
    terminal: TerminalId
    identity: Annotated[bytes, Meta(min_length=sm2.POINT_BYTES, max_length=sm2.POINT_BYTES)]
    csr: Annotated[bytes, Meta(max_length=4_096)]
    nonce: Bytes16
    hardware: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    software_version: Name


class EnrolmentAnswer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the platform gives: where its broker is, whom to trust there, and the keys it signs with.

    `ca` and `client_certificate` are PEM, `certificate` is the signing key's X.509 in DER, `seal_key` is the
    certificate issuer's SubjectPublicKeyInfo.
    """

    kind: Literal["govterm-enrolment-answer"]
    version: Literal[1]
    nonce: Bytes16
    terminal: TerminalId
    host: _Host
    port: Annotated[int, Meta(ge=1, le=65_535)]
    ca: bytes
    client_certificate: bytes
    certificate: bytes
    seal_key: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Enrolled:
    """A verified answer. `ca` and `client_certificate` are PEM, written anew from what was read."""

    terminal: str
    host: str
    port: int
    ca: bytes
    client_certificate: bytes
    certificate: SigningCertificate
    seal_key: sm2.PublicKey


def fingerprint(digest: bytes) -> str:
    """Return a digest as it is read out: hexadecimal in groups of four."""
    text = digest.hex()
    return " ".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def parse_fingerprint(text: str) -> bytes:
    """Read what `fingerprint` writes, also with colons or capitals; raise TransportError (`enroll.bad_fingerprint`)."""
    try:
        digest = bytes.fromhex("".join(text.replace(":", " ").split()))
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES:
        raise _refused(
            "enroll.bad_fingerprint", "not a fingerprint", "give the 64 hexadecimal digits that the platform named"
        )
    return digest


def build_request(
    terminal: str,
    identity: sm2.PrivateKey,
    tls_key: ec.EllipticCurvePrivateKey,
    *,
    nonce: bytes,
    hardware: str,
    software_version: str,
) -> bytes:
    """Return the terminal's request; the signatures show that it has both private keys."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, terminal)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(tls_key, hashes.SHA256())
    content = encode(
        EnrolmentRequest(
            "govterm-enrolment-request",
            1,
            terminal,
            identity.public.point,
            csr.public_bytes(serialization.Encoding.DER),
            nonce,
            hardware,
            software_version,
        )
    )
    return encode(_Signed(content, identity.sign(content)))


def read_request(body: bytes) -> tuple[EnrolmentRequest, x509.CertificateSigningRequest]:
    """Return a request and its CSR when whoever sent it has the private keys of both.

    Raises TransportError: `enroll.malformed`, `enroll.bad_signature`, `sm2.bad_key`. Who that was, only the
    fingerprint read out by somebody at the terminal tells.
    """
    signed = decode(body, _Signed, code="enroll.malformed")
    request = decode(signed.content, EnrolmentRequest, code="enroll.malformed")
    _verify(signed, sm2.PublicKey.from_point(request.identity))
    try:
        csr = x509.load_der_x509_csr(request.csr)
        named = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        sound = csr.is_signature_valid and [one.value for one in named] == [request.terminal]
    except UNREADABLE:
        sound = False
    if not sound:
        raise _refused("enroll.bad_signature", "its TLS request is not sound", "make a new request at the terminal")
    return request, csr


def build_answer(answer: EnrolmentAnswer, signing: sm2.PrivateKey) -> bytes:
    """Return the platform's answer, signed."""
    content = encode(answer)
    return encode(_Signed(content, signing.sign(content)))


def verify_answer(
    body: bytes, expected: bytes, *, terminal: str, nonce: bytes, tls_key: ec.EllipticCurvePublicKey
) -> Enrolled:
    """Return what an answer brings to the terminal that asked with `nonce` and `tls_key`.

    `expected` is the SM3 digest of the platform's certificate, given out of band: everything rests on it.
    Raises TransportError: `enroll.malformed`, `enroll.fingerprint`, `enroll.bad_certificate`, `enroll.bad_signature`,
    `enroll.other_request`, `enroll.other_terminal`, `enroll.bad_tls`, `sm2.bad_key` (the certificate issuer's).
    """
    signed = decode(body, _Signed, code="enroll.malformed")
    answer = decode(signed.content, EnrolmentAnswer, code="enroll.malformed")
    if not hmac.compare_digest(sm.sm3(answer.certificate), expected):
        raise _refused(
            "enroll.fingerprint",
            f"the platform's certificate has the fingerprint {fingerprint(sm.sm3(answer.certificate))}",
            "ask the platform's operator again, on a line you trust; if it differs, the answer is not theirs",
        )
    certificate = SigningCertificate.from_der(answer.certificate)
    _verify(signed, certificate.key)
    if not hmac.compare_digest(answer.nonce, nonce):
        raise _refused("enroll.other_request", "it answers another request", "send the request made here last")
    if answer.terminal != terminal:
        raise _refused(
            "enroll.other_terminal", f"it is for {answer.terminal}, this is {terminal}", "take this terminal's answer"
        )
    try:
        ca, client = _tls(answer, tls_key)
    except UNREADABLE:
        raise _bad_tls("not certificates in PEM") from None
    seal_key = sm2.PublicKey.from_der(answer.seal_key)
    return Enrolled(answer.terminal, answer.host, answer.port, ca, client, certificate, seal_key)


def _tls(answer: EnrolmentAnswer, tls_key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    """Return authorities and client certificate, once it is clear that they fit each other and our key."""
    authorities = x509.load_pem_x509_certificates(answer.ca)
    client = x509.load_pem_x509_certificate(answer.client_certificate)
    if client.public_key() != tls_key:
        raise _bad_tls("the client certificate is not for this terminal's key")
    if not all(_is_authority(one) for one in authorities):
        raise _bad_tls("a certificate among the authorities is none")
    if not any(_issued(one, client) for one in authorities):
        raise _bad_tls("the client certificate does not come from the authority")
    pem = serialization.Encoding.PEM
    return b"".join(one.public_bytes(pem) for one in authorities), client.public_bytes(pem)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    try:
        return authority and certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return authority


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def _verify(signed: _Signed, signer: sm2.PublicKey) -> None:
    try:
        signer.verify(signed.signature, signed.content)
    except TransportError:
        raise _refused(
            "enroll.bad_signature", "its signature does not verify", "carry the file again: it was altered on the way"
        ) from None


def _bad_tls(what: str) -> TransportError:
    return _refused("enroll.bad_tls", what, "ask the platform's operator for a new answer to this request")


def _refused(code: str, message: str, advice: str) -> TransportError:
    return TransportError(code, message, advice=advice, retry=False)
