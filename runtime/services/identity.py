"""The real-name check: the card, the face before the camera, one answer (T1, T9, T13)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from devices.idcard.record import CardRecord
from runtime import texts
from runtime.audit import Audit
from runtime.journal import Journal, Outcome
from runtime.messages import FaceEvidence
from runtime.services.steps import INTERRUPTED, Origin, Refused, Result, Transaction
from runtime.session import Session, SessionState
from vision.attack.result import LayerResult
from vision.verifier import Verification, Verifier

READ_SECONDS = 5.0
"""The machine's part of reading a card once it lies there; SAM-V takes about 1.5 s (T13)."""
FENCE_SECONDS = 2.0
"""The verifier keeps its own deadline; this much later its silence is an answer."""

Guide = Callable[[str], None]
"""Called with a guidance code for the citizen."""


class CardReader(Protocol):
    """The ID-card reader as this service sees it."""

    async def read_card(self, *, wait_seconds: float) -> CardRecord:
        """Wait for a card and read it; raises DeviceError."""


class FaceChecked(FaceEvidence, frozen=True):
    """The evidence of a face decision, and where the time went; `stages` are seconds of computing."""

    seconds: float
    stages: dict[str, float]


class IdentityResult(Result, frozen=True, kw_only=True):
    """The answer of `session.verify_identity`; name and number are masked (T22)."""

    name: str | None = None
    id_number: str | None = None
    face: FaceChecked | None = None


@dataclass(frozen=True, slots=True)
class IdentityService:
    """Checks that the person before the camera is the one on the card."""

    reader: CardReader
    verifier: Verifier
    journal: Journal
    audit: Audit
    origin: Origin
    card_wait_seconds: float
    verify_seconds: float

    async def verify(self, session: Session, guide: Guide) -> IdentityResult:
        """Do the check; a verified session then holds the card's text, any other outcome leaves it empty.

        Raises SessionError `session.ended` when the session ends meanwhile.
        """
        async with session.operation():
            session.wipe()
            transaction = Transaction(self.journal, self.origin)
            verification = None
            outcome: Outcome = "unknown"
            code: str | None = INTERRUPTED
            try:
                record = await self._read(transaction, session, guide)
                deadline = self.verify_seconds + FENCE_SECONDS
                async with transaction.step(
                    "verify_face", deadline_seconds=deadline, no_answer="vision.no_answer"
                ) as found:
                    verification = await self._compare(record, guide)
                    found.face = _evidence(verification)
                    _decide(verification)
                session.verified()
                outcome, code = "done", None
                return _result(transaction, verification, record=record)
            except Refused as refused:
                outcome, code = "refused", refused.code
                return _result(transaction, verification, refused=refused)
            finally:
                if session.state is not SessionState.VERIFIED:
                    session.wipe()
                about = {"session": session.reference, "transaction": transaction.id, "outcome": outcome, "code": code}
                await self.audit.note("identity_checked", actor=session.actor, details=about)

    async def _read(self, transaction: Transaction, session: Session, guide: Guide) -> CardRecord:
        guide("idcard.place_card")
        deadline = self.card_wait_seconds + READ_SECONDS
        async with transaction.step("read_card", deadline_seconds=deadline, no_answer="idcard.no_answer"):
            record = await self.reader.read_card(wait_seconds=self.card_wait_seconds)
            session.keep(record)
        return record

    async def _compare(self, record: CardRecord, guide: Guide) -> Verification:
        try:
            with record.photo.view() as photo:
                return await self.verifier.verify(photo, guide, deadline_seconds=self.verify_seconds)
        finally:
            record.photo.wipe()


def _decide(verification: Verification) -> None:
    if verification.presentation_attack == "attack":
        raise Refused("face.presentation_attack", "a presentation attack was detected", retry=False)
    if verification.outcome != "match":
        raise Refused("face.no_match", "the face is not the card's", retry=True)


def _result(
    transaction: Transaction,
    verification: Verification | None,
    *,
    record: CardRecord | None = None,
    refused: Refused | None = None,
) -> IdentityResult:
    code = refused.code if refused is not None else None
    return IdentityResult(
        outcome="refused" if refused is not None else "done",
        code=code,
        text=texts.text(code or "identity.verified").zh,
        retry=refused is not None and refused.retry,
        steps=transaction.steps,
        seconds=transaction.seconds,
        name=record.name.masked() if record is not None else None,
        id_number=record.id_number.masked() if record is not None else None,
        face=_checked(verification) if verification is not None else None,
    )


def _checked(verification: Verification) -> FaceChecked:
    return FaceChecked(
        **msgspec.structs.asdict(_evidence(verification)), seconds=verification.seconds, stages=verification.stages
    )


def _evidence(verification: Verification) -> FaceEvidence:
    return FaceEvidence(
        decision=verification.outcome,
        operating_point=verification.operating_point,
        threshold=verification.threshold,
        bound=verification.bound,
        frames=verification.frames,
        model=verification.model,
        presentation_attack=verification.presentation_attack,
        layers={layer.layer: _said(layer) for layer in verification.layers},
    )


def _said(layer: LayerResult) -> str:
    return f"{layer.outcome}: {layer.reason}" if layer.reason is not None else layer.outcome
