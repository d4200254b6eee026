"""One citizen's session: everything personal the daemon holds, and its end (rule 1, T20).

A session belongs to one API connection. It ends by `session.close`, by a time-out, by the loss of that connection or
by the daemon's stop; its operations are then cancelled, and it is gone only when all is wiped.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Literal, Protocol

import msgspec
import structlog

from devices.idcard.record import CardRecord
from devices.personal import PersonalBytes
from runtime.audit import Audit
from runtime.supervisor import error_code
from vision.verifier import Verifier

log = structlog.get_logger(__name__)

CANCEL_SECONDS = 5.0
"""What cancelled operations may take to leave their devices safe before the session is wiped under them."""
VISION_WIPE_SECONDS = 5.0
"""The verifier wipes or kills its process by itself before this."""

EndReason = Literal["closed", "idle", "too_long", "client_lost", "shutdown"]


class SessionState(StrEnum):
    """How far a session is."""

    OPEN = "open"
    VERIFIED = "verified"
    ENDING = "ending"
    CLOSED = "closed"


class SessionError(Exception):
    """A call that does not fit the session.

    Codes: `session.busy`, `session.unknown`, `session.not_verified`, `session.ended`.
    """

    def __init__(self, code: str, message: str, *, advice: str, retry: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.advice = advice


class SessionEnded(msgspec.Struct, frozen=True):
    """Notification `session.ended`: the session is gone and all it held is wiped."""

    session: str
    reason: EndReason


class Owner(Protocol):
    """The API connection a session belongs to."""

    @property
    def uid(self) -> int:
        """The user id of the process at the other end."""

    def notify(self, method: str, params: msgspec.Struct) -> None:
        """Send a notification without waiting."""


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
        self.gone = asyncio.Event()
        self.reason: EndReason | None = None
        self._ending = asyncio.Event()
        self._turn = asyncio.Lock()
        self._scopes: set[asyncio.Timeout] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._opened = self._touched = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def operation(self) -> AsyncIterator[None]:
        """Do one operation at a time; raise SessionError `session.ended` when the session ends meanwhile."""
        if self._ending.is_set():
            raise _ended()
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.add(scope)
                self._quiet.clear()
                try:
                    async with self._turn:
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

    def keep(self, record: CardRecord) -> None:
        """Hold a citizen's card data, wiping what was held before."""
        self.wipe()
        self.record = record

    def keep_document(self, pdf: bytes) -> None:
        """Hold a scanned document's PDF, wiping the one before."""
        self.drop_document()
        self.document = PersonalBytes(pdf)

    def drop_document(self) -> None:
        """Wipe the PDF that is held."""
        if self.document is not None:
            self.document.wipe()
            self.document = None

    def verified(self) -> None:
        """Note that the person before the camera is the one on the card."""
        if self.state is SessionState.OPEN:
            self._enter(SessionState.VERIFIED)

    def citizen(self) -> CardRecord:
        """Return the verified citizen's card data; raise SessionError `session.not_verified`."""
        if self.state is not SessionState.VERIFIED or self.record is None:
            raise SessionError(
                "session.not_verified", "the citizen is not verified", advice="call session.verify_identity first"
            )
        return self.record

    def wipe(self) -> None:
        """Overwrite every personal value; the session is then as unverified as a new one."""
        if self.record is not None:
            self.record.wipe()
            self.record = None
        self.drop_document()
        if self.state is SessionState.VERIFIED:
            self._enter(SessionState.OPEN)

    def request_end(self, reason: EndReason) -> None:
        """Ask for the end; the first reason stands."""
        if self.reason is None:
            self.reason = reason
        self._ending.set()

    async def wait_end(self, *, idle_seconds: float, longest_seconds: float) -> EndReason:
        """Return why the session ends, as soon as it does."""
        loop = asyncio.get_running_loop()
        while self.reason is None:
            now = loop.time()
            touched = now if self._scopes else self._touched
            if now >= self._opened + longest_seconds:
                self.request_end("too_long")
            elif now >= touched + idle_seconds:
                self.request_end("idle")
            due = min(touched + idle_seconds, self._opened + longest_seconds)
            try:
                async with asyncio.timeout_at(due):
                    await self._ending.wait()
            except TimeoutError:
                continue
        return self.reason

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
        """Wipe, and tell whoever waits that the session is gone."""
        self.wipe()
        self._enter(SessionState.CLOSED)
        self.gone.set()

    def _enter(self, state: SessionState) -> None:
        self.state = state
        self._on_state(state)


class Sessions:
    """The place for the one session a terminal can have; its life is a task of `group`."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        verifier: Verifier,
        audit: Audit,
        *,
        idle_seconds: float,
        longest_seconds: float,
        on_state: Callable[[SessionState], None],
    ) -> None:
        self._group = group
        self._verifier = verifier
        self._audit = audit
        self._idle_seconds = idle_seconds
        self._longest_seconds = longest_seconds
        self._on_state = on_state
        self._current: Session | None = None
        self._stopped = False

    @property
    def occupied(self) -> bool:
        """Whether a citizen is being served."""
        return self._current is not None

    def open(self, owner: Owner) -> Session:
        """Begin a session of `owner`; raise SessionError `session.busy` while there is one."""
        if self._current is not None or self._stopped:
            raise SessionError("session.busy", "another session is open", advice="wait until it has ended", retry=True)
        self._current = session = Session(owner, self._on_state)
        self._group.create_task(self._live(session), name="session")
        return session

    def find(self, session_id: str, owner: Owner) -> Session:
        """Return the owner's session; raise SessionError `session.unknown`, for a stranger's session too."""
        session = self._current
        known = session is not None and secrets.compare_digest(session.id.encode(), session_id.encode())
        if session is None or not known or session.owner is not owner:
            raise SessionError("session.unknown", "there is no such session", advice="call session.open")
        session.touch()
        return session

    def lost(self, owner: Owner) -> None:
        """The owner's connection is lost: end its session."""
        if self._current is not None and self._current.owner is owner:
            self._current.request_end("client_lost")

    async def stop(self) -> None:
        """End the session because the daemon stops, and open no other."""
        self._stopped = True
        if (session := self._current) is not None:
            session.request_end("shutdown")
            await session.gone.wait()

    async def _live(self, session: Session) -> None:
        about = {"session": session.reference}
        try:
            await self._audit.note("session_opened", actor=session.actor, details=about)
            reason = await session.wait_end(idle_seconds=self._idle_seconds, longest_seconds=self._longest_seconds)
            await session.cancel_operations()
            session.wipe()
            await self._wipe_vision()
            session.owner.notify("session.ended", SessionEnded(session.id, reason))
            log.info("session_ended", reason=reason)
            await self._audit.note("session_ended", actor=session.actor, details=about | {"reason": reason})
        finally:
            self._current = None
            session.close()

    async def _wipe_vision(self) -> None:
        try:
            async with asyncio.timeout(VISION_WIPE_SECONDS):
                await self._verifier.wipe()
        except Exception as error:  # noqa: BLE001 - the session's end goes on; a dead process holds nothing
            log.error("vision_not_wiped", code=error_code(error))


def _ended() -> SessionError:
    return SessionError("session.ended", "the session has ended", advice="call session.open for the next citizen")
