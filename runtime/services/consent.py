"""Consent to biometrics: asked for by the UI, recorded without personal data, needed before each check (T12)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.messages.identity import Means
from runtime.messages.supervision import ConsentEvidence
from runtime.services.office import Office
from runtime.services.steps import Refused, Result, Transaction
from runtime.session import Purpose, Session

RECORD_SECONDS = 2.0


class ConsentResult(Result, frozen=True, kw_only=True):
    """The answer of `session.consent`; `alternatives` are the other ways for a citizen who declines."""

    alternatives: tuple[Means, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsentService:
    """Records what a citizen agrees to; `alternatives` tells the other ways to be verified."""

    office: Office
    alternatives: Callable[[Purpose], tuple[Means, ...]]

    async def record(self, session: Session, purpose: Purpose, version: str, *, agreed: bool) -> ConsentResult:
        """Record that the citizen agrees to the text of this version, or declines, or takes the consent back.

        Raises SessionError `session.ended`. A consent that cannot be journaled is none.
        """

        async def work(transaction: Transaction) -> dict[str, Any]:
            session.consents.pop(purpose, None)
            try:
                async with transaction.step(
                    "consent", deadline_seconds=RECORD_SECONDS, no_answer="operation.interrupted"
                ) as found:
                    found.consent = ConsentEvidence(purpose, version)
                    if not agreed:
                        raise Refused("consent.declined", "the citizen declines", retry=True)
            except Refused as refused:
                if refused.code != "consent.declined":
                    raise
                others = self.alternatives(purpose)
                return {"outcome": "refused", "code": refused.code, "retry": True, "alternatives": others}
            session.consents[purpose] = version
            return {}

        about = {"purpose": purpose, "version": version}
        return await self.office.operate(
            session, "consent_asked", ConsentResult, work, done="consent.given", about=about
        )
