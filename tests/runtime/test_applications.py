"""Applications: begun, filled in, completed, filed, told of; and every way that this ends early (T8, T11, T13, T20)."""

import asyncio
from typing import get_args

import msgspec
import pytest

from runtime import texts
from runtime.messages.applications import ReceiptState
from runtime.services.applications import FORM_BYTES, SCAN_BYTES
from runtime.session import SessionError
from tests.runtime.matters_rig import (
    ADDRESS,
    BARE,
    CITIZEN,
    EXAMINED,
    FORMS,
    NEXT_CITIZEN,
    PAID,
    PDF,
    PLAIN,
    WITHDRAWN,
    Terminal,
    World,
    receipt_of,
    tell,
)


def test_a_citizen_applies_from_beginning_to_end():
    """T8, T12, T13: receipt first, then form, materials, completeness, filing; each step one event at the platform."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.citizen()
        begun = await terminal.applications.begin(session, PLAIN)
        assert begun.outcome == "done"
        assert begun.receipt == receipt_of(session)
        assert [one.id for one in begun.matter.materials] == ["id_card", "residence_proof"]
        form = await terminal.applications.form(session, FORMS[PLAIN])
        assert (form.outcome, form.problems) == ("done", [])
        for material in ("id_card", "residence_proof"):
            session.keep_document(PDF, 1)
            assert (await terminal.applications.material(session, material)).outcome == "done"
        assert session.document is None
        checked = await terminal.applications.check(session)
        assert (checked.outcome, checked.missing) == ("done", [])
        filed = await terminal.file(session)
        assert (filed.outcome, filed.state, filed.receipt) == ("done", "accepted", begun.receipt)
        assert filed.seconds <= 5.0
        assert (session.application, session.scans) == (None, {})
        assert world.filings() == [begun.receipt]
        scans = world.store.database.execute("SELECT material, bytes FROM filed_scans").fetchall()
        assert scans == [("id_card", len(PDF)), ("residence_proof", len(PDF))]
        await terminal.settled()
        steps = [event for event in world.events() if not event[0].endswith("catalogue")]
        assert steps == [
            ("begin_application", "done", None),
            ("check_form", "done", None),
            ("take_material", "done", None),
            ("take_material", "done", None),
            ("check_application", "done", None),
            ("check_application", "done", None),
            ("file", "done", None),
        ]
        assert terminal.rows("SELECT kind, state FROM intents") == [("file", "done")]
        assert [line[0] for line in terminal.audit.lines] == [
            "application_begun",
            "form_checked",
            "material_taken",
            "material_taken",
            "application_checked",
            "application_filed",
        ]

    tell(story)


def test_nothing_personal_is_written():
    """T20: neither journal nor audit has anything of form, scan or citizen; the number alone."""

    async def story(world: World, terminal: Terminal) -> str:
        session = await terminal.complete()
        receipt = receipt_of(session)
        await terminal.file(session)
        await terminal.settled()
        written = "\n".join(terminal.database.iterdump()) + str(terminal.audit.lines)
        assert receipt in written
        return written

    written = tell(story)
    for secret in (CITIZEN.name, CITIZEN.id_number, "13900000001", ADDRESS, "99010119900101123X", "synthetic document"):
        assert secret not in written
        assert secret.encode().hex().upper() not in written.upper()


def test_pending_settles_later_and_the_number_says_so():
    """T8, T11: by number title, state and time alone; by the verified citizen the platform's words too."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete(EXAMINED)
        receipt = receipt_of(session)
        filed = await terminal.file(session)
        assert (filed.outcome, filed.code, filed.state) == ("pending", "application.pending", "pending")
        assert filed.said == "您的申请已提交，正在审核。"
        assert await terminal.asked(receipt) == ("pending", None)
        world.applications.decide(receipt, accept=False, text="材料不符。")
        by_number = (await terminal.progress.by_receipt(receipt.lower().replace("-", " "), "uid 1001")).receipts
        assert [(one.state, one.state_text, one.said) for one in by_number] == [("refused", "不予受理", None)]
        mine = (await terminal.progress.mine(session)).receipts
        assert [(one.receipt, one.said) for one in mine] == [(receipt, "材料不符。")]
        other = await terminal.citizen(NEXT_CITIZEN)
        assert (await terminal.progress.mine(other)).receipts == []

    tell(story)


def test_every_state_of_a_receipt_has_words():
    assert {f"receipt.{state}" for state in get_args(ReceiptState)} <= texts.codes()


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("", "receipt.mistyped"),
        ("A-0000-0000-1", "receipt.mistyped"),
        ("A-0000-0000-Z", "receipt.unknown"),
        ("甲" * 64, "receipt.mistyped"),
    ],
)
def test_numbers_that_say_nothing(typed, code):
    async def story(world: World, terminal: Terminal) -> None:
        assert await terminal.asked(typed) == (None, code)

    tell(story)


def test_a_form_keeps_everything_and_tells_the_problems_of_each_field():
    """Nothing is lost: what was right stays, what was wrong is said, null takes away."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.begun()
        first = await terminal.applications.form(session, {"telephone": "12", "address": ADDRESS})
        assert (first.outcome, first.code, first.retry) == ("refused", "form.invalid", True)
        assert {problem.field: problem.code for problem in first.problems} == {
            "permit_number": "form.required",
            "telephone": "form.bad_form",
            "reason": "form.required",
        }
        assert all("\u4e00" <= problem.text[0] <= "\u9fff" for problem in first.problems)
        rest = {name: value for name, value in FORMS[PLAIN].items() if name != "address"}
        second = await terminal.applications.form(session, rest)
        assert (second.outcome, second.problems) == ("done", [])
        third = await terminal.applications.form(session, {"address": None})
        assert [problem.field for problem in third.problems] == ["address"]
        assert "13900000001" not in repr(session.application)

    tell(story)


def test_calls_out_of_order():
    """Each its code, none an exception: nothing begun, nothing scanned, no such material."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.citizen()
        service = terminal.applications
        assert (await service.form(session, {})).code == "application.none"
        assert (await service.material(session, "id_card")).code == "application.none"
        assert (await service.check(session)).code == "application.none"
        assert (await terminal.file(session)).code == "application.none"
        assert (await service.begin(session, "no_such_matter")).code == "matter.unknown"
        await service.begin(session, PLAIN)
        assert (await service.material(session, "id_card")).code == "application.no_document"
        session.keep_document(PDF, 1)
        assert (await service.material(session, "no_such_material")).code == "application.unknown_material"
        assert session.document is not None
        assert terminal.rows("SELECT * FROM intents") == []

    tell(story)


def test_without_a_citizen_nothing_is_done():
    """I4: not verified, and an assertion that expired."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete()
        await asyncio.sleep(901)
        for work in (
            terminal.file(session),
            terminal.progress.mine(session),
            terminal.applications.begin(session, PLAIN),
        ):
            with pytest.raises(SessionError) as caught:
                await work
            assert (caught.value.code, caught.value.retry) == ("assertion.expired", True)
        session.wipe()
        for work in (terminal.applications.form(session, {}), terminal.applications.check(session)):
            with pytest.raises(SessionError) as caught:
                await work
            assert caught.value.code == "session.not_verified"
        assert world.filings() == []

    tell(story)


def test_limits_are_told_with_what_to_do():
    """Too many pages, too large a scan, too large altogether, too long a form: refused, and what was held stays."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.begun()
        session.keep_document(PDF, 2)
        answer = await terminal.applications.material(session, "id_card")
        assert (answer.code, answer.retry) == ("application.too_many_pages", True)
        assert answer.text == texts.text("application.too_many_pages").zh
        session.keep_document(bytes(SCAN_BYTES + 1), 1)
        assert (await terminal.applications.material(session, "id_card")).code == "application.scan_too_large"
        assert session.scans == {}
        answer = await terminal.applications.form(session, {"address": "x" * FORM_BYTES})
        assert (answer.code, answer.problems) == ("form.too_large", [])
        assert session.application.form is None

    tell(story)


def test_a_material_taken_again_replaces_and_wipes_the_one_before():
    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.begun()
        session.keep_document(PDF, 1)
        await terminal.applications.material(session, "id_card")
        before = session.scans["id_card"]
        session.keep_document(PDF + b"again", 1)
        await terminal.applications.material(session, "id_card")
        assert before.wiped
        assert len(session.scans["id_card"]) == len(PDF) + 5

    tell(story)


def test_an_incomplete_application_is_not_sent():
    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.begun(PAID)
        await terminal.applications.form(session, {"purpose": "交易"})
        checked = await terminal.applications.check(session)
        assert (checked.outcome, checked.code) == ("refused", "application.incomplete")
        wanted = [("form", "certificate_number"), ("material", "id_card"), ("fee", "")]
        assert [(one.what, one.name) for one in checked.missing] == wanted
        assert [one.text for one in checked.missing] == [
            "不动产权证号：此项必填。",
            "居民身份证：请扫描此材料。",
            "请先缴费。",
        ]
        filed = await terminal.file(session)
        assert (filed.outcome, filed.code, filed.missing) == ("refused", "application.incomplete", checked.missing)
        assert terminal.rows("SELECT * FROM intents") == []

    tell(story)


def test_a_fee_is_paid_by_an_order_of_this_receipt():
    """T10: the journal knows the paid order, and the platform looks for itself."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete(PAID)
        terminal.order("P-1", "A-0000-0000-Z", "paid")
        terminal.order("P-2", receipt_of(session), "open")
        assert [one.what for one in (await terminal.applications.check(session)).missing] == ["fee"]
        terminal.order("P-2", receipt_of(session), "paid")
        assert (await terminal.applications.check(session)).outcome == "done"
        filed = await terminal.file(session)
        assert (filed.outcome, filed.code) == ("refused", "fee.unpaid"), "the platform knows no such order"

    tell(story)


@pytest.mark.parametrize(("matter", "code"), [(WITHDRAWN, "matter.withdrawn"), (PAID, "fee.changed"), (BARE, None)])
def test_the_quarter_changes_while_an_application_runs(matter, code):
    """T17: it keeps the version that it began with; the platform refuses what is no more, or costs another fee."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete(matter)
        receipt = receipt_of(session)
        if matter == PAID:
            terminal.order("P-1", receipt, "paid")
        world.matters.publish()
        await terminal.until(lambda: terminal.version == 2)
        assert session.application.catalogue_version == 1
        filed = await terminal.file(session)
        assert (filed.outcome, filed.code) == ("done" if code is None else "refused", code)
        if code is not None:
            assert filed.text == texts.text(code).zh
            assert await terminal.asked(receipt) == ("refused", None)
            assert terminal.rows("SELECT state, code FROM intents") == [("refused", code)]
        assert len(world.filings()) == (code is None)

    tell(story)


def test_begun_anew_wipes_the_application_before():
    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete()
        draft, scans = session.application, list(session.scans.values())
        form = draft.form
        await terminal.applications.begin(session, BARE)
        assert form.wiped
        assert all(scan.wiped for scan in scans)
        assert session.scans == {}
        assert receipt_of(session) != draft.receipt

    tell(story)


def test_the_sessions_end_wipes_everything():
    """Rule 1."""

    async def story(world: World, terminal: Terminal) -> None:
        session = await terminal.complete()
        held = [session.application.form, *session.scans.values()]
        session.close()
        assert all(one.wiped for one in held)
        with pytest.raises(TypeError):
            msgspec.json.encode(held[0])

    tell(story)
