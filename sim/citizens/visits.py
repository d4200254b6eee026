"""What citizens do at a terminal, through the typed client: each kind of visit, start to end."""

import asyncio
import random
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from runtime.client import Session, Terminal
from sim.citizens.hand import FACES, Ears, Hand
from sim.citizens.ledger import Ledger, NotServed
from sim.citizens.plan import Visit

CERTIFICATES = ("social_insurance_enrolment", "no_property", "tax_record")
ADDRESS, TELEPHONE = "示例省样本市样本区测试路1号", "13900000001"
PAID, FEE_FEN = "property_search", 8_000
FORMS: dict[str, dict[str, Any]] = {
    "residence_permit_renewal": {
        "permit_number": "99010119900101123X",
        "address": ADDRESS,
        "telephone": TELEPHONE,
        "reason": "务工",
    },
    "subsistence_allowance": {
        "members": 3,
        "income_fen": 120_000,
        "address": ADDRESS,
        "telephone": TELEPHONE,
        "hardship": "家庭成员患病，暂无固定收入。",
    },
    "unemployment_registration": {
        "left_work": "2026-10-01",
        "reason": "合同到期",
        "skills": "焊接",
        "telephone": TELEPHONE,
    },
    PAID: {"purpose": "交易", "certificate_number": "样本不动产权第0000001号"},
}
FREE = tuple(matter for matter in FORMS if matter != PAID)
"""Accepted at once, left pending, and without any material."""
POPULATION = 400
PAGE_TRIES = 3
"""How often a citizen lets a page be taken, when the terminal asks for it again."""

QrMethod = Literal["unionpay_qr", "ecny_qr"]
_QR: tuple[QrMethod, ...] = ("unionpay_qr", "ecny_qr")


@dataclass(frozen=True, slots=True)
class Citizen:
    """One citizen at the terminal. `receipts` are the numbers that citizens were given so far."""

    number: int
    terminal: Terminal
    hand: Hand
    ears: Ears
    ledger: Ledger
    choice: random.Random
    receipts: list[str]

    async def visit(self, visit: Visit) -> None:
        """Come, be verified, get what they came for, go; raise NotServed, ControlError, TimeoutError."""
        self.ears.forget()
        face = self.choice.choice(FACES)
        await self.hand.do("camera", "show", person=face)
        session = await self.ledger.note("session.open", self.terminal.open_session())
        try:
            await self._be_verified(session, face)
            match visit:
                case "certificate":
                    await self._certificate(session)
                case "application":
                    await self._application(session)
                case "fee_by_card" | "fee_by_qr":
                    await self._fee(session, by_card=visit == "fee_by_card")
                case "progress":
                    await self._progress(session)
                case "hotline":
                    await self._hotline(session)
                case "sharing":
                    await self._sharing(session)
        finally:
            await self.ledger.note("session.close", session.close())

    async def _be_verified(self, session: Session, face: str) -> None:
        note = self.ledger.note
        await note("session.consent", session.consent(agreed=True, version="1"))
        await self.hand.do("idcard", "place_card", citizen=self.number % POPULATION, photo=face)
        try:
            await note("session.verify_identity", session.verify_identity())
        finally:
            await self.hand.do("idcard", "remove_card")

    async def _certificate(self, session: Session) -> None:
        note = self.ledger.note
        name = self.choice.choice(CERTIFICATES)
        printed = await note("session.request_certificate", session.request_certificate(certificate=name))
        if printed.paper != "printed" or printed.receipt is None:
            raise NotServed(f"the certificate is {printed.paper}")
        if self.choice.random() < 1 / 3:
            again = session.reprint_certificate(receipt=printed.receipt)
            await note("session.reprint_certificate", again)

    async def _application(self, session: Session) -> None:
        await self._fill_in(session, self.choice.choice(FREE))
        await self._file(session)

    async def _fee(self, session: Session, *, by_card: bool) -> None:
        note = self.ledger.note
        receipt = await self._fill_in(session, PAID)
        method = "unionpay_card" if by_card else self.choice.choice(_QR)
        opening = session.payment_begin(method=method, amount_fen=FEE_FEN, purpose=receipt)
        order = (await note("payment.begin", opening)).order or ""
        if by_card:
            await self._pay_by_card(session, order)
        else:
            await self._pay_by_telephone(session, order)
        await note("payment.receipt", session.payment_receipt(order=order))
        await self._file(session)

    async def _pay_by_card(self, session: Session, order: str) -> None:
        async def at_the_devices() -> None:
            await self.ears.hear("session.guidance", "payment.insert_card")
            await self.hand.soon("cardreader", "insert_card")
            await self.ears.hear("session.guidance", "payment.enter_pin")
            await self.hand.enter_pin(self.ears)
            await self.ears.hear("session.guidance", "payment.take_card")
            await self.hand.soon("cardreader", "take_card")

        await self._with(at_the_devices(), self.ledger.note("payment.card", session.payment_card(order=order)))

    async def _pay_by_telephone(self, session: Session, order: str) -> None:
        async def at_the_telephone() -> None:
            await self.ears.hear("session.guidance", "payment.scan_code")
            await self.hand.order("pay_code", order=order)

        await self._with(at_the_telephone(), self.ledger.note("payment.await", session.payment_await(order=order)))

    async def _with(self, doing: Coroutine[Any, Any, None], calling: Awaitable[object]) -> None:
        """Do something by hand while a call is under way."""
        hand = asyncio.create_task(doing, name="citizen's hand")
        try:
            await calling
            await hand
        finally:
            hand.cancel()
            await asyncio.gather(hand, return_exceptions=True)

    async def _fill_in(self, session: Session, matter: str) -> str:
        """Complete an application and return its receipt number."""
        note = self.ledger.note
        begun = await note("application.begin", session.application_begin(matter=matter))
        if begun.receipt is None or begun.matter is None:
            raise NotServed("application.begin: no receipt number")
        await note("application.form", session.application_form(values=FORMS[matter]))
        for material in begun.matter.materials:
            if material.required:
                await self._scan(session)
                await note("application.material", session.application_material(material=material.id))
        return begun.receipt

    async def _scan(self, session: Session) -> None:
        note = self.ledger.note
        await note("session.begin_document", session.begin_document())
        for tries_left in reversed(range(PAGE_TRIES)):
            try:
                await note("session.add_page", session.add_page())
                break
            except NotServed as refused:
                if not (refused.retry and tries_left):
                    raise
        await note("session.finish_document", session.finish_document())

    async def _file(self, session: Session) -> None:
        note = self.ledger.note
        await note("application.check", session.application_check())
        filed = await note("application.file", session.application_file())
        self.receipts.append(filed.receipt or "")

    async def _progress(self, session: Session) -> None:
        note = self.ledger.note
        await note("progress.mine", session.progress_mine())
        if self.receipts:
            receipt = self.choice.choice(self.receipts)
            await note("progress.by_receipt", self.terminal.progress_by_receipt(receipt=receipt))

    async def _hotline(self, session: Session) -> None:
        note = self.ledger.note
        is_anonymous = self.choice.random() < 0.5
        begun = await note("hotline.begin", session.hotline_begin())
        if not is_anonymous:
            await self._scan(session)
            await note("hotline.attach", session.hotline_attach(attachment=1))
        registering = session.hotline_register(
            category="complaint",
            text="路灯不亮已有一周。",
            district="样本区",
            anonymous=is_anonymous,
            telephone=None if is_anonymous else TELEPHONE,
            scans=() if is_anonymous else (1,),
        )
        await note("hotline.register", registering)
        receipt = begun.receipt or ""
        await note("hotline.standing", session.hotline_standing(receipt=receipt))
        self.receipts.append(receipt)

    async def _sharing(self, session: Session) -> None:
        note = self.ledger.note
        name, purpose = "open_government", "public_display"
        asking = self.terminal.sharing_query(resource=name, purpose=purpose, parameters={"words": "居住证"})
        await note("sharing.query", asking)
        pulling = self.terminal.sharing_dataset(resource=name, purpose=purpose, most=5)
        await note("sharing.dataset", pulling)
        checking = session.sharing_call(resource="household_check", purpose="application")
        await note("sharing.call", checking)
        await note("sharing.query", session.sharing_query(resource="social_insurance", purpose="application"))
