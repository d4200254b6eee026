"""The audit log: chained by SM3, whole after a power cut, and changes in it show (H6, H7)."""

import asyncio
import itertools
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from runtime import audit as audit_module
from runtime.audit import Audit, AuditError
from runtime.audit_chain import verify
from sim.memory import InlineExecutor
from transport.sm import sm3

NOW = 1_800_000_000.0


@pytest.fixture
def executor():
    with closing(sqlite3.connect(":memory:")) as connection:
        yield InlineExecutor(connection)


async def written(executor, path, count: int = 4) -> list[bytes]:
    audit = Audit(executor, path, lambda: NOW)
    for number in range(count):
        await audit.append("operator_call", actor=f"uid {number}", details={"number": number})
    return path.read_bytes().splitlines()


async def test_each_line_carries_the_sm3_of_the_line_before(executor, tmp_path):
    lines = await written(executor, tmp_path / "audit.jsonl")
    assert json.loads(lines[0])["previous"] == "0" * 64
    for before, line in itertools.pairwise(lines):
        assert json.loads(line)["previous"] == sm3(before).hex()
    assert json.loads(lines[3]) | {"previous": ""} == {
        "at": NOW,
        "event": "operator_call",
        "actor": "uid 3",
        "details": {"number": 3},
        "previous": "",
    }
    assert verify(lines).lines == 4
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


async def test_the_chain_goes_on_after_a_restart(executor, tmp_path):
    await written(executor, tmp_path / "audit.jsonl")
    assert verify(await written(executor, tmp_path / "audit.jsonl")).lines == 8


@given(cut=st.integers(1, 120))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_a_line_that_a_power_cut_left_unfinished_is_removed(executor, tmp_path, cut):
    path = tmp_path / "audit.jsonl"
    path.unlink(missing_ok=True)
    lines = await written(executor, path)
    path.write_bytes(path.read_bytes()[: -min(cut, len(lines[-1]) + 1)])
    again = await written(executor, path, 1)
    assert verify(again).lines == 4
    assert again[:3] == lines[:3]


@pytest.mark.parametrize("change", ["altered", "removed", "inserted", "swapped", "garbage"])
async def test_a_change_shows(executor, tmp_path, change):
    lines = await written(executor, tmp_path / "audit.jsonl")
    match change:
        case "altered":
            lines[1] = lines[1].replace(b"uid 1", b"uid 7")
        case "removed":
            del lines[1]
        case "inserted":
            lines.insert(2, lines[1])
        case "swapped":
            lines[1], lines[2] = lines[2], lines[1]
        case "garbage":
            lines[2] = b"\xff{"
    with pytest.raises(AuditError) as broken:
        verify(lines)
    assert broken.value.code == "audit.chain_broken"
    assert "line " in str(broken.value)


async def test_a_file_that_cannot_be_written_is_a_coded_error(executor, tmp_path):
    audit = Audit(executor, tmp_path / "missing" / "audit.jsonl", lambda: NOW)
    with pytest.raises(AuditError) as refused:
        await audit.append("x", actor="daemon")
    assert refused.value.code == "audit.write_failed"


def test_an_empty_log_verifies():
    assert verify([]).lines == 0


async def test_a_text_from_outside_is_masked_and_shortened_and_nothing_is_left_out(executor, tmp_path):
    """T22: an issuer that used an identity number as the certificate's number would not put it on the disk."""
    path = tmp_path / "audit.jsonl"
    audit = Audit(executor, path, lambda: NOW)
    await audit.append("x", actor="daemon", details={"number": "990101199001011230", "long": "y" * 99_999, "no": None})
    await audit.append("x", actor="daemon")
    lines = path.read_bytes().splitlines()
    assert json.loads(lines[0])["details"] == {"number": "990*************30", "long": "y" * 999 + "…"}
    assert verify(lines).lines == 2


async def test_a_line_that_cannot_be_written_is_an_error_in_time_and_a_note_goes_on(tmp_path, monkeypatch):
    class Stuck:
        async def run(self, work):
            await asyncio.Event().wait()

    monkeypatch.setattr(audit_module, "WRITE_SECONDS", 0.01)
    audit = Audit(Stuck(), tmp_path / "audit.jsonl", lambda: NOW)
    with pytest.raises(AuditError) as caught:
        await audit.append("x", actor="daemon")
    assert caught.value.code == "audit.write_failed"
    with capture_logs() as lines:
        await audit.note("session_ended", actor="uid 1")
    assert [(line["event"], line["audit_event"]) for line in lines] == [("audit_line_lost", "session_ended")]


STORY = """
import asyncio, json, sqlite3, sys
from pathlib import Path
from structlog.testing import capture_logs
from runtime.audit import RESERVE_BYTES, Audit, AuditError
from runtime.audit_chain import verify
from sim.memory import InlineExecutor
from sim.soak.disk import Disk

home = Path(sys.argv[1])
disk, path, reserve = Disk(home), home / "audit.jsonl", home / "audit.reserve"
audit = Audit(InlineExecutor(sqlite3.connect(":memory:")), path, lambda: 0.0)


def written():
    return verify(path.read_bytes().splitlines()).lines


async def main():
    await audit.append("daemon_started", actor="daemon")
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    disk.fill()
    for count in range(1_000):
        await audit.append("operator_call", actor="uid 1", details={"number": count})
    assert not reserve.exists()
    assert written() == 1_001
    disk.fill()
    taken = 0
    try:
        while True:
            await audit.append("operator_call", actor="uid 1")
            taken += 1
    except AuditError as error:
        assert (error.code, error.retry) == ("audit.write_failed", True)
    assert path.read_bytes().endswith(b"\\n"), "no part of a line"
    with capture_logs() as lines:
        await audit.note("session_ended", actor="uid 1")
    assert [line["event"] for line in lines] == ["audit_line_lost"]
    assert written() == 1_001 + taken
    disk.free()
    await audit.append("daemon_stopped", actor="daemon")
    assert reserve.exists()
    assert written() == 1_002 + taken


asyncio.run(main())
"""


def test_a_full_disk_takes_a_thousand_lines_more_then_refuses_and_heals(tmp_path):
    """L28, H6: on a disk that is really full, a small tmpfs in a mount namespace of its own."""
    home = tmp_path / "state"
    home.mkdir()
    mount = f'mount -t tmpfs -o size=8m,mode=0700 test {home} && exec {sys.executable} -c "$STORY" {home}'
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mount],
        env=os.environ | {"STORY": STORY, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
