"""Issues certificates of citizens, sealed by their issuer, and gives out an issue again (T7, I3)."""

import secrets
from dataclasses import dataclass

import msgspec
import structlog

from runtime.messages.certificate import (
    CertificateCopy,
    CertificateIssue,
    CertificateReprint,
    CertificateRequest,
    Refusal,
    seal_content,
)
from runtime.services.receipts import read_receipt
from sim.platform.certificate import KINDS, WIDTHS_MILLIMETRES, write_certificate
from sim.platform.services.desk import Desk, Handlers
from sim.platform.services.identity import Identity
from transport.sm import sm3

log = structlog.get_logger(__name__)

MOST_COPIES = 3
"""How often an issue is given out again."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS certificate_issues (
    receipt TEXT PRIMARY KEY, id_number TEXT NOT NULL, issue BLOB NOT NULL, copies INTEGER NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates service."""

    desk: Desk
    identity: Identity

    def __post_init__(self) -> None:
        self.desk.database.executescript(SCHEMA)

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {CertificateRequest: self._issue, CertificateReprint: self._again}

    def _issue(self, terminal: str, request: CertificateRequest) -> CertificateIssue | Refusal:
        citizen = self.identity.citizen(terminal, request.assertion)
        if isinstance(citizen, Refusal):
            return citizen
        kind = KINDS.get(request.certificate)
        if kind is None:
            return Refusal("certificate.unknown", retry=False)
        if request.paper_width_millimetres not in WIDTHS_MILLIMETRES:
            return Refusal("certificate.bad_width", retry=False)
        if request.receipt[:1] != "C" or read_receipt(request.receipt) != request.receipt:
            log.warning("platform_complains", code="receipt.malformed", terminal=terminal)
            self.desk.store.count("complaint receipt.malformed")
            return Refusal("receipt.mistyped", retry=False)
        if self._kept(request.receipt) is not None:
            return Refusal("certificate.receipt_used", retry=False)
        number = secrets.token_hex(8).upper()
        issued_at = self.desk.now()
        pdf = write_certificate(
            kind,
            citizen,
            number=number,
            issued_at=issued_at,
            width_millimetres=request.paper_width_millimetres,
            font=self.desk.font,
        )
        url = f"https://platform.example/verify/{number}"
        unsealed = CertificateIssue(number, request.certificate, kind.issuer, issued_at, url, pdf, sm3(pdf), b"")
        seal = self.desk.faults.spoil(self.desk.seal.sign(seal_content(unsealed)))
        issue = msgspec.structs.replace(unsealed, seal=seal)
        self.desk.store.add_certificate(
            number, request.certificate, terminal, issued_at=issued_at, digest=issue.digest, seal=seal
        )
        self.desk.database.execute(
            "INSERT INTO certificate_issues (receipt, id_number, issue) VALUES (?, ?, ?)",
            (request.receipt, citizen.id_number, msgspec.msgpack.encode(issue)),
        )
        log.info("platform_issued_certificate", terminal=terminal, certificate=request.certificate)
        return issue

    def _again(self, terminal: str, request: CertificateReprint) -> CertificateCopy | Refusal:
        citizen = self.identity.citizen(terminal, request.assertion)
        if isinstance(citizen, Refusal):
            return citizen
        kept = self._kept(request.receipt)
        if kept is None or kept[0] != citizen.id_number:
            return Refusal("receipt.unknown", retry=False)
        _, issue, copies = kept
        if copies >= MOST_COPIES:
            return Refusal("certificate.no_more_copies", retry=False)
        self.desk.database.execute(
            "UPDATE certificate_issues SET copies = copies + 1 WHERE receipt = ?", (request.receipt,)
        )
        log.info("platform_gave_certificate_again", terminal=terminal, copy=copies + 1)
        return CertificateCopy(msgspec.msgpack.decode(issue, type=CertificateIssue), copies + 1)

    def _kept(self, receipt: str) -> tuple[str, bytes, int] | None:
        statement = "SELECT id_number, issue, copies FROM certificate_issues WHERE receipt = ?"
        row: tuple[str, bytes, int] | None = self.desk.database.execute(statement, (receipt,)).fetchone()
        return row
