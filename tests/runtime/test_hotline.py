"""The hotline through the whole house on virtual time: registered, asked for, answered, rated (H1 to H4, T12, T13)."""

import asyncio
import json
from typing import Any

import pytest

from runtime.messages import from_payload
from runtime.messages.hotline import HotlineQuery, HotlineRating
from runtime.services.receipts import new_receipt
from sim.people import DISTRICTS
from sim.platform.hotline import DAY
from tests.runtime.house import CITIZEN, PEOPLE, Caller, House, tell
from transport.payload import Payload

TEXT = "样本区测试路口的路灯不亮已有一周，夜间出行不便。"
TELEPHONE = "139 0000 0001"
ASKED: dict[str, Any] = {"category": "complaint", "text": TEXT, "district": DISTRICTS[0], "anonymous": False}
LONG = {"idle_seconds": 600, "longest_seconds": 7_200}
ATTACHMENT_BYTES = 2 * 2**20


def orders(house: House) -> list[tuple[str, str | None, str | None, str]]:
    """Receipt, ID number, telephone number and text of every order that the platform has."""
    statement = "SELECT receipt, id_number, telephone, text FROM order_contents ORDER BY rowid"
    return house.store.database.execute(statement).fetchall()


def events(house: House) -> list[tuple[str, str, str | None]]:
    rows = house.store.database.execute("SELECT event FROM records WHERE schema = 'supervision.event' ORDER BY id")
    told = [json.loads(row[0]) for row in rows]
    return [(one["step"], one["outcome"], one["code"]) for one in told]


async def begin(ui: Caller, session: str) -> str:
    begun = await ui.call("hotline.begin", session=session)
    assert begun["outcome"] == "done"
    return begun["receipt"]


async def register(ui: Caller, session: str, *, begins: bool = True, **changes: Any) -> dict[str, Any]:
    if begins:
        await begin(ui, session)
    return await ui.call("hotline.register", session=session, **(ASKED | changes))


async def standing(ui: Caller, session: str, receipt: str) -> dict[str, Any]:
    return await ui.call("hotline.standing", session=session, receipt=receipt)


async def opened(ui: Caller) -> str:
    """A session without a verified citizen."""
    return (await ui.call("session.open"))["session"]


async def attach(house: House, ui: Caller, session: str, number: int, size: int = ATTACHMENT_BYTES) -> dict[str, Any]:
    house.vision.document = house.vision.document[:9].ljust(size, b" ")
    await ui.call("session.begin_document", session=session)
    await ui.call("session.add_page", session=session)
    assert (await ui.call("session.finish_document", session=session))["bytes"] == size
    return await ui.call("hotline.attach", session=session, attachment=number)


def test_a_request_is_registered_handled_answered_and_rated(tmp_path, monkeypatch):
    """H1, H2, H3: every later state, the reply, a rating that opens it again and one that ends it."""

    async def story(house: House, ui: Caller) -> None:
        verbs = house.platform.verbs
        session = await house.verified(ui)
        registered = await register(ui, session, telephone=TELEPHONE)
        assert (registered["outcome"], registered["stage"], registered["code"]) == ("done", "registered", None)
        receipt = registered["receipt"]
        assert registered["seconds"] <= 5.0
        assert orders(house) == [(receipt, CITIZEN.id_number, TELEPHONE, TEXT)]
        verbs["hotline_until"](receipt, "handling")
        shown = await standing(ui, session, receipt.lower())
        assert (shown["code"], shown["stage"], shown["stage_text"]) == (None, "handling", "办理中")
        assert [one["stage"] for one in shown["history"]][:3] == ["registered", "transcribed", "reviewed"]
        early = await ui.call("hotline.rate", session=session, receipt=receipt, verdict="satisfied")
        assert (early["outcome"], early["code"]) == ("refused", "hotline.not_rateable")
        verbs["hotline_until"](receipt, "answered")
        shown = await standing(ui, session, receipt)
        assert "感谢" in shown["reply"]
        assert shown["may_be_rated"]
        rating = {"session": session, "receipt": receipt, "verdict": "unsatisfied", "text": "灯仍然不亮。"}
        rated = await ui.call("hotline.rate", **rating)
        assert (rated["outcome"], rated["code"], rated["stage"]) == ("done", "hotline.reopened", "assigned")
        again = await ui.call("hotline.rate", **rating)
        assert (again["outcome"], again["stage"]) == ("done", "assigned"), "given twice it counts once"
        verbs["hotline_until"](receipt, "answered")
        done = await ui.call("hotline.rate", session=session, receipt=receipt, verdict="satisfied")
        assert (done["outcome"], done["code"], done["stage"]) == ("done", None, "followed_up")
        mine = await ui.call("progress.mine", session=session)
        assert [(one["kind"], one["state"]) for one in mine["receipts"]] == [("hotline", "closed")]
        verbs["hotline_advance"](2 * DAY)
        assert verbs["hotline_report"]()["satisfied"] == [receipt]
        assert verbs["hotline_order"](receipt)["stage"] == "archived"
        counts = house.store.database.execute("SELECT round, verdict FROM order_ratings ORDER BY round").fetchall()
        assert counts == [(1, "unsatisfied"), (2, "satisfied")]

    tell(tmp_path, story, monkeypatch, **LONG)


def test_every_step_is_told_and_nothing_personal_is_kept(tmp_path, monkeypatch):
    """T12, T20: one event a step; neither text nor telephone number in journal, audit log or events."""

    async def story(house: House, ui: Caller) -> list[bytes]:
        session = await house.verified(ui)
        receipt = (await register(ui, session, telephone=TELEPHONE))["receipt"]
        await standing(ui, session, receipt)
        house.platform.verbs["hotline_until"](receipt, "answered")
        await ui.call("hotline.rate", session=session, receipt=receipt, verdict="unsatisfied", text="还是不亮。")
        await house.until(lambda: ("rate_reply", "done", None) in events(house))
        steps = [step for step, _, _ in events(house)]
        assert steps[-5:] == ["begin_request", "check_request", "register", "ask_standing", "rate_reply"]
        return [("\n".join(house.journal.iterdump())).encode(), (tmp_path / "audit.jsonl").read_bytes()]

    journal, audit = tell(tmp_path, story, monkeypatch)
    for personal in (TEXT, "路灯", TELEPHONE, "还是不亮", CITIZEN.id_number):
        for kept in (journal, audit):
            assert personal.encode() not in kept
            assert personal.encode().hex().upper().encode() not in kept
    told = [json.loads(line)["event"] for line in audit.splitlines()]
    assert told.count("request_registered") == told.count("request_asked") == told.count("request_rated") == 1


def test_the_number_is_shown_before_anything_is_sent(tmp_path, monkeypatch):
    """Rule 2: while the platform has nothing, and nothing is registered without it."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        receipt = await begin(ui, session)
        assert (await standing(ui, session, receipt))["code"] == "receipt.unknown"
        registered = await register(ui, session, begins=False)
        assert (registered["outcome"], registered["receipt"]) == ("done", receipt)
        again = await register(ui, session, begins=False)
        assert (again["outcome"], again["code"]) == ("refused", "hotline.not_begun")
        assert [one[0] for one in orders(house)] == [receipt]

    tell(tmp_path, story, monkeypatch)


def test_attachments_of_2_mb_go_in_parts_with_progress(tmp_path, monkeypatch):
    """H1: also when the line is lost in the middle; the session then holds nothing of the request."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        for number in (1, 2):
            taken = await attach(house, ui, session, number)
            assert (taken["outcome"], taken["held_bytes"]) == ("done", number * ATTACHMENT_BYTES)
        await begin(ui, session)
        asked = ui.ask("hotline.register", session=session, scans=[1, 2], **ASKED)
        total = 0
        while (told := await ui.notice("hotline.progress"))["sent_bytes"] < told["total_bytes"] // 2:
            total = told["total_bytes"]
        assert total > 2 * ATTACHMENT_BYTES
        house.uplink.drop()
        answer = await ui.answer(asked)
        assert answer["outcome"] == "done", answer
        rows = house.store.database.execute("SELECT name, bytes FROM order_scans ORDER BY name").fetchall()
        assert rows == [("attachment_1", ATTACHMENT_BYTES), ("attachment_2", ATTACHMENT_BYTES)]
        assert (await attach(house, ui, session, 3, 1_000))["held_bytes"] == 1_000
        twice = await register(ui, session, scans=[3, 3])
        assert (twice["outcome"], twice["code"]) == ("refused", "hotline.no_attachment")
        gone = await register(ui, session, scans=[1])
        assert (gone["outcome"], gone["code"]) == ("refused", "hotline.no_attachment")

    tell(tmp_path, story, monkeypatch)


def test_a_line_that_stays_down_registers_nothing_and_the_number_says_so(tmp_path, monkeypatch):
    """Rule 2: unsure at first, then settled as not registered; the record is told to the platform."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        await attach(house, ui, session, 1)
        receipt = await begin(ui, session)
        asked = ui.ask("hotline.register", session=session, scans=[1], **ASKED)
        await ui.notice("hotline.progress")
        house.uplink.stop()
        answer = await ui.answer(asked)
        assert (answer["outcome"], answer["code"], answer["retry"]) == ("refused", "hotline.unsure", True)
        await ui.call("session.close", session=session)
        house.uplink.start()
        await house.until(lambda: not house.rows("SELECT 1 FROM intents WHERE state = 'open'"))
        assert house.rows("SELECT kind, state, code FROM intents") == [
            ("register", "refused", "hotline.not_registered")
        ]
        session = await opened(ui)
        shown = await standing(ui, session, receipt)
        assert (shown["outcome"], shown["code"]) == ("refused", "receipt.not_filed")
        asked_for = await ui.call("progress.by_receipt", receipt=receipt)
        assert asked_for["code"] == "receipt.not_filed" or asked_for["receipts"][0]["state"] == "not_filed"
        assert orders(house) == []

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize("fault", ["silent", "outage"])
def test_what_nobody_heard_is_found_out_or_sent_again_under_its_number(tmp_path, monkeypatch, fault):
    """Rule 2: one order, whether the platform had acted or not."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        getattr(house.platform.faults, fault)()
        receipt = await begin(ui, session)
        unsure = await register(ui, session, begins=False)
        assert unsure["code"] == "hotline.unsure"
        house.platform.faults.mend()
        await house.until(lambda: house.rows("SELECT 1 FROM intents") != [])
        await asyncio.sleep(15)
        again = await register(ui, session, begins=False)
        assert (again["outcome"], again["receipt"]) == ("done", receipt), again
        assert [one[0] for one in orders(house)] == [receipt]
        await house.until(lambda: not house.rows("SELECT 1 FROM intents WHERE state = 'open'"))

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize("fault", ["silent", "outage"])
def test_what_changed_after_an_unsure_try_is_not_taken_for_the_same(tmp_path, monkeypatch, fault):
    """Registered, the one before stands and the citizen is told so; if it never was, the other one goes instead."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        getattr(house.platform.faults, fault)()
        receipt = await begin(ui, session)
        assert (await register(ui, session, begins=False))["code"] == "hotline.unsure"
        house.platform.faults.mend()
        await asyncio.sleep(15)
        other = "另有一事：井盖松动。"
        answer = await register(ui, session, begins=False, text=other)
        if fault == "silent":
            assert (answer["outcome"], answer["code"], answer["receipt"]) == ("refused", "hotline.already", receipt)
        else:
            assert (answer["outcome"], answer["receipt"]) == ("done", receipt)
        assert [(one[0], one[3]) for one in orders(house)] == [(receipt, TEXT if fault == "silent" else other)]

    tell(tmp_path, story, monkeypatch)


def test_a_wrong_answer_is_believed_by_nobody(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        house.platform.faults.wrong_receipt()
        assert (await register(ui, session))["code"] == "hotline.unsure"
        await house.until(lambda: not house.rows("SELECT 1 FROM intents WHERE state = 'open'"))
        assert house.rows("SELECT state FROM intents WHERE kind = 'register'") == [("done",)]

    tell(tmp_path, story, monkeypatch)


def test_a_strangers_number_says_only_what_a_number_may_say(tmp_path, monkeypatch):
    """H2: stage, department and times; texts, reply and rating are for the verified citizen who made it."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        receipt = (await register(ui, session))["receipt"]
        house.platform.verbs["hotline_until"](receipt, "answered")
        await ui.call("session.close", session=session)
        for card in (None, PEOPLE.citizen(1)):
            session = await opened(ui) if card is None else await house.consenting(ui)
            if card is not None:
                house.place_card(card)
                assert (await ui.call("session.verify_identity", session=session))["outcome"] == "done"
                house.reader.remove_card()
            shown = await standing(ui, session, receipt)
            assert (shown["outcome"], shown["code"], shown["stage"]) == ("done", "hotline.needs_identity", "answered")
            assert (shown["reply"], shown["may_be_rated"]) == (None, False)
            assert {one["text"] for one in shown["history"]} == {""}
            rated = await ui.call("hotline.rate", session=session, receipt=receipt, verdict="unsatisfied")
            assert rated["code"] == ("session.not_verified" if card is None else "hotline.not_yours")
            await ui.call("session.close", session=session)
        unknown = await standing(ui, await opened(ui), new_receipt("hotline"))
        assert (unknown["outcome"], unknown["code"]) == ("refused", "receipt.unknown")

    tell(tmp_path, story, monkeypatch)


def test_an_anonymous_request_carries_nobody_and_its_number_is_enough(tmp_path, monkeypatch):
    """H1, H2: registered, read and rated without a verified citizen; a verified one's assertion never goes with it."""

    async def story(house: House, ui: Caller) -> None:
        session = await opened(ui)
        receipt = (await register(ui, session, anonymous=True))["receipt"]
        await ui.call("session.close", session=session)
        session = await house.verified(ui)
        await register(ui, session, anonymous=True, text="另有一事：井盖松动。")
        assert {one[1:3] for one in orders(house)} == {(None, None)}
        house.platform.verbs["hotline_until"](receipt, "answered")
        heard: list[HotlineQuery | HotlineRating] = []
        serve = house.platform.services.serve

        def listen(terminal: str, request: Payload) -> Payload:
            if request.schema.startswith("hotline."):
                heard.append(from_payload(request, HotlineQuery, HotlineRating))
            return serve(terminal, request)

        monkeypatch.setattr(house.platform.services, "serve", listen)
        shown = await standing(ui, session, receipt)
        assert "感谢" in shown["reply"]
        rated = await ui.call("hotline.rate", session=session, receipt=receipt, verdict="satisfied")
        assert rated["stage"] == "followed_up"
        assert len(heard) == 3
        assert {message.assertion for message in heard} == {None}
        assert (await ui.call("progress.mine", session=session))["receipts"] == []

    tell(tmp_path, story, monkeypatch)
