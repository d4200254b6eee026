"""What every business service works with: asking the platform, an operation of a session, effects under intents."""

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, cast

import msgspec
import structlog

from runtime import texts
from runtime.audit import Audit
from runtime.journal import Intent, Journal, JournalError, Outcome
from runtime.messages import MessageError, Refusal, from_payload, to_payload
from runtime.services.steps import INTERRUPTED, Origin, Refused, Result, Transaction
from runtime.session import Session
from transport.errors import TransportError
from transport.payload import Payload

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=msgspec.Struct)
R = TypeVar("R", bound=Result)

Progress = Callable[[int, int], None]
Settlement = Literal["acted", "void"]
NO_ANSWER = "platform.no_answer"
"""The line's code for a call of which nobody knows whether the platform acted on it."""


class Platform(Protocol):
    """The line to the platform as services see it (`transport.channel.Channel`)."""

    async def call(
        self, request: Payload, *, key: bytes, deadline_seconds: float, on_progress: Progress | None = None
    ) -> Payload:
        """Ask the platform; raises TransportError."""

    async def settle(self, key: bytes, *, deadline_seconds: float) -> Settlement:
        """Return whether the platform acted on a call, or never will; raises TransportError."""


@dataclass(slots=True)
class Effect:
    """How an effect under an intent ended; `unknown` until somebody says otherwise."""

    intent: Intent
    outcome: Outcome = "unknown"
    code: str | None = INTERRUPTED
    also: Callable[[sqlite3.Connection], object] | None = None
    """What the effect changed in the journal's tables; part of the outcome's transaction."""

    @property
    def key(self) -> bytes:
        """The idempotency key (16 bytes) of the call that has the effect."""
        return bytes.fromhex(self.intent.key)

    def done(self) -> None:
        """Note that it was done."""
        self.outcome, self.code = "done", None

    def refused(self, code: str) -> None:
        """Note that it surely was not done, and why."""
        self.outcome, self.code = "refused", code


@dataclass(frozen=True, slots=True)
class Office:
    """The platform, the journal and the audit log; `answer_seconds` is the platform's deadline for a small call."""

    platform: Platform
    journal: Journal
    audit: Audit
    origin: Origin
    answer_seconds: float
    live: set[str] = field(default_factory=set)
    """The intents whose effects are under way: nobody else settles those."""
    unsettled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there may be an open intent that nobody has in hand: the settlement looks for it."""

    async def ask(
        self,
        message: msgspec.Struct,
        answer: type[M],
        *,
        key: bytes,
        deadline_seconds: float | None = None,
        on_progress: Progress | None = None,
    ) -> M:
        """Return the platform's answer; raise Refused with the platform's code, TransportError or MessageError.

        What acts at the platform is asked under the key of an intent (`effect`): without an answer it is settled. A
        random key is for a question that may be asked twice.
        """
        deadline = self.answer_seconds if deadline_seconds is None else deadline_seconds
        reply = await self.platform.call(
            to_payload(message), key=key, deadline_seconds=deadline, on_progress=on_progress
        )
        said = cast("M | Refusal", from_payload(reply, answer, Refusal))
        if isinstance(said, Refusal):
            raise Refused(said.code, "the platform refuses", retry=said.retry)
        return said

    async def act(
        self,
        effect: Effect,
        message: msgspec.Struct,
        answer: type[M],
        *,
        unsure: str | None = None,
        deadline_seconds: float | None = None,
        on_progress: Progress | None = None,
    ) -> M:
        """Make the call that has an effect, and note on the effect how it ended where it was not answered.

        Raises Refused: with the platform's or the line's code where surely nothing was done, with `unsure` (or what
        went wrong) where nobody knows.
        """
        try:
            return await self.ask(
                message, answer, key=effect.key, deadline_seconds=deadline_seconds, on_progress=on_progress
            )
        except Refused as refused:
            effect.refused(refused.code)
            raise
        except (TransportError, MessageError) as error:
            if isinstance(error, TransportError) and error.code != NO_ANSWER:
                effect.refused(error.code)
                raise Refused(error.code, str(error), retry=error.retry) from None
            effect.code = error.code
            retry = unsure is not None or (isinstance(error, TransportError) and error.retry)
            raise Refused(unsure or error.code, "nobody knows whether it was done", retry=retry) from None

    async def operate(
        self,
        session: Session,
        audit_event: str,
        kind: type[R],
        work: Callable[[Transaction], Awaitable[Mapping[str, Any]]],
        *,
        done: str,
        about: Mapping[str, str | int | None] | None = None,
    ) -> R:
        """Do an operation of the session as `serve` does.

        Raises SessionError `session.ended` when the session ends meanwhile.
        """
        async with session.operation():
            details = {"session": session.reference, **(about or {})}
            return await self.serve(session.actor, audit_event, kind, work, done=done, about=details)

    async def serve(
        self,
        actor: str,
        audit_event: str,
        kind: type[R],
        work: Callable[[Transaction], Awaitable[Mapping[str, Any]]],
        *,
        done: str,
        about: Mapping[str, str | int | None] | None = None,
    ) -> R:
        """Do an operation and return its result, audited however it ends.

        `work` gives what `kind` has beyond a Result, and `outcome`, `code` and `retry` where it is not plainly done;
        `done` is the code of the citizen's text then.
        """
        transaction = Transaction(self.journal, self.origin, audit_event)
        outcome: str = "unknown"
        code: str | None = INTERRUPTED
        retry = False
        try:
            try:
                fields = dict(await work(transaction))
                outcome, code = fields.pop("outcome", "done"), fields.pop("code", None)
                retry = fields.pop("retry", False)
            except Refused as refused:
                fields, outcome, code, retry = {}, "refused", refused.code, refused.retry
            return kind(
                outcome=cast("Any", outcome),
                code=code,
                text=texts.text(code or done).zh,
                retry=retry,
                steps=transaction.steps,
                seconds=transaction.seconds,
                **fields,
            )
        finally:
            details = {"transaction": transaction.id, "outcome": outcome, "code": code, **(about or {})}
            await self.audit.note(audit_event, actor=actor, details=details)

    async def begin(
        self,
        kind: str,
        name: str,
        transaction: str,
        also: Callable[[sqlite3.Connection], object] | None = None,
    ) -> Intent:
        """Journal an intent that the caller has in hand until `let_go`; raise Refused: then nothing was done."""
        key = secrets.token_hex(16)
        self.live.add(key)  # before anybody can find it
        try:
            return await self.journal.open_intent(kind, name, transaction, also, key=key)
        except BaseException as error:
            self.let_go(key)
            if isinstance(error, JournalError):
                raise Refused(error.code, str(error), retry=error.retry) from None
            raise

    def let_go(self, key: str) -> None:
        """Have an intent settled, if it is open still."""
        self.live.discard(key)
        self.unsettled.set()

    @asynccontextmanager
    async def effect(
        self,
        transaction: Transaction,
        kind: str,
        name: str,
        also: Callable[[sqlite3.Connection], object] | None = None,
    ) -> AsyncIterator[Effect]:
        """Journal an intent of `kind`, let the caller act, journal the outcome and its event (rule 2).

        `name` is what the intent is found by (a receipt or order number); `also` is what beginning it changes in the
        journal's tables. An outcome that stays `unknown` leaves the intent open: the settlement finds out. Raises
        Refused when the intent cannot be journaled: nothing was done.
        """
        effect = Effect(await self.begin(kind, name, transaction.id, also))
        began = transaction.seconds
        try:
            yield effect
        finally:
            told = transaction.event(kind, effect.outcome, effect.code, transaction.seconds - began)
            try:
                if effect.outcome == "unknown":
                    await self.journal.append(told)
                else:
                    await self.journal.close_intent(effect.intent, effect.outcome, effect.code, told, effect.also)
            except JournalError as error:
                log.error("outcome_not_journaled", code=error.code)
            finally:
                self.let_go(effect.intent.key)
