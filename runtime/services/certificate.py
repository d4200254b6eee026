"""A certificate for a verified citizen: asked for, checked for digest and seal, printed (T7, I3, T12)."""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import structlog

from devices.errors import DeviceError
from devices.printer.job import Item, Job, JobResult, Picture, Qr, Text, length_dots, longest_seconds, millimetres
from devices.printer.protocol import Align
from runtime import texts
from runtime.audit import Audit
from runtime.journal import Intent, Journal, JournalError, Outcome
from runtime.messages import (
    CertificateIssue,
    CertificateRequest,
    Refusal,
    SupervisionEvent,
    from_payload,
    seal_content,
    to_payload,
)
from runtime.services.steps import INTERRUPTED, Origin, Refused, Result, Transaction, event
from runtime.session import Session
from transport.errors import TransportError
from transport.payload import Payload
from transport.sm import sm3
from transport.sm2 import PublicKey
from vision.verifier import Raster, Verifier

log = structlog.get_logger(__name__)

RASTERISE_SECONDS = 7.0
"""The verifier keeps its own deadline of 5 s; this much later its silence is an answer."""
AROUND_PRINT_SECONDS = 45.0
"""What a driver may need before a job's first byte and after its end, beside the time that the job may take."""
SLOWEST_BYTES_PER_SECOND = 960.0
"""A line of 9,600 bit/s, the slowest that the configuration takes: a page needs a minute there."""
MAX_PAGES = 4
"""No certificate is longer; a longer one would empty the roll."""
PRINT = "print"
"""The kind of the intent that is open while paper moves."""


class Platform(Protocol):
    """The line to the platform as this service sees it."""

    async def call(self, request: Payload, *, key: bytes, deadline_seconds: float) -> Payload:
        """Ask the platform; raises TransportError."""


class Printer(Protocol):
    """The receipt printer as this service sees it."""

    async def print_job(self, job: Job) -> JobResult:
        """Print and say what became of it; raises DeviceError when nothing was printed."""


Paper = Literal["printed", "not_printed", "unknown"]


class CertificateResult(Result, frozen=True, kw_only=True):
    """The answer of `session.request_certificate`. `paper` is never a guess: `unknown` when nobody can know."""

    paper: Paper
    certificate: str
    number: str | None = None
    millimetres_per_second: float | None = None
    """The speed of the paper (T4), when it is known to be printed."""


@dataclass(frozen=True, slots=True)
class _Certificate:
    """What is left of an issue once its PDF became pictures."""

    number: str
    verify_url: str
    pages: list[Raster]


@dataclass(frozen=True, slots=True)
class CertificateService:
    """Obtains a certificate from the platform and prints it."""

    platform: Platform
    verifier: Verifier
    printer: Printer
    journal: Journal
    audit: Audit
    origin: Origin
    seal_key: PublicKey
    answer_seconds: float
    width_dots: int
    dots_per_inch: int

    async def request(self, session: Session, name: str) -> CertificateResult:
        """Obtain the certificate `name` for the session's citizen and print it.

        Raises SessionError: `session.not_verified` without a verified citizen, `session.ended` when the session
        ends meanwhile. Nothing is printed unless digest and seal are right.
        """
        async with session.operation():
            session.citizen()
            transaction = Transaction(self.journal, self.origin)
            number: str | None = None
            paper: Paper = "not_printed"
            speed: float | None = None
            refused: Refused | None = None
            outcome: Outcome = "unknown"
            code: str | None = INTERRUPTED
            try:
                certificate = await self._obtain(transaction, session, name)
                number = certificate.number
                paper = "unknown"  # until the printer says, also when the session ends meanwhile
                paper, speed = await self._print(transaction, certificate)
                outcome, code = "done", None
            except Refused as reason:
                refused, paper = reason, "not_printed"
                outcome, code = "refused", reason.code
            finally:
                about: dict[str, str | int | None] = {
                    "session": session.reference,
                    "transaction": transaction.id,
                    "outcome": outcome,
                    "code": code,
                }
                about |= {"certificate": name, "number": number, "paper": paper}
                about["millimetres_per_second"] = None if speed is None else round(speed)
                await self.audit.note("certificate_requested", actor=session.actor, details=about)
            return _result(transaction, name, number, paper, refused, speed=speed)

    async def _obtain(self, transaction: Transaction, session: Session, name: str) -> _Certificate:
        """Ask, check and rasterise; the PDF's bytes end with this call's frames."""
        issue = await self._ask(transaction, session, name)
        async with transaction.step("check_seal", deadline_seconds=1.0, no_answer="certificate.seal_invalid"):
            self._check(issue, name)
        async with transaction.step("rasterise", deadline_seconds=RASTERISE_SECONDS, no_answer="vision.no_answer"):
            pages = await self.verifier.rasterise(issue.pdf, width_dots=self.width_dots, max_pages=MAX_PAGES)
        return _Certificate(issue.number, issue.verify_url, pages)

    async def _ask(self, transaction: Transaction, session: Session, name: str) -> CertificateIssue:
        async with transaction.step(
            "ask_platform", deadline_seconds=self.answer_seconds + 1.0, no_answer="platform.no_answer"
        ):
            reply = await self.platform.call(
                to_payload(self._question(session, name)),
                key=secrets.token_bytes(16),
                deadline_seconds=self.answer_seconds,
            )
            answer = cast("CertificateIssue | Refusal", from_payload(reply, CertificateIssue, Refusal))
            if isinstance(answer, Refusal):
                raise Refused(answer.code, "the platform refuses", retry=answer.retry)
            return answer

    def _question(self, session: Session, name: str) -> CertificateRequest:
        citizen = session.citizen()
        return CertificateRequest(
            certificate=name,
            name=citizen.name.reveal(),
            id_number=citizen.id_number.reveal(),
            paper_width_millimetres=round(self.width_dots / self.dots_per_inch * 25.4),
        )

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

    async def _print(
        self, transaction: Transaction, certificate: _Certificate
    ) -> tuple[Literal["printed", "unknown"], float | None]:
        """Print under an intent (rule 2), and return the speed too; raise Refused when surely nothing was printed."""
        try:
            intent = await self.journal.open_intent(PRINT, transaction.id)
        except JournalError as error:
            raise Refused(error.code, str(error), retry=error.retry) from None
        began = transaction.seconds
        speed: float | None = None
        outcome: Outcome = "unknown"
        code: str | None = INTERRUPTED
        retry = True
        try:
            async with asyncio.timeout(self._longest_seconds(job := _job(certificate))):
                result = await self.printer.print_job(job)
            outcome, code = _OUTCOMES[result.outcome], result.code
            speed = result.millimetres_per_second and round(result.millimetres_per_second, 1)
        except TimeoutError:
            code = "printer.no_answer"
        except DeviceError as error:
            outcome, code, retry = "refused", error.code, error.retry
        finally:
            told = transaction.event(PRINT, outcome, code, transaction.seconds - began)
            await self._settle(intent, told)
        if outcome == "refused":
            raise Refused(code or "printer.not_printed", "nothing was printed", retry=retry)
        return ("printed", speed) if outcome == "done" else ("unknown", None)

    def _longest_seconds(self, job: Job) -> float:
        """Return within what the driver ends a job by itself; raise DeviceError when the job is none."""
        length = millimetres(length_dots(job, self.width_dots), self.dots_per_inch)
        return AROUND_PRINT_SECONDS + longest_seconds(job, length, SLOWEST_BYTES_PER_SECOND)

    async def _settle(self, intent: Intent, told: SupervisionEvent) -> None:
        """Journal what became of the paper. When that fails the citizen is still told the truth of the paper;

        the intent stays open, and the next start settles it as unknown.
        """
        try:
            await self.journal.close_intent(intent, told.outcome, told.code, told)
        except JournalError as error:
            log.error("outcome_not_journaled", code=error.code)


_OUTCOMES: dict[str, Outcome] = {"printed": "done", "not_printed": "refused", "unknown": "unknown"}


def _job(certificate: _Certificate) -> Job:
    """Lay the paper out: caption, the certificate, the QR that verifies it, closing words."""
    items: list[Item] = [Text(texts.text("paper.caption").zh, align=Align.CENTRE, double=True)]
    items += [Picture(page.width_dots, page.height_dots, page.rows) for page in certificate.pages]
    items += [
        Text(texts.text("paper.verify").zh, align=Align.CENTRE),
        Qr(certificate.verify_url),
        Text(certificate.number, align=Align.CENTRE),
        Text(texts.text("paper.closing").zh, align=Align.CENTRE),
    ]
    return tuple(items)


def _result(
    transaction: Transaction,
    certificate: str,
    number: str | None,
    paper: Paper,
    refused: Refused | None,
    *,
    speed: float | None,
) -> CertificateResult:
    code = refused.code if refused is not None else None
    if refused is None and paper == "unknown":
        code = "certificate.paper_unknown"
    return CertificateResult(
        outcome="refused" if refused is not None else "done",
        code=code,
        text=texts.text(code or "certificate.printed").zh,
        retry=refused is not None and refused.retry,
        steps=transaction.steps,
        seconds=transaction.seconds,
        paper=paper,
        certificate=certificate,
        number=number,
        millimetres_per_second=speed,
    )


async def settle_prints(journal: Journal, origin: Origin) -> int:
    """On start, settle what a power cut left open: whether the paper came out is unknown. Returns how many."""
    intents = await journal.open_intents(PRINT)
    for intent in intents:
        told = event(origin, intent.transaction, PRINT, outcome="unknown", code=INTERRUPTED, seconds=0.0)
        await journal.close_intent(intent, "unknown", INTERRUPTED, told)
    return len(intents)
