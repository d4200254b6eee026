"""The government hotline: a request is registered, asked for by its number, and its reply is rated (H1 to H4).

An emergency is told which number to dial before anything else happens, with or without the line. An anonymous request
carries no assertion and no telephone number, and none is sent along when it is asked for.
"""

import secrets
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from devices.personal import PersonalText
from runtime.messages.applications import Scan
from runtime.messages.hotline import (
    RATING_CHARACTERS,
    TEXT_CHARACTERS,
    Category,
    HotlineQuery,
    HotlineRating,
    HotlineRequest,
    HotlineStanding,
    Verdict,
)
from runtime.services import emergency
from runtime.services.applications import LOCAL_SECONDS, SCANS_BYTES
from runtime.services.emergency import Emergency
from runtime.services.hotline_results import AttachmentTaken, RequestBegun, RequestRegistered, RequestShown, shown
from runtime.services.office import Office
from runtime.services.progress import unknown
from runtime.services.receipts import new_receipt, read_receipt
from runtime.services.registration import Registration
from runtime.services.request_draft import SCANS, RequestDraft
from runtime.services.steps import Refused, Transaction
from runtime.session import Session, SessionError
from transport.sm import sm3

TELEPHONE_DIGITS = range(7, 16)
"""How many digits a telephone number may have (E.164 has 15 at most)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a citizen wants registered; `no_danger` when they were told to dial and say that nobody is in danger."""

    category: Category | Literal["emergency"]
    text: PersonalText
    district: str
    anonymous: bool
    telephone: PersonalText | None
    scans: tuple[int, ...]
    no_danger: bool

    def emergency(self) -> Emergency | None:
        """Return what to dial, None where it is no emergency."""
        if self.category == "emergency":
            return emergency.ANY
        return None if self.no_danger else emergency.find(self.text.reveal())

    def wipe(self) -> None:
        """Overwrite what is personal."""
        self.text.wipe()
        if self.telephone is not None:
            self.telephone.wipe()


class Teller(Protocol):
    """Who tells the citizen what cannot wait for the answer."""

    def emergency(self, danger: Emergency) -> None:
        """Tell what to dial, at once."""

    def progress(self, sent: int, total: int) -> None:
        """Tell how much of the request the platform has."""


@dataclass(frozen=True, slots=True)
class Hotline:
    """Serves the hotline; `districts` are those a request may name, any where there are none."""

    office: Office
    registration: Registration
    districts: tuple[str, ...]

    async def begin(self, session: Session) -> RequestBegun:
        """Begin a request: give it its number, in place of the one before."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            async with _local(transaction, "begin_request"):
                draft = RequestDraft(new_receipt("hotline"))
                session.begin_request(draft)
            return {"receipt": draft.receipt}

        return await self.office.operate(session, "request_begun", RequestBegun, work, done="hotline.begun")

    async def attach(self, session: Session, number: int) -> AttachmentTaken:
        """Take the finished document as an attachment, in place of the one of this number before."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            name = f"{SCANS}{number}"
            async with _local(transaction, "take_attachment"):
                if session.document is None:
                    raise Refused("hotline.no_document", "no finished document is held", retry=True)
                others = sum(len(session.scans[one]) for one in _held(session) if one != name)
                if len(session.document) > SCANS_BYTES - others:
                    raise Refused("hotline.scans_too_large", f"{len(session.document)} bytes", retry=True)
                session.keep_scan(name)
            return {"held_bytes": sum(len(session.scans[one]) for one in _held(session))}

        return await self.office.operate(session, "attachment_taken", AttachmentTaken, work, done="hotline.attached")

    async def register(self, session: Session, wanted: Wanted, teller: Teller) -> RequestRegistered:
        """Register the request that was begun; the session holds nothing of it once the platform has it.

        Raises SessionError as `Session.asserted`, not for an emergency nor for an anonymous request.
        """
        if (danger := wanted.emergency()) is not None:
            teller.emergency(danger)
            return await self._warned(session, danger)
        assertion = None if wanted.anonymous else session.asserted()

        async def work(transaction: Transaction) -> dict[str, Any]:
            async with _local(transaction, "check_request"):
                draft = session.request
                if draft is None:
                    raise Refused("hotline.not_begun", "no request was begun", retry=True)
                request = self._written(session, wanted, draft.receipt, assertion)
                digest = _digest(request)
            standing = await self.registration.found(transaction, draft) if draft.doubtful is not None else None
            another = {"outcome": "refused", "code": "hotline.already"}
            about = another if standing is not None and not draft.has_sent(digest) else {}
            if standing is None:
                draft.send(digest)
                standing = await self.registration.send(transaction, draft, request, teller.progress)
            session.drop_request()
            return about | {"receipt": standing.receipt, "stage": standing.stage, "due_unix": standing.due_unix}

        return await self.office.operate(
            session, "request_registered", RequestRegistered, work, done="hotline.registered"
        )

    async def standing(self, session: Session, typed: str) -> RequestShown:
        """Say how a request stands: to its number what a number may say, to its verified citizen everything (H2)."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            async with self._asking(transaction, "ask_standing"):
                return shown(await self._standing(session, typed))

        return await self.office.operate(session, "request_asked", RequestShown, work, done="hotline.found")

    async def rate(self, session: Session, typed: str, verdict: Verdict, text: PersonalText) -> RequestShown:
        """Rate an answered request; the same rating given twice counts once (H3)."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            async with self._asking(transaction, "rate_reply"):
                if len(text.reveal()) > RATING_CHARACTERS:
                    raise Refused("hotline.rating_too_long", f"limit {RATING_CHARACTERS}", retry=True)
                bare = await self._bare(typed)
                assertion = session.asserted() if bare.is_bare else None
                rating = HotlineRating(bare.receipt, verdict, text.reveal(), assertion)
                rated = await self._ask(rating)
            is_reopened = verdict == "unsatisfied" and rated.stage in ("assigned", "handling")
            return shown(rated) | ({"code": "hotline.reopened"} if is_reopened else {})

        return await self.office.operate(session, "request_rated", RequestShown, work, done="hotline.rated")

    async def _warned(self, session: Session, danger: Emergency) -> RequestRegistered:
        """Answer an emergency, whatever becomes of its event."""

        async def work(transaction: Transaction) -> dict[str, Any]:
            try:
                async with _local(transaction, "warn_of_emergency"):
                    raise Refused(danger.code, "an emergency", retry=False)
            except Refused:
                return {"outcome": "refused", "code": danger.code, "dial": list(danger.dial)}

        return await self.office.operate(session, "emergency_told", RequestRegistered, work, done=danger.code)

    def _written(self, session: Session, wanted: Wanted, receipt: str, assertion: bytes | None) -> HotlineRequest:
        """Return the request as it is sent; raise Refused for what is wrong with it."""
        category = self._checked(session, wanted)
        scans = []
        for number in wanted.scans:
            with session.scans[f"{SCANS}{number}"].view() as pdf:
                scans.append(Scan(f"attachment_{number}", bytes(pdf), sm3(pdf)))
        telephone = None if wanted.telephone is None else wanted.telephone.reveal()
        text = wanted.text.reveal().strip()
        return HotlineRequest(receipt, category, text, wanted.district, tuple(scans), assertion, telephone)

    def _checked(self, session: Session, wanted: Wanted) -> Category:
        code = ""
        text = wanted.text.reveal().strip()
        if not text:
            code = "hotline.text_missing"
        elif len(text) > TEXT_CHARACTERS:
            code = "hotline.text_too_long"
        elif self.districts and wanted.district not in self.districts:
            code = "hotline.unknown_district"
        elif wanted.anonymous and wanted.telephone is not None:
            code = "hotline.anonymous_telephone"
        elif wanted.telephone is not None and not _is_telephone(wanted.telephone.reveal()):
            code = "hotline.bad_telephone"
        elif {f"{SCANS}{number}" for number in wanted.scans} - session.scans.keys() or _has_twice(wanted.scans):
            code = "hotline.no_attachment"
        if code or wanted.category == "emergency":
            raise Refused(code or "hotline.emergency", "the request is not in order", retry=True)
        return wanted.category

    async def _standing(self, session: Session, typed: str) -> HotlineStanding:
        """Return all that the session may know of a request; raises as `Office.ask`, and JournalError."""
        bare = await self._bare(typed)
        if not bare.is_bare:
            return bare
        try:
            assertion = session.asserted()
        except SessionError:
            return bare
        return await self._ask(HotlineQuery(bare.receipt, assertion))

    async def _bare(self, typed: str) -> HotlineStanding:
        """Return what a number says; nobody's assertion goes with it."""
        receipt = read_receipt(typed)
        if receipt is None:
            raise Refused("receipt.mistyped", "no receipt number", retry=True)
        if not receipt.startswith("H"):
            raise Refused("hotline.other_receipt", "a number of another service", retry=True)
        try:
            return await self._ask(HotlineQuery(receipt))
        except Refused as refused:
            if refused.code != "receipt.unknown":
                raise
            raise Refused(await unknown(self.office, receipt), "the platform has none", retry=False) from None

    async def _ask(self, message: HotlineQuery | HotlineRating) -> HotlineStanding:
        standing = await self.office.ask(message, HotlineStanding, key=secrets.token_bytes(16))
        if standing.receipt != message.receipt:
            raise Refused("message.unexpected", "an answer about another number", retry=True)
        return standing

    def _asking(self, transaction: Transaction, name: str) -> Any:
        """A step that asks the platform, once or twice, within the time of one operation (T13)."""
        return transaction.step(name, deadline_seconds=self.office.answer_seconds, no_answer="platform.no_answer")


def _local(transaction: Transaction, name: str) -> Any:
    """A step that asks nobody outside."""
    return transaction.step(name, deadline_seconds=LOCAL_SECONDS, no_answer="operation.interrupted")


def _held(session: Session) -> list[str]:
    return [name for name in session.scans if name.startswith(SCANS)]


def _digest(request: HotlineRequest) -> bytes:
    """Return the SM3 of what a request says, whoever says it."""
    scans = [scan.digest for scan in request.scans]
    said = [request.category, request.text, request.district, request.telephone, request.assertion is None, scans]
    return sm3(msgspec.msgpack.encode(said))


def _has_twice(numbers: tuple[int, ...]) -> bool:
    return len(set(numbers)) < len(numbers)


def _is_telephone(typed: str) -> bool:
    plain = typed.translate(str.maketrans("", "", " -()+"))
    return plain.isascii() and plain.isdigit() and len(plain) in TELEPHONE_DIGITS
