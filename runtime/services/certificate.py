"""A certificate for a verified citizen: asked for, checked for digest and seal, printed (T7, I3, T12).

It is printed once, or reported as unknown; by its receipt number the same issue is printed again, marked and counted.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from devices.printer.job import Item, Job, Picture, Qr, Text
from devices.printer.protocol import Align
from runtime import texts
from runtime.messages import CertificateIssue, CertificateRequest, seal_content
from runtime.messages.certificate import CertificateReprint
from runtime.services.issuing import Issuing
from runtime.services.office import Office
from runtime.services.printing import Paper, Press, Printer
from runtime.services.receipts import read_receipt
from runtime.services.steps import Refused, Result, Transaction
from runtime.session import Session
from transport.errors import TransportError
from transport.sm import sm3
from transport.sm2 import PublicKey
from vision.verifier import Raster, Verifier

RASTERISE_SECONDS = 7.0
"""The verifier keeps its own deadline of 5 s; this much later its silence is an answer."""
MAX_PAGES = 4
"""No certificate is longer; a longer one would empty the roll."""


class CertificateResult(Result, frozen=True, kw_only=True):
    """The answer of `session.request_certificate` and `session.reprint_certificate`.

    `paper` is never a guess: `unknown` when nobody can know. `receipt` is what it can be printed again by.
    """

    paper: Paper = "not_printed"
    receipt: str | None = None
    certificate: str | None = None
    number: str | None = None
    copy: int = 0
    """Which reprint it is; 0 is the first print."""
    millimetres_per_second: float | None = None
    """The speed of the paper (T4), when it is known to be printed."""


@dataclass(frozen=True, slots=True)
class _Certificate:
    """What is left of an issue once its PDF became pictures."""

    receipt: str
    number: str
    verify_url: str
    pages: list[Raster]
    copy: int


@dataclass(frozen=True, slots=True)
class CertificateService:
    """Obtains certificates from the platform and prints them."""

    office: Office
    issuing: Issuing
    verifier: Verifier
    printer: Printer
    seal_key: PublicKey
    width_dots: int
    dots_per_inch: int

    async def request(self, session: Session, name: str) -> CertificateResult:
        """Obtain the certificate `name` for the session's citizen and print it.

        Raises SessionError as `Session.asserted`, and `session.ended` when the session ends meanwhile. Nothing is
        printed unless digest and seal are right. After `certificate.unsure` the same request is found out first: what
        was issued meanwhile is printed as a copy, under the same receipt number.
        """
        assertion = session.asserted()
        receipt = self.issuing.receipt(session, name)
        said: dict[str, Any] = {"receipt": receipt, "certificate": name, "number": None, "paper": "not_printed"}

        async def obtain(transaction: Transaction) -> tuple[CertificateIssue, int]:
            width = round(self.width_dots / self.dots_per_inch * 25.4)
            request = CertificateRequest(receipt, name, assertion, width)
            issue, copy = await self.issuing.issue(transaction, session, request)
            if copy:
                said["copy"] = copy
            return issue, copy

        return await self._print_out(session, said, obtain, "certificate_requested", done="certificate.printed")

    async def reprint(self, session: Session, typed: str) -> CertificateResult:
        """Print the certificate of a receipt number again, for the citizen whom it is of; it is marked as a reprint.

        Raises SessionError as `request`.
        """
        assertion = session.asserted()
        receipt = read_receipt(typed)
        said: dict[str, Any] = {"receipt": receipt, "certificate": None, "number": None, "paper": "not_printed"}

        async def obtain(transaction: Transaction) -> tuple[CertificateIssue, int]:
            if receipt is None:
                raise Refused("receipt.mistyped", "no receipt number", retry=True)
            answer = await self.issuing.copy(transaction, CertificateReprint(receipt, assertion))
            said["certificate"], said["copy"] = answer.issue.certificate, answer.copy
            return answer.issue, answer.copy

        return await self._print_out(session, said, obtain, "certificate_reprinted", done="certificate.reprinted")

    async def _print_out(
        self,
        session: Session,
        said: dict[str, Any],
        obtain: Callable[[Transaction], Awaitable[tuple[CertificateIssue, int]]],
        audit_event: str,
        *,
        done: str,
    ) -> CertificateResult:
        """Obtain an issue, check it, print it; `said` grows with what is known, for the result and the audit log."""

        noted: dict[str, Any] = {"session": session.reference}

        async def work(transaction: Transaction) -> dict[str, Any]:
            speed: float | None = None
            try:
                certificate = await self._checked(transaction, said, *await obtain(transaction))
                said["paper"] = "unknown"  # until the printer says, also when the session ends meanwhile
                speed = await self._print(transaction, certificate, said)
            except Refused as refused:
                said["paper"] = "not_printed"
                return said | {"outcome": "refused", "code": refused.code, "retry": refused.retry}
            finally:
                noted.update(said, millimetres_per_second=None if speed is None else round(speed))
            unknown = {"code": "certificate.paper_unknown"} if said["paper"] == "unknown" else {}
            return said | {"millimetres_per_second": speed} | unknown

        async with session.operation():
            return await self.office.serve(session.actor, audit_event, CertificateResult, work, done=done, about=noted)

    async def _checked(
        self, transaction: Transaction, said: dict[str, Any], issue: CertificateIssue, copy: int
    ) -> _Certificate:
        """Check and rasterise; the PDF's bytes end with this call's frames."""
        async with transaction.step("check_seal", deadline_seconds=1.0, no_answer="certificate.seal_invalid"):
            self._check(issue, said["certificate"])
        said["number"] = issue.number
        async with transaction.step("rasterise", deadline_seconds=RASTERISE_SECONDS, no_answer="vision.no_answer"):
            pages = await self.verifier.rasterise(issue.pdf, width_dots=self.width_dots, max_pages=MAX_PAGES)
        return _Certificate(said["receipt"], issue.number, issue.verify_url, pages, copy)

    def _check(self, issue: CertificateIssue, name: str) -> None:
        """Refuse an issue that is not what was asked for, or whose digest or seal is wrong (I3)."""
        if issue.certificate != name:
            raise Refused("certificate.wrong_kind", "another certificate than asked for", retry=False)
        if not secrets.compare_digest(sm3(issue.pdf), issue.digest):
            raise Refused("certificate.digest_mismatch", "the PDF is not the sealed one", retry=True)
        try:
            self.seal_key.verify(issue.seal, seal_content(issue))
        except TransportError:
            raise Refused("certificate.seal_invalid", "the issuer's seal does not verify", retry=True) from None

    async def _print(self, transaction: Transaction, certificate: _Certificate, said: dict[str, Any]) -> float | None:
        """Print under an intent and return the speed; raise Refused when surely nothing was printed."""
        press = Press(self.office.journal, self.printer, self.width_dots, self.dots_per_inch)
        printed = await press.print_out(transaction, certificate.receipt, _job(certificate))
        said["paper"] = printed.paper
        return printed.millimetres_per_second


def _job(certificate: _Certificate) -> Job:
    """Lay the paper out: caption, the mark of a reprint, the certificate, the QR that verifies it, closing words."""
    items: list[Item] = [Text(texts.text("paper.caption").zh, align=Align.CENTRE, double=True)]
    if certificate.copy:
        items.append(Text(texts.text("paper.reprint").zh.format(copy=certificate.copy), align=Align.CENTRE))
    items += [Picture(page.width_dots, page.height_dots, page.rows) for page in certificate.pages]
    items += [
        Text(texts.text("paper.verify").zh, align=Align.CENTRE),
        Qr(certificate.verify_url),
        Text(certificate.number, align=Align.CENTRE),
        Text(f"{texts.text('paper.receipt').zh} {certificate.receipt}", align=Align.CENTRE),
        Text(texts.text("paper.closing").zh, align=Align.CENTRE),
    ]
    return tuple(items)
