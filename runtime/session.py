"""One citizen's session: everything personal the daemon holds, and its end (rule 1, T20).

A session belongs to one API connection. It ends by `session.close`, by a time-out that was warned of, by the loss of
that connection, by tampering, by the plan for a power failure or by the daemon's stop; its operations are then
cancelled, and it is gone only when all is wiped.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

import msgspec
import structlog

from devices.idcard.record import CardRecord
from devices.personal import Kind, PersonalBytes, PersonalText
from runtime import texts
from runtime.services.drafts import Draft
from runtime.services.payment_held import HeldPayment
from runtime.services.request_draft import SCANS, RequestDraft

log = structlog.get_logger(__name__)

CANCEL_SECONDS = 5.0
"""What cancelled operations may take to leave their devices safe before the session is wiped under them."""

EndReason = Literal["closed", "idle", "too_long", "client_lost", "shutdown", "tamper", "power"]
Purpose = Literal["face", "fingerprint"]
"""What a citizen consents to; each by itself (PIPL, article 29)."""


class SessionState(StrEnum):
    """How far a session is."""

    OPEN = "open"
    VERIFIED = "verified"
    ENDING = "ending"
    CLEARING = "clearing"
    """All is wiped, but something of the citizen may still lie at a device."""
    CLOSED = "closed"


class SessionError(Exception):
    """A call that does not fit the session.

    Codes: `session.busy`, `session.not_clear`, `session.unknown`, `session.not_verified`, `session.ended`,
    `consent.missing`, `assertion.expired`, and why no session is opened now (`session.power`). `text` is for the
    citizen where it says more than the code's own.
    """

    def __init__(self, code: str, message: str, *, advice: str, retry: bool = False, text: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice
        self.text = text


class SessionEnded(msgspec.Struct, frozen=True):
    """Notification `session.ended`: the session is gone and all it held is wiped."""

    session: str
    reason: EndReason
    text: str


class SessionWarning(msgspec.Struct, frozen=True):
    """Notification `session.warning`: the session ends after so many seconds; `session.extend` averts idleness."""

    session: str
    reason: EndReason
    seconds: float
    text: str


class Owner(Protocol):
    """The API connection a session belongs to."""

    @property
    def uid(self) -> int:
        """The user id of the process at the other end."""

    def notify(self, method: str, params: msgspec.Struct) -> None:
        """Send a notification without waiting."""


@dataclass(frozen=True, slots=True)
class DoubtfulIssue:
    """A certificate of which nobody knows yet whether the platform issued it: its number, the key of the request."""

    receipt: str
    key: bytes


class Session:
    """The session of one citizen; `on_state` is told each new state.

    Its id is a secret of the owning connection; `reference` is what the audit log calls it.
    """

    def __init__(self, owner: Owner, on_state: Callable[[SessionState], None]) -> None:
        self.id = secrets.token_urlsafe(16)
        self.reference = secrets.token_hex(8)
        self.owner = owner
        self.actor = f"uid {owner.uid}"
        self.state = SessionState.OPEN
        self._on_state = on_state
        on_state(self.state)
        self.record: CardRecord | None = None
        self.document: PersonalBytes | None = None
        self.document_pages = 0
        self.scans: dict[str, PersonalBytes] = {}
        self.application: Draft | None = None
        self.payment: HeldPayment | None = None
        self.orders: set[str] = set()
        """The numbers of the citizen's orders, for their slips."""
        self.request: RequestDraft | None = None
        self.issues: dict[str, DoubtfulIssue] = {}
        """By the certificate's name."""
        self.consents: dict[Purpose, str] = {}
        """The version of the text that the citizen agreed to, by purpose."""
        self._whose: PersonalText | None = None
        self._verifications_lost = 0
        self._assertion: PersonalBytes | None = None
        self._assertion_ends_at = 0.0
        self.gone = asyncio.Event()
        self.reason: EndReason | None = None
        self._ending = asyncio.Event()
        self._news = asyncio.Event()
        self._power_ends_at: float | None = None
        self._turn = asyncio.Lock()
        self._scopes: set[asyncio.Timeout] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._opened = self._touched = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def operation(self) -> AsyncIterator[None]:
        """Do one operation at a time.

        Raises SessionError: `session.ended` when the session ends meanwhile, `session.citizen_changed` when the citizen
        for whom it was asked is verified no more as its turn comes.
        """
        if self._ending.is_set():
            raise _ended()
        lost = self._verifications_lost
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.add(scope)
                self._quiet.clear()
                try:
                    async with self._turn:
                        if lost != self._verifications_lost:
                            raise _changed()
                        yield
                finally:
                    self._scopes.discard(scope)
                    self.touch()
                    if not self._scopes:
                        self._quiet.set()
        except TimeoutError:
            if scope.expired():
                raise _ended() from None
            raise

    def touch(self) -> None:
        """Note that the owner asked something: the session is not idle."""
        self._touched = asyncio.get_running_loop().time()

    def consented(self, purpose: Purpose) -> str:
        """Return the version of the text that was agreed to; raise SessionError `consent.missing`."""
        if purpose not in self.consents:
            raise SessionError("consent.missing", f"no consent to {purpose}", advice="call session.consent first")
        return self.consents[purpose]

    def keep(self, record: CardRecord) -> None:
        """Hold a citizen's card data, wiping first what was held of another one, or of nobody who is known.

        What another one agreed to is no consent of this one.
        """
        whose = self._whose.reveal() if self._whose is not None else None
        if whose != record.id_number.reveal():
            self.wipe()
            if whose is not None:
                self.consents.clear()
        self.drop_record()
        self.record = record
        if self._whose is None:
            self._whose = PersonalText(record.id_number.reveal(), Kind.IDENTIFIER)

    def drop_record(self) -> None:
        """Wipe the card data: nobody is verified; what is held for the citizen stays until another one comes."""
        self.doubt()
        if self.record is not None:
            self.record.wipe()
            self.record = None

    def keep_document(self, pdf: bytes, pages: int) -> None:
        """Hold a scanned document's PDF of so many pages, wiping the one before."""
        self.drop_document()
        self.document = PersonalBytes(pdf)
        self.document_pages = pages

    def keep_scan(self, name: str) -> None:
        """Hold the scanned document as this scan from now on, wiping the scan of this name before."""
        if self.document is not None:
            if name in self.scans:
                self.scans[name].wipe()
            self.scans[name] = self.document
            self.document = None

    def drop_scans(self) -> None:
        """Wipe every scan that is held."""
        for scan in self.scans.values():
            scan.wipe()
        self.scans.clear()

    def begin_application(self, draft: Draft) -> None:
        """Hold an application that begins, wiping the one before and its scans."""
        self.drop_application()
        self.application = draft

    def drop_application(self) -> None:
        """Wipe the application and its scans, and let go of its payment."""
        self.drop_payment()
        self.drop_scans()
        if self.application is not None:
            self.application.wipe()
            self.application = None

    def hold_payment(self, payment: HeldPayment) -> None:
        """Hold a payment of the application, letting go of the one before."""
        self.drop_payment()
        self.payment = payment
        self.orders.add(payment.order)

    def drop_payment(self) -> None:
        """Let go of the payment: what was paid and not used goes back."""
        if self.payment is not None:
            self.payment.let_go(self.payment)
            self.payment = None

    def begin_request(self, draft: RequestDraft) -> None:
        """Hold a hotline request that begins, wiping what the one before is known by; its scans stay."""
        if self.request is not None:
            self.request.wipe()
        self.request = draft

    def drop_request(self) -> None:
        """Wipe the hotline request and its scans."""
        for name in [one for one in self.scans if one.startswith(SCANS)]:
            self.scans.pop(name).wipe()
        if self.request is not None:
            self.request.wipe()
            self.request = None

    def drop_document(self) -> None:
        """Wipe the PDF that is held."""
        if self.document is not None:
            self.document.wipe()
            self.document = None

    def verified(self) -> None:
        """Note that the person before the terminal is the one on the card."""
        if self.state is SessionState.OPEN:
            self._enter(SessionState.VERIFIED)

    def doubt(self) -> None:
        """Take the verification back while the citizen is verified anew; what is held is out of reach meanwhile."""
        if self._assertion is not None:
            self._assertion.wipe()
            self._assertion = None
        if self.state is SessionState.VERIFIED:
            self._verifications_lost += 1
            self._enter(SessionState.OPEN)

    def citizen(self) -> CardRecord:
        """Return the verified citizen's card data; raise SessionError `session.not_verified`."""
        if self.state is not SessionState.VERIFIED or self.record is None:
            raise SessionError(
                "session.not_verified", "the citizen is not verified", advice="call session.verify_identity first"
            )
        return self.record

    def keep_assertion(self, assertion: bytes, seconds: float) -> None:
        """Hold the platform's assertion of the citizen (I4), good for so long."""
        self._assertion = PersonalBytes(assertion)
        self._assertion_ends_at = asyncio.get_running_loop().time() + seconds

    def asserted(self) -> bytes:
        """Return the assertion that each call carries.

        Raises SessionError: `session.not_verified`, `assertion.expired`.
        """
        self.citizen()
        if self._assertion is None or asyncio.get_running_loop().time() >= self._assertion_ends_at:
            raise SessionError(
                "assertion.expired", "the verification is too old", advice="call session.verify_identity", retry=True
            )
        with self._assertion.view() as assertion:
            return bytes(assertion)

    def wipe(self) -> None:
        """Overwrite every personal value; the session is then as unverified as a new one."""
        self.drop_record()
        if self._whose is not None:
            self._whose.wipe()
            self._whose = None
        self.drop_document()
        self.drop_application()
        self.drop_request()
        self.orders.clear()
        self.issues.clear()

    def request_end(self, reason: EndReason) -> None:
        """Ask for the end; the first reason stands."""
        if self.reason is None:
            self.reason = reason
        self._ending.set()
        self._news.set()

    def limit(self, seconds: float | None) -> None:
        """Let it end for want of power after so many seconds at the latest, None for no such end any more.

        The owner is warned at once. An end that was set stands before a later one.
        """
        ends_at = None if seconds is None else asyncio.get_running_loop().time() + seconds
        if ends_at is None or self._power_ends_at is None or ends_at < self._power_ends_at:
            self._power_ends_at = ends_at
            self._news.set()

    async def wait_end(self, *, idle_seconds: float, longest_seconds: float, warn_seconds: float) -> EndReason:
        """Return why the session ends, as soon as it does; its owner is warned `warn_seconds` before a time-out.

        Of an end for want of power it is warned as soon as that is known.
        """
        loop = asyncio.get_running_loop()
        warn_seconds = min(warn_seconds, idle_seconds / 2)
        warned_of: float | None = None
        power_told: float | None = None
        while self.reason is None:
            now = loop.time()
            ends: dict[float, EndReason] = {
                (now if self._scopes else self._touched) + idle_seconds: "idle",
                self._opened + longest_seconds: "too_long",
            }
            if (power_ends_at := self._power_ends_at) is not None:
                ends[power_ends_at] = "power"
                if power_ends_at != power_told:
                    self._warn("power", power_ends_at - now)
            power_told = power_ends_at
            due = min(ends)
            if now >= due:
                self.request_end(ends[due])
                break
            warn_at = due if ends[due] == "power" else due - warn_seconds
            if warned_of != due and now >= warn_at:
                warned_of = due
                self._warn(ends[due], due - now)
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due if warned_of == due else warn_at):
                    await self._news.wait()
        return self.reason or "closed"

    async def cancel_operations(self) -> None:
        """Cancel what runs and wait until it has left its devices safe, at most CANCEL_SECONDS."""
        self._enter(SessionState.ENDING)
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            scope.reschedule(now)
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._quiet.wait()
        except TimeoutError:
            log.error("operation_stuck", seconds=CANCEL_SECONDS)

    def close(self) -> None:
        """Wipe, and tell whoever waits that the session is gone; the devices may not be clear yet."""
        self.wipe()
        self._enter(SessionState.CLEARING)
        self.gone.set()

    def cleared(self) -> None:
        """Note that the next citizen can come."""
        self._enter(SessionState.CLOSED)

    def _warn(self, reason: EndReason, seconds: float) -> None:
        text = texts.text(f"session.{reason}_soon").zh
        self.owner.notify("session.warning", SessionWarning(self.id, reason, round(seconds, 1), text))

    def _enter(self, state: SessionState) -> None:
        self.state = state
        self._on_state(state)


def _ended() -> SessionError:
    return SessionError("session.ended", "the session has ended", advice="call session.open for the next citizen")


def _changed() -> SessionError:
    return SessionError(
        "session.citizen_changed",
        "the citizen was verified anew meanwhile",
        advice="ask again for the citizen who is verified now",
        retry=True,
    )
