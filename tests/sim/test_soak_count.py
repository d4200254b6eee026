"""The soak's count finds whatever is lost, doubled or altered, by UUID and digest (I6, T12)."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from runtime.messages import RecordsShed, TrialAnswer, TrialCall, TrialHealth, TrialRecord, to_payload
from sim.platform import trial
from sim.platform.faults import Faults
from sim.platform.store import Store
from sim.soak import ledger
from sim.soak.count import Calls, Records, count
from sim.soak.ledger import End, Kind, Ledger
from sim.soak.report import recovery
from transport.sm import sm3
from transport.wire import RecordMessage

FILLER = b"some bytes"
NO_RECORDS = Records(sent=0, received=0, lost=0, duplicates=0, altered=0, shed=0, unknown=0, repeats=0)
NO_CALLS = Calls(sent=0, answered=0, refused=0, unknown=0, not_sent=0, lost=0, duplicates=0, altered=0, repeats=0)


class Run:
    """A ledger and a platform's database, written as in a run."""

    def __init__(self, directory: Path) -> None:
        self.ledger_file, self.database = directory / "ledger.jsonl", directory / "a platform.db"
        self.store = Store(self.database)

    def note(self, name: str, kind: Kind, end: End | None, *, digest: bytes | None = None, place: int = 1) -> None:
        """Begin and end a trial in the ledger; without an end the load generator died of it."""
        with self.ledger_file.open("ab", buffering=0) as file:
            book = Ledger(file)
            book.begin(name, kind, None if kind == "trial.call" else digest or sm3(FILLER))
            if end is not None:
                answered = digest or sm3(FILLER) if kind == "trial.call" and end == "answered" else None
                book.end(name, end, digest=answered, sequence=place if end == "acknowledged" else None)

    def record(self, name: str, *, filler: bytes = FILLER, is_health: bool = False) -> None:
        """Let a record arrive, with the digest of FILLER."""
        kind = TrialHealth if is_health else TrialRecord
        payload = to_payload(kind(name, sm3(FILLER), filler))
        trial.count_record(self.store, RecordMessage(1, payload.schema, payload.version, payload.body), 1.0)

    def call(self, name: str, *, filler: bytes = FILLER) -> msgspec.Struct:
        return trial.answer(self.store, TrialCall(name, sm3(FILLER), filler, 20), 1.0)

    def shed(self, first: int, last: int, *, skipped: int | None = None, stream: str = "telemetry-1") -> None:
        """Let a tombstone arrive, for which the platform passed over so many places: all of them by default."""
        payload = to_payload(RecordsShed(first, last, 0.0))
        place = ("T-1", stream, last)
        self.store.add_record(place, payload.schema, payload.version, payload.body, event=None, at=1.0)
        self.store.count("records shed", last - first + 1 if skipped is None else skipped)

    def records(self) -> Records:
        self.store.commit()
        return count(self.ledger_file, self.database).records

    def calls(self) -> Calls:
        self.store.commit()
        return count(self.ledger_file, self.database).calls


@pytest.fixture
def run(tmp_path: Path):
    made = Run(tmp_path)
    made.note("r1", "trial.record", "acknowledged")
    made.note("c1", "trial.call", "answered")
    made.record("r1")
    made.call("c1")
    yield made
    made.store.close()


GOOD = msgspec.structs.replace(NO_RECORDS, sent=1, received=1)
GOOD_CALLS = msgspec.structs.replace(NO_CALLS, sent=1, answered=1)


def test_what_arrived_once_and_whole_is_right(run: Run) -> None:
    run.store.count("record copies", 7)
    run.store.count("call copies", 3)
    assert run.records() == msgspec.structs.replace(GOOD, repeats=7)
    assert run.calls() == msgspec.structs.replace(GOOD_CALLS, repeats=3)


@pytest.mark.parametrize("end", ["unknown", None])
@pytest.mark.parametrize("arrives", [True, False])
def test_what_was_not_acknowledged_may_arrive_once_or_not(run: Run, end: End | None, *, arrives: bool) -> None:
    run.note("r2", "trial.record", end)
    run.note("c2", "trial.call", end)
    if arrives:
        run.record("r2")
        run.call("c2")
    assert run.records() == msgspec.structs.replace(GOOD, unknown=1, received=1 + arrives)
    assert run.calls() == msgspec.structs.replace(GOOD_CALLS, sent=2, unknown=1)
    run.record("r2")
    run.call("c2")
    assert (run.records().duplicates, run.calls().duplicates) == (arrives, arrives)


def test_what_was_acknowledged_and_did_not_arrive_is_lost(run: Run) -> None:
    run.note("r2", "trial.record", "acknowledged")
    run.note("c2", "trial.call", "answered")
    assert run.records() == msgspec.structs.replace(GOOD, sent=2, lost=1)
    assert run.calls() == msgspec.structs.replace(GOOD_CALLS, sent=2, answered=2, lost=1)


def test_a_uuid_accepted_twice_is_a_duplicate_whatever_its_sequence(run: Run) -> None:
    run.record("r1")
    run.record("r1")
    run.call("c1")
    assert run.records() == msgspec.structs.replace(GOOD, duplicates=2)
    assert run.calls() == msgspec.structs.replace(GOOD_CALLS, duplicates=1)


def test_other_bytes_are_altered(run: Run) -> None:
    """Against the digest that came along, and against the one that the load generator noted."""
    run.note("r2", "trial.record", "acknowledged")
    run.record("r2", filler=b"other bytes")
    run.note("r3", "trial.record", "acknowledged", digest=sm3(b"what was meant"))
    run.record("r3")
    run.note("c2", "trial.call", "answered", digest=sm3(b"what was meant"))
    run.call("c2")
    run.note("c3", "trial.call", "unknown")
    refusal = run.call("c3", filler=b"other bytes")
    assert not isinstance(refusal, TrialAnswer)
    assert run.records() == msgspec.structs.replace(GOOD, sent=3, received=3, altered=2)
    assert run.calls().altered == 2


def test_what_nobody_sent_is_altered(run: Run) -> None:
    run.record("stranger")
    run.call("another stranger")
    run.note("r2", "trial.record", "acknowledged")
    run.record("r2", is_health=True)
    run.note("c2", "trial.call", "not_sent")
    run.call("c2")
    assert run.records().altered == 2
    assert run.calls().altered == 2


def test_only_telemetry_whose_place_was_told_of_is_shed(run: Run) -> None:
    """A full disk sheds telemetry and says so, place by place; all else that is missing is lost."""
    for place in range(10, 15):
        run.note(f"h{place}", "trial.health", "acknowledged", place=place)
    run.note("r2", "trial.record", "acknowledged", place=11)
    run.record("h14", is_health=True)
    run.shed(11, 13)
    assert run.records() == msgspec.structs.replace(GOOD, sent=7, received=2, lost=2, shed=3)


def test_no_more_is_shed_than_the_platform_was_told_of(run: Run) -> None:
    """A tombstone over places that were receipted before excuses no loss there: the platform had those."""
    for place in range(10, 15):
        run.note(f"h{place}", "trial.health", "acknowledged", place=place)
    run.shed(10, 14, skipped=2)
    assert run.records() == msgspec.structs.replace(GOOD, sent=6, lost=3, shed=2)


def test_a_tombstone_outside_telemetry_excuses_nothing(run: Run) -> None:
    run.note("h10", "trial.health", "acknowledged", place=10)
    run.shed(10, 10, stream="supervision-1")
    assert run.records() == msgspec.structs.replace(GOOD, sent=2, lost=1)


def test_a_sabotaged_record_differs_in_one_byte() -> None:
    """And is then counted as altered."""
    faults = Faults()
    payload = to_payload(TrialRecord("r1", sm3(FILLER), FILLER))
    record = RecordMessage(1, payload.schema, payload.version, payload.body)
    faults.flip_byte()
    other = msgspec.structs.replace(record, schema="supervision.event")
    assert trial.spoiled(faults, other) is other
    spoiled = trial.spoiled(faults, record)
    assert sum(a != b for a, b in zip(spoiled.body, record.body, strict=True)) == 1
    assert trial.spoiled(faults, record) is record
    store = Store(":memory:")
    with closing(store.database) as database:
        trial.count_record(store, spoiled, 1.0)
        assert database.execute("SELECT ok, arrivals FROM trials").fetchall() == [(0, 1)]


def test_a_ledger_that_is_being_written_is_read_line_by_line(run: Run) -> None:
    whole = list(ledger.lines(run.ledger_file.read_bytes()))
    assert [type(line) for line in whole] == [ledger.Begun, ledger.Ended] * 2
    assert [line.id for line in whole] == ["r1", "r1", "c1", "c1"]


def test_no_database_is_no_zero(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").touch()
    with pytest.raises(sqlite3.OperationalError):
        count(tmp_path / "ledger.jsonl", tmp_path / "absent.db")


def test_percentiles_of_the_recoveries() -> None:
    assert recovery([]) is None
    one = recovery([2.0])
    assert one is not None
    assert (one.p50, one.p95, one.max, one.measured) == (2.0, 2.0, 2.0, 1)
    many = recovery([float(number) for number in range(1, 101)])
    assert many is not None
    assert (many.p50, many.p95, many.max, many.measured) == (50.5, 95.05, 100.0, 100)
