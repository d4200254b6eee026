"""Settles with the platform what a stop, a crash or a dead line left open (rule 2): acted on, or never will be."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from runtime.journal import Intent, JournalError
from runtime.messages import MessageError
from runtime.services.office import Office, Settlement
from runtime.services.steps import Refused
from runtime.supervisor import error_code
from transport.errors import TransportError

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 10.0
"""Between two tries while the line is down."""

Settler = Callable[[Intent, Settlement], Awaitable[None]]
"""Closes an intent by what the platform says of it.

Raises TransportError, MessageError or Refused when it must be tried again.
"""


class SettlementDesk:
    """Settles the open intents of each kind; a supervised unit."""

    def __init__(
        self,
        office: Office,
        settlers: Mapping[str, Settler],
        on_settled: Callable[[str, Settlement], None] = lambda _kind, _outcome: None,
    ) -> None:
        """Tell `on_settled` the kind and the outcome of each intent that is settled."""
        self._office = office
        self._settlers = settlers
        self._on_settled = on_settled

    def look(self) -> None:
        """Look at the open intents again."""
        self._office.unsettled.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Settle what is open now, and again whenever `look` is called; raise JournalError."""
        ready()
        while True:
            self._office.unsettled.clear()
            is_all_settled = True
            for kind, settler in self._settlers.items():
                for intent in await self._office.journal.open_intents(kind):
                    if intent.key not in self._office.live:
                        is_all_settled &= await self._settle(intent, settler)
            try:
                async with asyncio.timeout(None if is_all_settled else AGAIN_SECONDS):
                    await self._office.unsettled.wait()
            except TimeoutError:
                continue

    async def _settle(self, intent: Intent, settler: Settler) -> bool:
        try:
            key, seconds = bytes.fromhex(intent.key), self._office.answer_seconds
            outcome = await self._office.platform.settle(key, deadline_seconds=seconds)
            await settler(intent, outcome)
        except JournalError as error:
            if error.code != "journal.no_intent":
                raise
            return True  # whoever opened it has closed it meanwhile
        except (TransportError, MessageError, Refused) as error:  # the platform's trouble with one holds up no other
            log.info("intent_not_settled_yet", kind=intent.kind, code=error_code(error))
            return False
        log.info("intent_settled", kind=intent.kind, outcome=outcome)
        self._on_settled(intent.kind, outcome)
        return True
