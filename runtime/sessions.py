"""The place for the one session a terminal can have: opened, ended, and followed by the next only when all is clear."""

import asyncio
import secrets
from collections.abc import Callable

import structlog

from runtime import texts
from runtime.audit import Audit
from runtime.clearance import Clearance
from runtime.session import EndReason, Owner, Session, SessionEnded, SessionError, SessionState
from runtime.supervisor import error_code
from vision.verifier import Verifier

log = structlog.get_logger(__name__)

OPEN_SECONDS = 3.0
"""How long opening a session waits for the devices to be clear; looking whether a card still lies takes a second."""
VISION_WIPE_SECONDS = 5.0
"""The verifier wipes or kills its process by itself before this."""


class Sessions:
    """The place for the one session a terminal can have; its life is a task of `group`."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        verifier: Verifier,
        audit: Audit,
        clearance: Clearance,
        *,
        idle_seconds: float,
        longest_seconds: float,
        warn_seconds: float,
        on_state: Callable[[SessionState], None],
    ) -> None:
        self._group = group
        self._verifier = verifier
        self._audit = audit
        self._clearance = clearance
        self._idle_seconds = idle_seconds
        self._longest_seconds = longest_seconds
        self._warn_seconds = warn_seconds
        self._on_state = on_state
        self._current: Session | None = None
        self._life: asyncio.Task[None] | None = None
        self._clear = asyncio.Event()
        self._clear.set()
        self._refusals: list[str] = []
        self._stopped = False

    @property
    def occupied(self) -> bool:
        """Whether a citizen is being served."""
        return self._current is not None

    async def open(self, owner: Owner) -> Session:
        """Begin a session of `owner`, as soon as the devices are clear of the last citizen's things.

        Raises SessionError: `session.busy` while there is one, `session.not_clear` when something is left at a device
        for longer than OPEN_SECONDS, and the code of `refuse`.
        """
        self._admit()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._clear.wait()
        except TimeoutError:
            said = self._clearance.said
            raise SessionError(
                "session.not_clear",
                f"not clear: {', '.join(sorted(self._clearance.left))}",
                advice=said.en,
                retry=True,
                text=said.zh,
            ) from None
        self._admit()
        self._current = session = Session(owner, self._on_state)
        self._life = self._group.create_task(self._live(session), name="session")
        return session

    def extend(self, session: Session) -> float:
        """Keep a session from ending of idleness; return for how long."""
        session.touch()
        return self._idle_seconds

    def end(self, reason: EndReason) -> None:
        """End the session that is open, if there is one."""
        if self._current is not None:
            self._current.request_end(reason)

    def limit(self, seconds: float | None) -> None:
        """Let the session that is open end for want of power after so many seconds, None for no such end any more."""
        if self._current is not None:
            self._current.limit(seconds)

    def hurry(self, seconds: float | None) -> None:
        """Wait at most so long for the devices to be clear; None for as long as ever (Clearance).

        With None, what was left because there was no time is waited for before the next session (rule 1).
        """
        self._clearance.hurry(seconds)
        if seconds is None and self._clearance.passed_over:
            self._clear.clear()
            self._clearance.begin()

    async def over(self) -> None:
        """Return when no session is open any more; what lies at the devices may still be there."""
        while self._current is not None:
            await self._current.gone.wait()

    async def clear(self) -> None:
        """Return when the devices are clear, or what can be done for that is done."""
        await self._clear.wait()

    def wipe(self) -> None:
        """Overwrite what a session holds whose end takes too long."""
        if self._current is not None:
            self._current.wipe()

    def refuse(self, code: str) -> None:
        """Open no other session from now on; `code` says why, with words in the catalogue of texts."""
        if code not in self._refusals:
            self._refusals.append(code)

    def admit(self, code: str) -> None:
        """Take back what was refused by this code; sessions open again when nothing else refuses them."""
        if code in self._refusals:
            self._refusals.remove(code)

    def find(self, session_id: str, owner: Owner) -> Session:
        """Return the owner's session; raise SessionError `session.unknown`, for a stranger's session too."""
        session = self._current
        known = session is not None and secrets.compare_digest(session.id.encode(), session_id.encode())
        if session is None or not known or session.owner is not owner:
            raise SessionError("session.unknown", "there is no such session", advice="call session.open")
        session.touch()
        return session

    def of(self, owner: Owner) -> Session | None:
        """Return the owner's session, if there is one."""
        return self._current if self._current is not None and self._current.owner is owner else None

    def lost(self, owner: Owner) -> None:
        """The owner's connection is lost: end its session."""
        if self._current is not None and self._current.owner is owner:
            self._current.request_end("client_lost")

    async def stop(self) -> None:
        """End the session because the daemon stops, and open no other; what is left at the devices, drivers see to."""
        self._stopped = True
        if (session := self._current) is not None:
            session.request_end("shutdown")
            await session.gone.wait()
        if self._life is not None:
            self._life.cancel()

    def _admit(self) -> None:
        if self._current is not None or self._stopped:
            raise SessionError("session.busy", "another session is open", advice="wait until it has ended", retry=True)
        if self._refusals:
            raise SessionError(
                self._refusals[0],
                "no session is opened now",
                advice="wait until the terminal admits citizens",
                retry=True,
            )

    async def _live(self, session: Session) -> None:
        about = {"session": session.reference}
        try:
            await self._audit.note("session_opened", actor=session.actor, details=about)
            reason = await session.wait_end(
                idle_seconds=self._idle_seconds,
                longest_seconds=self._longest_seconds,
                warn_seconds=self._warn_seconds,
            )
            await session.cancel_operations()
            session.wipe()
            await self._wipe_vision()
            text = texts.text(f"session.{reason}").zh
            session.owner.notify("session.ended", SessionEnded(session.id, reason, text))
            log.info("session_ended", reason=reason)
            await self._audit.note("session_ended", actor=session.actor, details=about | {"reason": reason})
        finally:
            self._clear.clear()
            self._clearance.begin()
            self._current = None
            session.close()
            try:
                await self._clear_after(session)
            finally:
                self._clear.set()
                session.cleared()

    async def _clear_after(self, session: Session) -> None:
        """Have the devices cleared, and once more when a hurry in which something was left is over."""
        clearance = self._clearance
        await clearance.run(session.id, session.reference, session.owner.notify)
        while clearance.passed_over:
            if not clearance.unhurried.is_set():
                self._clear.set()
                session.cleared()
                await clearance.unhurried.wait()
            await clearance.run(session.id, session.reference, session.owner.notify)

    async def _wipe_vision(self) -> None:
        try:
            async with asyncio.timeout(VISION_WIPE_SECONDS):
                await self._verifier.wipe()
        except Exception as error:  # noqa: BLE001 - the session's end goes on; a dead process holds nothing
            log.error("vision_not_wiped", code=error_code(error))
