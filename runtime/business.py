"""What does business with the platform, put together: the services' common parts, and what is settled by whom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.config import Settings
from runtime.enrolment import Enrolment
from runtime.services.datasets import DataSets
from runtime.services.filing import FILE, Filing
from runtime.services.grants import GrantBook
from runtime.services.issuing import ISSUE, Issuing
from runtime.services.matters import Found, Matters
from runtime.services.metering import USE, Ledger
from runtime.services.office import Office, Settlement
from runtime.services.payment_card import CardCounter
from runtime.services.payment_days import DayBook
from runtime.services.payment_keeper import PaymentKeeper
from runtime.services.payment_till import CHARGE, REVERSE, Till
from runtime.services.registration import REGISTER, Registration
from runtime.services.settlement import SettlementDesk, Settler
from runtime.services.sharing import Sharing
from runtime.state import StateBoard


@dataclass(frozen=True, slots=True)
class Business:
    """The parts that outlive a session."""

    matters: Matters
    filing: Filing
    registration: Registration
    issuing: Issuing
    till: Till
    payment_days: DayBook
    payment_keeper: PaymentKeeper
    grants: GrantBook
    sharing: Sharing
    settlements: SettlementDesk

    async def open(self) -> None:
        """Load what the journal keeps; raises JournalError."""
        await self.matters.open()
        await self.grants.open()


def build(
    office: Office,
    board: StateBoard,
    enrolment: Enrolment,
    *,
    terminal: str,
    reconcile_hour: int,
    now: Callable[[], float],
    on_settled: Callable[[str, Settlement], None],
    on_payments: Callable[[int, int], None],
    on_refused: Callable[[str, Found], None],
) -> Business:
    """Put the parts together.

    `now` is the best known time (UTC seconds); SettlementDesk, DayBook and Matters say what `on_settled`,
    `on_payments` and `on_refused` hear.
    """
    settlers: dict[str, Settler] = {}
    settlements = SettlementDesk(office, settlers, on_settled)
    filing, registration, issuing = Filing(office), Registration(office), Issuing(office)
    till = Till(office, settlements.look)
    days = DayBook(till, on_payments)
    grants = GrantBook(office, enrolment.keys.platform, terminal, board, now)
    ledger = Ledger(office, settlements.look, now)
    settlers |= {
        FILE: filing.settle,
        REGISTER: registration.settle,
        ISSUE: issuing.settle,
        CHARGE: till.settle_charge,
        REVERSE: till.settle_reverse,
        USE: ledger.settle,
    }
    return Business(
        matters=Matters(office, enrolment.keys.platform, board, on_refused),
        filing=filing,
        registration=registration,
        issuing=issuing,
        till=till,
        payment_days=days,
        payment_keeper=PaymentKeeper(till, days, reconcile_hour),
        grants=grants,
        sharing=Sharing(grants, ledger, DataSets(grants, ledger), terminal),
        settlements=settlements,
    )


def card_counter(settings: Settings, drivers: Mapping[str, Any], till: Till) -> CardCounter | None:
    """Return the counter for bank cards, where this terminal has the devices for it."""
    reader, pad = settings.cardreader, settings.pinpad
    if reader is None or pad is None:
        return None
    return CardCounter(
        till=till,
        reader=drivers["cardreader"],
        pad=drivers["pinpad"],
        algorithm=pad.algorithm,
        pin_slot=pad.pin_key,
        card_wait_seconds=reader.card_wait_seconds,
        entry_seconds=pad.entry_seconds,
    )
