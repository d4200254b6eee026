"""The grants of shared resources: fetched, verified, kept until they expire, checked before anything leaves (S4, S7).

The platform signs all of a terminal's grants together, with whether use is suspended. They are valid without a line
until each expires by the platform's clock, as far as that is known.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from runtime.messages import MessageError
from runtime.messages.sharing import Grant, Grants, GrantsRequest, Mode, grants_content
from runtime.services.office import Office
from runtime.services.resources import BY_NAME, Resource
from runtime.services.steps import Refused, Transaction
from runtime.state import Component, StateBoard
from transport.errors import TransportError
from transport.sm2 import PublicKey

log = structlog.get_logger(__name__)

COMPONENT = "sharing"
AGAIN_SECONDS = 10.0
"""Between two tries while the platform does not answer, or refuses for the moment."""
REFUSED_SECONDS = 600.0
"""Before the platform is asked again after a refusal, or after grants that are none."""
REFRESH_SECONDS = 6 * 3600.0
"""A command that expired while the line was down is made good for by then."""
AHEAD_SECONDS = 3600.0
"""So long before a grant expires the next ones are asked for."""
SOONEST_SECONDS = 60.0
CLOCK_SECONDS = 300.0
"""Grants issued by a clock that is further off are refused: right ones would seem older than they for so long."""
_NAME = "grants"


class GrantBook:
    """The grants this terminal has; a supervised unit, and the component `sharing` of the board."""

    def __init__(
        self, office: Office, platform_key: PublicKey, terminal: str, board: StateBoard, now: Callable[[], float]
    ) -> None:
        """`now` is the platform's clock (UTC seconds), the terminal's own where it is not known yet."""
        self._now = now
        self._office = office
        self._platform_key = platform_key
        self._terminal = terminal
        self._board = board
        self._wake = asyncio.Event()
        self._kept: Grants | None = None
        self._is_suspended = False
        self._code: str | None = None

    @property
    def state(self) -> str:
        """`active`, `suspended`, or `unknown` before the platform ever said."""
        if self._kept is None:
            return "unknown"
        return "suspended" if self._is_suspended else "active"

    def valid(self) -> list[Grant]:
        """Return every grant that has not expired."""
        now = self._now()
        return [grant for grant in self._kept.grants if now < grant.expires_unix] if self._kept is not None else []

    def check(self, resource: str, purpose: str, mode: Mode) -> tuple[Resource, Grant]:
        """Return a resource and the grant to use it so.

        Raises Refused: `sharing.unknown_resource`, `sharing.no_grants` before any came, `sharing.not_granted`,
        `sharing.other_purpose`, `sharing.other_mode`, `sharing.grant_expired`, `sharing.suspended`,
        `sharing.personal_dataset` since nothing personal is ever kept.
        """
        known = BY_NAME.get(resource)
        if known is None:
            raise Refused("sharing.unknown_resource", "no resource of this release", retry=False)
        if known.personal and mode == "dataset":
            raise Refused("sharing.personal_dataset", "personal rows are never kept", retry=False)
        if self._kept is None:
            raise Refused("sharing.no_grants", "the platform has not told its grants yet", retry=True)
        of_resource = [grant for grant in self._kept.grants if grant.resource == resource]
        for_purpose = [grant for grant in of_resource if grant.purpose == purpose]
        asked = [grant for grant in for_purpose if grant.mode == mode]
        if not asked:
            code = "sharing.other_purpose" if of_resource else "sharing.not_granted"
            raise Refused("sharing.other_mode" if for_purpose else code, "no grant for this", retry=False)
        grant = max(asked, key=lambda one: one.expires_unix)
        if self._now() >= grant.expires_unix:
            raise Refused("sharing.grant_expired", "the grant has expired", retry=False)
        if self._is_suspended:
            raise _suspended()
        return known, grant

    def refused(self, code: str) -> None:
        """Take the platform's refusal of a use to heart: what is known of grants or suspension is out of date."""
        if code == _suspended().code:
            self._is_suspended = True
            self._show()
        if code in ("sharing.suspended", "sharing.not_granted", "sharing.grant_expired"):
            self._wake.set()

    def changed(self) -> None:
        """Take note that the platform said so: the grants are asked for."""
        self._wake.set()

    async def open(self) -> None:
        """Load the grants that were kept; raise JournalError."""
        row = await self._office.journal.read(
            lambda db: db.execute("SELECT body FROM sharing WHERE name = ?", (_NAME,)).fetchone()
        )
        if row is not None:
            try:
                self._keep(self._verified(msgspec.msgpack.decode(row[0], type=Grants)))
            except (Refused, msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.error("grants_do_not_load", reason=type(error).__name__)
        self._show()

    async def run(self, ready: Callable[[], None], on_taken: Callable[[], Awaitable[None]]) -> None:
        """Ask at the start, at each change, before a grant expires and from time to time; raise JournalError.

        `on_taken` is done after each time that the platform's grants were taken.
        """
        ready()
        while True:
            self._wake.clear()
            again = await self._fetch()
            self._show()
            if again is None:
                await on_taken()
            try:
                async with asyncio.timeout(self._pause() if again is None else again):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _pause(self) -> float:
        now = self._now()
        soonest = min((grant.expires_unix - AHEAD_SECONDS - now for grant in self.valid()), default=REFRESH_SECONDS)
        return max(SOONEST_SECONDS, min(REFRESH_SECONDS, soonest))

    async def _fetch(self) -> float | None:
        """Ask for the grants and take them; return after how many seconds to try again where they were not taken."""
        try:
            said = await self._office.ask(GrantsRequest(), Grants, key=secrets.token_bytes(16))
        except TransportError as error:
            log.info("grants_not_fetched", code=error.code)
            return AGAIN_SECONDS
        except (MessageError, Refused) as error:
            log.error("grants_not_fetched", code=error.code)
            return AGAIN_SECONDS if isinstance(error, Refused) and error.retry else REFUSED_SECONDS
        transaction = Transaction(self._office.journal, self._office.origin, "grants_taken")
        try:
            await self._take(transaction, self._verified(said))
            self._code = None
        except Refused as refused:
            if self._code != refused.code:
                log.error("grants_refused", code=refused.code)
                told = transaction.event("take_grants", "refused", refused.code, transaction.seconds)
                await self._office.journal.append(told)
            self._code = refused.code
            return REFUSED_SECONDS
        return None

    async def _take(self, transaction: Transaction, said: Grants) -> None:
        """Keep verified grants; the platform is told where they are others than before (T12)."""
        if abs(said.issued_unix - self._now()) > CLOCK_SECONDS:
            raise Refused("sharing.bad_time", "the clock they were issued by is wrong", retry=True)
        if self._kept is not None and said.issued_unix < self._kept.issued_unix:
            raise Refused("sharing.grants_older", "issued before those that are kept", retry=False)
        is_new = self._kept is None or _meaning(said) != _meaning(self._kept)
        row = (_NAME, msgspec.msgpack.encode(said))

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO sharing VALUES (?, ?)", row)

        told = transaction.event("take_grants", "done", None, transaction.seconds) if is_new else None
        await self._office.journal.write(work, told)
        self._keep(said)
        if is_new:
            log.info("grants_taken", grants=len(said.grants), suspended=said.suspended)

    def _keep(self, said: Grants) -> None:
        self._kept, self._is_suspended = said, said.suspended

    def _verified(self, said: Grants) -> Grants:
        """Return grants that the platform signed for this terminal; raise Refused `sharing.grants_forged`."""
        content = grants_content(self._terminal, said.grants, said.issued_unix, suspended=said.suspended)
        try:
            self._platform_key.verify(said.signature, content)
        except TransportError:
            raise Refused("sharing.grants_forged", "the platform's signature does not verify", retry=False) from None
        return said

    def _show(self) -> None:
        """Put grants and suspension on the board."""
        valid = self.valid()
        details: dict[str, str | bool] = {"granted": str(len(valid))} if self._kept is not None else {}
        code = self._code
        if self.state != "active":
            code = "sharing.suspended" if self._is_suspended else "sharing.no_grants"
        self._board.set(COMPONENT, Component(self.state, code, details=details))


def _meaning(grants: Grants) -> tuple[set[str], bool]:
    """Return what grants allow, whenever they expire."""
    return {grant.id for grant in grants.grants}, grants.suspended


def _suspended() -> Refused:
    return Refused("sharing.suspended", "suspended by the platform", retry=False)
