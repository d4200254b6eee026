"""Changes survive a lost connection; a UI that promised to live and falls silent is told of (L43, rule 4)."""

import asyncio
from collections import deque

import pytest

from runtime.api.rpc import API_VERSION
from runtime.state import HISTORY_LENGTH, Change, Component, Place, StateBoard
from tests.runtime.api_house import TESTER_UID, ApiHouse, call, ready_to_file, tell, until_closed
from tests.runtime.house import OPERATOR_UID, UI_UID, Caller, Refusal

SILENCE_SECONDS = 15.0


def test_changes_go_on_where_a_connection_broke_off(tmp_path, monkeypatch):
    async def story(house: ApiHouse, ui: Caller) -> None:
        first = house.caller()
        begun = await call(first, "events.subscribe", {})
        assert (begun["lost"], begun["state"]["session"]) == (False, {"state": "none"})
        first.hang_up()
        await until_closed(first)
        session = (await ui.call("session.open"))["session"]
        await ui.call("session.close", session=session)
        again = house.caller()
        since = {"epoch": begun["epoch"], "sequence": begun["sequence"]}
        resumed = await call(again, "events.subscribe", {"since": since})
        assert resumed == since | {"state": None, "lost": False}
        missed = [await again.notice("events.change") for _ in range(4)]
        assert [one["sequence"] for one in missed] == list(range(since["sequence"] + 1, since["sequence"] + 5))
        assert [one["state"]["state"] for one in missed] == ["open", "ending", "clearing", "none"]
        await ui.call("session.open")
        assert (await again.notice("events.change"))["sequence"] == since["sequence"] + 5

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize("since", [{"epoch": "another", "sequence": 3}, {"sequence": 2**53}])
def test_a_place_that_is_not_known_any_more_gives_the_whole_state(tmp_path, monkeypatch, since):
    async def story(house: ApiHouse, ui: Caller) -> None:
        now = await call(ui, "events.subscribe", {})
        told = await call(ui, "events.subscribe", {"since": {"epoch": now["epoch"], **since}})
        assert (told["lost"], told["state"], told["sequence"]) == (True, now["state"], now["sequence"])

    tell(tmp_path, story, monkeypatch)


async def test_a_board_keeps_so_many_changes_for_who_comes_back():
    board = StateBoard()
    for number in range(HISTORY_LENGTH + 10):
        board.set("idcard", Component(str(number)))
    assert board.subscribe(Place(board.epoch, 9)).state is not None
    assert board.subscribe(Place(StateBoard().epoch, 20)).state is not None
    back = board.subscribe(Place(board.epoch, 10))
    assert back.state is None
    taken = deque[Change]()
    for _ in range(HISTORY_LENGTH):
        taken.append(await back.next())
    board.set("idcard", Component("new"))
    taken.append(await back.next())
    assert [one.sequence for one in taken] == list(range(11, HISTORY_LENGTH + 12))
    assert board.subscribe(Place(board.epoch, HISTORY_LENGTH + 11)).state is None


def test_what_the_platform_settles_is_a_change_without_a_number(tmp_path, monkeypatch):
    """T20: every role reads the board; whoever waits for a result asks by its number."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        session, receipt = await ready_to_file(house, ui)
        operator = house.caller(OPERATOR_UID)
        assert (await operator.call("events.subscribe"))["state"]["settlement"] == {"state": "online"}
        house.platform.faults.silent()
        assert (await ui.call("application.file", session=session))["code"] == "application.unsure"
        house.platform.faults.mend()
        while (change := await operator.notice("events.change"))["component"] != "settlement":
            pass
        assert change["state"]["details"] == {"settled": "1", "last": "file", "outcome": "acted"}
        (shown,) = (await ui.call("progress.by_receipt", receipt=receipt))["receipts"]
        assert shown["state"] == "accepted"

    tell(tmp_path, story, monkeypatch)


def test_a_ui_that_promised_to_live_and_is_silent_loses_its_session(tmp_path, monkeypatch):
    """Rule 4: whoever can hang has a deadline; the citizen's data do not wait for a UI that hangs."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        hung = house.caller()
        assert (await hung.call("ui.heartbeat"))["seconds"] == SILENCE_SECONDS / 3
        await ui.component("ui", "online")
        await hung.call("session.open")
        for _ in range(10):
            await asyncio.sleep(SILENCE_SECONDS / 3)
            await hung.call("ui.heartbeat")
        began = house.loop.time()
        ui.notices.clear()
        await ui.component("ui", "offline")
        assert house.loop.time() - began == pytest.approx(SILENCE_SECONDS, abs=0.01)
        assert (await hung.notice("session.ended"))["reason"] == "client_lost"
        assert (await ui.call("terminal.status"))["state"]["ui"] == {"state": "offline", "code": "ui.silent"}
        await hung.call("ui.heartbeat")
        await ui.component("ui", "online")
        hung.hang_up()
        await ui.component("ui", "offline")
        assert (await ui.call("terminal.status"))["state"]["ui"]["code"] == "ui.gone"

    tell(tmp_path, story, monkeypatch)


def test_a_ui_that_promised_nothing_is_left_alone_and_one_of_two_is_enough(tmp_path, monkeypatch):
    async def story(house: ApiHouse, ui: Caller) -> None:
        await ui.call("session.open")
        first, second = house.caller(), house.caller()
        await first.call("ui.heartbeat")
        await asyncio.sleep(SILENCE_SECONDS / 2)
        await second.call("ui.heartbeat")
        await asyncio.sleep(SILENCE_SECONDS * 0.7)
        state = (await ui.call("terminal.status"))["state"]
        assert (state["ui"]["state"], state["session"]["state"]) == ("online", "open")
        await asyncio.sleep(SILENCE_SECONDS)
        state = (await ui.call("terminal.status"))["state"]
        assert (state["ui"]["state"], state["session"]["state"]) == ("offline", "open")

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize("version", [0, 1, API_VERSION + 1])
def test_a_client_of_another_version_is_told_what_is_served(tmp_path, monkeypatch, version):
    """H12."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        with pytest.raises(Refusal, match=r"request\.unsupported_version"):
            await call(ui, "rpc.hello", {"client": "kiosk-ui 1.0", "version": version})
        assert await ui.call("terminal.status")

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    ("uid", "both", "roles"),
    [
        (UI_UID, False, ["ui"]),
        (OPERATOR_UID, False, ["operator"]),
        (TESTER_UID, False, ["tester"]),
        (OPERATOR_UID, True, ["operator", "tester"]),
    ],
)
def test_who_says_hello_learns_the_version_and_its_roles(tmp_path, monkeypatch, uid, both, roles):
    """H6."""

    async def story(house: ApiHouse, _ui: Caller) -> None:
        caller = house.caller(uid)
        welcome = await call(caller, "rpc.hello", {"client": "kiosk-ui 3.2", "version": API_VERSION})
        assert (welcome["version"], welcome["roles"], welcome["software"]) == (API_VERSION, roles, "0.0")
        assert welcome["epoch"] == (await caller.call("events.subscribe"))["epoch"]

    tell(tmp_path, story, monkeypatch, both=both)
