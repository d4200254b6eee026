"""Issues certificates of citizens, sealed by their issuer (T7, I3)."""

import secrets
from dataclasses import dataclass

import msgspec
import structlog

from runtime.messages.certificate import CertificateIssue, CertificateRequest, Refusal, seal_content
from sim.platform.certificate import KINDS, WIDTHS_MILLIMETRES, write_certificate
from sim.platform.services.desk import Desk, Handlers
from transport.sm import sm3

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates service."""

    desk: Desk

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {CertificateRequest: self._issue}

    def _issue(self, terminal: str, request: CertificateRequest) -> CertificateIssue | Refusal:
        kind = KINDS.get(request.certificate)
        if kind is None:
            return Refusal("certificate.unknown", retry=False)
        if request.paper_width_millimetres not in WIDTHS_MILLIMETRES:
            return Refusal("certificate.bad_width", retry=False)
        citizen = self.desk.people.find(request.name, request.id_number)
        if citizen is None:
            return Refusal("citizen.unknown", retry=False)
        number = secrets.token_hex(8).upper()
        issued_at = int(self.desk.wall_clock())
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
        log.info("platform_issued_certificate", terminal=terminal, certificate=request.certificate)
        return issue
