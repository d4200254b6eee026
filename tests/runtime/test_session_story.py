"""Consent, assistance, reprints, and what lies between two citizens, through the whole house on virtual time."""

import asyncio
import json

import pytest

from runtime.services.receipts import new_receipt
from tests.runtime.house import CERTIFICATE, Caller, House, Refusal, tell


def test_without_the_platform_the_identity_step_is_refused_and_nothing_is_half_verified(tmp_path, monkeypatch):
    """I4."""

    async def story(house: House, ui: Caller) -> None:
        house.uplink.stop()
        await ui.component("platform", "offline")
        session = await house.consenting(ui)
        house.place_card()
        answer = await ui.call("session.verify_identity", session=session)
        assert (answer["outcome"], answer["code"], answer["retry"]) == ("refused", "line.down", True)
        assert (answer["name"], answer["id_number"]) == (None, None)
        assert answer["text"] == "暂时无法连接政务平台，请稍后再试。"
        with pytest.raises(Refusal, match=r"session\.not_verified"):
            await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        house.uplink.start()
        await ui.component("platform", "online")
        house.place_card()
        assert (await ui.call("session.verify_identity", session=session))["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)


def test_without_consent_nothing_is_read_and_who_declines_is_assisted(tmp_path, monkeypatch):
    """T9, H6: consent first; a member of staff vouches with a one-time code; both are on the record at the platform."""

    async def story(house: House, ui: Caller) -> None:
        session = (await ui.call("session.open"))["session"]
        house.place_card()
        with pytest.raises(Refusal, match=r"consent\.missing"):
            await ui.call("session.verify_identity", session=session)
        declined = await ui.call("session.consent", session=session, agreed=False, version="2026-1")
        assert (declined["outcome"], declined["code"]) == ("refused", "consent.declined")
        assert declined["alternatives"] == ["assisted"]
        with pytest.raises(Refusal, match=r"consent\.missing"):
            await ui.call("session.verify_identity", session=session)
        assert house.reader.reads == 0
        code = house.platform.verbs["staff_code"]("staff-1")
        wrong = "000000" if code != "000000" else "000001"
        refused = await ui.call("session.assist", session=session, staff="staff-1", code=wrong)
        assert (refused["outcome"], refused["code"]) == ("refused", "staff.refused")
        house.place_card()
        answer = await ui.call("session.assist", session=session, staff="staff-1", code=code)
        assert answer["outcome"] == "done", answer
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert answer["paper"] == "printed"
        noted = house.store.database.execute("SELECT staff, outcome FROM assistance").fetchall()
        assert noted == [("staff-1", "staff.refused"), ("staff-1", "ok")]

    tell(tmp_path, story, monkeypatch)
    trail = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    assert [one["event"] for one in trail if one["details"].get("staff") == "staff-1"] == [
        "assistance_asked",
        "identity_assisted",
    ] * 2


def test_a_certificate_is_printed_again_by_its_receipt(tmp_path, monkeypatch):
    """T7: the platform gives the same issue; the terminal says which reprint it is."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        first = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        again = await ui.call("session.reprint_certificate", session=session, receipt=first["receipt"])
        assert (again["outcome"], again["paper"], again["copy"]) == ("done", "printed", 1)
        assert (again["number"], again["certificate"]) == (first["number"], CERTIFICATE)
        assert len(house.printer.papers) == 2
        assert house.platform.summary()["certificates"] == 1
        unknown = await ui.call("session.reprint_certificate", session=session, receipt=new_receipt("certificate"))
        assert (unknown["outcome"], unknown["code"]) == ("refused", "receipt.unknown")

    tell(tmp_path, story, monkeypatch)


def test_an_expired_assertion_asks_for_another_check(tmp_path, monkeypatch):
    """I4."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        for _ in range(10):
            await asyncio.sleep(89)
            await ui.call("session.extend", session=session)
        await asyncio.sleep(15)
        with pytest.raises(Refusal, match=r"assertion\.expired"):
            await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        house.place_card()
        assert (await ui.call("session.verify_identity", session=session))["outcome"] == "done"
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert answer["paper"] == "printed"

    tell(tmp_path, story, monkeypatch)


def test_a_card_left_lying_keeps_the_next_session_from_beginning(tmp_path, monkeypatch):
    """Rule 1: the refusal says what to take; when nobody takes it, it is read for nobody else."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.consenting(ui)
        house.place_card()
        assert (await ui.call("session.verify_identity", session=session))["outcome"] == "done"
        await ui.call("session.close", session=session)
        left = await ui.notice("session.left_behind")
        assert (left["device"], left["text"]) == ("idcard", "请取走您的身份证。")
        with pytest.raises(Refusal, match=r"session\.not_clear"):
            await ui.call("session.open")
        house.reader.remove_card()
        session = await house.consenting(ui)
        house.place_card()
        assert (await ui.call("session.verify_identity", session=session))["outcome"] == "done"
        reads = house.reader.reads
        await ui.call("session.close", session=session)
        await asyncio.sleep(50)
        session = await house.consenting(ui)
        answer = await ui.call("session.verify_identity", session=session)
        assert answer["code"] == "idcard.no_card"
        assert house.reader.reads == reads
        checking = ui.ask("session.verify_identity", session=session)
        await asyncio.sleep(1)
        house.reader.remove_card()
        await asyncio.sleep(2)
        house.place_card()
        assert (await ui.answer(checking))["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)
    assert '"left_behind"' in (tmp_path / "audit.jsonl").read_text()


def test_an_idle_session_is_warned_and_goes_on_when_it_is_extended(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = (await ui.call("session.open"))["session"]
        warning = await ui.notice("session.warning")
        assert (warning["reason"], warning["seconds"]) == ("idle", 15.0)
        assert await ui.call("session.extend", session=session) == {"seconds": 30.0}
        await asyncio.sleep(20)
        assert (await ui.call("session.extend", session=session))["seconds"] == 30.0
        assert (await ui.notice("session.ended"))["text"] == "长时间未操作，办理已结束。"

    tell(tmp_path, story, monkeypatch, idle_seconds=30)
