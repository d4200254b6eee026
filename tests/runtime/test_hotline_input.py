"""The hotline and what is wrong or urgent: emergencies, bad input, roles, a daemon that ends in the middle (H4)."""

import asyncio
import sqlite3
from typing import Any

import pytest

from runtime import texts
from runtime.messages.hotline import RATING_CHARACTERS, TEXT_CHARACTERS
from runtime.services import emergency, hotline
from runtime.services.applications import SCANS_BYTES
from runtime.services.receipts import new_receipt
from sim.people import DISTRICTS
from sim.virtual_time import run
from sim.world import World
from tests.runtime.house import OPERATOR_UID, Caller, House, Refusal, living, tell
from tests.runtime.test_hotline import ASKED, attach, begin, opened, orders, register, standing

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "dial"),
    [
        ("楼下着火了，火很大！", ("119",)),
        ("救 命 ！有人持刀", ("110",)),
        ("隔壁正在打架，有人受伤流血", ("110", "120")),
        ("厨房煤气泄漏，味道很重", ("119",)),
        ("老人晕倒，没有呼吸", ("120",)),
        ("路灯不亮已有一周。", ()),
        ("单位拖欠我的救命钱，求助。", ()),
        ("消防通道堵塞，有火灾隐患。", ()),
        ("请公布去年仓库起火原因。", ()),
        ("希望增设110报警亭。", ()),
    ],
)
def test_words_of_an_emergency(text, dial):
    """H4: with care for what only sounds like one."""
    found = emergency.find(text)
    assert (found.dial if found is not None else ()) == dial


@pytest.mark.parametrize("word", [word for words in emergency.WORDS.values() for word in words])
def test_every_word_is_heard_in_a_sentence(word):
    found = emergency.find(f"快来，{word}了。")
    assert found is not None
    assert texts.text(found.code).zh.count("拨打") == 1
    assert all(number in texts.text(found.code).zh for number in found.dial)


def test_an_emergency_is_told_what_to_dial_with_the_line_down(tmp_path, monkeypatch):
    """H4: at once, before anything is checked or sent; no verified citizen is needed."""

    async def story(house: House, ui: Caller) -> None:
        house.uplink.stop()
        await ui.component("platform", "offline")
        notice = await ui.call("hotline.categories")
        assert notice["dial"] == ["110", "119", "120"]
        assert "110" in notice["emergency_zh"]
        assert "110" in notice["emergency_en"]
        assert [one["category"] for one in notice["categories"]][:2] == ["emergency", "consultation"]
        session = await opened(ui)
        told = await register(ui, session, begins=False, text="我家着火了", district="?")
        assert (told["outcome"], told["code"], told["dial"]) == ("refused", "hotline.emergency_fire", ["119"])
        assert told["text"] == "请立即撤离并拨打119。"
        assert told["seconds"] < 0.1
        assert told["receipt"] is None
        assert (await ui.notice("hotline.emergency"))["dial"] == ["119"]
        chosen = await register(ui, session, category="emergency", text="", no_danger=True)
        assert (chosen["code"], chosen["dial"]) == ("hotline.emergency", ["110", "119", "120"])
        assert house.rows("SELECT * FROM intents") == []

    tell(tmp_path, story, monkeypatch)


def test_an_emergency_is_told_though_the_journal_cannot_be_written(tmp_path, monkeypatch):
    """H4: whatever else is broken."""

    async def story(house: House, ui: Caller) -> None:
        session = await opened(ui)
        house.journal.execute("PRAGMA query_only = ON")
        told = await register(ui, session, begins=False, text="有人行凶")
        house.journal.execute("PRAGMA query_only = OFF")
        assert (told["code"], told["dial"]) == ("hotline.emergency_police", ["110"])

    tell(tmp_path, story, monkeypatch)


def test_a_false_alarm_goes_on_when_nobody_is_in_danger(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        text = "去年楼道着火后一直没有修复。"
        assert (await register(ui, session, text=text))["code"] == "hotline.emergency_fire"
        assert (await register(ui, session, text=text, no_danger=True))["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)


def test_police_matters_take_their_own_route(tmp_path, monkeypatch):
    """H4: handed to the police, never to another department."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        receipt = (await register(ui, session, category="police_non_emergency", text="咨询走失犬只认领。"))["receipt"]
        house.platform.verbs["hotline_until"](receipt, "answered")
        shown = await standing(ui, session, receipt)
        assert {one["department"] for one in shown["history"]} - {""} == {f"{DISTRICTS[0]}公安分局非警务分流岗"}

    tell(tmp_path, story, monkeypatch)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"text": " \n"}, "hotline.text_missing"),
    ({"text": "长" * (TEXT_CHARACTERS + 1)}, "hotline.text_too_long"),
    ({"district": "火星区"}, "hotline.unknown_district"),
    ({"anonymous": True, "telephone": "13900000001"}, "hotline.anonymous_telephone"),
    ({"telephone": "12345"}, "hotline.bad_telephone"),
    ({"telephone": "一三九零零零零零零零一"}, "hotline.bad_telephone"),
    ({"telephone": ""}, "hotline.bad_telephone"),
    ({"scans": [1]}, "hotline.no_attachment"),
    ({"scans": [1, 1]}, "hotline.no_attachment"),
]


@pytest.mark.parametrize(("changes", "code"), WRONG)
def test_what_is_wrong_is_told_with_what_to_do_and_not_sent(tmp_path, monkeypatch, changes, code):
    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        answer = await register(ui, session, **changes)
        assert (answer["outcome"], answer["code"], answer["receipt"]) == ("refused", code, None)
        assert answer["text"] == texts.text(code).zh
        assert orders(house) == []
        sent = bool(house.rows("SELECT 1 FROM intents"))
        assert sent == (code == "hotline.unknown_district"), "this terminal lists no districts"

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    "changes",
    [
        {"category": "murder"},
        {"text": 7},
        {"text": "长" * 10_001},
        {"district": ""},
        {"district": "长" * 21},
        {"anonymous": "yes"},
        {"telephone": 13900000001},
        {"telephone": "1" * 33},
        {"scans": [0]},
        {"scans": [6]},
        {"scans": [1, 2, 3, 4, 5, 1]},
        {"surplus": 1},
    ],
)
def test_parameters_that_do_not_fit_the_schema_are_refused(tmp_path, monkeypatch, changes):
    async def story(_house: House, ui: Caller) -> None:
        session = await opened(ui)
        with pytest.raises(Refusal, match=r"request\.bad_params"):
            await register(ui, session, **changes)

    tell(tmp_path, story, monkeypatch)


def test_out_of_order_and_out_of_time(tmp_path, monkeypatch):
    """I4: a request under a name needs its verified citizen, and one who was verified not too long ago."""

    async def story(house: House, ui: Caller) -> None:
        session = await opened(ui)
        with pytest.raises(Refusal, match=r"session\.not_verified"):
            await register(ui, session)
        empty = await ui.call("hotline.attach", session=session, attachment=1)
        assert (empty["outcome"], empty["code"]) == ("refused", "hotline.no_document")
        for typed, code in (("H-0000", "receipt.mistyped"), (new_receipt("payment"), "hotline.other_receipt")):
            assert (await standing(ui, session, typed))["code"] == code
        long = "长" * (RATING_CHARACTERS + 1)
        rating = {"session": session, "receipt": new_receipt("hotline"), "verdict": "neutral"}
        assert (await ui.call("hotline.rate", **rating, text=long))["code"] == "hotline.rating_too_long"
        assert (await ui.call("hotline.rate", **rating))["code"] == "receipt.unknown"
        await ui.call("session.close", session=session)
        session = await house.verified(ui)
        for _ in range(11):
            await asyncio.sleep(85)
            await ui.call("session.extend", session=session)
        with pytest.raises(Refusal, match=r"assertion\.expired"):
            await register(ui, session)
        assert (await register(ui, session, anonymous=True))["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)


def test_attachments_have_a_limit_all_together(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await opened(ui)
        for number in range(1, 5):
            assert (await attach(house, ui, session, number, 4 * MIB))["held_bytes"] == number * 4 * MIB
        await attach(house, ui, session, 4, 4 * MIB - 1)
        assert (await attach(house, ui, session, 5, 4 * MIB))["held_bytes"] == SCANS_BYTES - 1
        assert (await attach(house, ui, session, 4, 4 * MIB))["held_bytes"] == SCANS_BYTES
        monkeypatch.setattr(hotline, "SCANS_BYTES", SCANS_BYTES - 1)
        over = await attach(house, ui, session, 5, 4 * MIB)
        assert (over["outcome"], over["code"], over["retry"]) == ("refused", "hotline.scans_too_large", True)

    tell(tmp_path, story, monkeypatch)


def test_the_hotline_is_for_the_owner_of_the_session(tmp_path, monkeypatch):
    """T21: neither an operator nor another client reaches it."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        receipt = new_receipt("hotline")
        calls: list[tuple[str, dict[str, Any]]] = [
            ("hotline.begin", {}),
            ("hotline.attach", {"attachment": 1}),
            ("hotline.register", ASKED),
            ("hotline.standing", {"receipt": receipt}),
            ("hotline.rate", {"receipt": receipt, "verdict": "neutral"}),
        ]
        for caller, code in ((house.caller(), r"session\.unknown"), (house.caller(OPERATOR_UID), r"caller\.not_a")):
            for method, params in calls:
                with pytest.raises(Refusal, match=code):
                    await caller.call(method, session=session, **params)

    tell(tmp_path, story, monkeypatch)


def test_a_daemon_that_ends_in_the_middle_registered_nothing_and_the_number_says_so(tmp_path):
    """Rule 2: started again on the journal as it was written, the intent is settled; what was said died with it."""

    async def main() -> None:
        first = House(tmp_path)
        platform = asyncio.create_task(first.serve_platform(), name="platform")
        daemon = asyncio.create_task(first.daemon(), name="daemon")
        ui = first.caller()
        await first.settled(ui)
        session = await first.verified(ui)
        await attach(first, ui, session, 1)
        receipt = await begin(ui, session)
        ui.ask("hotline.register", session=session, scans=[1], **ASKED)
        await ui.notice("hotline.progress")
        left = sqlite3.connect(":memory:", isolation_level=None)
        first.journal.backup(left)
        first.uplink.stop()
        first.stop.set()
        await daemon
        platform.cancel()
        await asyncio.gather(platform, return_exceptions=True)
        first.journal.close()
        assert left.execute("SELECT kind, state FROM intents").fetchall() == [("register", "open")]
        async with living(World(tmp_path / "second", first.outside, journal=left)) as second:
            ui = second.caller()
            await second.settled(ui)
            await second.until(lambda: second.rows("SELECT state FROM intents") == [("refused",)])
            shown = await standing(ui, await opened(ui), receipt)
            assert (shown["outcome"], shown["code"]) == ("refused", "receipt.not_filed")
            assert shown["text"] == "未提交成功，请重新办理。"

    (tmp_path / "second").mkdir()
    run(main())
