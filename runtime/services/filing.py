"""Filing an application: one call under an intent, and what became of it when nobody heard the answer (T8, rule 2)."""

import secrets
from dataclasses import dataclass

from runtime.journal import Intent, Outcome
from runtime.messages import MessageError
from runtime.messages.applications import (
    ApplicationFiling,
    Progress,
    ProgressQuery,
    ReceiptStanding,
    ReceiptVoid,
    Scan,
)
from runtime.services.drafts import Draft
from runtime.services.office import Effect, Office, Settlement
from runtime.services.office import Progress as OnProgress
from runtime.services.payment_book import use
from runtime.services.steps import Refused, Transaction, event
from runtime.session import Session
from transport.errors import TransportError
from transport.sm import sm3

FILE = "file"
"""The kind of the intent that is open while an application is on its way."""
REFUSED = "application.refused"
UNSURE = "application.unsure"
_NOT_OF_IT = "assertion."
"""Begins the codes by which the platform refuses the citizen's assertion: verified anew, they may file all the same."""
BYTES_PER_SECOND = 1_000_000
"""What the slowest line carries; a filing gets so much longer."""


class TurnedAway(Refused):
    """The platform had the application and never takes it as it is; a fee that was paid for it is of no use."""


@dataclass(frozen=True, slots=True)
class Filing:
    """Files applications."""

    office: Office

    async def file(
        self, transaction: Transaction, session: Session, draft: Draft, order: str | None, on_progress: OnProgress
    ) -> ReceiptStanding:
        """Send everything under an intent and return what the platform says.

        Raises TurnedAway with the platform's code, Refused with the platform's or the line's where surely nothing was
        filed and it may be tried again, `application.unsure` when nobody knows; the intent then stays open until it is
        settled.
        """
        filing = _written(session, draft, order)
        seconds = self.office.answer_seconds + sum(len(scan.pdf) for scan in filing.scans) / BYTES_PER_SECOND
        async with self.office.effect(transaction, FILE, draft.receipt) as effect:
            draft.doubtful = effect.key
            try:
                return await self._sent(effect, filing, seconds, on_progress)
            finally:
                if effect.outcome != "unknown":
                    draft.doubtful = None

    async def _sent(
        self, effect: Effect, filing: ApplicationFiling, seconds: float, on_progress: OnProgress
    ) -> ReceiptStanding:
        try:
            standing = await self.office.act(
                effect, filing, ReceiptStanding, unsure=UNSURE, deadline_seconds=seconds, on_progress=on_progress
            )
        except Refused as refused:
            if refused.retry or refused.code.startswith(_NOT_OF_IT):
                raise
            raise TurnedAway(refused.code, str(refused), retry=False) from None
        if standing.receipt != filing.receipt:
            effect.code = "message.unexpected"
            raise _unsure()
        if _is_turned_away(standing):
            effect.refused(standing.code or REFUSED)
            raise _turned_away(standing)
        effect.done()
        effect.also = use(filing.receipt, self.office.origin.wall_clock())
        return standing

    async def found(self, transaction: Transaction, session: Session, draft: Draft) -> ReceiptStanding | None:
        """Find out what became of the filing before; None when the platform never had it, and never will.

        Raises TurnedAway, Refused `application.unsure`.
        """
        deadline = self.office.answer_seconds
        key = draft.doubtful or b""
        standing: ReceiptStanding | None = None
        async with transaction.step("settle_filing", deadline_seconds=2 * deadline, no_answer="application.unsure"):
            try:
                if await self.office.platform.settle(key, deadline_seconds=deadline) == "acted":
                    standing = await self._standing(draft.receipt, session.asserted())
            except (TransportError, MessageError):
                raise _unsure() from None
        if standing is not None and _is_turned_away(standing):
            raise _turned_away(standing)
        draft.doubtful = None
        return standing

    async def _standing(self, receipt: str, assertion: bytes | None) -> ReceiptStanding | None:
        """Return where a receipt stands; raises TransportError, MessageError, Refused."""
        query = ProgressQuery(receipt, assertion)
        progress = await self.office.ask(query, Progress, key=secrets.token_bytes(16))
        return next((one for one in progress.receipts if one.receipt == receipt), None)

    async def settle(self, intent: Intent, settlement: Settlement) -> None:
        """Close the intent of a filing whose outcome was unknown (a Settler)."""
        office = self.office
        outcome: Outcome = "done"
        code: str | None = None
        void: ReceiptVoid | None = None
        if settlement == "void":
            outcome, code = "refused", "application.not_filed"
            void = ReceiptVoid(intent.name, "application", office.origin.wall_clock())
        else:
            standing = await self._standing(intent.name, None)
            if standing is None or _is_turned_away(standing):
                outcome, code = "refused", (standing.code if standing is not None else None) or REFUSED
        told = event(office.origin, intent.transaction, FILE, outcome=outcome, code=code, seconds=0.0)
        used = use(intent.name, office.origin.wall_clock()) if outcome == "done" else None
        await office.journal.close_intent(intent, outcome, code, told, used, last_word=void)


def _written(session: Session, draft: Draft, order: str | None) -> ApplicationFiling:
    scans = []
    for material in draft.matter.materials:
        if material.id in session.scans:
            with session.scans[material.id].view() as pdf:
                scans.append(Scan(material.id, bytes(pdf), sm3(pdf)))
    return ApplicationFiling(
        receipt=draft.receipt,
        assertion=session.asserted(),
        catalogue_version=draft.catalogue_version,
        matter=draft.matter.id,
        matter_version=draft.matter.version,
        form=draft.written(),
        scans=tuple(scans),
        fee_fen=draft.matter.fee_fen,
        payment=order,
    )


def _unsure() -> Refused:
    return Refused(UNSURE, "nobody knows whether it was filed", retry=True)


def _turned_away(standing: ReceiptStanding) -> TurnedAway:
    return TurnedAway(standing.code or REFUSED, "the platform turned it away", retry=False)


def _is_turned_away(standing: ReceiptStanding) -> bool:
    """Whether nothing was filed: the platform had the body and would not take it."""
    return standing.state == "refused" and standing.code is not None
