"""Says where receipts stand: to a number what a number may say, to a verified citizen everything (T11)."""

from dataclasses import dataclass
from typing import Protocol

import msgspec

from runtime.messages.applications import Progress, ProgressQuery, ReceiptStanding
from runtime.messages.certificate import Refusal
from sim.people import Citizen
from sim.platform.services.desk import Desk, Handlers
from sim.platform.services.identity import Identity


class Standings(Protocol):
    """A service that gives receipts out."""

    def standing(self, receipt: str) -> ReceiptStanding | None:
        """Return where a receipt stands."""

    def standings(self, citizen: Citizen) -> list[ReceiptStanding]:
        """Return where every receipt of a citizen stands."""


@dataclass(frozen=True, slots=True)
class Enquiries:
    """The progress service, over every service that gives receipts out."""

    desk: Desk
    identity: Identity
    sources: tuple[Standings, ...]

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {ProgressQuery: self._answer}

    def _answer(self, terminal: str, query: ProgressQuery) -> Progress | Refusal:
        citizen = None if query.assertion is None else self.identity.citizen(terminal, query.assertion)
        if isinstance(citizen, Refusal):
            return citizen
        if query.receipt is not None:
            found = self._by_number(query.receipt)
            return Progress(() if found is None else (_bare(found) if citizen is None else found,))
        if citizen is None:
            return Refusal("assertion.invalid", retry=False)
        asked = citizen
        every = [one for source in self.sources for one in source.standings(asked)]
        return Progress(tuple(sorted(every, key=lambda one: (-one.at, one.receipt))))

    def _by_number(self, receipt: str) -> ReceiptStanding | None:
        found = (source.standing(receipt) for source in self.sources)
        return next((one for one in found if one is not None), None) or self._void(receipt)

    def _void(self, receipt: str) -> ReceiptStanding | None:
        """Return `not_filed` where a terminal told that nothing of this number ever left it whole."""
        row = self.desk.database.execute(
            "SELECT json_extract(event, '$.kind'), received_at FROM records"
            " WHERE schema = 'receipt.void' AND json_extract(event, '$.receipt') = ?",
            (receipt,),
        ).fetchone()
        return None if row is None else ReceiptStanding(receipt, row[0], "not_filed", "", "", int(row[1]))


def _bare(standing: ReceiptStanding) -> ReceiptStanding:
    return msgspec.structs.replace(standing, text="")
