"""Registering a hotline request: one call under an intent, and what became of it when nobody heard the answer (H1)."""

import secrets
from dataclasses import dataclass

from runtime.journal import Intent, Outcome
from runtime.messages import MessageError
from runtime.messages.applications import ReceiptVoid
from runtime.messages.hotline import HotlineQuery, HotlineRequest, HotlineStanding
from runtime.services.filing import BYTES_PER_SECOND
from runtime.services.office import Effect, Office, Settlement
from runtime.services.office import Progress as OnProgress
from runtime.services.request_draft import RequestDraft
from runtime.services.steps import Refused, Transaction, event
from transport.errors import TransportError

REGISTER = "register"
"""The kind of the intent that is open while a request is on its way."""
UNSURE = "hotline.unsure"


@dataclass(frozen=True, slots=True)
class Registration:
    """Registers requests."""

    office: Office

    async def send(
        self,
        transaction: Transaction,
        draft: RequestDraft,
        request: HotlineRequest,
        on_progress: OnProgress,
    ) -> HotlineStanding:
        """Send everything under an intent and return what the platform says.

        Raises Refused: with the platform's code or the line's when surely nothing was registered, `hotline.unsure` when
        nobody knows; the intent then stays open until it is settled.
        """
        async with self.office.effect(transaction, REGISTER, draft.receipt) as effect:
            draft.doubtful = effect.key
            try:
                return await self._sent(effect, request, on_progress)
            finally:
                if effect.outcome != "unknown":
                    draft.doubtful = None

    async def _sent(self, effect: Effect, request: HotlineRequest, on_progress: OnProgress) -> HotlineStanding:
        seconds = self.office.answer_seconds + sum(len(scan.pdf) for scan in request.scans) / BYTES_PER_SECOND
        standing = await self.office.act(
            effect, request, HotlineStanding, unsure=UNSURE, deadline_seconds=seconds, on_progress=on_progress
        )
        if standing.receipt != request.receipt:
            effect.code = "message.unexpected"
            raise _unsure()
        effect.done()
        return standing

    async def found(self, transaction: Transaction, draft: RequestDraft) -> HotlineStanding | None:
        """Find out what became of the try before; None when the platform never had it, and never will."""
        deadline, key = self.office.answer_seconds, draft.doubtful or b""
        standing: HotlineStanding | None = None
        async with transaction.step("settle_request", deadline_seconds=2 * deadline, no_answer="hotline.unsure"):
            try:
                if await self.office.platform.settle(key, deadline_seconds=deadline) == "acted":
                    standing = await self._standing(draft.receipt)
                    if standing is None:
                        draft.doubtful = None
                        raise Refused("hotline.refused", "the platform did not take it", retry=False)
            except (TransportError, MessageError):
                raise _unsure() from None
        draft.doubtful = None
        return standing

    async def settle(self, intent: Intent, settlement: Settlement) -> None:
        """Close the intent of a registration whose outcome was unknown (a Settler)."""
        office = self.office
        outcome: Outcome = "done"
        code: str | None = None
        void: ReceiptVoid | None = None
        if settlement == "void":
            outcome, code = "refused", "hotline.not_registered"
            void = ReceiptVoid(intent.name, "hotline", office.origin.wall_clock())
        elif await self._standing(intent.name) is None:
            outcome, code = "refused", "hotline.refused"
        told = event(office.origin, intent.transaction, REGISTER, outcome=outcome, code=code, seconds=0.0)
        await office.journal.close_intent(intent, outcome, code, told, last_word=void)

    async def _standing(self, receipt: str) -> HotlineStanding | None:
        """Return what the platform tells of a number, None where it has no such request; raises TransportError."""
        try:
            return await self.office.ask(HotlineQuery(receipt), HotlineStanding, key=secrets.token_bytes(16))
        except Refused as refused:
            if refused.code not in ("receipt.unknown", "receipt.not_filed"):
                raise
            return None


def _unsure() -> Refused:
    return Refused(UNSURE, "nobody knows whether it was registered", retry=True)
