"""Trials go the ways that real records and calls take; only a whole answer is a success (T14, I6)."""

import asyncio
import sqlite3
from base64 import b64encode
from contextlib import closing

import pytest

from runtime.journal import Journal
from runtime.messages import Refusal, TrialAnswer, TrialCall, TrialHealth, TrialRecord, from_payload, to_payload
from runtime.trial import TrialError, Trials
from sim.memory import InlineExecutor
from sim.virtual_time import run
from tests.runtime.api_house import TESTER_UID, ApiHouse
from tests.runtime.house import EPOCH, living
from tests.runtime.house import Refusal as Refused
from transport.errors import TransportError
from transport.payload import Payload
from transport.sm import sm3

FILLER = b"bytes that mean nothing"
RECORDED = [
    ("record-supervision", "trial.record", 1, 1),
    ("record-telemetry", "trial.health", 1, 1),
]


def trials(house: ApiHouse) -> list[tuple]:
    """What the platform counted: id, kind, whether the digest was right, arrivals."""
    rows = house.store.database.execute("SELECT id, kind, ok, arrivals FROM trials ORDER BY id")
    return rows.fetchall()


class Line:
    """Answers a call with what it is given, or with what a right platform says."""

    def __init__(self, answer=None) -> None:
        self.answer = answer
        self.asked: list[TrialCall] = []
        self.keys: list[bytes] = []

    async def call(self, request: Payload, *, key: bytes, deadline_seconds: float) -> Payload:
        call = from_payload(request, TrialCall)
        self.asked.append(call)
        self.keys.append(key)
        if isinstance(self.answer, Exception):
            raise self.answer
        await asyncio.sleep(0.25)
        filler = bytes(call.answer_bytes)
        return to_payload(self.answer or TrialAnswer(call.id, sm3(filler), filler))


def tried(line: Line, story):
    async def main():
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            journal = Journal(InlineExecutor(connection), lambda: EPOCH)
            await journal.open()
            result = await story(Trials(journal, line))
            return result, connection.execute("SELECT stream, sequence, schema, body FROM records").fetchall()

    return run(main())


def test_a_record_is_journaled_as_it_was_given():
    """Its digest is not looked at here: whoever counts at the platform must see bytes altered on the way (I6)."""

    async def story(trials: Trials) -> list[int]:
        return [
            await trials.record("a", bytes(32), FILLER, "supervision"),
            await trials.record("b", sm3(FILLER), FILLER, "telemetry"),
        ]

    sequences, rows = tried(Line(), story)
    first, second = (Payload(row[2], 1, personal=False, body=row[3]) for row in sorted(rows))
    assert from_payload(first, TrialRecord) == TrialRecord("a", bytes(32), FILLER)
    assert from_payload(second, TrialHealth) == TrialHealth("b", sm3(FILLER), FILLER)
    assert [row[0].partition("-")[0] for row in sorted(rows)] == ["supervision", "telemetry"]
    assert sequences == [row[1] for row in sorted(rows)]


def test_a_call_goes_there_and_back():
    line = Line()

    async def story(trials: Trials):
        return [await trials.call("c", filler_bytes=70_000, answer_bytes=9, deadline_seconds=1.0) for _ in range(2)]

    trips, _ = tried(line, story)
    assert [trip.digest for trip in trips] == [sm3(call.filler) for call in line.asked]
    assert [trip.seconds for trip in trips] == pytest.approx([0.25, 0.25])
    assert [(call.id, len(call.filler), call.answer_bytes) for call in line.asked] == [("c", 70_000, 9)] * 2
    assert line.asked[0].filler != line.asked[1].filler
    assert line.keys[0] != line.keys[1]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (TrialAnswer("another", sm3(bytes(4)), bytes(4)), "trial.altered"),
        (TrialAnswer("c", sm3(bytes(4)), bytes(3)), "trial.altered"),
        (TrialAnswer("c", sm3(bytes(5)), bytes(5)), "trial.altered"),
        (TrialAnswer("c", bytes(32), bytes(4)), "trial.altered"),
        (Refusal("trial.altered", retry=False), "trial.altered"),
        (Refusal("terminal.suspended", retry=True), "terminal.suspended"),
        (TransportError("platform.no_answer", "", advice="", retry=True), "platform.no_answer"),
    ],
)
def test_anything_but_the_answer_asked_for_is_an_error(answer, code):
    async def story(trials: Trials) -> str:
        with pytest.raises((TrialError, TransportError)) as caught:
            await trials.call("c", filler_bytes=4, answer_bytes=4, deadline_seconds=1.0)
        return caught.value.code

    assert tried(Line(answer), story)[0] == code


def test_a_tester_tries_the_line_and_the_platform_counts_it(tmp_path):
    """Over the local API, sealed, to the platform and back; a UI has no business with it (T14, T21)."""

    async def main() -> list[tuple]:
        async with living(ApiHouse(tmp_path)) as house:
            tester, ui = house.caller(TESTER_UID), house.caller()
            await house.settled(tester)
            call = {"filler_bytes": 3_000, "answer_bytes": 200_000}
            answered = await tester.call("trial.call", id="call-1", **call)
            assert len(answered["digest"]) == 44
            assert 0 < answered["seconds"] < 1
            content = {"digest": b64encode(sm3(FILLER)).decode(), "filler": b64encode(FILLER).decode()}
            for stream in ("supervision", "telemetry"):
                recorded = await tester.call("trial.record", id=f"record-{stream}", stream=stream, **content)
                assert recorded["sequence"] >= 1
            for method, params in (("trial.call", {"id": "x"}), ("trial.record", {"id": "x", **content})):
                with pytest.raises(Refused, match=r"^caller.not_allowed$"):
                    await ui.call(method, **params)
            await house.until(lambda: len(trials(house)) == 3)
            return trials(house)

    assert run(main()) == [("call-1", "trial.call", 1, 1), *RECORDED]


def test_a_call_that_never_left_is_told_apart_from_one_without_an_answer(tmp_path):
    """`line.down` and `platform.no_answer` are two things to whoever counts (I6)."""

    async def main() -> None:
        async with living(ApiHouse(tmp_path)) as house:
            tester = house.caller(TESTER_UID)
            await house.settled(tester)
            house.platform.faults.silent()
            with pytest.raises(Refused, match=r"^platform.no_answer$"):
                await tester.call("trial.call", id="unknown", deadline_seconds=3.0)
            house.uplink.stop()
            await house.until(lambda: "offline" in house.told.states[-1])
            with pytest.raises(Refused, match=r"^line.down$"):
                await tester.call("trial.call", id="never-left", deadline_seconds=3.0)
            assert [trial for trial, *_ in trials(house)] == ["unknown"]

    run(main())
