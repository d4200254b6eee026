"""The audit log is sealed each day, told to the platform, kept for 180 days within its budget, and watched (H7)."""

import asyncio
import json
import sqlite3

import msgspec
import pytest

from runtime import audit_seal
from runtime.audit import AuditError
from runtime.audit_chain import REMOVED, Seal, closed_files, digest, verify
from runtime.journal import JournalError
from sim.virtual_time import run
from tests.runtime.audit_rig import DAY, KEY, NOON, TERMINAL, log_of
from tests.runtime.house import IDENTITY, House, living

PUBLIC = KEY.public


async def test_a_day_is_sealed_once_when_it_is_over_and_the_platform_is_told(tmp_path):
    async with log_of(tmp_path) as log:
        await log.seals.look()
        assert log.lines() == [], "there is nothing to seal"
        await log.audit.append("daemon_started", actor="daemon")
        await log.seals.look()
        assert len(log.lines()) == 1, "the day is not over"
        log.pass_time(13 * 3_600)
        await log.seals.look()
        await log.seals.look()
        (seal,) = await log.held()
        assert (seal.lines, seal.clock, seal.at) == (1, "platform", NOON + 13 * 3_600)
        seal.verify(PUBLIC)
        assert verify(log.lines(), PUBLIC, seals=[seal]).seals == 1
        assert log.seals.known_time == NOON + 13 * 3_600


async def test_without_the_platforms_time_the_seal_says_whose_clock_it_is(tmp_path):
    async with log_of(tmp_path) as log:
        log.platform_time = None
        await log.day()
        assert [seal.clock for seal in await log.held()] == ["own"]
        assert log.seals.known_time == 0.0


async def test_a_clock_that_was_set_wrong_by_years_seals_once(tmp_path):
    async with log_of(tmp_path) as log:
        await log.audit.append("daemon_started", actor="daemon")
        log.now = 0.0
        for _ in range(3):
            await log.seals.look()
        assert len(await log.held()) == 1


async def test_the_day_before_is_sealed_at_the_next_start(tmp_path):
    """A terminal that is off at night."""
    async with log_of(tmp_path) as log:
        await log.audit.append("daemon_stopped", actor="daemon")
    async with log_of(tmp_path) as log:
        log.pass_time(DAY)
        await log.audit.append("daemon_started", actor="daemon")
        await log.seals.look()
        (seal,) = await log.held()
        assert seal.lines == 2


async def test_a_full_file_is_sealed_closed_and_the_chain_goes_on_in_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_seal, "FILE_BYTES", 1_000)
    async with log_of(tmp_path) as log:
        for _ in range(3):
            await log.day(lines=8)
        assert [file.name for file in log.files()] == [
            "audit-000000000009.jsonl",
            "audit-000000000018.jsonl",
            "audit-000000000027.jsonl",
        ]
        await log.audit.append("daemon_stopped", actor="daemon")
        verdict = verify(log.lines(), PUBLIC, seals=await log.held())
        assert (verdict.lines, verdict.seals, verdict.unsealed) == (28, 3, 1)
        assert (await log.audit.standing()).lines == 28
    async with log_of(tmp_path) as log:
        await log.audit.append("daemon_started", actor="daemon")
        assert verify(log.lines(), PUBLIC).lines == 29


async def test_a_closed_file_that_is_gone_or_changed_places_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_seal, "FILE_BYTES", 1_000)
    async with log_of(tmp_path) as log:
        for _ in range(3):
            await log.day(lines=8)
        first, second, third = log.files()
        kept, other = second.read_bytes(), third.read_bytes()
        second.unlink()
        assert _refused(log) == "audit.chain_broken"
        second.write_bytes(other)
        third.write_bytes(kept)
        assert _refused(log) == "audit.chain_broken"
        second.write_bytes(kept)
        third.write_bytes(other)
        verify(log.lines(), PUBLIC)
        first.unlink()
        assert _refused(log) == "audit.no_beginning"


def _refused(log) -> str:
    with pytest.raises(AuditError) as caught:
        verify(log.lines(), PUBLIC)
    return caught.value.code


async def test_over_budget_only_what_is_older_than_180_days_goes_and_a_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_seal, "FILE_BYTES", 1_000)
    monkeypatch.setattr(audit_seal, "BUDGET_BYTES", 8_000)
    async with log_of(tmp_path) as log:
        for _ in range(5):
            await log.day(lines=8)
        assert log.alarms == [("audit.over_budget", "audit")], "told, and nothing is deleted"
        assert len(closed_files(log.path)) == 5
        await log.day(lines=8)
        assert len(log.alarms) == 1, "told once"
        log.pass_time(178 * DAY)
        await log.seals.look()
        assert len(closed_files(log.path)) == 6, "no seal dates them yet"
        await log.audit.append("daemon_started", actor="daemon")
        log.pass_time(DAY)
        await log.seals.look()
        count = len(closed_files(log.path))
        assert 1 < count < 6
        assert REMOVED in {json.loads(line)["event"] for line in log.lines()}
        verdict = verify(log.lines(), PUBLIC, seals=await log.held())
        assert verdict.removed == 9 * (6 - count)


async def test_the_file_that_the_present_one_follows_from_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_seal, "FILE_BYTES", 1_000)
    monkeypatch.setattr(audit_seal, "BUDGET_BYTES", 100)
    async with log_of(tmp_path) as log:
        for _ in range(3):
            await log.day(lines=8)
        log.pass_time(400 * DAY)
        await log.day(lines=1)
        assert len(closed_files(log.path)) == 1
        assert await log.audit.missing() is None
        assert verify(log.lines(), PUBLIC, seals=await log.held()).removed == 18


@pytest.mark.parametrize("clock", ["own", "unknown"])
async def test_no_line_goes_by_the_terminals_own_clock(tmp_path, monkeypatch, clock):
    """A clock that was set wrong, or by somebody, removes nothing."""
    monkeypatch.setattr(audit_seal, "FILE_BYTES", 1_000)
    monkeypatch.setattr(audit_seal, "BUDGET_BYTES", 4_000)
    async with log_of(tmp_path) as log:
        if clock == "own":
            log.platform_time = None
        for _ in range(4):
            await log.day(lines=8)
        log.platform_time = None if clock == "unknown" else NOON + 400 * DAY
        log.now += 400 * DAY
        await log.seals.look()
        assert len(closed_files(log.path)) == 4
        assert log.alarms == [("audit.over_budget", "audit")]


async def test_who_cannot_seal_says_so_once_and_tries_again(tmp_path, monkeypatch):
    async with log_of(tmp_path) as log:

        async def refuse(_message) -> int:
            raise JournalError("journal.disk_full", "full", advice="free space", retry=True)

        monkeypatch.setattr(log.journal, "append", refuse)
        with pytest.raises(JournalError):
            await log.day()
        monkeypatch.undo()
        await log.day()
        assert [seal.lines for seal in await log.held()] == [7], "the next seal covers what the platform missed"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("cut", "audit.truncated"),
        ("gone", "audit.truncated"),
        ("chained anew", "audit.truncated"),
        ("altered", "audit.chain_broken"),
        ("nothing", None),
        ("a line more", None),
    ],
)
def test_what_was_done_to_the_log_while_the_daemon_did_not_run_is_an_alarm_at_its_start(tmp_path, change, code):
    """T23: the journal knows the last line. What is only appended, by somebody with the chain's rules, is not seen."""
    path = tmp_path / "audit.jsonl"

    async def live() -> list[tuple[str]]:
        database = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        async with living(House(tmp_path, journal=database)) as house:
            await house.settled(house.caller())
            await asyncio.sleep(1)
            return house.rows("SELECT code FROM alarms")

    async def main() -> list[tuple[str]]:
        assert await live() == []
        lines = path.read_bytes().splitlines()
        match change:
            case "cut":
                lines = lines[:-1]
            case "gone":
                lines = []
            case "chained anew":
                lines = [lines[0].replace(b"rig", b"rag")]
            case "altered":
                lines[0] = lines[0].replace(b"rig", b"rag")
            case "a line more":
                lines.append(
                    json.dumps(
                        {"at": 0.0, "event": "x", "actor": "y", "details": {}, "previous": digest(lines[-1])}
                    ).encode()
                )
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return await live()

    assert run(main()) == ([] if code is None else [(code,)])
    told = [json.loads(line) for line in path.read_bytes().splitlines()]
    found = [line["details"]["code"] for line in told if line["event"] == "audit_lines_lost"]
    assert found == ([] if code is None else [code])


def test_a_day_of_the_whole_daemon_is_sealed_and_the_platform_holds_what_verifies(tmp_path):
    async def main() -> None:
        async with living(House(tmp_path)) as house:
            caller = house.caller()
            await house.settled(caller)
            await house.consenting(caller)
            await asyncio.sleep(DAY)
            (told,) = house.platform.maintenance.audit_seals(TERMINAL)
            assert told["clock"] == "platform"
            assert house.store.counters().get("complaint audit.bad_seal") is None
            lines = house.settings.audit_file.read_bytes().splitlines()
            assert verify(lines, IDENTITY.public, seals=[msgspec.convert(told, Seal)]).seals == 1

    run(main())
