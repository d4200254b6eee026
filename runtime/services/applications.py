"""Applications: begun under a receipt number, filled in, completed with scans, filed under an intent (T8, rule 2).

The number is made here and shown before anything is sent. `done` and `pending` are only ever the platform's word,
which it gives once it has the whole body. Form and scans live in the session; the journal knows the number alone.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from runtime import texts
from runtime.messages.applications import ReceiptStanding, ReceiptState
from runtime.messages.matters import Material, Matter
from runtime.services.drafts import Draft
from runtime.services.filing import REFUSED, Filing, TurnedAway
from runtime.services.forms import FieldProblem, check
from runtime.services.matters import Matters, Reason
from runtime.services.office import Office
from runtime.services.office import Progress as OnProgress
from runtime.services.receipts import new_receipt
from runtime.services.steps import Refused, Result, Transaction
from runtime.session import Session

_INCOMPLETE = {"outcome": "refused", "code": "application.incomplete", "retry": True}
LOCAL_SECONDS = 2.0
"""What a step may take that asks nobody outside."""
FORM_BYTES = 65_536
"""The longest form, as JSON."""
SCAN_BYTES = 8 * 2**20
"""The longest PDF of one material."""
SCANS_BYTES = 20 * 2**20
"""All scans of an application together: with the form they fit into one call."""


class ApplicationBegun(Result, frozen=True, kw_only=True):
    """The answer of `application.begin`: the receipt number, and the matter as it is for this application."""

    receipt: str | None = None
    catalogue_version: int | None = None
    matter: Matter | None = None
    reasons: list[Reason] = msgspec.field(default_factory=list)


class ApplicationForm(Result, frozen=True, kw_only=True):
    """The answer of `application.form`; with problems the form is kept all the same."""

    problems: list[FieldProblem] = msgspec.field(default_factory=list)


class Missing(msgspec.Struct, frozen=True):
    """What an application still wants: a field of its form, a material or its fee."""

    what: Literal["form", "material", "fee"]
    name: str
    text: str


class ApplicationChecked(Result, frozen=True, kw_only=True):
    """The answer of `application.check`; `done` when nothing is missing."""

    missing: list[Missing] = msgspec.field(default_factory=list)


class FeeReturned(msgspec.Struct, frozen=True):
    """What becomes of the fee that was paid for an application that the platform turned away; `text` is to be shown."""

    order: str
    state: Literal["reversed", "reversing"]
    text: str


class ApplicationFiled(Result, frozen=True, kw_only=True):
    """The answer of `application.file`: what the platform made of it, in its own words too.

    `fee` is there when a fee was paid and the platform turned the application away for good: it goes back at once.
    """

    receipt: str | None = None
    state: ReceiptState | None = None
    said: str | None = None
    missing: list[Missing] = msgspec.field(default_factory=list)
    fee: FeeReturned | None = None


@dataclass(frozen=True, slots=True)
class Applications:
    """Serves applications; operations raise SessionError as `Session.asserted`."""

    office: Office
    matters: Matters
    filing: Filing

    async def begin(self, session: Session, matter: str) -> ApplicationBegun:
        """Begin an application for a matter, in place of the one before."""
        session.asserted()

        async def work(transaction: Transaction) -> dict[str, Any]:
            reasons: list[Reason] = []
            await self.matters.up_to_date()
            try:
                async with _step(transaction, "begin_application"):
                    catalogue, found = self.matters.find(matter)
                    if reasons := self.matters.reasons(found):
                        raise Refused("matter.unavailable", "a device or the line is missing", retry=True)
            except Refused as refused:
                return {"outcome": "refused", "code": refused.code, "retry": refused.retry, "reasons": reasons}
            draft = Draft(new_receipt("application"), catalogue.version, found)
            session.begin_application(draft)
            return {"receipt": draft.receipt, "catalogue_version": draft.catalogue_version, "matter": found}

        about = {"matter": matter}
        return await self.office.operate(
            session, "application_begun", ApplicationBegun, work, done="application.begun", about=about
        )

    async def form(self, session: Session, values: dict[str, Any]) -> ApplicationForm:
        """Add values to the form, null takes one away; all is kept and the problems of the whole are told."""
        session.citizen()

        async def work(transaction: Transaction) -> dict[str, Any]:
            problems: list[FieldProblem] = []
            try:
                async with _step(transaction, "check_form"):
                    draft = _draft(session)
                    form = {**_form(draft), **values}
                    form = {name: value for name, value in form.items() if value is not None}
                    body = msgspec.json.encode(form)
                    if len(body) > FORM_BYTES:
                        raise Refused("form.too_large", f"{len(body)} bytes, limit {FORM_BYTES}", retry=False)
                    draft.keep_form(body)
                    if problems := check(draft.matter.form, form):
                        raise Refused("form.invalid", f"{len(problems)} problems", retry=True)
            except Refused as refused:
                return {"outcome": "refused", "code": refused.code, "retry": refused.retry, "problems": problems}
            return {}

        return await self.office.operate(session, "form_checked", ApplicationForm, work, done="form.kept")

    async def material(self, session: Session, material: str) -> Result:
        """Take the finished document as this material, in place of the one before."""
        session.citizen()

        async def work(transaction: Transaction) -> dict[str, Any]:
            async with _step(transaction, "take_material"):
                wanted = _material(_draft(session).matter, material)
                if session.document is None:
                    raise Refused("application.no_document", "no finished document is held", retry=True)
                if session.document_pages > wanted.pages:
                    raise Refused("application.too_many_pages", f"at most {wanted.pages} pages", retry=True)
                others = sum(len(scan) for name, scan in session.scans.items() if name != material)
                if len(session.document) > min(SCAN_BYTES, SCANS_BYTES - others):
                    raise Refused("application.scan_too_large", f"{len(session.document)} bytes", retry=True)
                session.keep_scan(material)
            return {}

        return await self.office.operate(session, "material_taken", Result, work, done="application.material_taken")

    async def check(self, session: Session) -> ApplicationChecked:
        """Say what is missing."""
        session.citizen()

        async def work(transaction: Transaction) -> dict[str, Any]:
            missing, _ = await self._completeness(transaction, session)
            return {} if not missing else _INCOMPLETE | {"missing": missing}

        return await self.office.operate(
            session, "application_checked", ApplicationChecked, work, done="application.complete"
        )

    async def file(self, session: Session, on_progress: OnProgress) -> ApplicationFiled:
        """File a complete application; the session holds nothing of it once the platform has it."""
        session.asserted()

        async def work(transaction: Transaction) -> dict[str, Any]:
            missing, order = await self._completeness(transaction, session)
            draft = _draft(session)
            if missing:
                return _INCOMPLETE | {"receipt": draft.receipt, "missing": missing}
            try:
                standing = await self.filing.found(transaction, session, draft) if draft.doubtful is not None else None
                if standing is None:
                    standing = await self.filing.file(transaction, session, draft, order, on_progress)
            except TurnedAway as away:
                self.matters.turned_away(away.code)
                fee = await _fee_returned(transaction, session, away.code)
                return {"outcome": "refused", "code": away.code, "receipt": draft.receipt, "fee": fee}
            session.drop_application()
            return _said(standing)

        return await self.office.operate(
            session, "application_filed", ApplicationFiled, work, done="application.accepted"
        )

    async def _completeness(self, transaction: Transaction, session: Session) -> tuple[list[Missing], str | None]:
        """Return what is missing, and the order that paid the fee; raise Refused without an application."""
        missing: list[Missing] = []
        order: str | None = None
        try:
            async with _step(transaction, "check_application"):
                draft = _draft(session)
                matter = draft.matter
                problems = check(matter.form, _form(draft))
                missing += [Missing("form", problem.field, problem.text) for problem in problems]
                needed = texts.text("application.needs_material").zh
                wanted = [one for one in matter.materials if one.required and one.id not in session.scans]
                missing += [Missing("material", one.id, f"{one.title}：{needed}") for one in wanted]
                if matter.fee_fen:
                    order = await self._paid(draft.receipt)
                    if order is None:
                        missing.append(Missing("fee", "", texts.text("application.needs_fee").zh))
                if missing:
                    raise Refused("application.incomplete", f"{len(missing)} missing", retry=True)
        except Refused as refused:
            if refused.code != "application.incomplete":
                raise
        return missing, order

    async def _paid(self, receipt: str) -> str | None:
        """Return the order that paid for a receipt number, None when nothing did; raises JournalError."""
        statement = "SELECT order_id FROM payments WHERE purpose = ? AND state = 'paid'"
        row = await self.office.journal.read(lambda db: db.execute(statement, (receipt,)).fetchone())
        return None if row is None else str(row[0])


def _step(transaction: Transaction, name: str) -> Any:
    """A step that asks nobody outside."""
    return transaction.step(name, deadline_seconds=LOCAL_SECONDS, no_answer="operation.interrupted")


def _draft(session: Session) -> Draft:
    if session.application is None:
        raise Refused("application.none", "no application was begun", retry=False)
    return session.application


def _form(draft: Draft) -> dict[str, Any]:
    return msgspec.json.decode(draft.written(), type=dict[str, Any])


def _material(matter: Matter, name: str) -> Material:
    for material in matter.materials:
        if material.id == name:
            return material
    raise Refused("application.unknown_material", "the matter wants no such material", retry=False)


async def _fee_returned(transaction: Transaction, session: Session, code: str) -> FeeReturned | None:
    """Give back the fee that was paid for an application of no use, because of `code`; None where none was."""
    payment = session.payment
    if payment is None or not payment.is_paid:
        return None
    with suppress(Refused):  # nothing could be journaled: it goes back with the session
        await payment.give_back(transaction, payment, code)
    if payment.state == "reversed":
        return FeeReturned(payment.order, "reversed", texts.text("payment.reversed").zh)
    if payment.state in ("paid", "reversing"):
        return FeeReturned(payment.order, "reversing", texts.text("payment.reversing").zh)
    return None


def _said(standing: ReceiptStanding) -> dict[str, Any]:
    about = {"receipt": standing.receipt, "state": standing.state, "said": standing.text}
    if standing.state == "refused":
        return about | {"outcome": "refused", "code": standing.code or REFUSED}
    if standing.state == "pending":
        return about | {"outcome": "pending", "code": "application.pending"}
    return about
