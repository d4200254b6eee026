"""One citizen's whole visit, in one session: everything that a terminal serves and every kind of personal data (T1).

A finger of the card, card and face, a certificate, an application with a form, one with a scanned page and a fee paid
by card and PIN, a hotline request with a telephone number and a scan, and previews of both cameras and of a page.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from runtime.client import Session, Terminal
from runtime.services.steps import Result
from sim.citizens.hand import Ears, Hand
from sim.citizens.visits import FEE_FEN, PAGE_TRIES
from sim.privacy import planted
from vision.verifier import CameraName

CITIZEN, FACE, FINGER = 37, "grace_hopper", 11
"""Number in the rig's population, portrait, and the position of a finger that the card carries (GA/T 1012)."""
CERTIFICATE, FREE, PAID = "social_insurance_enrolment", "residence_permit_renewal", "property_search"
_PREVIEWED_FRAMES = 3

Moment = Literal["comparing", "paying"]
_PREVIEW_SECONDS = 10.0


class VisitError(RuntimeError):
    """The visit did not go as told, so that nothing was shown by searching after it."""


@dataclass(frozen=True, slots=True)
class WholeVisit:
    """A visit over one connection; `shown` are the JPEGs of its previews.

    `moments` are what to do while the face is compared and while a bank card waits for its PIN, by name.
    """

    terminal: Terminal
    hand: Hand
    ears: Ears
    shown: list[bytes] = field(default_factory=list)
    moments: dict[Moment, Callable[[], Awaitable[None]]] = field(default_factory=dict)

    async def begin(self) -> Session:
        """Come and be verified, first by a finger, which no sensor of the rig can compare, then by the face."""
        await self.hand.do("camera", "show", person=FACE)
        session = await self.terminal.open_session()
        for purpose in ("fingerprint", "face"):
            _done(await session.consent(agreed=True, version="1", purpose=purpose))
        await self._lay_card()
        await self.hand.do("idcard", "store_fingers", positions=[FINGER], features=planted.FINGER.hex())
        refused = await session.verify_identity(means="fingerprint")
        _expect(refused, "refused", "fingerprint.unfit")
        await self.hand.do("idcard", "remove_card")
        await self._lay_card()
        watching = asyncio.create_task(self._watch_check(session), name="preview")
        try:
            _done(await session.verify_identity())
            await watching
        finally:
            watching.cancel()
        await self.hand.do("idcard", "remove_card")
        return session

    async def serve(self, session: Session) -> None:
        """Get everything that a terminal gives; in the end an application and a document are held, both cameras on."""
        _done(await session.request_certificate(certificate=CERTIFICATE))
        await self._pay(session)
        await self._request(session)
        await self.apply(session)

    async def _watch_check(self, session: Session) -> None:
        await self._watch(session, "face")
        await self._come_to("comparing")

    async def _come_to(self, moment: Moment) -> None:
        if moment in self.moments:
            await self.moments[moment]()

    async def _lay_card(self) -> None:
        await self.hand.do("idcard", "place_card", citizen=CITIZEN, photo=FACE)

    async def apply(self, session: Session) -> None:
        """Fill in an application, scan for it, and go no further: both cameras are on and a document is held."""
        _done(await session.application_begin(matter=FREE))
        _done(await session.application_form(values=planted.FREE_FORM))
        await self._scan(session)

    async def _pay(self, session: Session) -> None:
        """File an application with a scanned page and a fee."""
        begun = await session.application_begin(matter=PAID)
        _done(begun)
        _done(await session.application_form(values=planted.PAID_FORM))
        await self._scan(session)
        _done(await session.application_material(material="id_card"))
        opening = session.payment_begin(method="unionpay_card", amount_fen=FEE_FEN, purpose=begun.receipt or "")
        order = (await opening).order or ""
        paying = asyncio.create_task(self._insert_card(), name="citizen's hand")
        try:
            _done(await session.payment_card(order=order))
            await paying
        finally:
            paying.cancel()
        _done(await session.payment_receipt(order=order))
        _done(await session.application_check())
        _done(await session.application_file())

    async def _insert_card(self) -> None:
        await self.ears.hear("session.guidance", "payment.insert_card")
        await self.hand.soon("cardreader", "insert_card", number=planted.NUMBER)
        await self.ears.hear("session.guidance", "payment.enter_pin")
        await self._come_to("paying")
        await self.hand.enter_pin(self.ears)
        await self.ears.hear("session.guidance", "payment.take_card")
        await self.hand.soon("cardreader", "take_card")

    async def _request(self, session: Session) -> None:
        _done(await session.hotline_begin())
        await self._scan(session)
        _done(await session.hotline_attach(attachment=1))
        registering = session.hotline_register(
            category="complaint",
            text=planted.REQUEST,
            district="样本区",
            anonymous=False,
            telephone=planted.TELEPHONE,
            scans=(1,),
        )
        _done(await registering)

    async def _scan(self, session: Session) -> None:
        _done(await session.begin_document())
        await self._watch(session, "document")
        for _ in range(PAGE_TRIES):
            page = await session.add_page()
            if page.outcome == "done":
                break
        _done(page)
        opened = await session.preview_page(page=1)
        await self._look(opened.socket, opened.token, frames=1)
        _done(await session.finish_document())

    async def _watch(self, session: Session, camera: CameraName) -> None:
        opened = await session.preview_open(camera=camera)
        await self._look(opened.socket, opened.token, frames=_PREVIEWED_FRAMES)

    async def _look(self, path: str, token: str, *, frames: int) -> None:
        async with asyncio.timeout(_PREVIEW_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(token.encode() + b"\n")
                for _ in range(frames):
                    self.shown.append(await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big")))
            finally:
                writer.close()


def _done(result: Result) -> None:
    _expect(result, "done", None)


def _expect(result: Result, outcome: str, code: str | None) -> None:
    if (result.outcome, result.code) != (outcome, code):
        raise VisitError(f"{type(result).__name__}: {result.outcome} {result.code}, not {outcome} {code}")
