"""Certificates (T7, I3), and the refusal that any call may get."""

import msgspec

from runtime.messages.entry import Entry, Personal


class CertificateRequest(Personal, frozen=True):
    """Asks for a certificate of the citizen of the `assertion` (T7), under a receipt number made by the terminal."""

    receipt: str
    certificate: str
    assertion: bytes
    paper_width_millimetres: int


class CertificateReprint(Personal, frozen=True):
    """Asks once more for the issue of a receipt, which must be of the citizen of the `assertion`."""

    receipt: str
    assertion: bytes


class CertificateIssue(Personal, frozen=True):
    """An issued certificate: the PDF, its SM3 digest and the issuer's detached SM2 seal (I3).

    The seal signs `seal_content` of the other fields; `number` is random and says nothing of the citizen.
    """

    number: str
    certificate: str
    issuer: str
    issued_at: int
    verify_url: str
    pdf: bytes
    digest: bytes
    seal: bytes


class CertificateCopy(Personal, frozen=True):
    """The issue as it was, and how many times it was given out again, this time included."""

    issue: CertificateIssue
    copy: int


class Refusal(msgspec.Struct, frozen=True):
    """The platform will not do what was asked; `code` is stable, `retry` says whether asking again helps."""

    code: str
    retry: bool


def seal_content(issue: CertificateIssue) -> bytes:
    """Return the bytes the issuer's seal signs: a MessagePack array of every field but the PDF and the seal."""
    return msgspec.msgpack.encode(
        [
            "govterm-seal",
            1,
            issue.number,
            issue.certificate,
            issue.issuer,
            issue.issued_at,
            issue.verify_url,
            issue.digest,
        ]
    )


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    CertificateRequest: Entry("certificate.request", 1, personal=True, limit_bytes=4_096),
    CertificateReprint: Entry("certificate.reprint", 1, personal=True, limit_bytes=4_096),
    CertificateCopy: Entry("certificate.copy", 1, personal=True, limit_bytes=512_000),
    CertificateIssue: Entry("certificate.issue", 1, personal=True, limit_bytes=512_000),
    Refusal: Entry("refusal", 1, personal=False, limit_bytes=1_024),
}
