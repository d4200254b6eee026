"""Having a certificate issued, or given out again: one call under an intent, and what became of it (T7, rule 2).

Both act at the platform: an issue is entered in the register, a copy is counted. A request whose answer never came is
settled before it is made again; where the platform has answered it, its issue is given out again under its number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from runtime.journal import Intent, Outcome
from runtime.messages import CertificateIssue, CertificateRequest, MessageError, to_payload
from runtime.messages.certificate import CertificateCopy, CertificateReprint
from runtime.services.office import Office, Settlement
from runtime.services.receipts import new_receipt
from runtime.services.steps import Refused, Transaction, event
from runtime.session import DoubtfulIssue, Session
from transport.errors import TransportError

ISSUE = "issue"
"""The kind of the intent that is open while an issue, or a copy of one, is asked for."""
UNSURE = "certificate.unsure"

M = TypeVar("M", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Issuing:
    """Has certificates issued."""

    office: Office

    def receipt(self, session: Session, name: str) -> str:
        """Return the number that the next request for the certificate `name` goes under."""
        doubtful = session.issues.get(name)
        return new_receipt("certificate") if doubtful is None else doubtful.receipt

    async def issue(
        self, transaction: Transaction, session: Session, request: CertificateRequest
    ) -> tuple[CertificateIssue, int]:
        """Have a certificate issued and return it, and which copy it is (0 is the first).

        Raises Refused: with the platform's code or the line's when surely nothing was issued, `certificate.unsure` when
        nobody knows; the intent then stays open until it is settled.
        """
        name = request.certificate
        if name in session.issues:
            if await self._is_answered(transaction, session.issues[name].key):
                try:
                    copy = await self.copy(transaction, CertificateReprint(request.receipt, request.assertion))
                except Refused as refused:
                    if refused.code != "receipt.unknown":  # the answer was a refusal: nothing was issued
                        raise
                else:
                    del session.issues[name]
                    return copy.issue, copy.copy
            del session.issues[name]

        def doubt(key: bytes) -> None:
            session.issues[name] = DoubtfulIssue(request.receipt, key)

        issue = await self._asked(transaction, request.receipt, request, CertificateIssue, doubt)
        return issue, 0

    async def copy(self, transaction: Transaction, request: CertificateReprint) -> CertificateCopy:
        """Have an issue given out again; raises as `issue`. A copy whose answer never came counts as one given out."""
        return await self._asked(transaction, request.receipt, request, CertificateCopy, lambda _key: None)

    async def _asked(
        self,
        transaction: Transaction,
        receipt: str,
        message: msgspec.Struct,
        answer: type[M],
        doubt: Callable[[bytes], None],
    ) -> M:
        try:
            to_payload(message)
        except MessageError as error:
            raise Refused(error.code, str(error), retry=False) from None
        async with self.office.effect(transaction, ISSUE, receipt) as effect:
            try:
                issued = await self.office.act(effect, message, answer, unsure=UNSURE)
                effect.done()
                return issued
            finally:
                if effect.outcome == "unknown":
                    doubt(effect.key)

    async def _is_answered(self, transaction: Transaction, key: bytes) -> bool:
        """Find out whether the platform answered the request before; if it did not, it never will."""
        seconds = self.office.answer_seconds
        async with transaction.step("settle_issue", deadline_seconds=seconds + 1.0, no_answer="certificate.unsure"):
            try:
                return await self.office.platform.settle(key, deadline_seconds=seconds) == "acted"
            except TransportError:
                raise _unsure() from None

    async def settle(self, intent: Intent, settlement: Settlement) -> None:
        """Close the intent of a request whose answer never came (a Settler); what was issued its number tells."""
        outcome: Outcome = "unknown"
        code = "certificate.answer_lost"
        if settlement == "void":
            outcome, code = "refused", "certificate.not_issued"
        told = event(self.office.origin, intent.transaction, ISSUE, outcome=outcome, code=code, seconds=0.0)
        await self.office.journal.close_intent(intent, outcome, code, told)


def _unsure() -> Refused:
    return Refused(UNSURE, "nobody knows whether it was issued", retry=True)
