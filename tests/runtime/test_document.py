"""A document is scanned on the API, page by page, and its PDF is held for the session (T2, T12, T13, T20)."""

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from devices.personal import PersonalBytes
from runtime.messages import SupervisionEvent, from_payload
from runtime.session import Session
from sim.scan import needles, scan_bytes
from sim.scripted import DOCUMENT_PDF, PAGE_SECONDS, STEP_SECONDS
from tests.runtime.house import Caller, House, MemoryClient, Refusal, tell
from transport.envelope import Sealer
from transport.payload import Payload
from vision.page_report import MOST_PAGES
from vision.verifier import ProgressListener


async def begun(ui: Caller, **wanted: object) -> str:
    session = (await ui.call("session.open"))["session"]
    answer = await ui.call("session.begin_document", session=session, **wanted)
    assert (answer["outcome"], answer["text"]) == ("done", "请平放第一页材料。")
    return session


@pytest.fixture
def kept(monkeypatch):
    """What sessions were given to hold."""
    values: list[PersonalBytes] = []
    keep = Session.keep_document

    def spy(session: Session, pdf: bytes, pages: int) -> None:
        keep(session, pdf, pages)
        assert session.document is not None
        values.append(session.document)

    monkeypatch.setattr(Session, "keep_document", spy)
    return values


def test_a_document_is_scanned_page_by_page(tmp_path, monkeypatch, kept):
    """The answers have numbers, and nothing of a page."""

    async def story(house: House, ui: Caller) -> None:
        session = await begun(ui, paper="a4", tone="grey", sides=2)
        first = await ui.call("session.add_page", session=session)
        assert first == {
            "outcome": "done",
            "code": None,
            "text": "本页已拍摄。",
            "retry": False,
            "steps": [{"step": "add_page", "outcome": "done", "code": None, "seconds": PAGE_SECONDS}],
            "seconds": PAGE_SECONDS,
            "page": {
                "number": 1,
                "sheet": 1,
                "side": "front",
                "width": 1654,
                "height": 2339,
                "captured_dpi": 163.5,
                "corners": [[2330.0, 190.0], [2370.0, 1700.0], [260.0, 1760.0], [230.0, 240.0]],
                "confidence": 0.98,
                "turns": 1,
                "glare": 0.0,
                "blurred": 0.01,
                "sharpness": 2.1,
                "paper": 226.0,
                "printed": 0.4,
                "blank": False,
            },
        }
        steps = [await ui.notice("session.progress") for _ in range(4)]
        assert [step["step"] for step in steps] == ["find", "judge", "turn", "done"]
        assert steps[0] == {"session": session, "step": "find", "page": 1, "pages": 1}
        back = (await ui.call("session.add_page", session=session))["page"]
        assert (back["number"], back["sheet"], back["side"]) == (2, 1, "back")
        again = (await ui.call("session.add_page", session=session, retake=1))["page"]
        assert again["number"] == 1
        assert house.vision.pages is not None
        assert len(house.vision.pages) == 2
        ui.notices.clear()
        finished = await ui.call("session.finish_document", session=session, most_bytes=100_000)
        assert (finished["text"], finished["pages"], finished["bytes"]) == ("材料已生成。", 2, len(DOCUMENT_PDF))
        assert finished["seconds"] == pytest.approx(2 * STEP_SECONDS)
        compressed = [await ui.notice("session.progress") for _ in range(2)]
        assert [(one["step"], one["page"], one["pages"]) for one in compressed] == [
            ("compress", 1, 2),
            ("compress", 2, 2),
        ]
        (pdf,) = kept
        assert bytes(pdf.view()) == DOCUMENT_PDF
        await ui.call("session.close", session=session)
        assert pdf.wiped
        assert house.vision.pages is None

    tell(tmp_path, story, monkeypatch)
    noted = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    events = [one["event"] for one in noted if one["event"].startswith(("document_", "page_"))]
    assert events == ["document_begun", "page_added", "page_added", "page_added", "document_finished"]


@pytest.mark.parametrize(
    ("code", "text", "retry"),
    [
        ("document.glare", "材料反光，请调整材料位置。", True),
        ("document.blurred", "图像模糊，请放平材料并勿移动。", True),
        ("document.cut_off", "材料超出画面，请移到中间。", True),
        ("document.no_page", "未检测到材料，请平放一页材料。", True),
        ("document.resolution_too_low", "无法拍摄材料，请联系工作人员。", False),
    ],
)
def test_a_refused_page_is_told_in_words_and_changes_nothing(tmp_path, monkeypatch, code, text, retry):
    async def story(house: House, ui: Caller) -> set[tuple[str, str, str | None]]:
        session = await begun(ui)
        house.vision.refusals.append(code)
        refused = await ui.call("session.add_page", session=session)
        assert (refused["outcome"], refused["code"], refused["text"], refused["retry"]) == (
            "refused",
            code,
            text,
            retry,
        )
        assert refused["page"] is None
        assert house.vision.pages == []
        assert (await ui.call("session.add_page", session=session))["page"]["number"] == 1
        rows = house.rows("SELECT schema, version, body FROM records ORDER BY sequence")
        events = [from_payload(Payload(*row[:2], personal=False, body=row[2]), SupervisionEvent) for row in rows]
        return {
            (event.step, event.outcome, event.code) for event in events if event.step.endswith(("document", "page"))
        }

    assert tell(tmp_path, story, monkeypatch) == {
        ("begin_document", "done", None),
        ("add_page", "refused", code),
        ("add_page", "done", None),
    }


def test_what_is_held_is_the_document_as_it_stands(tmp_path, monkeypatch, kept):
    """A new page, another document, a removal and a new citizen wipe the PDF."""

    async def story(house: House, ui: Caller) -> None:
        session = await begun(ui)

        async def finished() -> PersonalBytes:
            await ui.call("session.add_page", session=session)
            assert (await ui.call("session.finish_document", session=session))["outcome"] == "done"
            assert not kept[-1].wiped
            return kept[-1]

        for method, more in (
            ("session.add_page", {"retake": 1}),
            ("session.finish_document", {}),
            ("session.begin_document", {"paper": "card"}),
        ):
            pdf = await finished()
            assert (await ui.call(method, session=session, **more))["outcome"] == "done"
            assert pdf.wiped
        pdf = await finished()
        assert (await ui.call("session.discard_document", session=session))["text"] == "材料已删除。"
        assert pdf.wiped
        gone = await ui.call("session.add_page", session=session)
        assert (gone["code"], gone["retry"]) == ("document.not_begun", False)
        assert (await ui.call("session.discard_document", session=session))["outcome"] == "done"

        await ui.call("session.begin_document", session=session)
        pdf = await finished()
        await ui.call("session.consent", session=session, agreed=True, version="1")
        house.place_card()
        assert (await ui.call("session.verify_identity", session=session))["outcome"] == "done"
        assert pdf.wiped

    tell(tmp_path, story, monkeypatch)


def test_what_cannot_be_finished_is_refused_and_nothing_is_held(tmp_path, monkeypatch, kept):
    async def story(house: House, ui: Caller) -> None:
        session = (await ui.call("session.open"))["session"]
        for method in ("session.add_page", "session.finish_document"):
            assert (await ui.call(method, session=session))["code"] == "document.not_begun"
        await ui.call("session.begin_document", session=session)
        assert (await ui.call("session.finish_document", session=session))["code"] == "document.empty"
        missing = await ui.call("session.add_page", session=session, retake=1)
        assert missing["code"] == "document.no_such_page"
        house.vision.camera_is("document", "frozen", "camera.frozen")
        for method in ("session.begin_document", "session.add_page"):
            frozen = await ui.call(method, session=session)
            assert (frozen["code"], frozen["retry"]) == ("camera.frozen", True)

    tell(tmp_path, story, monkeypatch)
    assert kept == []


def test_a_dead_vision_process_takes_the_document_with_it(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await begun(ui)
        under_way = ui.ask("session.add_page", session=session)
        await asyncio.sleep(STEP_SECONDS / 2)
        house.vision.kill()
        assert (await ui.answer(under_way))["code"] == "vision.unavailable"
        await house.settled(ui)
        assert (await ui.call("session.add_page", session=session))["code"] == "document.not_begun"

    tell(tmp_path, story, monkeypatch)


def test_a_scan_ends_with_its_session_and_has_a_deadline(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        async def silent(_: ProgressListener, **_wanted: object) -> None:
            await asyncio.Event().wait()

        session = await begun(ui)
        monkeypatch.setattr(house.vision, "add_page", silent)
        monkeypatch.setattr(house.vision, "finish_document", silent)
        for method, seconds in (("session.add_page", 7.0), ("session.finish_document", 22.0)):
            answer = await ui.call(method, session=session)
            assert (answer["code"], answer["retry"], answer["seconds"]) == ("vision.no_answer", True, seconds)
        under_way = ui.ask("session.add_page", session=session)
        await asyncio.sleep(1)
        await ui.call("session.close", session=session)
        with pytest.raises(Refusal, match=r"session\.ended"):
            await ui.answer(under_way)

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("session.begin_document", {"paper": "a3"}),
        ("session.begin_document", {"tone": "red"}),
        ("session.begin_document", {"sides": 3}),
        ("session.add_page", {"retake": 0}),
        ("session.add_page", {"retake": MOST_PAGES + 1}),
        ("session.finish_document", {"most_bytes": 9_999}),
        ("session.finish_document", {"most_bytes": 16 * 2**20}),
        ("preview.page", {}),
        ("preview.page", {"page": 0}),
    ],
)
def test_parameters_that_do_not_fit_are_refused(tmp_path, monkeypatch, method, params):
    async def story(_house: House, ui: Caller) -> None:
        session = (await ui.call("session.open"))["session"]
        with pytest.raises(Refusal, match=r"request\.bad_params"):
            await ui.call(method, session=session, **params)

    tell(tmp_path, story, monkeypatch)


def test_the_pdf_is_in_no_journal_row_log_line_or_message(tmp_path, monkeypatch, kept):
    """T20, rule 1: messages to the UI, and to the platform before they are sealed."""
    said: list[bytes] = []

    async def story(house: House, ui: Caller) -> None:
        seal, write = Sealer.seal, MemoryClient.write

        def sealed(self: Sealer, stream: str, plaintext: bytes) -> bytes:
            said.append(bytes(plaintext))
            return seal(self, stream, plaintext)

        async def written(self: MemoryClient, data: bytes) -> None:
            said.append(bytes(data))
            await write(self, data)

        monkeypatch.setattr(Sealer, "seal", sealed)
        monkeypatch.setattr(MemoryClient, "write", written)
        session = await begun(ui)
        await ui.call("session.add_page", session=session)
        assert (await ui.call("session.finish_document", session=session))["outcome"] == "done"
        await asyncio.sleep(5)
        said.append("\n".join(house.journal.iterdump()).encode())
        await ui.call("session.close", session=session)

    with capture_logs() as lines:
        tell(tmp_path, story, monkeypatch)
    assert [pdf.wiped for pdf in kept] == [True]
    step = b"finish_document"
    assert sum(step in one for one in said) == 2, "the answer, and the record on its way"
    assert sum(step.hex().upper().encode() in one for one in said) == 1, "the journal"
    places = [*said, repr(lines).encode(), *(path.read_bytes() for path in tmp_path.iterdir())]
    wanted = needles({}, {"document": DOCUMENT_PDF})
    assert scan_bytes(b"=" + DOCUMENT_PDF, wanted)
    assert [finding for place in places for finding in scan_bytes(place, wanted)] == []
