"""What a soak of the whole terminal comes to, as tables and as JSON."""

import statistics
from collections.abc import Mapping

import msgspec
from rich.console import Console
from rich.table import Table

from sim.soak.books import Books
from sim.soak.gauges import Gauge
from sim.soak.search import Search


class Recoveries(msgspec.Struct, frozen=True):
    """Seconds from a fault until the next citizen was served to the end, over `count` faults of a kind."""

    count: int
    p50: float | None
    p95: float | None
    max: float | None


class Citizens(msgspec.Struct, frozen=True):
    """`cut_off`: whoever was at the UI when its process was killed. `visit_seconds`: p50 of those who were served."""

    came: int
    served: int
    refused: int
    cut_off: int
    visit_seconds: float | None


class TerminalReport(msgspec.Struct, frozen=True):
    """The whole run; it went well when `failures` is empty.

    `lost`, `duplicates` and `double_charges` sum up `books`. `starts` is how often each process was started, `unasked`
    tells of ends that no fault asked for, `watchdog` is how often the daemon hung and was killed.
    """

    minutes: float
    seed: int
    faults: dict[str, Recoveries]
    recovery: Recoveries
    citizens: Citizens
    refused: dict[str, int]
    lost: int
    duplicates: int
    double_charges: int
    books: Books
    memory: Mapping[str, Gauge]
    descriptors: Mapping[str, Gauge]
    starts: dict[str, int]
    watchdog: int
    unasked: list[str]
    personal: Search
    directory: str | None
    failures: list[str]


def recoveries(count: int, seconds: list[float]) -> Recoveries:
    """Return the percentiles of the recoveries that were measured."""
    if not seconds:
        return Recoveries(count, None, None, None)
    cuts = statistics.quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else seconds * 19
    return Recoveries(count, round(cuts[9], 2), round(cuts[18], 2), round(max(seconds), 2))


def lost(books: Books) -> int:
    """Return how much is missing at the platform of what was journaled or told."""
    return books.records.lost + books.events.missing + books.receipts.lost + books.charges.unaccounted


def duplicates(books: Books) -> int:
    """Return how much is at the platform twice, or has come out of the printer untold."""
    return books.records.doubled + books.papers.unaccounted


def show(report: TerminalReport, console: Console) -> None:
    """Print the report."""
    title = f"{report.minutes:g} min, seed {report.seed}: seconds until the next citizen was served"
    table = Table("fault", "times", "p50", "p95", "longest", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, one in {**report.faults, "all": report.recovery}.items():
        table.add_row(kind, str(one.count), *("" if value is None else f"{value:.1f}" for value in _figures(one)))
    console.print(table)
    for what, fact in _facts(report):
        console.print(f"  {what:<16} {fact}", soft_wrap=True, highlight=False)
    for failure in report.failures:
        console.print(f"[red]✗ {failure}[/]", soft_wrap=True)
    console.print("[red]not as promised[/]" if report.failures else "[green]as promised[/]")


def _figures(one: Recoveries) -> tuple[float | None, ...]:
    return one.p50, one.p95, one.max


def _facts(report: TerminalReport) -> list[tuple[str, str]]:
    books, citizens, personal = report.books, report.citizens, report.personal
    facts = [
        ("citizens", f"{citizens.came} came, {citizens.served} served in p50 {citizens.visit_seconds} s"),
        ("refused", ", ".join(f"{what} {times}" for what, times in report.refused.items()) or "nothing"),
        ("records", _fields(books.records)),
        ("events", _fields(books.events)),
        ("receipts", _fields(books.receipts)),
        ("charges", _fields(books.charges)),
        ("paper", _fields(books.papers)),
        ("started", ", ".join(f"{name} {times}" for name, times in report.starts.items())),
        ("watchdog", f"{report.watchdog} times"),
    ]
    for what, gauges in (("MiB", report.memory), ("descriptors", report.descriptors)):
        for name, one in gauges.items():
            told = f"{one.first:g}, then {one.last:g} {what}, most {one.most:g}, over {one.citizens} citizens"
            facts.append((name, told))
    searched = f"{len(personal.found)} found in {personal.files} files of {personal.mebibytes:g} MiB"
    facts.append(("personal data", f"{searched}; {personal.controls_found} of {personal.controls} planted found"))
    facts += [("unasked", what) for what in report.unasked]
    return facts + ([("kept in", report.directory)] if report.directory is not None else [])


def _fields(part: msgspec.Struct) -> str:
    return ", ".join(f"{name} {value}" for name, value in msgspec.to_builtins(part).items())


def as_json(report: TerminalReport) -> str:
    """Return the report as one JSON object."""
    return msgspec.json.encode(report).decode()
