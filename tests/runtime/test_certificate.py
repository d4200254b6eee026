"""Certificates by themselves: nothing is printed unless all is right, and paper is never guessed (T7, I3, L16)."""

import asyncio
import sqlite3
from contextlib import closing

import msgspec
import pytest

from devices.errors import DeviceError
from devices.printer.job import JobResult, Picture, Qr, Text, length_dots, longest_seconds, millimetres
from runtime.journal import Journal
from runtime.messages import (
    CertificateIssue,
    CertificateRequest,
    MessageError,
    Refusal,
    SupervisionEvent,
    from_payload,
    seal_content,
    to_payload,
)
from runtime.messages.certificate import CertificateCopy, CertificateReprint
from runtime.services.certificate import CertificateService
from runtime.services.issuing import Issuing
from runtime.services.office import Office
from runtime.services.receipts import new_receipt, read_receipt
from runtime.services.steps import Origin
from runtime.session import Session, SessionError
from sim.memory import InlineExecutor
from sim.scripted import ScriptedVision
from sim.virtual_time import run
from tests.runtime.house import CERTIFICATE, PDF, SEAL, UI_UID, Noted, Owner, record
from transport import sm2
from transport.errors import TransportError
from transport.payload import Payload
from transport.sm import sm3

NOW = 1_800_000_000.0
URL = "https://platform.example/verify/N1"


def issued(key: sm2.PrivateKey = SEAL, **changes) -> CertificateIssue:
    """An issue whose seal signs exactly what it says, under `key`."""
    issue = CertificateIssue("N1", CERTIFICATE, "样本市社会保险事业中心", int(NOW), URL, PDF, sm3(PDF), b"")
    issue = msgspec.structs.replace(issue, **changes)
    return msgspec.structs.replace(issue, seal=key.sign(seal_content(issue)))


LATE = TransportError("platform.no_answer", "late", advice="x", retry=True)
DOWN = TransportError("line.down", "down", advice="x", retry=True)


class Platform:
    def __init__(self, answer) -> None:
        self.answer = answer
        self.asked: list[tuple[Payload, bytes]] = []
        self.settlement = "void"
        self.settled: list[bytes] = []

    async def settle(self, key: bytes, *, deadline_seconds: float):
        self.settled.append(key)
        if isinstance(self.settlement, Exception):
            raise self.settlement
        return self.settlement

    async def call(self, request: Payload, *, key: bytes, deadline_seconds: float, on_progress=None) -> Payload:
        self.asked.append((request, key))
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, Payload) else to_payload(self.answer)


class Paper:
    def __init__(self, outcome=None) -> None:
        self.outcome = outcome or JobResult("printed")
        self.jobs = []

    async def print_job(self, job):
        self.jobs.append(job)
        if self.outcome == "hangs":
            await asyncio.Event().wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Desk:
    """The service with a scripted platform and printer."""

    def __init__(self, connection, platform: Platform, printer: Paper) -> None:
        self.connection, self.platform, self.printer = connection, platform, printer
        self.verifier = ScriptedVision()
        self.journal = Journal(InlineExecutor(connection), lambda: NOW)
        self.audit = Noted()
        self.session = Session(Owner(), lambda _state: None)
        self.session.keep(record())
        self.session.keep_assertion(b"assertion", 900.0)
        self.session.verified()
        office = Office(platform, self.journal, self.audit, Origin("boot", rig=False, wall_clock=lambda: NOW), 5.0)
        self.issuing = Issuing(office)
        self.service = CertificateService(
            office=office,
            issuing=self.issuing,
            verifier=self.verifier,
            printer=printer,
            seal_key=SEAL.public,
            width_dots=576,
            dots_per_inch=203,
        )

    def noted(self):
        """What the audit log was told of the only request, without its transaction's id."""
        ((event, actor, details),) = self.audit.lines
        assert (event, actor, details["session"]) == ("certificate_requested", f"uid {UI_UID}", self.session.reference)
        assert read_receipt(details["receipt"]) == details["receipt"]
        return {name: value for name, value in details.items() if name not in ("session", "transaction", "receipt")}

    async def request(self):
        return await self.service.request(self.session, CERTIFICATE)

    def intents(self):
        return self.connection.execute("SELECT kind, state, code FROM intents").fetchall()

    def prints(self):
        return [intent for intent in self.intents() if intent[0] == "print"]

    async def events(self) -> list[tuple[str, str, str | None]]:
        records = await self.journal.unacknowledged(self.journal.streams["supervision"], 0, 99)
        events = [from_payload(one.payload, SupervisionEvent) for one in records]
        return [(event.step, event.outcome, event.code) for event in events]


def stage(story, answer, printed=None):
    async def main():
        with closing(sqlite3.connect(":memory:")) as connection:
            desk = Desk(connection, Platform(answer), Paper(printed))
            await desk.journal.open()
            living = asyncio.create_task(desk.verifier.run(lambda: None))
            await asyncio.sleep(0)
            try:
                return await story(desk)
            finally:
                living.cancel()
                await asyncio.gather(living, return_exceptions=True)

    return run(main())


def test_the_paper_carries_caption_pages_qr_and_number():
    async def story(desk: Desk) -> None:
        result = await desk.request()
        assert (result.outcome, result.paper, result.number) == ("done", "printed", "N1")
        (job,) = desk.printer.jobs
        assert [type(item) for item in job] == [Text, Picture, Text, Qr, Text, Text, Text]
        assert job[1].width_dots == 576
        assert job[3].text == URL
        assert "N1" in job[4].text
        assert job[5].text == f"凭证号 {result.receipt}"
        assert desk.intents() == [("issue", "done", None), ("print", "done", None)]
        assert desk.noted() == {"outcome": "done", "certificate": CERTIFICATE, "number": "N1", "paper": "printed"}
        assert await desk.events() == [
            ("issue", "done", None),
            ("check_seal", "done", None),
            ("rasterise", "done", None),
            ("print", "done", None),
        ]

    stage(story, issued())


def test_the_question_carries_the_assertion_and_a_receipt_of_its_own_under_a_fresh_key():
    """I4: name and number are not told again."""

    async def story(desk: Desk) -> None:
        receipts = [(await desk.request()).receipt for _ in range(2)]
        (first, one), (second, two) = desk.platform.asked
        for payload, receipt in zip((first, second), receipts, strict=True):
            assert from_payload(payload, CertificateRequest) == CertificateRequest(
                receipt, CERTIFICATE, b"assertion", 72
            )
            assert payload.personal
            assert receipt[0] == "C"
            assert read_receipt(receipt) == receipt
        assert receipts[0] != receipts[1]
        assert one != two
        assert len(one) == 16

    stage(story, issued())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (issued(sm2.generate()), "certificate.seal_invalid"),
        (msgspec.structs.replace(issued(), seal=b""), "certificate.seal_invalid"),
        (msgspec.structs.replace(issued(), seal=b"\x30\x00"), "certificate.seal_invalid"),
        (msgspec.structs.replace(issued(), number="N2"), "certificate.seal_invalid"),
        (msgspec.structs.replace(issued(), verify_url="https://evil.example"), "certificate.seal_invalid"),
        (msgspec.structs.replace(issued(), pdf=PDF + b" "), "certificate.digest_mismatch"),
        (issued(digest=sm3(b"another")), "certificate.digest_mismatch"),
        (issued(digest=b""), "certificate.digest_mismatch"),
        (issued(certificate="tax_record"), "certificate.wrong_kind"),
        (issued(pdf=b"no pdf", digest=sm3(b"no pdf")), "pdf.undecodable"),
        (Refusal("citizen.unknown", retry=False), "citizen.unknown"),
        (DOWN, "line.down"),
    ],
)
def test_nothing_is_printed_unless_all_is_right(answer, code):
    async def story(desk: Desk) -> None:
        result = await desk.request()
        assert (result.outcome, result.code, result.paper) == ("refused", code, "not_printed")
        assert desk.printer.jobs == []
        is_issued = isinstance(answer, CertificateIssue)
        assert desk.intents() == [("issue", "done", None) if is_issued else ("issue", "refused", code)]
        assert (await desk.events())[-1][1:] == ("refused", code)
        assert (desk.noted()["outcome"], desk.noted()["code"], desk.noted()["paper"]) == (
            "refused",
            code,
            "not_printed",
        )
        assert desk.session.citizen().name.reveal() == "张三丰"

    stage(story, answer)


@pytest.mark.parametrize("position", range(0, len(PDF), 97))
def test_one_flipped_bit_in_the_pdf_prints_nothing(position):
    damaged = bytearray(PDF)
    damaged[position] ^= 1 << position % 8

    async def story(desk: Desk) -> None:
        assert (await desk.request()).code == "certificate.digest_mismatch"
        assert desk.printer.jobs == []

    stage(story, msgspec.structs.replace(issued(), pdf=bytes(damaged)))


@pytest.mark.parametrize(
    ("printed", "outcome", "paper", "code", "state"),
    [
        (JobResult("not_printed", "printer.paper_out"), "refused", "not_printed", "printer.paper_out", "refused"),
        (
            DeviceError("printer.offline", "x", advice="y", retry=True),
            "refused",
            "not_printed",
            "printer.offline",
            "refused",
        ),
        (JobResult("unknown", "printer.cover_open"), "done", "unknown", "certificate.paper_unknown", "unknown"),
        ("hangs", "done", "unknown", "certificate.paper_unknown", "unknown"),
    ],
)
def test_what_became_of_the_paper_is_told_as_it_is(printed, outcome, paper, code, state):
    """L16."""

    async def story(desk: Desk) -> None:
        result = await desk.request()
        assert (result.outcome, result.paper, result.code) == (outcome, paper, code)
        assert result.number == "N1"
        ((kind, stored, _),) = desk.prints()
        assert (kind, stored) == ("print", state)
        assert desk.noted()["paper"] == paper
        assert (await desk.events())[-1][:2] == ("print", state)

    stage(story, issued(), printed)


def test_the_speed_of_the_paper_is_in_result_and_record():
    """T4."""

    async def story(desk: Desk) -> None:
        result = await desk.request()
        assert (result.paper, result.millimetres_per_second) == ("printed", 101.2)
        assert desk.noted()["millimetres_per_second"] == 101

    stage(story, issued(), JobResult("printed", None, 303.6, 3.0))


def test_a_slow_line_is_given_its_time():
    """At 9,600 bit/s four pages take longer than a fixed deadline: the driver ends a job, not the service."""

    class Slow(Paper):
        async def print_job(self, job):
            length = millimetres(length_dots(job, 576), 203)
            await asyncio.sleep(longest_seconds(job, length, 960.0))
            return JobResult("printed", None, length, 300.0)

    async def story(desk: Desk) -> None:
        object.__setattr__(desk.service, "printer", Slow())
        assert (await desk.request()).paper == "printed"

    stage(story, issued())


def test_a_cancelled_print_is_journaled_as_unknown():
    async def story(desk: Desk) -> None:
        printing = asyncio.create_task(desk.request())
        await asyncio.sleep(1)
        assert desk.prints() == [("print", "open", None)]
        printing.cancel()
        await asyncio.gather(printing, return_exceptions=True)
        assert desk.prints() == [("print", "unknown", "operation.interrupted")]
        noted = {"outcome": "unknown", "code": "operation.interrupted", "paper": "unknown"}
        assert desk.noted() == noted | {"certificate": CERTIFICATE, "number": "N1"}

    stage(story, issued(), "hangs")


def test_without_a_journal_nothing_is_printed_and_after_it_the_truth_is_told():
    """Rule 2: no effect without its intent; but paper that came out did come out."""

    class Full(Paper):
        async def print_job(self, job):
            result = await super().print_job(job)
            self.desk.connection.execute("PRAGMA query_only = 1")
            return result

    async def story(desk: Desk) -> None:
        paper = Full()
        paper.desk = desk
        object.__setattr__(desk.service, "printer", paper)
        result = await desk.request()
        assert (result.outcome, result.paper) == ("done", "printed")
        assert desk.prints() == [("print", "open", None)]
        result = await desk.request()
        assert (result.outcome, result.code) == ("refused", "journal.write_failed")
        assert len(paper.jobs) == 1

    stage(story, issued())


def test_an_unverified_session_gets_nothing():
    async def story(desk: Desk) -> None:
        desk.session.wipe()
        with pytest.raises(SessionError) as refused:
            await desk.request()
        assert refused.value.code == "session.not_verified"
        assert desk.platform.asked == []

    stage(story, issued())


@pytest.mark.parametrize("work", ["request", "reprint"])
def test_an_assertion_that_is_too_old_gets_nothing(work):
    """I4."""

    async def story(desk: Desk) -> None:
        await asyncio.sleep(901)
        with pytest.raises(SessionError) as refused:
            await getattr(desk.service, work)(desk.session, new_receipt("certificate"))
        assert refused.value.code == "assertion.expired"
        assert desk.platform.asked == []

    stage(story, issued())


def test_a_reprint_is_the_same_issue_marked_and_counted_with_a_line_of_its_own():
    """T7, H6."""
    receipt = new_receipt("certificate")

    async def story(desk: Desk) -> None:
        result = await desk.service.reprint(desk.session, receipt.lower())
        assert (result.outcome, result.paper, result.receipt) == ("done", "printed", receipt)
        assert (result.certificate, result.number, result.copy) == (CERTIFICATE, "N1", 2)
        assert result.text == "证明已补打，请取走。"
        ((asked, _),) = desk.platform.asked
        assert from_payload(asked, CertificateReprint) == CertificateReprint(receipt, b"assertion")
        (job,) = desk.printer.jobs
        assert job[1].text == "补打件（第2次）"
        assert [type(item) for item in job] == [Text, Text, Picture, Text, Qr, Text, Text, Text]
        ((event, _, details),) = desk.audit.lines
        assert event == "certificate_reprinted"
        assert (details["receipt"], details["number"], details["copy"], details["paper"]) == (
            receipt,
            "N1",
            2,
            "printed",
        )
        assert desk.connection.execute("SELECT kind, name, state FROM intents").fetchall() == [
            ("issue", receipt, "done"),
            ("print", receipt, "done"),
        ]

    stage(story, CertificateCopy(issued(), 2))


@pytest.mark.parametrize(
    ("typed", "answer", "code"),
    [
        ("C-0000-0000-1", CertificateCopy(issued(), 1), "receipt.mistyped"),
        ("", CertificateCopy(issued(), 1), "receipt.mistyped"),
        ("C" * 32, CertificateCopy(issued(), 1), "receipt.mistyped"),
        (None, Refusal("receipt.unknown", retry=False), "receipt.unknown"),
        (None, Refusal("certificate.no_more_copies", retry=False), "certificate.no_more_copies"),
        (None, CertificateCopy(issued(sm2.generate()), 1), "certificate.seal_invalid"),
        (None, CertificateCopy(msgspec.structs.replace(issued(), pdf=PDF + b" "), 1), "certificate.digest_mismatch"),
        (None, issued(), "certificate.unsure"),
        (None, TransportError("line.down", "down", advice="x", retry=True), "line.down"),
    ],
)
def test_a_reprint_is_checked_as_the_first_print(typed, answer, code):
    """I3."""

    async def story(desk: Desk) -> None:
        result = await desk.service.reprint(desk.session, new_receipt("certificate") if typed is None else typed)
        assert (result.outcome, result.code, result.paper) == ("refused", code, "not_printed")
        assert desk.printer.jobs == []
        assert desk.prints() == []
        assert desk.audit.lines[0][2]["code"] == code
        assert (len(desk.platform.asked) == 0) == (code == "receipt.mistyped")

    stage(story, answer)


def test_a_question_too_large_is_refused_before_it_leaves():
    async def story(desk: Desk) -> None:
        with pytest.raises(MessageError):
            to_payload(CertificateRequest("C", "x" * 5_000, b"", 72))
        result = await desk.service.request(desk.session, "x" * 5_000)
        assert result.code == "message.too_large"
        assert desk.platform.asked == []

    stage(story, issued())
