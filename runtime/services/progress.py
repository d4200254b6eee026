"""Progress: where a citizen's matters stand, by a receipt number or by the verified citizen (T11, H2).

A number alone says title, state and time; the platform's words are for the verified citizen.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import msgspec

from runtime import texts
from runtime.messages.applications import Progress, ProgressQuery, ReceiptStanding
from runtime.services.office import Office
from runtime.services.receipts import read_receipt
from runtime.services.steps import Refused, Result, Transaction
from runtime.session import Session


class ReceiptShown(msgspec.Struct, frozen=True):
    """Where a receipt stands: `state_text` is for the citizen, `said` the platform's own word to a verified one."""

    receipt: str
    kind: str
    state: str
    state_text: str
    title: str
    at: int
    said: str | None = None


class ProgressResult(Result, frozen=True, kw_only=True):
    """The answer of `progress.by_receipt` and `progress.mine`: the receipts, newest first."""

    receipts: list[ReceiptShown] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProgressService:
    """Asks the platform where receipts stand."""

    office: Office

    async def by_receipt(self, typed: str, actor: str) -> ProgressResult:
        """Say where the receipt of a number stands, to whoever has the number."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            receipt = read_receipt(typed)
            if receipt is None:
                raise Refused("receipt.mistyped", "no receipt number", retry=True)
            standings = await self._ask(transaction, ProgressQuery(receipt))
            found = [_shown(one) for one in standings if one.receipt == receipt]
            if not found:
                raise Refused(await unknown(self.office, receipt), "the platform has none", retry=False)
            return {"receipts": found}

        return await self.office.serve(actor, "progress_asked", ProgressResult, work, done="progress.found")

    async def mine(self, session: Session) -> ProgressResult:
        """Say where every receipt of the session's citizen stands; raises SessionError as `Session.asserted`."""
        assertion = session.asserted()

        async def work(transaction: Transaction) -> dict[str, Any]:
            standings = await self._ask(transaction, ProgressQuery(None, assertion))
            return {"receipts": [_shown(one, one.text) for one in standings]}

        return await self.office.operate(session, "progress_asked", ProgressResult, work, done="progress.found")

    async def _ask(self, transaction: Transaction, query: ProgressQuery) -> tuple[ReceiptStanding, ...]:
        deadline = self.office.answer_seconds + 1.0
        async with transaction.step("ask_progress", deadline_seconds=deadline, no_answer="platform.no_answer"):
            answer = await self.office.ask(query, Progress, key=secrets.token_bytes(16))
            return answer.receipts


async def unknown(office: Office, receipt: str) -> str:
    """Return what this terminal itself knows of a number that the platform does not know; raises JournalError."""
    statement = "SELECT state FROM intents WHERE name = ?"
    states = await office.journal.read(lambda db: {row[0] for row in db.execute(statement, (receipt,))})
    if "open" in states:
        return "receipt.unsettled"
    return "receipt.not_filed" if states else "receipt.unknown"


def _shown(standing: ReceiptStanding, said: str | None = None) -> ReceiptShown:
    return ReceiptShown(
        receipt=standing.receipt,
        kind=standing.kind,
        state=standing.state,
        state_text=texts.text(f"receipt.{standing.state}").zh,
        title=standing.title,
        at=standing.at,
        said=said,
    )
