"""The verdict of the proof (T20): whatever was not shown, and whatever was found, turns it red."""

import signal
from typing import Any

import msgspec
import pytest

from sim.privacy.report import (
    MUST_BE_LOST,
    MUST_BE_THERE,
    MUST_RECORD,
    MUST_SAY,
    Capture,
    Crash,
    Files,
    Memory,
    Place,
    Report,
    Store,
    judge,
)

PROCESSES = ("daemon", "vision")
CRASHES = {name: Crash(signal.SIGSEGV, "the kernel", dict.fromkeys(MUST_BE_LOST[name], 1)) for name in PROCESSES}
FILES = Files(40, 3.0, [], 3, 3, Store(1_000_000, 80, control_found=True))
GOOD = Report(
    needles=5_000,
    memory=Memory(
        open={name: Place(70.0, 100, dict.fromkeys(MUST_BE_THERE[name], 1)) for name in PROCESSES},
        closed={name: Place(40.0, 90, {}) for name in PROCESSES},
        where=[],
        read_seconds=0.5,
        locked=dict.fromkeys(PROCESSES, True),
    ),
    crashes=CRASHES,
    exits=dict.fromkeys(MUST_SAY, 500),
    capture_refused=True,
    captures=dict.fromkeys(MUST_RECORD, Capture(5_000, card_was_read=True)),
    files=FILES,
    failures=[],
)


def files(**changes: Any) -> dict[str, Any]:
    return {"files": msgspec.structs.replace(FILES, **changes)}


def test_what_was_all_shown_is_as_promised() -> None:
    assert judge(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crashes": CRASHES | {"vision": Crash(signal.SIGKILL, "the log", CRASHES["vision"].held)}}, "ended by 9"),
        ({"crashes": CRASHES | {"vision": Crash(0, "the log", CRASHES["vision"].held)}}, "ended by 0"),
        ({"crashes": CRASHES | {"daemon": Crash(signal.SIGSEGV, "the kernel", {"name": 1})}}, "did not hold ID number"),
        ({"exits": GOOD.exits | {"api": 0}}, "api said nothing"),
        ({"exits": {name: 500 for name in MUST_SAY if name != "audit-export"}}, "audit-export said nothing"),
        ({"captures": {"idcard": Capture(5_000, card_was_read=True)}}, "cardreader: no card was recorded"),
        ({"capture_refused": False}, "a port that the daemon holds was recorded"),
        ({"captures": GOOD.captures | {"idcard": Capture(5_000, card_was_read=False)}}, "idcard: no card was recorded"),
        ({"captures": GOOD.captures | {"idcard": Capture(0, card_was_read=True)}}, "idcard: no card was recorded"),
        (files(found=["name, utf-8, in x at 0"]), "written: name"),
        (files(controls_found=2), "only 2 of 3 planted files"),
        (files(store=Store(0, 0, control_found=True)), "store of 0 bytes"),
        (files(store=Store(47, 0, control_found=True)), "holds nothing that the terminal said"),
        (files(store=Store(1_000, 80, control_found=False)), "the planted message is not found"),
    ],
)
def test_each_gap_is_told(changes: dict[str, Any], said: str) -> None:
    (failure,) = judge(msgspec.structs.replace(GOOD, **changes))
    assert said in failure


@pytest.mark.parametrize("process", PROCESSES)
def test_memory_counts_both_ways(process: str) -> None:
    """Something left is a leak; nothing found while the session is open shows a blind search."""
    left = GOOD.memory.closed | {process: Place(40.0, 90, {"name": 2})}
    blind = GOOD.memory.open | {process: Place(70.0, 100, {})}
    (leak,) = judge(msgspec.structs.replace(GOOD, memory=msgspec.structs.replace(GOOD.memory, closed=left)))
    assert leak == f"{process}: name is in memory 2 times after the session"
    (blindness,) = judge(msgspec.structs.replace(GOOD, memory=msgspec.structs.replace(GOOD.memory, open=blind)))
    assert "does not find" in blindness
