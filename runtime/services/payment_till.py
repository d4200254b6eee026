"""Every order from its opening to its end: intent, effect, outcome (T10, rule 2).

An order is opened under an intent `charge`, which stays open until the platform's word is in the journal. Whoever gives
an order up gives it back under an intent `reverse`, said again until the platform says how the order ended. Nobody is
charged without a result: an order that no citizen waits for any more is settled from these intents, after a crash too.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import structlog

from runtime.journal import Intent, JournalError, Outcome
from runtime.messages import MessageError
from runtime.messages.payment import OrderState, PaymentQuery, PaymentReversal, PaymentStanding
from runtime.services.office import Effect, Office, Settlement
from runtime.services.payment_book import PaymentOrder, State, add, find, move, unused
from runtime.services.payment_held import HeldPayment
from runtime.services.steps import Refused, Transaction, event
from transport.errors import TransportError

log = structlog.get_logger(__name__)

CHARGE = "charge"
"""The kind of the intent that is open while an order may be paid."""
REVERSE = "reverse"
"""The kind of the intent that is open while an order is on its way back."""
GIVEN_UP = "payment.given_up"
NOT_CHARGED = "payment.not_charged"
USED = "payment.used"
UNKNOWN = "payment.unknown_order"
UNSURE_SECONDS = 30.0
"""How long the result of a card's charge is waited for whose answer did not come; then it is given back."""

_ENDS: frozenset[OrderState] = frozenset({"refused", "reversed", "expired"})
"""How an order ends of which no money stays."""


class Unsure(Refused):
    """Nobody knows whether the platform did what it was asked."""


@dataclass(frozen=True, slots=True)
class Till:
    """Keeps the orders; `look` has the open intents settled."""

    office: Office
    look: Callable[[], None]
    held: dict[str, HeldPayment] = field(default_factory=dict)
    """The orders of live sessions."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a session lets go of an order."""

    async def open(self, transaction: Transaction, order: PaymentOrder) -> HeldPayment:
        """Journal an order and its intent before anything is sent; raises Refused."""
        intent = await self.office.begin(CHARGE, order.order, transaction.id, add(order))
        held = HeldPayment(
            order.order, order.method, order.amount_fen, order.purpose, intent, self._let_go, self.give_back
        )
        self.held[held.order] = held
        return held

    async def ask(self, message: msgspec.Struct, order: str, *, key: bytes) -> PaymentStanding:
        """Return how the order stands after what was asked; raise Unsure, or Refused when surely nothing was done."""
        try:
            standing = await self.office.ask(message, PaymentStanding, key=key)
        except TransportError as error:
            kind = Unsure if error.code == "platform.no_answer" else Refused
            raise kind(error.code, str(error), retry=error.retry) from None
        except MessageError as error:
            raise Unsure(error.code, str(error), retry=True) from None
        if standing.order != order:
            raise Unsure("message.unexpected", "the answer names another order", retry=True)
        return standing

    async def query(self, order: str) -> PaymentStanding:
        """Return how an order stands; raises as `ask`."""
        return await self.ask(PaymentQuery(order), order, key=secrets.token_bytes(16))

    async def end(self, transaction: Transaction, held: HeldPayment, state: State, code: str | None) -> None:
        """Journal the end of a held order, with its row, in one transaction; raises Refused."""
        outcome: Outcome = "done" if state == "paid" else "refused"
        code = code or (None if state == "paid" else NOT_CHARGED)
        told = transaction.event(CHARGE, outcome, code, 0.0)
        change = move(held.order, state, code, self._now())
        try:
            await self.office.journal.close_intent(held.charge, outcome, code, told, change)
        except JournalError as error:
            raise Refused(error.code, str(error), retry=error.retry) from None
        self.office.live.discard(held.charge.key)
        held.state, held.code = state, code

    async def give_back(self, transaction: Transaction, held: HeldPayment, code: str) -> None:
        """End a held order, open or paid, and give back what was paid of it; `held.state` says how far that came.

        `code` says why. Raises Refused when it cannot be begun; nothing has changed then.
        """
        was_open = held.state == "open"
        change = move(held.order, "reversing", code, self._now())
        async with self.office.effect(transaction, REVERSE, held.order, change) as effect:
            held.state, held.code = "reversing", code
            if was_open:
                await self._give_up(transaction, held)
            state = await self._reversed(effect, held.order)
        if state is None:
            self.look()
        else:
            held.state = state

    async def _reversed(self, effect: Effect, order: str) -> State | None:
        """Say the reversal once, under its intent; return where that led, None when it must be said again."""
        try:
            standing = await self.ask(PaymentReversal(order), order, key=effect.key)
        except Refused as refused:
            if (state := _WITHOUT_REVERSAL.get(refused.code)) is None:
                effect.code = refused.code
                return None
            effect.refused(refused.code)
            effect.also = move(order, state, refused.code, self._now())
            return state
        if standing.state not in _ENDS:
            effect.code = "payment.reversing"
            return None
        effect.done()
        effect.also = move(order, standing.state, standing.code, self._now())
        return standing.state

    async def take_back(self, order: str, code: str) -> None:
        """Give back an order that no session holds, as soon as the line allows; raises JournalError."""
        await self.office.journal.open_intent(
            REVERSE, order, secrets.token_hex(8), move(order, "reversing", code, self._now())
        )
        log.info("payment_taken_back", code=code)
        self.look()

    async def tidy(self) -> None:
        """Take back what was paid and can never be used: its application died with its session; raises JournalError."""
        for order in await unused(self.office.journal):
            if order.order not in self.held:
                await self.take_back(order.order, "payment.not_used")

    async def settle_charge(self, intent: Intent, settlement: Settlement) -> None:
        """Close the intent of an order that nobody waits for: never opened, ended, or given back (a Settler)."""
        order = await find(self.office.journal, intent.name)
        if order is None or order.state != "open":
            await self._close(intent, CHARGE, "unknown", GIVEN_UP)
            return
        standing = await self._standing(intent.name) if settlement == "acted" else None
        if standing is None:
            await self._close(intent, CHARGE, "refused", NOT_CHARGED, "refused")
        elif standing.state in _ENDS:
            await self._close(intent, CHARGE, "refused", standing.code or NOT_CHARGED, standing.state)
        else:
            await self.take_back(intent.name, GIVEN_UP)
            is_paid = standing.state == "paid"
            await self._close(intent, CHARGE, "done" if is_paid else "unknown", None if is_paid else GIVEN_UP)

    async def settle_reverse(self, intent: Intent, _settlement: Settlement) -> None:
        """Say the reversal again, under a new key, until the platform says how the order ended (a Settler)."""
        order = intent.name
        try:
            standing = await self.ask(PaymentReversal(order), order, key=secrets.token_bytes(16))
        except Refused as refused:
            if (state := _WITHOUT_REVERSAL.get(refused.code)) is None:
                raise _again(refused.code) from None
            await self._close(intent, REVERSE, "refused", refused.code, state)
            return
        if standing.state not in _ENDS:
            raise _again("payment.reversing")
        await self._close(intent, REVERSE, "done", standing.code, standing.state)

    async def _standing(self, order: str) -> PaymentStanding | None:
        """Return how an order stands, None where the platform has none; raises TransportError to be asked again."""
        try:
            return await self.query(order)
        except Refused as refused:
            if refused.code != UNKNOWN:
                raise _again(refused.code) from None
            return None

    async def _give_up(self, transaction: Transaction, held: HeldPayment) -> None:
        """Close the intent of an order that is given back from now on; what became of it its reversal says."""
        told = transaction.event(CHARGE, "unknown", GIVEN_UP, 0.0)
        try:
            await self.office.journal.close_intent(held.charge, "unknown", GIVEN_UP, told)
        except JournalError as error:  # it stays open, and is closed when it is settled
            log.error("outcome_not_journaled", code=error.code)
        self.office.live.discard(held.charge.key)

    async def _close(
        self, intent: Intent, kind: str, outcome: Outcome, code: str | None, state: State | None = None
    ) -> None:
        told = event(self.office.origin, intent.transaction, kind, outcome=outcome, code=code, seconds=0.0)
        change = None if state is None else move(intent.name, state, code, self._now())
        await self.office.journal.close_intent(intent, outcome, code, told, change)

    def _let_go(self, held: HeldPayment) -> None:
        self.held.pop(held.order, None)
        self.office.live.discard(held.charge.key)
        self.look()
        self.changed.set()

    def _now(self) -> float:
        return self.office.origin.wall_clock()


_WITHOUT_REVERSAL: dict[str, State] = {USED: "used", UNKNOWN: "refused"}
"""Where an order is that the platform does not reverse: it paid for what was filed, or there never was one."""


def _again(code: str) -> TransportError:
    return TransportError(code, "the platform does not say how the order ended", advice="try again", retry=True)
