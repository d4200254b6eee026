"""What serving citizens came to, as tables and as JSON."""

from enum import StrEnum

import msgspec
from rich.console import Console
from rich.table import Table

from sim.citizens.count import Deed, Events
from sim.citizens.round_trip import RoundTrip
from sim.citizens.times import LIMIT_SECONDS, PLACES, Operation, Place
from sim.delivery import Delivery

_TABLE_WIDTH = 130


class Sabotage(StrEnum):
    """What can be broken on purpose; the verdict must find each."""

    DROP_EVENT = "drop-event"
    DOUBLE_EVENT = "double-event"
    SLOW_ANSWER = "slow-answer"


class Memory(msgspec.Struct, frozen=True):
    """Resident memory in MiB after the session `warm_session` and after the last, and the most after any."""

    warm_session: int
    warm: float
    end: float
    most: float


class Report(msgspec.Struct, frozen=True):
    """The whole run; it went well when `failures` is empty.

    `seconds` is all citizens' time at the terminal; nobody hesitates in it. `shares` says where the calls' time went,
    `refused` counts calls by method and code that came to nothing, though the citizen was perhaps served all the same.
    """

    seed: int
    citizens: int
    served: int
    visits: dict[str, int]
    seconds: float
    sessions_per_hour: float
    operations: dict[str, Operation]
    shares: dict[Place, float]
    refused: dict[str, int]
    daemon_memory: Memory
    vision_memory: Memory
    round_trip: RoundTrip
    events: Events
    deeds: dict[str, Deed]
    delivery: Delivery
    directory: str | None
    failures: list[str]


def show(report: Report, console: Console) -> None:
    """Print the report."""
    title = f"{report.served} of {report.citizens} citizens served; seconds, limit {LIMIT_SECONDS:g}"
    headings = ("calls", "p50", "p95", "p99", "longest", "p99 by events", "events", *PLACES)
    table = Table("operation", *headings, title=title, width=_TABLE_WIDTH)
    for column in table.columns[1:]:
        column.justify = "right"
    for method, one in report.operations.items():
        seconds = one.call
        figures = [f"{value:.2f}" for value in (seconds.p50, seconds.p95, seconds.p99, seconds.longest)]
        figures.append(f"{one.steps.p99:.2f}" if one.steps is not None else "")
        least, most = one.events
        events = f"{least}" if least == most else f"{least} to {most}"
        places = [f"{one.shares[place]:.0f} %" if one.shares is not None else "" for place in PLACES]
        table.add_row(method, str(one.calls), *figures, events, *places)
    console.print(table, width=_TABLE_WIDTH, crop=False)
    for what, fact in _facts(report):
        console.print(f"  {what:<18} {fact}", soft_wrap=True, highlight=False)
    for failure in report.failures:
        console.print(f"[red]✗ {failure}[/]", soft_wrap=True)
    console.print("[red]not as promised[/]" if report.failures else "[green]as promised[/]")


def _facts(report: Report) -> list[tuple[str, str]]:
    events, trip, delivery = report.events, report.round_trip, report.delivery
    unasked = ", ".join(f"{step} {number}" for step, number in events.unasked.items())
    differing = {step: deed for step, deed in report.deeds.items() if deed.platform != deed.events}
    facts = [
        ("time went to", ", ".join(f"{place} {report.shares[place]:g} %" for place in PLACES)),
        ("refused", ", ".join(f"{what} {number}" for what, number in report.refused.items()) or "nothing"),
        ("sessions an hour", f"{report.sessions_per_hour:.0f}"),
        ("daemon", _memory(report.daemon_memory)),
        ("vision process", _memory(report.vision_memory)),
        ("round trip", f"p50 {trip.quiet.p50:.2f} ms, p99 {trip.quiet.p99:.2f} ms"),
        ("under a preview", f"p50 {trip.previewing.p50:.2f} ms, p99 {trip.previewing.p99:.2f} ms"),
        ("events", f"{events.told} told, {events.missing} missing, {events.doubled} doubled; unasked: {unasked}"),
        ("the platform did", ", ".join(f"{step} {deed.platform}" for step, deed in report.deeds.items())),
        ("of it otherwise", ", ".join(f"{step}: {deed.events} events" for step, deed in differing.items()) or "none"),
        ("records", f"{delivery.sent} sent, {delivery.lost} lost, {delivery.duplicates} doubled"),
    ]
    return facts if report.directory is None else [*facts, ("kept in", report.directory)]


def _memory(memory: Memory) -> str:
    session = f"after session {memory.warm_session}"
    return f"{memory.warm:.1f} MiB {session}, {memory.end:.1f} MiB at the end, at most {memory.most:.1f} MiB"


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return msgspec.json.encode(report).decode()
