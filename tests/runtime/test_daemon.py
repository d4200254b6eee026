"""The daemon's start and stop: what forbids a start, and the order of the end (rule 4, I1)."""

import asyncio
import sqlite3

import msgspec
import pytest

from runtime import daemon, life
from runtime.api.roles import RoleError
from runtime.journal import Journal, JournalError
from runtime.messages import SupervisionEvent, from_payload
from sim.memory import InlineExecutor
from sim.virtual_time import run
from tests.runtime.house import CERTIFICATE, Caller, House, living, tell
from transport.errors import TransportError


async def failed(directory, prepare) -> tuple[BaseException, House]:
    house = House(directory)
    prepare(house)
    try:
        with pytest.raises(Exception) as refused:  # noqa: PT011 - the caller checks the type and the code
            await house.daemon()
        return refused.value, house
    finally:
        house.store.close()
        house.journal.close()


def test_a_failed_self_test_of_the_ciphers_forbids_the_start(tmp_path, monkeypatch):
    def broken() -> None:
        raise TransportError("crypto.self_test", "wrong", advice="x", retry=False)

    monkeypatch.setattr(life.sm2, "self_test", broken)
    error, house = run(failed(tmp_path, lambda house: None))
    assert isinstance(error, TransportError)
    assert error.code == "crypto.self_test"
    assert house.told.states == []


def test_a_newer_journal_forbids_the_start(tmp_path):
    """I1."""

    def newer(house: House) -> None:
        house.journal.executescript(
            "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);"
            "INSERT INTO meta VALUES ('schema_version', '9'), ('journal_id', 'abcd');"
        )

    error, house = run(failed(tmp_path, newer))
    assert isinstance(error, JournalError)
    assert error.code == "journal.newer"
    assert "READY" not in house.told.states


def test_a_user_with_two_roles_forbids_the_start(tmp_path):
    def twice(house: House) -> None:
        api = msgspec.structs.replace(house.settings.api, operator_users=house.settings.api.ui_users)
        house.settings = msgspec.structs.replace(house.settings, api=api)

    error, _ = run(failed(tmp_path, twice))
    assert isinstance(error, RoleError)
    assert error.code == "api.user_twice"


def test_prints_left_open_by_a_power_cut_are_settled_before_anybody_is_served(tmp_path):
    """Rule 2."""

    async def main() -> None:
        database = sqlite3.connect(tmp_path / "journal.db")
        journal = Journal(InlineExecutor(database), lambda: 0.0)
        await journal.open()
        await journal.open_intent("print", "receipt", "c" * 16)
        async with living(House(tmp_path, journal=database)) as house:
            caller = house.caller()
            await caller.call("terminal.status")
            (record,) = await journal.unacknowledged(journal.streams["supervision"], 0, 9)
            event = from_payload(record.payload, SupervisionEvent)
            assert (event.transaction, event.step, event.outcome) == ("c" * 16, "print", "unknown")
            assert house.rows("SELECT state FROM intents") == [("unknown",)]

    run(main())


def test_the_stop_ends_the_session_tells_the_clients_and_stops_the_units(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        await house.verified(ui)
        began = house.loop.time()
        house.stop.set()
        assert (await ui.notice("session.ended"))["reason"] == "shutdown"
        await ui.client.closed.wait()
        await asyncio.sleep(1)
        assert house.loop.time() - began <= 2
        assert house.told.states[-1].startswith(("STOPPING", "STATUS"))
        assert house.told.states.count("STOPPING") == 1
        assert house.vision.wiped >= 1
        assert house.reader_port.plugged

    tell(tmp_path, story, monkeypatch)


def test_a_stop_does_not_wait_long_for_a_platform_that_gives_no_receipt(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        house.platform.faults.outage()
        await ui.call("session.begin_document", session=session)
        began = house.loop.time()
        house.stop.set()
        await house.until(lambda: "daemon_stopped" in (tmp_path / "audit.jsonl").read_text())
        assert house.loop.time() - began <= daemon.DRAIN_SECONDS + 1

    tell(tmp_path, story, monkeypatch)


def test_a_stop_with_the_line_down_does_not_wait_at_all(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        session = await house.verified(ui)
        await asyncio.sleep(1)
        house.uplink.stop()
        await ui.component("platform", "offline")
        before = house.rows("SELECT count(*) FROM records")[0][0]
        await ui.call("session.request_certificate", session=session, certificate=CERTIFICATE)
        assert house.rows("SELECT count(*) FROM records")[0][0] == before + 1
        began = house.loop.time()
        house.stop.set()
        await house.until(lambda: "daemon_stopped" in (tmp_path / "audit.jsonl").read_text())
        assert house.loop.time() - began < 0.5

    tell(tmp_path, story, monkeypatch)


def test_a_driver_that_dies_of_a_bug_shows_as_offline_and_comes_back(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> None:
        def broken(_data: bytes) -> bytes:
            raise ZeroDivisionError

        await asyncio.sleep(15)
        feed, house.printer.feed = house.printer.feed, broken
        await ui.component("printer", "offline")
        status = (await ui.call("terminal.status"))["state"]["printer"]
        assert status["code"] == "internal"
        house.printer.feed = feed
        await ui.component("printer", "online")

    tell(tmp_path, story, monkeypatch)
