"""The catalogue of matters: fetched, checked, switched as a whole, rolled back (T17).

The platform signs each version. One that does not load is never switched to; the one before the current is kept, for
a start on which the current does not load and for an operator who rolls back. No version is ever gone back to by
itself: `have` is the highest that was ever switched to.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, cast

import msgspec
import structlog

from runtime import texts
from runtime.messages import CatalogueAnnouncement, MessageError, Refusal, from_payload, to_payload
from runtime.messages.matters import Catalogue, CatalogueCurrent, CatalogueIssue, CatalogueRequest, Matter
from runtime.services.catalogue import MALFORMED, OUTDATED, CatalogueError, check_form, read_catalogue
from runtime.services.office import Office
from runtime.services.steps import Refused, Transaction
from runtime.state import Component, StateBoard
from transport.errors import TransportError
from transport.sm import sm3
from transport.sm2 import PublicKey

log = structlog.get_logger(__name__)

COMPONENT = "catalogue"
AGAIN_SECONDS = 10.0
"""Between two tries while the platform does not answer."""
REFRESH_SECONDS = 6 * 3600.0
"""An announcement that expired while the line was down is made good for by then."""
CHECK_SECONDS = 5.0
_ABLE = {"online", "deviceBusy"}

State = Literal["current", "previous", "withdrawn"]
"""How the journal keeps a version; `withdrawn` was rolled back by an operator."""
Found = Literal["stored", "issued"]


class Reason(msgspec.Struct, frozen=True):
    """Why a matter cannot be applied for now."""

    component: str
    code: str
    text: str


class Offer(msgspec.Struct, frozen=True):
    """A matter of the catalogue, and why this terminal cannot take it now; it can when `reasons` is empty."""

    matter: str
    version: int
    title: str
    title_en: str
    department: str
    fee_fen: int
    reasons: list[Reason]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A version in the journal."""

    version: int
    content: bytes
    signature: bytes
    state: State


class Matters:
    """The catalogue this terminal has, and what of it can be offered; a supervised unit."""

    def __init__(
        self, office: Office, platform_key: PublicKey, board: StateBoard, on_refused: Callable[[str, Found], None]
    ) -> None:
        """Call `on_refused` with the code of each catalogue that is refused, and where it was found."""
        self._office = office
        self._on_refused = on_refused
        self._platform_key = platform_key
        self._board = board
        self._wake = asyncio.Event()
        self._asked = asyncio.Event()
        self._asked.set()
        self._announced: CatalogueAnnouncement | None = None
        self._have = 0
        self._previous: int | None = None
        self._code: str | None = None
        self._catalogue: Catalogue | None = None

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue in force; raises CatalogueError `catalogue.none` before there is one."""
        if self._catalogue is None:
            raise CatalogueError("catalogue.none", "there is no catalogue yet", advice="wait for the line")
        return self._catalogue

    def find(self, matter: str) -> tuple[Catalogue, Matter]:
        """Return the catalogue in force and a matter of it; raise Refused `matter.unknown`, `catalogue.none`."""
        catalogue = self._catalogue
        if catalogue is None:
            raise Refused("catalogue.none", "there is no catalogue yet", retry=True)
        for one in catalogue.matters:
            if one.id == matter:
                return catalogue, one
        raise Refused("matter.unknown", "no such matter in the catalogue in force", retry=False)

    def reasons(self, matter: Matter) -> list[Reason]:
        """Return why the terminal cannot take this matter now, by the live state of its devices and the line."""
        reasons = []
        for name in (*matter.devices, "platform"):
            component = self._board.get(name)
            if component is None or component.state not in _ABLE:
                known = component.code if component is not None else "device.missing"
                code = known or ("line.down" if name == "platform" else "device.not_ready")
                reasons.append(Reason(name, code, texts.text(code).zh))
        return reasons

    def offers(self) -> list[Offer]:
        """Return every matter of the catalogue in force, in its order; raise CatalogueError `catalogue.none`."""
        return [
            Offer(one.id, one.version, one.title, one.title_en, one.department, one.fee_fen, self.reasons(one))
            for one in self.catalogue.matters
        ]

    async def open(self) -> None:
        """Load the current version, or the previous one where that does not load; raise JournalError.

        One that does not load is forgotten, so that it is fetched again.
        """
        kept = await self._kept()
        self._have = max(kept, default=0)
        by_state = {one.state: one for one in kept.values()}
        current, previous = by_state.get("current"), by_state.get("previous")
        self._previous = previous.version if previous is not None else None
        if current is not None:
            try:
                self._catalogue = self._load(current)
            except CatalogueError as error:
                log.error("catalogue_does_not_load", version=current.version, code=error.code)
                await self._restore(current.version, previous, error.code)
                await self._forget(current.version)
        self._show()

    def announced(self, announcement: CatalogueAnnouncement) -> None:
        """Take note that the platform announced a version."""
        if self._announced != announcement:
            self._announced = announcement
            self._wake.set()
            self._show()

    def turned_away(self, code: str) -> None:
        """Take note of why the platform turned something away: where the catalogue is outdated, ask for one at once."""
        if code in OUTDATED:
            self._asked.clear()
            self._wake.set()

    async def up_to_date(self) -> None:
        """Wait until the platform was asked for the version that `turned_away` told of, or takes too long to answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._office.answer_seconds):
                await self._asked.wait()

    async def run(self, ready: Callable[[], None]) -> None:
        """Fetch at the start, at each announcement, when outdated, and from time to time; raise JournalError."""
        ready()
        while True:
            self._wake.clear()
            is_answered = await self._fetch()
            if not self._wake.is_set():
                self._asked.set()
            try:
                async with asyncio.timeout(REFRESH_SECONDS if is_answered else AGAIN_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def roll_back(self, actor: str) -> Catalogue:
        """Go back to the previous version, by the order of an operator, and return it; the other is not fetched again.

        Raises CatalogueError: `catalogue.no_previous`, or as it is read where it does not load; JournalError.
        """
        previous = next((one for one in (await self._kept()).values() if one.state == "previous"), None)
        if previous is None:
            raise CatalogueError("catalogue.no_previous", "no earlier version is kept", advice="publish a new version")
        read = self._load(previous)
        left = self._catalogue.version if self._catalogue is not None else 0
        await self._restore(left, previous, "catalogue.rolled_back")
        about = {"from": left, "to": read.version}
        await self._office.audit.note("catalogue_rolled_back", actor=actor, details=about)
        self._show()
        return read

    async def _fetch(self) -> bool:
        """Ask for a newer version and switch to it; False when the platform did not answer."""
        office = self._office
        request = to_payload(CatalogueRequest(self._have))
        try:
            reply = await office.platform.call(
                request, key=secrets.token_bytes(16), deadline_seconds=office.answer_seconds
            )
            said = cast("CatalogueIssue | CatalogueCurrent | Refusal", from_payload(reply, *_ANSWERS))
        except TransportError as error:
            log.info("catalogue_not_fetched", code=error.code)
            return False
        except MessageError as error:
            log.error("catalogue_not_fetched", code=error.code)
            return True
        if isinstance(said, CatalogueIssue):
            await self._take(said)
        return True

    async def _take(self, issue: CatalogueIssue) -> None:
        """Switch to a version that was issued, or tell the platform why not (T12)."""
        transaction = Transaction(self._office.journal, self._office.origin, "catalogue_taken")
        try:
            async with transaction.step("check_catalogue", deadline_seconds=CHECK_SECONDS, no_answer=MALFORMED):
                catalogue = await self._checked(issue)
        except Refused as refused:
            self._code = refused.code
            log.error("catalogue_refused", version=issue.version, code=refused.code)
            self._on_refused(refused.code, "issued")
        else:
            await self._switch(transaction, issue, catalogue)
            self._code = None
        self._show()

    async def _checked(self, issue: CatalogueIssue) -> Catalogue:
        if issue.version <= self._have:
            raise CatalogueError("catalogue.older", f"version {issue.version}, there was {self._have}")
        announced = self._announced
        is_announced = announced is not None and announced.catalogue_version == issue.version
        if announced is not None and is_announced and announced.digest != sm3(issue.content):
            raise CatalogueError("catalogue.digest_mismatch", "not what was announced")
        catalogue = read_catalogue(self._platform_key, issue.version, issue.content, issue.signature)
        for matter in catalogue.matters:
            check_form(matter)
            await asyncio.sleep(0)  # a schema takes its milliseconds: let others go on
        return catalogue

    async def _switch(self, transaction: Transaction, issue: CatalogueIssue, catalogue: Catalogue) -> None:
        """Make a checked version the current one, the current one the previous, and forget all others."""
        current = self._catalogue.version if self._catalogue is not None else None

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM catalogues WHERE version IS NOT ?", (current,))
            db.execute("UPDATE catalogues SET state = 'previous'")
            row = (issue.version, issue.content, issue.signature)
            db.execute("INSERT INTO catalogues VALUES (?, ?, ?, 'current')", row)

        told = transaction.event("switch_catalogue", "done", None, 0.0)
        await self._office.journal.write(work, told)
        self._catalogue, self._have, self._previous = catalogue, issue.version, current
        log.info("catalogue_switched", version=issue.version, matters=len(catalogue.matters))

    async def _restore(self, withdrawn: int, previous: _Kept | None, code: str) -> None:
        """Withdraw a version and go back to the one before it, where there is one that loads."""
        self._catalogue = None
        if previous is not None:
            try:
                self._catalogue = self._load(previous)
            except CatalogueError as error:
                log.error("catalogue_does_not_load", version=previous.version, code=error.code)
        restored = self._catalogue.version if self._catalogue is not None else None

        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE catalogues SET state = 'withdrawn' WHERE version = ?", (withdrawn,))
            db.execute("UPDATE catalogues SET state = 'current' WHERE version IS ?", (restored,))

        transaction = Transaction(self._office.journal, self._office.origin, "catalogue_rolled_back")
        await self._office.journal.write(work, transaction.event("roll_back_catalogue", "done", code, 0.0))
        self._previous, self._code = None, code
        log.warning("catalogue_rolled_back", to=restored, code=code)

    async def _forget(self, version: int) -> None:
        """Forget a version that does not load, and the one before it where that does not either."""
        kept = self._catalogue.version if self._catalogue is not None else 0
        statement = "DELETE FROM catalogues WHERE version <> ? AND version <= ?"
        await self._office.journal.write(lambda db: db.execute(statement, (kept, version)).rowcount)
        self._have = kept

    def _load(self, kept: _Kept) -> Catalogue:
        try:
            return read_catalogue(self._platform_key, kept.version, kept.content, kept.signature)
        except CatalogueError as error:
            self._on_refused(error.code, "stored")
            raise

    async def _kept(self) -> Mapping[int, _Kept]:
        rows = await self._office.journal.read(
            lambda db: db.execute("SELECT version, content, signature, state FROM catalogues").fetchall()
        )
        return {row[0]: _Kept(*row) for row in rows}

    def _show(self) -> None:
        """Put the catalogue on the board."""
        numbers = {
            "version": self._catalogue.version if self._catalogue is not None else None,
            "previous": self._previous,
            "announced": self._announced.catalogue_version if self._announced is not None else None,
        }
        details: dict[str, str | bool] = {name: str(one) for name, one in numbers.items() if one is not None}
        state = "none" if self._catalogue is None else "current"
        self._board.set(COMPONENT, Component(state, self._code, details=details))


_ANSWERS = (CatalogueIssue, CatalogueCurrent, Refusal)
