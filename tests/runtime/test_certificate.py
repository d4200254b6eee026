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
from runtime.services.certificate import CertificateService
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


class Platform:
    def __init__(self, answer) -> None:
        self.answer = answer
        self.asked: list[tuple[Payload, bytes]] = []

    async def call(self, request: Payload, *, key: bytes, deadline_seconds: float) -> Payload:
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
        self.session.verified()
        self.service = CertificateService(
            platform=platform,
            verifier=self.verifier,
            printer=printer,
            journal=self.journal,
            audit=self.audit,
            origin=Origin("boot", rig=False, wall_clock=lambda: NOW),
            seal_key=SEAL.public,
            answer_seconds=5.0,
            width_dots=576,
            dots_per_inch=203,
        )

    def noted(self):
        """What the audit log was told of the only request, without its transaction's id."""
        ((event, actor, details),) = self.audit.lines
        assert (event, actor, details["session"]) == ("certificate_requested", f"uid {UI_UID}", self.session.reference)
        return {name: value for name, value in details.items() if name not in ("session", "transaction")}

    async def request(self):
        return await self.service.request(self.session, CERTIFICATE)

    def intents(self):
        return self.connection.execute("SELECT kind, state, code FROM intents").fetchall()

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
        assert [type(item) for item in job] == [Text, Picture, Text, Qr, Text, Text]
        assert job[1].width_dots == 576
        assert job[3].text == URL
        assert "N1" in job[4].text
        assert desk.intents() == [("print", "done", None)]
        assert desk.noted() == {"outcome": "done", "certificate": CERTIFICATE, "number": "N1", "paper": "printed"}
        assert await desk.events() == [
            ("ask_platform", "done", None),
            ("check_seal", "done", None),
            ("rasterise", "done", None),
            ("print", "done", None),
        ]

    stage(story, issued())


def test_the_question_names_the_citizen_and_the_paper_under_a_fresh_key():
    async def story(desk: Desk) -> None:
        await desk.request()
        await desk.request()
        (first, one), (second, two) = desk.platform.asked
        asked = from_payload(first, CertificateRequest)
        assert asked == CertificateRequest(CERTIFICATE, "张三丰", "990101199001011230", 72)
        assert first.personal
        assert first == second
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
        (Payload("certificate.issue", 1, True, b"\x80"), "message.malformed"),
        (Payload("certificate.issue", 2, True, b""), "message.unknown"),
        (to_payload(SupervisionEvent("t", "s", "done", None, 0.0, 0.0, "b", rig=False)), "message.unexpected"),
        (Payload("certificate.issue", 1, True, bytes(600_000)), "message.too_large"),
        (TransportError("line.down", "down", advice="x", retry=True), "line.down"),
        (TransportError("platform.no_answer", "late", advice="x", retry=True), "platform.no_answer"),
        (None, "platform.no_answer"),
    ],
)
def test_nothing_is_printed_unless_all_is_right(answer, code):
    async def story(desk: Desk) -> None:
        result = await desk.request()
        assert (result.outcome, result.code, result.paper) == ("refused", code, "not_printed")
        assert desk.printer.jobs == []
        assert desk.intents() == []
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
        ((kind, stored, _),) = desk.intents()
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
        assert desk.intents() == [("print", "open", None)]
        printing.cancel()
        await asyncio.gather(printing, return_exceptions=True)
        assert desk.intents() == [("print", "unknown", "operation.interrupted")]
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
        assert desk.intents() == [("print", "open", None)]
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


def test_a_question_too_large_is_refused_before_it_leaves():
    async def story(desk: Desk) -> None:
        with pytest.raises(MessageError):
            to_payload(CertificateRequest("x" * 5_000, "a", "b", 72))
        result = await desk.service.request(desk.session, "x" * 5_000)
        assert result.code == "message.too_large"
        assert desk.platform.asked == []

    stage(story, issued())
