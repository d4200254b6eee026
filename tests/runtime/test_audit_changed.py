"""What somebody does to the audit log while the daemon runs, and what a power cut leaves of it (H7, T23)."""

import asyncio
import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from runtime import audit as audit_module
from runtime import audit_seal
from runtime.audit_chain import LOST, AuditError, closed_files, digest, verify
from runtime.audit_files import end_of
from sim.virtual_time import run
from tests.runtime.audit_rig import DAY, KEY, NOON, Log, log_of
from tests.runtime.house import OPERATOR_UID, House, living
from transport.errors import TransportError

PUBLIC = KEY.public


async def noted(log: Log, count: int) -> None:
    for number in range(count):
        await log.audit.append("device_retry_ordered", actor="uid 2", details={"number": number})


def found(log: Log) -> list[str]:
    entries = [json.loads(line) for line in log.lines() if b"\0" not in line]
    return [entry["details"]["code"] for entry in entries if entry["event"] == LOST]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("cut", "audit.truncated"),
        ("gone", "audit.truncated"),
        ("moved", "audit.truncated"),
        ("replaced", "audit.truncated"),
        ("last altered", "audit.truncated"),
        ("a line more", "audit.chain_broken"),
    ],
)
async def test_a_log_that_does_not_end_with_the_last_line_is_an_alarm_with_the_next_line(tmp_path, change, code):
    async with log_of(tmp_path / "own") as log:
        log.audit.watch(lambda code, subject: log.alarms.append((code, subject)))
        assert await log.audit.missing() is None
        await noted(log, 15)
        lines = log.lines()
        match change:
            case "cut":
                log.put(lines[:-4])
            case "gone":
                log.path.unlink()
            case "moved":
                log.path.rename(tmp_path / "elsewhere")
            case "replaced":
                log.put(lines[:3])
            case "last altered":
                log.put([*lines[:-1], lines[-1].replace(b"uid 2", b"uid 3")])
            case "a line more":
                log.put(
                    [*lines, lines[-1].replace(json.loads(lines[-1])["previous"].encode(), digest(lines[-1]).encode())]
                )
        await noted(log, 2)
        assert found(log) == [code], "told once"
        assert log.alarms == [(code, "audit")]
        assert json.loads(log.lines()[-3])["event"] == LOST, "before the line that was to be written"
        if change in {"cut", "gone", "moved", "replaced"}:
            assert verify(log.lines()).losses == (len(log.lines()) - 2,)


async def test_a_seal_is_over_the_line_that_says_so_too(tmp_path):
    async with log_of(tmp_path, days=1) as log:
        held = await log.held()
        log.put(log.lines()[:-1])
        log.pass_time(DAY)
        await log.seals.look()
        assert found(log) == ["audit.truncated"]
        verdict = verify(log.lines(), PUBLIC, seals=await log.held())
        assert (verdict.seals, verdict.unsealed, len(verdict.losses)) == (2, 0, 1)
        assert len(await log.held()) == len(held) + 1


def test_it_is_an_alarm_of_the_whole_daemon(tmp_path):
    async def main() -> None:
        async with living(House(tmp_path)) as house:
            await house.settled(house.caller())
            file = house.settings.audit_file
            await house.caller(OPERATOR_UID).call("devices.retry", device="idcard")
            file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
            await house.caller(OPERATOR_UID).call("devices.retry", device="idcard")
            await house.until(lambda: house.rows("SELECT code, subject FROM alarms") == [("audit.truncated", "audit")])

    run(main())


async def test_what_is_longer_than_a_line_is_kept_as_evidence_and_an_alarm(tmp_path):
    """Only what may be the part of a line is taken away behind the last one; the log goes on behind the rest."""
    async with log_of(tmp_path) as log:
        log.audit.watch(lambda code, subject: log.alarms.append((code, subject)))
        await noted(log, 10)
        before = log.path.read_bytes()
        with log.path.open("ab") as file:
            file.write(bytes(70_000))
        assert await log.audit.missing() == "audit.chain_broken"
        await noted(log, 2)
        assert log.path.read_bytes().startswith(before + bytes(70_000) + b"\n")
        assert await log.audit.missing() == "audit.chain_broken"
        with log.path.open("ab") as file:
            file.write(bytes(70_000))
        await noted(log, 1)
        assert found(log) == ["audit.chain_broken"]
        assert log.alarms == [("audit.chain_broken", "audit")]


@pytest.mark.parametrize("size", [1, 500, 60_000])
async def test_the_part_of_a_line_goes_also_when_it_is_longer_than_the_next_one(tmp_path, size):
    async with log_of(tmp_path) as log:
        await noted(log, 3)
        with log.path.open("ab") as file:
            file.write(b"{" * size)
        assert await log.audit.missing() is None
        await noted(log, 1)
        assert log.path.read_bytes().count(b"{" * 3) == 0
        assert verify(log.lines()).lines == 4
        assert log.path.read_bytes() == b"".join(line + b"\n" for line in log.lines())


def test_the_end_of_a_file_is_sought_in_its_last_block(tmp_path):
    file = tmp_path / "file"
    for content, last in (
        (b"", (None, 0)),
        (b"torn", (None, 0)),
        (b"a\nbc\ntorn", (b"bc", 5)),
        (b"a" * 99_999 + b"\nbc\n", (b"bc", 100_003)),
    ):
        file.write_bytes(content)
        descriptor = os.open(file, os.O_RDONLY)
        try:
            assert end_of(descriptor) == last
        finally:
            os.close(descriptor)


async def test_a_line_is_on_the_disk_when_the_call_returns(tmp_path, monkeypatch):
    """And with the first line of a file its name."""
    calls: list[str] = []
    pwrite, fsync, sync = os.pwrite, os.fsync, audit_module.sync_directory
    monkeypatch.setattr(audit_module.os, "pwrite", lambda *given: (calls.append("write"), pwrite(*given))[1])
    monkeypatch.setattr(audit_module.os, "fsync", lambda *given: (calls.append("sync"), fsync(*given))[1])
    monkeypatch.setattr(audit_module, "sync_directory", lambda path: (calls.append(path.name), sync(path))[1])
    monkeypatch.setattr(audit_seal, "FILE_BYTES", 1)
    async with log_of(tmp_path / "state") as log:
        await noted(log, 2)
        assert calls == ["write", "sync", "state", "sync", "write", "sync"], "the second sync is the directory's"
        calls.clear()
        await log.seals.look()
        assert calls[:3] == ["write", "sync", "state"], "a file that was closed keeps its name"


async def test_right_behind_a_closed_file_nothing_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_seal, "FILE_BYTES", 1_000)
    async with log_of(tmp_path) as log:
        await log.day(lines=8)
        assert not log.path.exists()
        assert await log.audit.missing() is None
        (closed,) = closed_files(log.path)
        closed.write_bytes(b"".join(line + b"\n" for line in log.lines()[:-1]))
        assert await log.audit.missing() == "audit.truncated"


@pytest.mark.parametrize("cut", [0, 1, 2])
async def test_a_power_cut_while_old_files_go_leaves_a_log_whose_beginning_is_told(tmp_path, monkeypatch, cut):
    monkeypatch.setattr(audit_seal, "FILE_BYTES", 1_000)
    monkeypatch.setattr(audit_seal, "BUDGET_BYTES", 100)
    unlinked: list[Path] = []
    unlink = Path.unlink

    def dies(self: Path, *, missing_ok: bool = False) -> None:
        if cut > 0:
            unlinked.append(self)
            unlink(self, missing_ok=missing_ok)
        if len(unlinked) == cut:
            raise OSError(5, "power")

    async with log_of(tmp_path) as log:
        for _ in range(4):
            await log.day(lines=8)
        log.pass_time(400 * DAY)
        await noted(log, 1)
        monkeypatch.setattr(Path, "unlink", dies)
        with pytest.raises(AuditError):
            await log.day(lines=8)
        monkeypatch.undo()
        assert verify(log.lines(), PUBLIC).removed == 9 * cut
        assert await log.audit.missing() is None


async def test_the_platforms_time_is_known_from_the_last_seal_that_has_it(tmp_path, monkeypatch):
    """H6: seals by the terminal's own clock behind it, and files that were closed, hide it from no start."""
    async with log_of(tmp_path) as log:
        await log.day()
        log.platform_time = None
        await log.day()
        monkeypatch.setattr(audit_seal, "FILE_BYTES", 1)
        await log.day()
        await log.day()
        assert len(closed_files(log.path)) == 2
    async with log_of(tmp_path) as log:
        await log.seals.open()
        assert log.seals.known_time == NOON + DAY


async def test_a_key_that_was_wiped_seals_nothing(tmp_path):
    """The line goes down before the board does; the log is as it was."""

    def wiped(_content: bytes) -> bytes:
        raise TransportError("sm2.bad_key", "wiped", advice="none", retry=False)

    async with log_of(tmp_path) as log:
        await noted(log, 2)
        with pytest.raises(TransportError):
            await log.audit.seal(wiped, "GT-0001", 1, "own")
        assert len(log.lines()) == 2
        await noted(log, 1)
        assert verify(log.lines()).lines == 3


def test_the_alarm_outlives_a_start_that_fails(tmp_path):
    """T23: the line that says that others are gone makes the log whole for the next start, so the alarm is first."""

    async def main() -> None:
        journal = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        async with living(House(tmp_path, journal=journal)) as house:
            await house.settled(house.caller())
            file = house.settings.audit_file
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
        journal = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        house = House(tmp_path, journal=journal)
        refusal = TransportError("enrolment.refused", "no key", advice="none", retry=False)
        house.enrolment = replace(house.enrolment, refusal=refusal)
        with pytest.raises(TransportError):
            async with living(house):
                await asyncio.sleep(60)
        with sqlite3.connect(tmp_path / "journal.db") as db:
            codes = db.execute("SELECT code FROM alarms ORDER BY sequence").fetchall()
        db.close()
        assert codes == [("audit.truncated",), ("enrolment.refused",)]
        events = [json.loads(line)["event"] for line in file.read_bytes().splitlines()]
        assert events.count(LOST) == 1

    run(main())
