"""What a soak comes to, as a table and as JSON."""

import statistics
from enum import StrEnum

import msgspec
from rich.console import Console
from rich.table import Table

from sim.soak.count import Calls, Records


class Sabotage(StrEnum):
    """What a soak can break on purpose; its verdict must find each."""

    DROP_RECORD = "drop-record"
    DOUBLE_RECORD = "double-record"
    FLIP_BYTE = "flip-byte"
    REUSE_NONCE = "reuse-nonce"


class Recovery(msgspec.Struct, frozen=True):
    """Seconds from the end of a fault until a call was answered and a record receipted again."""

    p50: float
    p95: float
    max: float
    measured: int


class Report(msgspec.Struct, frozen=True):
    """The whole run; it went well when `failures` is empty."""

    seed: int
    seconds: float
    records: Records
    calls: Calls
    faults: dict[str, int]
    recovery_seconds: Recovery | None
    envelopes: int
    nonces_reused: int
    directory: str | None
    failures: list[str]


def recovery(seconds: list[float]) -> Recovery | None:
    """Return the percentiles of the measured recoveries; None without one."""
    if not seconds:
        return None
    cuts = statistics.quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else seconds * 19
    return Recovery(round(cuts[9], 2), round(cuts[18], 2), round(max(seconds), 2), len(seconds))


def show(report: Report, console: Console) -> None:
    """Print the report."""
    table = Table("", "records", "calls", title=f"{report.seconds:.0f} s, seed {report.seed}")
    records, calls = msgspec.to_builtins(report.records), msgspec.to_builtins(report.calls)
    for name in [*records, *(name for name in calls if name not in records)]:
        table.add_row(name, *(str(column.get(name, "")) for column in (records, calls)))
    console.print(table)
    faults = ", ".join(f"{kind} {number}" for kind, number in report.faults.items() if number)
    console.print(f"{sum(report.faults.values())} faults: {faults or 'none'}", highlight=False)
    if (measured := report.recovery_seconds) is not None:
        percentiles = f"p50 {measured.p50:g} s, p95 {measured.p95:g} s, max {measured.max:g} s"
        console.print(f"recovery: {percentiles} ({measured.measured} measured)", highlight=False)
    console.print(f"{report.envelopes} envelopes seen, {report.nonces_reused} nonces reused", highlight=False)
    if report.directory is not None:
        console.print(f"kept in {report.directory}", soft_wrap=True, highlight=False)
    for failure in report.failures:
        console.print(f"[red]✗ {failure}[/]", soft_wrap=True)
    console.print("[red]not delivered as promised[/]" if report.failures else "[green]delivered as promised[/]")


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return msgspec.json.encode(report).decode()
