"""What a simulation came to, as a table and as JSON."""

import hashlib
from collections import Counter
from collections.abc import Iterable

import msgspec
from rich.console import Console
from rich.table import Table

from sim.simulate.run import Outcome

DAY_SECONDS = 86_400.0


class Failure(msgspec.Struct, frozen=True):
    """A seed of which something did not hold, and how to see it again."""

    seed: int
    violations: list[str]
    replay: str


class Report(msgspec.Struct, frozen=True):
    """Every seed together. `success_rate` is the share of the citizens who stayed and got what they came for.

    `availability` is the share of the time in which the terminal could serve, `away_seconds` what kept it from that.
    `judged` counts visits of the patient and how many a fault would have excused, faults that had to have a ticket,
    papers, looks for what is held, how often the board was powered off, tamperings that had to be seen, and sessions
    that ended of one.
    """

    seeds: int
    events: int
    citizens: int
    faults: dict[str, int]
    violations: int
    availability: float
    success_rate: float
    trace_digest: str
    hours: float
    lives: int
    judged: dict[str, int]
    away_seconds: dict[str, float]
    cpu_seconds: float
    days_per_minute: float
    failures: list[Failure]


def put_together(outcomes: Iterable[Outcome], command: str, wall_seconds: float) -> Report:
    """Return the report of outcomes in the order of their seeds; `command` runs one of them again, with its seed."""
    outcomes = list(outcomes)
    faults: Counter[str] = Counter()
    away: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    digest = hashlib.sha256()
    for one in outcomes:
        faults.update(one.faults)
        judged.update(one.judged)
        away.update({cause: round(seconds * 1000) for cause, seconds in one.availability.items()})
        digest.update(f"{one.seed} {one.digest}\n".encode())
    lived = sum(one.lived for one in outcomes)
    total, tried = away.total(), sum(one.tried for one in outcomes)
    failures = [
        Failure(one.seed, one.violations, f"{command} --seed {one.seed} --seeds 1")
        for one in outcomes
        if one.violations
    ]
    return Report(
        seeds=len(outcomes),
        events=sum(one.events for one in outcomes),
        citizens=sum(one.citizens for one in outcomes),
        faults=dict(sorted(faults.items())),
        violations=sum(len(one.violations) for one in failures),
        availability=round(away[""] / total, 6) if total else 0.0,
        success_rate=round(sum(one.served for one in outcomes) / tried, 6) if tried else 0.0,
        trace_digest=digest.hexdigest(),
        hours=round(lived / 3600, 3),
        lives=sum(one.lives for one in outcomes),
        judged=dict(judged),
        away_seconds={cause: milliseconds / 1000 for cause, milliseconds in sorted(away.items()) if cause},
        cpu_seconds=round(sum(one.seconds for one in outcomes), 1),
        days_per_minute=round(lived / DAY_SECONDS / (wall_seconds / 60), 3) if wall_seconds else 0.0,
        failures=failures,
    )


def show(report: Report, console: Console) -> None:
    """Print the report."""
    table = Table(title=f"{report.seeds} seeds, {report.hours:.0f} hours of a terminal's life")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for what, figure in (
        ("events", f"{report.events:,}"),
        ("citizens", f"{report.citizens:,}"),
        ("of those who stayed, served", f"{100 * report.success_rate:.1f} %"),
        ("lives of the daemon", f"{report.lives:,}"),
        ("faults", f"{sum(report.faults.values()):,} of {len(report.faults)} kinds"),
        *((f"judged: {what.replace('_', ' ')}", f"{count:,}") for what, count in report.judged.items()),
        ("availability", f"{100 * report.availability:.2f} %"),
        *((f"could not serve for {cause}", f"{seconds:,.0f} s") for cause, seconds in report.away_seconds.items()),
        ("simulated days a minute", f"{report.days_per_minute:.2f}"),
        ("trace digest", report.trace_digest[:16]),
    ):
        table.add_row(what, figure)
    console.print(table)
    for failure in report.failures:
        for violation in failure.violations:
            console.print(f"[red]✗ seed {failure.seed}: {violation}[/]", soft_wrap=True, highlight=False)
        console.print(f"  again: {failure.replay}", soft_wrap=True, highlight=False)
    console.print("[red]not as promised[/]" if report.failures else "[green]as promised[/]")


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return msgspec.json.encode(report).decode()
