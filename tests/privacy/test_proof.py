"""T20, T22: nothing of a citizen is left in memory or in any file, proved by a visit at real processes.

The proof runs in a process of its own, where every file that anybody writes lies in one place (`sim.privacy`). On a
machine that lets nobody mount an overlay it ends with 69 and says so, and this test fails: what was not searched is not
clean.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

PATIENCE_SECONDS = 240
pytestmark = pytest.mark.timeout(PATIENCE_SECONDS + 10)


def prove(*arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "sim.privacy", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_nothing_of_a_citizen_outlives_the_session() -> None:
    """All writable memory of both processes after the session, and every file after both crashed with one open."""
    code, report = prove()
    assert report["failures"] == []
    assert code == 0
    assert {name: place["hits"] for name, place in report["memory"]["closed"].items()} == {"daemon": {}, "vision": {}}
    for name, place in report["memory"]["closed"].items():
        assert place["mebibytes"] > {"daemon": 20, "vision": 100}[name], "all of it was read"
        assert report["memory"]["open"][name]["hits"], "the same search finds what an open session holds"
    assert report["needles"] > 1_000
    for name, crash in report["crashes"].items():
        told_by = {"daemon": "the kernel", "vision": "the daemon's log"}[name]
        assert (crash["signal"], crash["told_by"]) == (11, told_by)
        assert crash["held"], "it held the citizen's data when it crashed"
    assert set(report["exits"]) == {"api", "audit", "audit-export", "check", "status", "systemd"}
    assert report["capture_refused"], "the daemon holds the port"
    assert set(report["captures"]) == {"idcard", "cardreader"}
    assert (report["files"]["found"], report["files"]["controls_found"]) == ([], 3)
    assert report["files"]["searched"] > 30, "journal, audit log, logs, captures, exits, the broker's files"
    store = report["files"]["store"]
    assert store["control_found"]
    assert store["messages"] > 20, "all that the terminal said, kept for a subscriber who is away"
    assert store["bytes"] > 100_000, "with pages that the citizen had scanned"


@pytest.mark.slow
def test_without_the_allocator_settings_the_same_search_finds_plenty() -> None:
    """The positive control: nothing is left because freed memory is overwritten, not because nobody looks."""
    code, report = prove("--sabotage", "allocator")
    assert code == 1
    closed = report["memory"]["closed"]
    assert closed["daemon"]["hits"], report["failures"]
    assert closed["vision"]["hits"], report["failures"]
    assert {hit["what"] for hit in report["memory"]["where"]} == {*closed["daemon"]["hits"], *closed["vision"]["hits"]}


@pytest.mark.slow
def test_a_message_in_clear_is_found_in_the_brokers_store() -> None:
    code, report = prove("--sabotage", "clear-message")
    assert code == 1
    (found,) = report["files"]["found"]
    assert found.startswith("request, gb18030, in ")
    assert "/mosquitto/mosquitto.db at " in found


@pytest.mark.slow
def test_a_recording_without_its_mask_is_found_out() -> None:
    """T21: what keeps both cards out of a recording is its mask."""
    code, report = prove("--sabotage", "unmasked-capture")
    assert code == 1
    assert report["files"]["found"]
    for kind, what in (("idcard", "name"), ("cardreader", "card number")):
        assert any(one.startswith(what) and f"/capture-{kind}.jsonl at " in one for one in report["files"]["found"])


@pytest.mark.slow
def test_a_file_that_somebody_wrote_is_found() -> None:
    code, report = prove("--sabotage", "plant-file")
    assert code == 1
    (found,) = report["files"]["found"]
    assert found.startswith("request, utf-8, in ")
    assert found.endswith("/var/tmp/planted at 0")
