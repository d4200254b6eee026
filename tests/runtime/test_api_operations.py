"""Long work as an operation: waited for, cancelled with its devices safe, forgotten with its session (rule 1)."""

import asyncio
import sqlite3
from types import SimpleNamespace

import pytest

from runtime.api.operations import MOST_KEPT, MOST_RUNNING
from sim.virtual_time import run
from tests.runtime.api_house import ApiHouse, call, ready_to_file, tell
from tests.runtime.house import CERTIFICATE, Caller, Refusal, living


async def start(caller: Caller, method: str, /, **params) -> str:
    return (await call(caller, "operation.start", {"method": method, "params": params}))["operation"]


async def wait(caller: Caller, operation: str, seconds: float = 60.0) -> dict:
    return await call(caller, "operation.wait", {"operation": operation, "seconds": seconds})


def test_an_operation_gives_the_plain_calls_result_while_the_connection_goes_on(tmp_path, monkeypatch):
    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.consenting(ui)
        operation = await start(ui, "session.verify_identity", session=session)
        running = await wait(ui, operation, 0.0)
        assert (running["state"], running["method"]) == ("running", "session.verify_identity")
        assert running["result"] is running["error"] is None
        assert (await ui.call("terminal.status"))["rig"] is False
        house.place_card()
        done = await wait(ui, operation)
        assert (done["state"], done["result"]["outcome"], done["result"]["name"]) == ("done", "done", "何**")
        assert await wait(ui, operation) == done
        assert (await ui.call("operation.list"))["operations"] == [done]

    tell(tmp_path, story, monkeypatch)


def test_the_plain_calls_error_is_the_operations(tmp_path, monkeypatch):
    async def story(house: ApiHouse, ui: Caller) -> None:
        session = (await ui.call("session.open"))["session"]
        failed = await wait(ui, await start(ui, "session.request_certificate", session=session, certificate="x"))
        assert (failed["state"], failed["result"]) == ("failed", None)
        assert failed["error"]["code"] == "session.not_verified"

    tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("terminal.explode", {}, "request.unknown_method"),
        ("session.verify_identity", {}, "request.bad_params"),
        ("session.verify_identity", {"session": "guessed"}, "session.unknown"),
        ("terminal.power_off", {}, "caller.not_allowed"),
        ("operation.list", {}, "request.bad_params"),
        ("operation.start", {"method": "terminal.status"}, "request.bad_params"),
    ],
)
def test_what_cannot_be_started_is_told_at_once(tmp_path, monkeypatch, method, params, code):
    async def story(house: ApiHouse, ui: Caller) -> None:
        with pytest.raises(Refusal, match=code.replace(".", r"\.")):
            await start(ui, method, **params)
        assert (await ui.call("operation.list"))["operations"] == []

    tell(tmp_path, story, monkeypatch)


def test_a_cancelled_identity_check_leaves_the_reader_and_the_session_ready(tmp_path, monkeypatch):
    """Rule 4: cancellation is honoured and leaves devices safe."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.consenting(ui)
        operation = await start(ui, "session.verify_identity", session=session)
        await asyncio.sleep(1)
        cancelled = await call(ui, "operation.cancel", {"operation": operation})
        assert (cancelled["state"], cancelled["result"], cancelled["error"]) == ("cancelled", None, None)
        assert await call(ui, "operation.cancel", {"operation": operation}) == cancelled
        house.place_card()
        assert (await ui.call("session.verify_identity", session=session))["outcome"] == "done"
        told = house.rows("SELECT count(*) FROM records")[0][0]
        assert told > 2  # the step that was cut short has its event too (T12)

    tell(tmp_path, story, monkeypatch)


def test_a_print_that_is_cancelled_is_told_as_unknown_and_the_next_one_prints(tmp_path, monkeypatch):
    """Rule 2: an effect that was cut short has its outcome in the journal; the printer is ready again."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.verified(ui)
        operation = await start(ui, "session.request_certificate", session=session, certificate=CERTIFICATE)
        await house.until(lambda: house.rows("SELECT key FROM intents WHERE kind = 'print'"))
        assert (await call(ui, "operation.cancel", {"operation": operation}))["state"] == "cancelled"
        answer = await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert answer["paper"] == "printed"
        outcomes = [row[0] for row in house.rows("SELECT state FROM intents WHERE kind = 'print' ORDER BY opened_at")]
        assert outcomes == ["unknown", "done"]

    tell(tmp_path, story, monkeypatch)


def test_a_filing_that_is_cancelled_is_settled_and_its_number_tells(tmp_path, monkeypatch):
    """Rule 2: what a cancelled operation may have set off is found out with the platform."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        session, receipt = await ready_to_file(house, ui)
        await call(ui, "events.subscribe", {})
        house.platform.faults.silent()
        operation = await start(ui, "application.file", session=session)
        await asyncio.sleep(1)
        assert (await call(ui, "operation.cancel", {"operation": operation}))["state"] == "cancelled"
        house.platform.faults.mend()
        while (change := await ui.notice("events.change"))["component"] != "settlement":
            pass
        assert change["state"]["details"]["outcome"] == "acted"
        (shown,) = (await ui.call("progress.by_receipt", receipt=receipt))["receipts"]
        assert shown["state"] == "accepted"

    tell(tmp_path, story, monkeypatch)


def test_after_a_restart_the_operations_effect_is_settled_and_its_number_tells(tmp_path):
    """Rule 2: the operation is gone with its connection, what it set off is not."""
    journal = tmp_path / "journal.db"

    async def main() -> None:
        first = ApiHouse(tmp_path, journal=sqlite3.connect(journal, isolation_level=None))
        outside, first.store = first.outside, SimpleNamespace(close=lambda: None)
        async with living(first):
            ui = first.caller()
            await first.settled(ui)
            session, receipt = await ready_to_file(first, ui)
            first.platform.faults.silent()
            operation = await start(ui, "application.file", session=session)
            await asyncio.sleep(1)
        outside.platform.faults.mend()
        second = ApiHouse(tmp_path, journal=sqlite3.connect(journal, isolation_level=None))
        second.store.close()
        second.platform, second.store = outside.platform, outside.store
        async with living(second):
            ui = second.caller()
            await second.settled(ui)
            with pytest.raises(Refusal, match=r"operation\.unknown"):
                await wait(ui, operation)
            await second.until(lambda: second.rows("SELECT state FROM intents WHERE kind = 'file'") == [("done",)])
            (shown,) = (await ui.call("progress.by_receipt", receipt=receipt))["receipts"]
            assert shown["state"] == "accepted"

    run(main())


def test_operations_end_and_are_forgotten_with_their_session(tmp_path, monkeypatch):
    """Rule 1: no result outlives its citizen."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.verified(ui)
        done = await start(ui, "session.request_certificate", session=session, certificate=CERTIFICATE)
        assert (await wait(ui, done))["state"] == "done"
        running = await start(ui, "session.verify_identity", session=session)
        free = await start(ui, "terminal.status")
        await wait(ui, free)
        waiting = asyncio.create_task(wait(ui, running))
        await asyncio.sleep(1)
        await call(ui, "session.close", {"session": session})
        assert (await waiting)["error"]["code"] == "session.ended"
        for operation in (done, running):
            with pytest.raises(Refusal, match=r"operation\.unknown"):
                await wait(ui, operation)
        assert [one["operation"] for one in (await ui.call("operation.list"))["operations"]] == []
        outside = await start(ui, "terminal.status")
        await house.consenting(ui)
        assert (await wait(ui, outside))["state"] == "done"
        assert free != outside

    tell(tmp_path, story, monkeypatch)


def test_an_operation_is_known_to_its_connection_alone(tmp_path, monkeypatch):
    """T20."""

    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.consenting(ui)
        operation = await start(ui, "session.verify_identity", session=session)
        thief = house.caller()
        for method in ("operation.wait", "operation.cancel"):
            with pytest.raises(Refusal, match=r"operation\.unknown"):
                await call(thief, method, {"operation": operation})
        assert (await thief.call("operation.list"))["operations"] == []
        with pytest.raises(Refusal, match=r"session\.unknown"):
            await start(thief, "session.verify_identity", session=session)
        house.place_card()
        assert (await wait(ui, operation))["result"]["outcome"] == "done"

    tell(tmp_path, story, monkeypatch)


def test_a_lost_connection_ends_its_operations_and_the_next_ui_is_served(tmp_path, monkeypatch):
    async def story(house: ApiHouse, ui: Caller) -> None:
        other = house.caller()
        session = await house.consenting(other)
        await start(other, "session.verify_identity", session=session)
        await start(other, "events.subscribe")
        other.hang_up()
        await other.client.closed.wait()
        house.place_card()
        assert await house.verified(ui)

    tell(tmp_path, story, monkeypatch)


def test_operations_are_bounded_and_the_oldest_that_ended_is_forgotten(tmp_path, monkeypatch):
    async def story(house: ApiHouse, ui: Caller) -> None:
        session = await house.consenting(ui)
        first = await start(ui, "terminal.status")
        await wait(ui, first)
        for _ in range(MOST_KEPT):
            await wait(ui, await start(ui, "terminal.status"))
        listed = (await ui.call("operation.list"))["operations"]
        assert len(listed) == MOST_KEPT
        assert first not in {one["operation"] for one in listed}
        for _ in range(MOST_RUNNING):
            await start(ui, "session.verify_identity", session=session)
        with pytest.raises(Refusal, match=r"operation\.too_many"):
            await start(ui, "terminal.status")

    tell(tmp_path, story, monkeypatch)
