"""Counts a soak: the load generator's ledger against the platform's database, by UUID and digest (I6, T12)."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from runtime.messages import RecordsShed
from sim.soak import ledger
from sim.soak.ledger import Trial


class Records(msgspec.Struct, frozen=True):
    """`sent`: acknowledged by the daemon. `unknown`: not acknowledged, so it may or may not have arrived.

    `lost`: sent, not at the platform and not told of as shed. `duplicates`: accepted more than once. `altered`: of
    another digest than sent, or never sent at all. `shed`: telemetry that a full disk made the terminal drop, told of
    at the platform, and no more than the places that the platform passed over for it. `repeats`: what the transport
    carried again, and the platform recognised.
    """

    sent: int
    received: int
    lost: int
    duplicates: int
    altered: int
    shed: int
    unknown: int
    repeats: int


class Calls(msgspec.Struct, frozen=True):
    """`unknown`: no answer, so the platform may have acted, once. `not_sent`: it certainly never left.

    `lost`: answered, but not at the platform. `duplicates`: served more than once. `altered`: of another digest than
    sent, or never sent at all, or said to be not sent.
    """

    sent: int
    answered: int
    refused: int
    unknown: int
    not_sent: int
    lost: int
    duplicates: int
    altered: int
    repeats: int


class Count(msgspec.Struct, frozen=True):
    """What became of everything."""

    records: Records
    calls: Calls


class _Arrived(msgspec.Struct, frozen=True):
    kind: str
    digest: str
    is_right: bool
    arrivals: int


def count(ledger_file: Path, platform: Path) -> Count:
    """Compare the two, trial by trial; sqlite3.Error or OSError when one cannot be read."""
    trials = ledger.read(ledger_file)
    with closing(sqlite3.connect(f"{platform.absolute().as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT id, kind, digest, ok, arrivals FROM trials")
        arrived = {trial: _Arrived(kind, digest.hex(), bool(ok), number) for trial, kind, digest, ok, number in rows}
        shed = database.execute(
            "SELECT body FROM records WHERE schema = 'records.shed' AND stream LIKE 'telemetry-%'"
        ).fetchall()
        counters: dict[str, int] = dict(database.execute("SELECT name, count FROM counters").fetchall())
    told = [msgspec.msgpack.decode(body, type=RecordsShed) for (body,) in shed]
    return Count(
        _records(trials, arrived, told, counters),
        _calls(trials, arrived, counters.get("call copies", 0)),
    )


def _records(
    trials: Mapping[str, Trial],
    arrived: Mapping[str, _Arrived],
    told: Iterable[RecordsShed],
    counters: Mapping[str, int],
) -> Records:
    mine = {trial: one for trial, one in trials.items() if one.kind != "trial.call"}
    theirs = {trial: one for trial, one in arrived.items() if one.kind != "trial.call"}
    sent = {trial: one for trial, one in mine.items() if one.end == "acknowledged"}
    ranges = [range(shed.first, shed.last + 1) for shed in told]
    missing = [one for trial, one in sent.items() if trial not in theirs]
    excused = sum(
        1 for one in missing if one.kind == "trial.health" and any(one.sequence in places for places in ranges)
    )
    shed = min(excused, counters.get("records shed", 0))
    return Records(
        sent=len(sent),
        received=len(theirs),
        lost=len(missing) - shed,
        duplicates=_duplicates(theirs),
        altered=len(_altered(mine, theirs)),
        shed=shed,
        unknown=len(mine) - len(sent),
        repeats=counters.get("record copies", 0),
    )


def _calls(trials: Mapping[str, Trial], arrived: Mapping[str, _Arrived], repeats: int) -> Calls:
    mine = {trial: one for trial, one in trials.items() if one.kind == "trial.call"}
    theirs = {trial: one for trial, one in arrived.items() if one.kind == "trial.call"}
    ends = [one.end for one in mine.values()]
    denied = {trial for trial, one in mine.items() if one.end == "not_sent" and trial in theirs}
    return Calls(
        sent=len(mine),
        answered=ends.count("answered"),
        refused=ends.count("refused"),
        unknown=ends.count("unknown"),
        not_sent=ends.count("not_sent"),
        lost=sum(1 for trial, one in mine.items() if one.end == "answered" and trial not in theirs),
        duplicates=_duplicates(theirs),
        altered=len(_altered(mine, theirs) | denied),
        repeats=repeats,
    )


def _duplicates(arrived: Mapping[str, _Arrived]) -> int:
    return sum(one.arrivals - 1 for one in arrived.values())


def _altered(mine: Mapping[str, Trial], theirs: Mapping[str, _Arrived]) -> set[str]:
    return {trial for trial, one in theirs.items() if not _is_as_sent(mine.get(trial), one)}


def _is_as_sent(sent: Trial | None, arrived: _Arrived) -> bool:
    """A call that was not answered has no digest in the ledger; its own digest must be right all the same."""
    if sent is None or not arrived.is_right:
        return False
    return sent.kind == arrived.kind and sent.digest in (None, arrived.digest)
