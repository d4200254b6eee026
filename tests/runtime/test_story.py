"""The whole story on a virtual clock: one card, one face, one certificate, and everything that can go wrong."""

import asyncio
import json

import pytest

from runtime.audit_chain import verify
from sim.scripted import NO_MATCH
from sim.virtual_time import run
from tests.runtime.house import CERTIFICATE, CITIZEN, Caller, House, Refusal, living, tell


def test_one_citizen_is_served_end_to_end(tmp_path, monkeypatch):
    """T1, T9, T7, I3, T12, T20: card, face, certificate, paper, records at the platform, nothing left behind."""

    async def story(house: House, ui: Caller) -> None:
        before = house.rows("SELECT count(*) FROM records")[0][0]
        house.place_card()
        session = await house.consenting(ui)
        identity = await ui.call("session.verify_identity", session=session)
        assert identity["outcome"] == "done"
        assert identity["code"] is None
        assert identity["name"] == CITIZEN.name[0] + "**"
        assert identity["id_number"] == CITIZEN.id_number[:3] + "*" * 13 + CITIZEN.id_number[-2:]
        assert [step["step"] for step in identity["steps"]] == ["read_card", "verify_face", "assert_identity"]
        assert identity["seconds"] < 5.0  # T13
        guidance = [params["code"] for method, params in ui.notices if method == "session.guidance"]
        assert guidance == ["idcard.place_card", "face.look_at_camera"]

        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert (answer["outcome"], answer["paper"], answer["code"]) == ("done", "printed", None)
        assert [step["step"] for step in answer["steps"]] == ["issue", "check_seal", "rasterise", "print"]
        assert len(house.printer.papers) == 1
        assert await ui.call("session.close", session=session) == {}
        assert (await ui.notice("session.ended"))["reason"] == "closed"
        assert house.vision.wiped == 1
        ui.hang_up()
        await asyncio.sleep(1)
        assert house.rows("SELECT kind, state FROM intents") == [("issue", "done"), ("print", "done")]
        sent = house.rows("SELECT count(*) FROM records")[0][0]
        assert sent == before + 8  # a consent, three steps of identity, four of the certificate
        summary = house.platform.summary()
        house.stop.set()
        await asyncio.sleep(1)
        assert summary["records"] == sent, summary

    tell(tmp_path, story, monkeypatch)
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    assert verify(lines).lines == 7
    trail = [json.loads(line) for line in lines]
    assert [one["event"] for one in trail] == [
        "daemon_started",
        "session_opened",
        "consent_asked",
        "identity_checked",
        "certificate_requested",
        "session_ended",
        "daemon_stopped",
    ]
    assert len({one["details"]["session"] for one in trail[1:6]}) == 1
    assert trail[4]["details"]["paper"] == "printed"
    assert trail[5]["details"]["reason"] == "closed"


def test_nothing_personal_reaches_the_journal_or_the_audit_log(tmp_path, monkeypatch):
    """T20, T12: what the daemon wrote holds neither name, number, address nor photo, in no encoding of text."""

    async def story(house: House, ui: Caller) -> bytes:
        session = await house.verified(ui)
        await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        await ui.call("session.close", session=session)
        return "\n".join(house.journal.iterdump()).encode() + (tmp_path / "audit.jsonl").read_bytes()

    written = tell(tmp_path, story, monkeypatch)
    for secret in (CITIZEN.name, CITIZEN.id_number, CITIZEN.address):
        for encoding in ("utf-8", "utf-16-le", "gb18030"):
            raw = secret.encode(encoding)
            assert raw not in written
            assert raw.hex().upper().encode() not in written.upper()


def test_an_impostor_is_refused_and_wiped(tmp_path, monkeypatch):
    """T9: another face gives face.no_match, no certificate, and the card's data are gone."""

    async def story(house: House, ui: Caller) -> None:
        house.place_card()
        house.vision.script.append(NO_MATCH)
        session = await house.consenting(ui)
        answer = await ui.call("session.verify_identity", session=session)
        assert (answer["outcome"], answer["code"], answer["retry"]) == ("refused", "face.no_match", True)
        assert answer["name"] is None
        assert answer["face"]["decision"] == "no_match"
        assert answer["steps"][-1]["outcome"] == "refused"
        with pytest.raises(Refusal, match=r"session\.not_verified"):
            await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert not house.printer.papers

    tell(tmp_path, story, monkeypatch)


def test_an_unplugged_reader_comes_back_by_itself(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        house.reader_port.unplug()
        await ui.component("idcard", "offline")
        session = await house.consenting(ui)
        answer = await ui.call("session.verify_identity", session=session)
        assert (answer["outcome"], answer["code"], answer["retry"]) == ("refused", "idcard.offline", True)
        await ui.call("session.close", session=session)
        house.reader_port.plug()
        await ui.component("idcard", "online")
        await house.verified(ui)

    tell(tmp_path, story, monkeypatch)


def test_a_killed_vision_process_comes_back_within_a_quarter_of_a_second(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        await asyncio.sleep(20)
        house.vision.kill()
        await ui.component("vision", "offline")
        broke = house.loop.time()
        await ui.component("vision", "online")
        assert house.loop.time() - broke <= 0.25
        await house.verified(ui)

    tell(tmp_path, story, monkeypatch)


def test_a_stopped_broker_comes_back_and_no_record_is_lost(tmp_path, monkeypatch):
    """T12, I6: what happened while the line was down is delivered once when it is up."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        house.uplink.stop()
        await ui.component("platform", "offline")
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert (answer["outcome"], answer["code"]) == ("refused", "line.down")
        assert answer["paper"] == "not_printed"
        house.uplink.start()
        await ui.component("platform", "online")
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert answer["paper"] == "printed"
        await asyncio.sleep(2)
        sent = house.rows("SELECT count(*) FROM records")[0][0]
        assert house.platform.summary()["records"] == sent

    tell(tmp_path, story, monkeypatch)


def test_a_lost_client_ends_and_wipes_its_session(tmp_path, monkeypatch):
    """Rule 1: the UI dies in the middle of a face check."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.consenting(ui)
        before = house.rows("SELECT count(*) FROM records")[0][0]
        ui.ask("session.verify_identity", session=session)
        await ui.notice("session.guidance")
        other = house.caller()
        await other.call("events.subscribe")
        ui.hang_up()
        await other.component("session", "none")
        assert house.vision.wiped == 1
        assert house.rows("SELECT count(*) FROM records")[0][0] == before + 1
        assert (await other.call("session.open"))["session"] != session

    tell(tmp_path, story, monkeypatch)


def test_a_card_left_lying_after_a_refusal_must_be_lifted_and_the_citizen_is_told_so(tmp_path, monkeypatch):
    """A reader does not find a card again that it has read, and cannot know that it lies there (protocols 1.9)."""

    async def story(house: House, ui: Caller) -> None:
        house.vision.script.append(NO_MATCH)
        house.place_card()
        session = await house.consenting(ui)
        assert (await ui.call("session.verify_identity", session=session))["code"] == "face.no_match"
        ui.notices.clear()
        answer = await ui.call("session.verify_identity", session=session)
        guidance = [(params["code"], params["text"]) for method, params in ui.notices if method == "session.guidance"]
        assert guidance == [("idcard.place_card", "请将身份证放在读卡区；如已放置，请拿起后重新放置。")]
        assert answer["code"] == "idcard.no_card"
        assert "请拿起后重新放置" in answer["text"]
        house.place_card()
        assert (await ui.call("session.verify_identity", session=session))["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)


def test_an_idle_session_ends_and_is_wiped(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        touched = house.loop.time()
        assert (await ui.notice("session.ended"))["reason"] == "idle"
        assert house.loop.time() - touched == pytest.approx(30, abs=0.1)
        assert house.vision.wiped == 1
        with pytest.raises(Refusal, match=r"session\.unknown"):
            await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)

    tell(tmp_path, story, monkeypatch, idle_seconds=30)


def test_a_running_operation_is_not_idleness_but_the_longest_session_ends_it(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await house.consenting(ui)
        answer = await ui.call("session.verify_identity", session=session)  # 20 s of waiting for a card
        assert answer["code"] == "idcard.no_card"
        running = ui.ask("session.verify_identity", session=session)
        with pytest.raises(Refusal, match=r"session\.ended"):
            await ui.answer(running)
        assert (await ui.notice("session.ended"))["reason"] == "too_long"
        assert house.loop.time() == pytest.approx(30, abs=1)

    tell(tmp_path, story, monkeypatch, idle_seconds=10, longest_seconds=30)


def test_a_broken_seal_prints_nothing(tmp_path, monkeypatch):
    """I3."""

    async def story(house: House, ui: Caller) -> None:
        house.platform.faults.broken_seal()
        session = await house.verified(ui)
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert (answer["outcome"], answer["code"]) == ("refused", "certificate.seal_invalid")
        assert answer["paper"] == "not_printed"
        assert not house.printer.papers
        assert house.rows("SELECT kind FROM intents") == [("issue",)]

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("silent", {}), ("slow", {"seconds": 9.0})],
)
def test_a_platform_that_answers_never_or_late_is_an_error_in_time(tmp_path, monkeypatch, verb, arguments):
    """T13, rule 2: a late answer is dropped; the next try prints what was issued, and has nothing issued twice."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        house.platform.faults.verbs[verb](**arguments)
        began = house.loop.time()
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert (answer["outcome"], answer["code"], answer["retry"]) == ("refused", "certificate.unsure", True)
        assert house.loop.time() - began <= 5.5
        house.platform.faults.mend()
        await asyncio.sleep(20)
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert (answer["paper"], answer["copy"]) == ("printed", 1)
        assert len(house.printer.papers) == 1
        assert house.platform.summary()["certificates"] == 1
        assert house.rows("SELECT 1 FROM intents WHERE state = 'open'") == []

    tell(tmp_path, story, monkeypatch)


def test_a_platform_that_answers_twice_prints_once(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        house.platform.faults.double_answer()
        session = await house.verified(ui)
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert answer["paper"] == "printed"
        await asyncio.sleep(1)
        assert len(house.printer.papers) == 1

    tell(tmp_path, story, monkeypatch)


def test_paper_out_before_the_first_byte_is_not_printed(tmp_path, monkeypatch):
    """T4: the state is a state, the answer is sure."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        house.printer.paper_out()
        house.printer_port.nudge()
        await ui.component("printer", "offline")
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert (answer["outcome"], answer["paper"], answer["code"]) == ("refused", "not_printed", "printer.paper_out")
        assert answer["text"] == "打印机缺纸，请联系工作人员。"
        assert house.rows("SELECT state, code FROM intents WHERE kind = 'print'") == [("refused", "printer.paper_out")]
        house.printer.refill()
        house.printer_port.nudge()
        await ui.component("printer", "online")
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert answer["paper"] == "printed"

    tell(tmp_path, story, monkeypatch)


def test_paper_that_ends_while_printing_is_unknown(tmp_path, monkeypatch):
    """T4, L16: never a guess."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        house.printer.paper_out(after_millimetres=30.0)
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert (answer["outcome"], answer["paper"]) == ("done", "unknown")
        assert answer["code"] == "certificate.paper_unknown"
        assert house.rows("SELECT state, code FROM intents WHERE kind = 'print'") == [("unknown", "printer.paper_out")]

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda house: house.reader.bad_check_digit(), "idcard.bad_check_digit"),
        (lambda house: house.reader.remove_card(), "idcard.no_card"),
    ],
)
def test_a_bad_card_is_a_clear_error(tmp_path, monkeypatch, spoil, code):
    async def story(house: House, ui: Caller) -> None:
        house.place_card()
        spoil(house)
        session = await house.consenting(ui)
        answer = await ui.call("session.verify_identity", session=session)
        assert (answer["outcome"], answer["code"]) == ("refused", code)
        house.place_card()
        assert (await ui.call("session.verify_identity", session=session))["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)


def test_a_stop_in_the_middle_of_printing_leaves_a_settled_intent(tmp_path, monkeypatch):
    """Rule 2: the daemon stops while paper moves; the journal says unknown, the session is wiped."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        house.printer_port.latency_seconds = 2.0
        ui.ask("session.request_certificate", session=session, certificate=CERTIFICATE)
        await house.until(lambda: house.rows("SELECT * FROM intents WHERE kind = 'print' AND state = 'open'"))
        began = house.loop.time()
        house.stop.set()
        assert (await ui.notice("session.ended"))["reason"] == "shutdown"
        assert house.rows("SELECT state FROM intents WHERE kind = 'print'") == [("unknown",)]
        assert house.loop.time() - began < 5

    tell(tmp_path, story, monkeypatch)


def test_ready_comes_before_the_devices_and_the_status_follows_them(tmp_path):
    """READY means that the API serves; STATUS says what is missing."""

    async def main() -> list[str]:
        house = House(tmp_path)
        house.reader_port.unplug()
        house.uplink.stop()
        async with living(house):
            ui = house.caller()
            await ui.call("events.subscribe")
            await ui.component("printer", "online")
        return house.told.states

    states = run(main())
    assert states[0] == "READY"
    assert any("printer online" in state and "idcard offline" in state for state in states)
    assert "STOPPING" in states
