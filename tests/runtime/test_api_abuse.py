"""Hostile and clumsy clients: each gets a clear coded error, none ends the daemon or reaches a session (H12, T21)."""

import asyncio
import itertools
import json
from types import SimpleNamespace

import pytest

from runtime.api import connection, rpc, server
from runtime.logind import PowerError
from runtime.state import QUEUE_LENGTH
from sim.virtual_time import run
from tests.runtime.house import (
    CERTIFICATE,
    OPERATOR_UID,
    STRANGER_UID,
    UI_UID,
    Caller,
    House,
    MemoryClient,
    Refusal,
    tell,
)


def test_a_line_of_20_mb_is_refused_and_the_connection_closed(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        other = house.caller()
        for _ in range(320):
            other.raw(b"x" * 65_536)
        with pytest.raises(Refusal, match=r"request\.too_large"):
            await other.answer(None)
        other.hang_up()
        await other.client.closed.wait()
        assert (await ui.call("terminal.status"))["version"] == "0.0"

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    ("line", "number", "code"),
    [
        (b'{"jsonrpc": "2.0", "id": 1, "method": "terminal.status"', rpc.PARSE_ERROR, "request.not_json"),
        (b"\x00\x01\x02", rpc.PARSE_ERROR, "request.not_json"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"terminal.status"}]', rpc.INVALID_REQUEST, "request.batch"),
        (b'{"jsonrpc":"2.0","method":"terminal.status"}', rpc.INVALID_REQUEST, "request.invalid"),
    ],
)
def test_bad_json_is_refused_and_the_connection_goes_on(tmp_path, monkeypatch, line, number, code):
    async def story(house: House, ui: Caller) -> None:
        ui.raw(line + b"\n")
        with pytest.raises(Refusal) as refused:
            await ui.answer(None)
        assert (refused.value.number, refused.value.code) == (number, code)
        assert (await ui.call("terminal.status"))["boot_id"] == "boot"

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("terminal.explode", {}, (rpc.METHOD_NOT_FOUND, "request.unknown_method")),
        ("__init__", {}, (rpc.METHOD_NOT_FOUND, "request.unknown_method")),
        ("session.close", {}, (rpc.INVALID_PARAMS, "request.bad_params")),
        ("session.close", {"session": 7}, (rpc.INVALID_PARAMS, "request.bad_params")),
        ("session.close", {"session": "x" * 65}, (rpc.INVALID_PARAMS, "request.bad_params")),
        ("terminal.status", {"x": 1}, (rpc.INVALID_PARAMS, "request.bad_params")),
        (
            "session.request_certificate",
            {"session": "a", "certificate": "../x"},
            (rpc.INVALID_PARAMS, "request.bad_params"),
        ),
        ("session.close", {"session": "no-such-session"}, (rpc.APPLICATION_ERROR, "session.unknown")),
        ("session.close", {"session": "张三丰"}, (rpc.APPLICATION_ERROR, "session.unknown")),
        ("terminal.power_off", {}, (rpc.APPLICATION_ERROR, "caller.not_allowed")),
    ],
)
def test_calls_that_do_not_fit_are_refused(tmp_path, monkeypatch, method, params, error):
    async def story(house: House, ui: Caller) -> None:
        with pytest.raises(Refusal) as refused:
            await ui.call(method, **params)
        assert (refused.value.number, refused.value.code) == error

    tell(tmp_path, story, monkeypatch)


def test_parameters_nested_beyond_the_stack_are_refused(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        deep = b"[" * 30_000 + b"]" * 30_000
        ui.raw(b'{"jsonrpc":"2.0","id":77,"method":"session.close","params":{"session":' + deep + b"}}\n")
        with pytest.raises(Refusal, match=r"request\."):
            await ui.answer(None)
        assert (await ui.call("terminal.status"))["rig"] is False

    tell(tmp_path, story, monkeypatch)


def test_somebody_elses_session_is_unknown(tmp_path, monkeypatch):
    """T20: the id alone opens nothing, not even for the same user."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        thief = house.caller()
        for method, more in (
            ("session.verify_identity", {}),
            ("session.request_certificate", {"certificate": CERTIFICATE}),
            ("session.begin_document", {}),
            ("session.add_page", {}),
            ("session.finish_document", {}),
            ("session.discard_document", {}),
            ("session.close", {}),
            ("preview.open", {}),
            ("preview.page", {"page": 1}),
        ):
            with pytest.raises(Refusal, match=r"session\.unknown"):
                await thief.call(method, session=session, **more)
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert answer["paper"] == "printed"

    tell(tmp_path, story, monkeypatch)


def test_there_is_one_session_at_a_time(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = (await ui.call("session.open"))["session"]
        for caller in (ui, house.caller()):
            with pytest.raises(Refusal, match=r"session\.busy"):
                await caller.call("session.open")
        await ui.call("session.close", session=session)
        assert (await ui.call("session.open"))["session"] != session

    tell(tmp_path, story, monkeypatch)


def test_an_operator_reaches_no_session_and_powers_the_host_off_on_the_record(tmp_path, monkeypatch):
    """T21, H6."""

    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        operator = house.caller(OPERATOR_UID)
        assert (await operator.call("terminal.status"))["state"]["session"] == {"state": "verified"}
        for method, params in (
            ("session.open", {}),
            ("session.close", {"session": session}),
            ("session.verify_identity", {"session": session}),
            ("session.request_certificate", {"session": session, "certificate": CERTIFICATE}),
            ("session.begin_document", {"session": session}),
            ("session.add_page", {"session": session}),
            ("session.finish_document", {"session": session}),
            ("session.discard_document", {"session": session}),
            ("preview.open", {"session": session}),
            ("preview.page", {"session": session, "page": 1}),
        ):
            for _ in range(2):
                with pytest.raises(Refusal, match=r"caller\.not_allowed"):
                    await operator.call(method, **params)
        with pytest.raises(Refusal, match=r"session\.busy"):
            await operator.call("terminal.power_off")
        assert house.power.requests == 0
        await ui.call("session.close", session=session)
        assert await operator.call("terminal.power_off") == {}
        assert house.power.requests == 1

    tell(tmp_path, story, monkeypatch)
    events = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(one["event"], one["details"].get("what")) for one in events if one["actor"] == f"uid {OPERATOR_UID}"] == [
        ("caller_refused", "session.open"),
        ("caller_refused", "session.close"),
        ("caller_refused", "session.verify_identity"),
        ("caller_refused", "session.request_certificate"),
        ("caller_refused", "session.begin_document"),
        ("caller_refused", "session.add_page"),
        ("caller_refused", "session.finish_document"),
        ("caller_refused", "session.discard_document"),
        ("caller_refused", "preview.open"),
        ("caller_refused", "preview.page"),
        ("power_off_ordered", None),
    ]


def test_a_power_off_that_the_host_refuses_is_on_the_record(tmp_path, monkeypatch):
    async def story(house: House, _ui: Caller) -> None:
        async def refuse() -> None:
            raise PowerError("power.refused", "no")

        house.power.power_off = refuse
        with pytest.raises(Refusal, match=r"power\.refused"):
            await house.caller(OPERATOR_UID).call("terminal.power_off")

    tell(tmp_path, story, monkeypatch)
    events = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    told = [(one["event"], one["details"]) for one in events if one["event"].startswith("power")]
    assert told == [("power_off_ordered", {}), ("power_off_failed", {"code": "power.refused"})]


def test_a_client_may_be_cut_off_twice_at_once():
    """A client that reads nothing is cut off just as the daemon stops."""

    async def main() -> None:
        async def nothing(_uid: int, _what: str) -> None: ...

        nobody = SimpleNamespace(lost=lambda _owner: None, left=lambda _owner: None)
        terminal = SimpleNamespace(sessions=nobody, presence=nobody)
        served = connection.Connection(MemoryClient(UI_UID), terminal, 4_096, nothing)
        serving = asyncio.create_task(served.serve())
        await asyncio.sleep(1)
        served.cut()
        await asyncio.sleep(0)
        served.cut()
        await serving

    run(main())


def test_a_session_opened_by_a_client_that_left_already_does_not_stay(tmp_path, monkeypatch):
    """Rule 1: the request and the end of the connection arrive together."""

    async def story(house: House, ui: Caller) -> None:
        other = house.caller()
        other.ask("session.open")
        other.hang_up()
        await other.client.closed.wait()
        await asyncio.sleep(1)
        assert (await ui.call("session.open"))["session"]

    tell(tmp_path, story, monkeypatch)


def test_a_stranger_is_turned_away_and_audited_once(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        for _ in range(3):
            stranger = house.caller(STRANGER_UID)
            stranger.ask("terminal.status")
            with pytest.raises(Refusal, match=r"caller\.unknown"):
                await stranger.answer(None)
            await stranger.client.closed.wait()
        assert await ui.call("rpc.discover")

    tell(tmp_path, story, monkeypatch)
    text = (tmp_path / "audit.jsonl").read_text()
    assert text.count("caller_refused") == 1


def test_connections_and_requests_of_a_client_are_bounded(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await house.consenting(ui)
        running = [ui.ask("session.verify_identity", session=session) for _ in range(connection.MOST_REQUESTS)]
        with pytest.raises(Refusal, match=r"request\.too_many"):
            await ui.call("terminal.status")
        callers = [house.caller(UI_UID) for _ in range(server.MOST_CONNECTIONS - 1)]
        for caller in callers:
            assert await caller.call("terminal.status")
        surplus = house.caller(UI_UID)
        with pytest.raises(Refusal, match=r"caller\.too_many"):
            await surplus.answer(None)
        callers[0].hang_up()
        await callers[0].client.closed.wait()
        assert await house.caller(UI_UID).call("terminal.status")
        assert (await ui.answer(running[0]))["code"] == "idcard.no_card"

    tell(tmp_path, story, monkeypatch)


def test_operations_of_a_session_run_one_at_a_time(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        asked = [ui.ask("session.request_certificate", session=session, certificate=CERTIFICATE) for _ in range(3)]
        for number in asked:
            assert (await ui.answer(number))["paper"] == "printed"
        assert len(house.printer.papers) == 3
        steps = [name for (name,) in house.rows("SELECT kind FROM intents ORDER BY opened_at")]
        assert steps == ["issue", "print"] * 3
        spans = house.rows("SELECT opened_at, settled_at FROM intents ORDER BY opened_at")
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))

    tell(tmp_path, story, monkeypatch)


def test_a_client_that_hangs_up_after_asking_still_gets_its_answer(tmp_path, monkeypatch):
    """`echo '{...}' | socat - UNIX-CONNECT:...` closes its side at once."""

    async def story(house: House, ui: Caller) -> None:
        quick = house.caller()
        number = quick.ask("terminal.status")
        quick.hang_up()
        assert (await quick.answer(number))["boot_id"] == "boot"
        await quick.client.closed.wait()

    tell(tmp_path, story, monkeypatch)


def test_a_subscriber_that_reads_slowly_is_told_to_subscribe_again(tmp_path, monkeypatch):
    """L43: nobody waits for it."""

    async def story(house: House, ui: Caller) -> None:
        slow = house.caller()
        await slow.call("events.subscribe")
        slow.client.taking.clear()
        for _ in range(connection.OUTGOING_LINES):
            session = (await ui.call("session.open"))["session"]
            await ui.call("session.close", session=session)
        slow.client.taking.set()
        await slow.notice("events.lost")
        subscribed = await slow.call("events.subscribe")
        assert subscribed["state"]["session"] == {"state": "none"}
        assert subscribed["sequence"] > connection.OUTGOING_LINES + QUEUE_LENGTH

    tell(tmp_path, story, monkeypatch)


def test_a_client_that_reads_nothing_is_cut_off_and_its_session_wiped(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        stuck = house.caller()
        await stuck.call("session.open")
        stuck.client.taking.clear()
        stuck.ask("terminal.status")
        await ui.component("session", "open")
        began = house.loop.time()
        await ui.component("session", "none")
        await stuck.client.closed.wait()
        assert house.loop.time() - began <= 2 * connection.SLOW_CLIENT_SECONDS
        stuck.client.taking.set()

    tell(tmp_path, story, monkeypatch)


def test_a_bug_in_a_method_is_internal_and_quotes_nothing(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        async def broken(*_args, **_kwargs):
            raise KeyError("张三丰")

        monkeypatch.setattr(house.vision, "verify", broken)
        session = await house.consenting(ui)
        before = house.rows("SELECT count(*) FROM records")[0][0]
        house.place_card()
        with pytest.raises(Refusal) as refused:
            await ui.call("session.verify_identity", session=session)
        assert (refused.value.number, refused.value.code) == (rpc.INTERNAL_ERROR, "internal")
        assert house.rows("SELECT count(*) FROM records")[0][0] == before + 2
        with pytest.raises(Refusal, match=r"session\.not_verified"):
            await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)

    tell(tmp_path, story, monkeypatch)


def test_a_client_whose_stream_breaks_in_a_way_nobody_foresaw_ends_alone(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        async def broken(_data: bytes) -> None:
            raise ZeroDivisionError

        other = house.caller()
        session = (await other.call("session.open"))["session"]
        other.client.write = broken
        other.ask("session.close", session=session)
        await other.client.closed.wait()
        await ui.call("session.open")

    tell(tmp_path, story, monkeypatch)


def test_an_audit_log_that_cannot_be_written_does_not_end_the_daemon(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        audit = tmp_path / "audit.jsonl"
        kept = audit.read_bytes()
        audit.unlink()
        audit.mkdir()
        stranger = house.caller(STRANGER_UID)
        with pytest.raises(Refusal, match=r"caller\.unknown"):
            await stranger.answer(None)
        operator = house.caller(OPERATOR_UID)
        with pytest.raises(Refusal, match=r"audit\.write_failed"):
            await operator.call("terminal.power_off")
        assert house.power.requests == 0
        assert await ui.call("terminal.status")
        audit.rmdir()
        audit.write_bytes(kept)

    tell(tmp_path, story, monkeypatch)
