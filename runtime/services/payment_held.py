"""A payment that the session's citizen has begun; it is let go of with the session or the application (T10)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from runtime.journal import Intent
from runtime.messages.payment import Method
from runtime.services.payment_book import State
from runtime.services.steps import Refused, Transaction


@dataclass(slots=True, eq=False)
class HeldPayment:
    """An order of a session. `let_go` is told when nobody waits for it any more: what was paid then goes back.

    `give_back` does that at once, as `Till.give_back` says.

    `waits_until` is the loop's time until which a result is waited for; None while nothing can come.
    """

    order: str
    method: Method
    amount_fen: int
    purpose: str
    charge: Intent
    let_go: Callable[["HeldPayment"], None]
    give_back: Callable[[Transaction, "HeldPayment", str], Awaitable[None]]
    state: State = "open"
    code: str | None = None
    waits_until: float | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the platform says that the order has come to an end."""
    _is_cancelled: bool = False
    _scopes: set[asyncio.Timeout] = field(default_factory=set)

    @property
    def is_paid(self) -> bool:
        """Whether it is paid, and neither used nor on its way back."""
        return self.state == "paid"

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[None]:
        """Wait for the citizen inside; raise Refused `payment.cancelled` when they cancel meanwhile."""
        scope = asyncio.timeout(-1.0 if self._is_cancelled else None)
        try:
            async with scope:
                self._scopes.add(scope)
                try:
                    yield
                finally:
                    self._scopes.discard(scope)
        except TimeoutError:
            if scope.expired():
                raise Refused("payment.cancelled", "the citizen cancels", retry=False) from None
            raise

    def cancel(self) -> None:
        """Interrupt what waits for the citizen, now and from now on."""
        self._is_cancelled = True
        for scope in self._scopes:
            scope.reschedule(asyncio.get_running_loop().time())
