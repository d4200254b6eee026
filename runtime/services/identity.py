"""Who the citizen is: the card, the face or finger or a member of staff, and the platform's assertion (T1, T9, I4).

Nothing is half verified: until the platform has asserted the citizen to this session, any failure wipes what the card
said. The assertion is not renewed: one that is too old asks for another check, which leaves the same citizen's
application as it is.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from devices.fingerprint.finger import GuidanceListener, MatchResult, Template, TemplateFormat
from devices.idcard.fingers import CardFinger, FingerPosition
from devices.idcard.record import CardRecord
from runtime.messages.identity import AssertionContent, AssertionIssue, AssertionRequest, Means
from runtime.services.face_evidence import FaceChecked, checked, evidence
from runtime.services.office import Office
from runtime.services.steps import Refused, Result, Transaction
from runtime.session import Purpose, Session, SessionState
from transport.errors import TransportError
from transport.sm2 import PublicKey
from vision.verifier import Verification, Verifier

READ_SECONDS = 5.0
"""The machine's part of reading a card once it lies there; SAM-V takes about 1.5 s (T13)."""
MATCH_SECONDS = 6.0
"""The machine's part of comparing a finger; the driver keeps its own deadline below this."""
FENCE_SECONDS = 2.0
"""The verifier keeps its own deadline; this much later its silence is an answer."""
LONGEST_ASSERTION_SECONDS = 3_600
"""A platform that asserts for longer does not mean this terminal's sessions."""

Guide = Callable[[str], None]
"""Called with a guidance code for the citizen."""


class CardReader(Protocol):
    """The ID-card reader as this service sees it."""

    async def read_card(self, *, wait_seconds: float, fingerprints: bool = False) -> CardRecord:
        """Wait for a card and read it; raises DeviceError."""


class FingerSensor(Protocol):
    """The fingerprint sensor as this service sees it."""

    CAPABILITIES: Mapping[str, Any]

    async def match(self, template: Template, *, wait_seconds: float, on_guidance: GuidanceListener) -> MatchResult:
        """Wait for a finger and compare it with the template; raises DeviceError."""


class IdentityResult(Result, frozen=True, kw_only=True):
    """The answer of `session.verify_identity` and `session.assist`; name and number are masked (T22).

    `alternatives` are the other ways to be verified, where this one did not do.
    """

    name: str | None = None
    id_number: str | None = None
    face: FaceChecked | None = None
    alternatives: tuple[Means, ...] = ()


@dataclass(slots=True)
class _Proof:
    """What shows that the person is the one on the card."""

    means: Means
    consent: str = ""
    verification: Verification | None = None
    staff: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class IdentityService:
    """Verifies citizens; `sensor` is None on a terminal without one."""

    office: Office
    reader: CardReader
    verifier: Verifier
    sensor: FingerSensor | None
    platform_key: PublicKey
    terminal: str
    card_wait_seconds: float
    verify_seconds: float
    finger_wait_seconds: float

    async def verify(self, session: Session, guide: Guide, means: Purpose = "face") -> IdentityResult:
        """Compare the person with the card, by face or by finger, and get the platform's assertion.

        Raises SessionError: `consent.missing` without consent to it, `session.ended` when the session ends meanwhile.
        """
        proof = _Proof(means, session.consented(means))

        async def prove(transaction: Transaction, record: CardRecord) -> None:
            if means == "face":
                await self._compare_face(transaction, record, guide, proof)
            else:
                await self._compare_finger(transaction, record, guide)

        return await self._establish(session, guide, proof, "identity_checked", prove)

    async def assist(self, session: Session, guide: Guide, *, staff: str, code: str) -> IdentityResult:
        """Let a member of staff vouch for the citizen, who is on the card; the platform checks the second factor.

        Who vouched is in the audit log before the platform is asked, and in the platform's (H6). Raises SessionError
        `session.ended`.
        """

        async def prove(transaction: Transaction, _record: CardRecord) -> None:
            about = {"session": session.reference, "transaction": transaction.id, "staff": staff}
            async with transaction.step(
                "note_assistance", deadline_seconds=READ_SECONDS, no_answer="audit.write_failed"
            ):
                await self.office.audit.append("assistance_asked", actor=session.actor, details=about)

        proof = _Proof("assisted", staff=staff, code=code)
        return await self._establish(session, guide, proof, "identity_assisted", prove)

    def alternatives(self, means: Means) -> tuple[Means, ...]:
        """Return the other ways to be verified on this terminal, for who cannot or will not by `means`."""
        others: list[Means] = []
        if means != "face":
            others.append("face")
        if means != "fingerprint" and self._comparable is not None:
            others.append("fingerprint")
        if means != "assisted":
            others.append("assisted")
        return tuple(others)

    @property
    def _comparable(self) -> FingerSensor | None:
        """The sensor, where it can compare what cards carry: that takes a licensed algorithm (protocols 2.5)."""
        formats = self.sensor.CAPABILITIES.get("dataFormats", ()) if self.sensor is not None else ()
        return self.sensor if TemplateFormat.GAT_1012 in formats else None

    async def _establish(
        self,
        session: Session,
        guide: Guide,
        proof: _Proof,
        audit_event: str,
        prove: Callable[[Transaction, CardRecord], Awaitable[None]],
    ) -> IdentityResult:
        """Read the card, `prove` that the person is the one on it, and keep the platform's assertion."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            session.doubt()
            try:
                record = await self._read(transaction, session, guide, proof.means)
                await prove(transaction, record)
                await self._assert(transaction, session, record, proof)
                session.verified()
                shown = {"name": record.name.masked(), "id_number": record.id_number.masked()}
                return shown | _face(proof)
            except Refused as refused:
                said = {"outcome": "refused", "code": refused.code, "retry": refused.retry}
                return said | {"alternatives": self._offered(refused.code, proof.means)} | _face(proof)
            finally:
                if session.state is not SessionState.VERIFIED:
                    session.drop_record()

        about = {"means": proof.means, "staff": proof.staff}
        return await self.office.operate(
            session, audit_event, IdentityResult, work, done="identity.verified", about=about
        )

    async def _read(self, transaction: Transaction, session: Session, guide: Guide, means: Means) -> CardRecord:
        """Read the card, and keep of its biometrics only what `means` compares."""
        guide("idcard.place_card")
        deadline = self.card_wait_seconds + READ_SECONDS
        async with transaction.step("read_card", deadline_seconds=deadline, no_answer="idcard.no_answer"):
            record = await self.reader.read_card(
                wait_seconds=self.card_wait_seconds, fingerprints=means == "fingerprint"
            )
            session.keep(record)
            if means != "face":
                record.photo.wipe()
            if means != "assisted" and means not in session.consents:
                raise Refused("consent.missing", "the card is another citizen's, who was not asked", retry=True)
        return record

    async def _compare_face(self, transaction: Transaction, record: CardRecord, guide: Guide, proof: _Proof) -> None:
        deadline = self.verify_seconds + FENCE_SECONDS
        async with transaction.step("verify_face", deadline_seconds=deadline, no_answer="vision.no_answer") as found:
            try:
                with record.photo.view() as photo:
                    verification = await self.verifier.verify(photo, guide, deadline_seconds=self.verify_seconds)
            finally:
                record.photo.wipe()
            proof.verification = verification
            found.face = evidence(verification)
            _decide(verification)

    async def _compare_finger(self, transaction: Transaction, record: CardRecord, guide: Guide) -> None:
        """Compare with each finger that the card carries, until one is right."""
        fingers = record.fingerprints or ()
        seconds = self.finger_wait_seconds
        deadline = max(1, len(fingers)) * (seconds + MATCH_SECONDS)
        async with transaction.step("verify_finger", deadline_seconds=deadline, no_answer="fingerprint.no_answer"):
            if (sensor := self._comparable) is None:
                raise Refused("fingerprint.unfit", "no sensor compares a card's fingers", retry=False)
            if not fingers:
                raise Refused("idcard.no_fingerprint", "the card carries no fingers", retry=False)
            try:
                for finger in fingers:
                    guide(_which(finger))
                    result = await sensor.match(finger.template, wait_seconds=seconds, on_guidance=guide)
                    if result.matched:
                        return
            finally:
                for finger in fingers:
                    finger.wipe()
            raise Refused("fingerprint.no_match", "no finger is the card's", retry=True)

    async def _assert(self, transaction: Transaction, session: Session, record: CardRecord, proof: _Proof) -> None:
        """Exchange what was found for the platform's assertion, and keep it (I4)."""
        deadline = self.office.answer_seconds + 1.0
        async with transaction.step("assert_identity", deadline_seconds=deadline, no_answer="platform.no_answer"):
            request = AssertionRequest(
                session=session.reference,
                name=record.name.reveal(),
                id_number=record.id_number.reveal(),
                means=proof.means,
                consent=proof.consent,
                face=evidence(proof.verification) if proof.verification is not None else None,
                staff=proof.staff,
                code=proof.code,
            )
            asked = asyncio.get_running_loop().time()
            issue = await self.office.ask(request, AssertionIssue, key=secrets.token_bytes(16))
            passed = asyncio.get_running_loop().time() - asked
            seconds = self._life(issue, session, proof.means) - passed
            session.keep_assertion(msgspec.msgpack.encode(issue), seconds)

    def _life(self, issue: AssertionIssue, session: Session, means: Means) -> float:
        """Return for how long an assertion holds; raise Refused when it is not the platform's word on this session.

        The session's reference is random, so no earlier assertion passes for it, whatever the clocks say.
        """
        try:
            self.platform_key.verify(issue.signature, issue.content)
            content = msgspec.msgpack.decode(issue.content, type=AssertionContent)
        except (TransportError, msgspec.MsgspecError, UnicodeDecodeError):
            raise Refused("assertion.invalid", "not signed by the platform", retry=True) from None
        said = (content.version, content.terminal, content.session, content.means)
        life = content.expires_unix - content.issued_unix
        if said != (1, self.terminal, session.reference, means) or not 0 < life <= LONGEST_ASSERTION_SECONDS:
            raise Refused("assertion.invalid", "the assertion is for something else", retry=True)
        return life

    def _offered(self, code: str, means: Means) -> tuple[Means, ...]:
        """Return the other ways where this way was what failed; one who deceives the camera is for the staff."""
        if code == "face.presentation_attack":
            return ("assisted",)
        is_of_means = code.partition(".")[0] in {"face", "photo", "vision", "camera", "fingerprint", "staff"}
        return self.alternatives(means) if is_of_means or code == "idcard.no_fingerprint" else ()


_UNNAMED = {FingerPosition.RIGHT_UNKNOWN, FingerPosition.LEFT_UNKNOWN, FingerPosition.OTHER}


def _which(finger: CardFinger) -> str:
    """Return the guidance that asks for the finger."""
    if finger.position is None or finger.position in _UNNAMED:
        return "finger.any"
    return f"finger.{finger.position.name.lower()}"


def _decide(verification: Verification) -> None:
    if verification.presentation_attack == "attack":
        raise Refused("face.presentation_attack", "a presentation attack was detected", retry=False)
    if verification.outcome != "match":
        raise Refused("face.no_match", "the face is not the card's", retry=True)


def _face(proof: _Proof) -> dict[str, Any]:
    return {} if proof.verification is None else {"face": checked(proof.verification)}
