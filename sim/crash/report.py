"""What an enumeration comes to, as a table and as JSON."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from sim.crash.explore import Outcome
from sim.crash.points import Kind, Point
from sim.crash.sabotage import Sabotage

SHOWN = 20
"""Findings that the table tells."""


class Finding(msgspec.Struct, frozen=True):
    """What did not hold after the daemon stopped at a point."""

    service: str
    point: int
    kind: Kind
    what: str
    view: str
    again: Point | None
    failures: list[str]


class Covered(msgspec.Struct, frozen=True):
    """The points of one service's run and what became of them.

    `worlds` counts the points that differ in what they leave behind; the daemon was stopped at `stopped` of those, and
    restarted `restarts` times: on the journal as written, `synced` times as synced where that is another one, `late`
    times with what was on its way to the platform arriving last. `recoveries` were stopped once more before they had
    settled, at each of their own points.
    """

    service: str
    points: int
    kinds: dict[str, int]
    worlds: int
    stopped: int
    restarts: int
    synced: int
    late: int
    recoveries: int
    failed: int
    seconds: float


class Report(msgspec.Struct, frozen=True):
    """The whole enumeration; it went well when `findings` is empty."""

    sabotage: Sabotage | None
    directory: str | None
    services: list[Covered] = msgspec.field(default_factory=list)
    findings: list[Finding] = msgspec.field(default_factory=list)


def choose(points: Sequence[Point], most: int | None) -> list[Point]:
    """Return one point for each world, or `most` of them: of each kind its share, spread over the run."""
    first: dict[int, Point] = {}
    for point in points:
        first.setdefault(point.world, point)
    worlds = list(first.values())
    if most is None or most >= len(worlds):
        return worlds
    kinds: dict[Kind, list[Point]] = {}
    for point in worlds:
        kinds.setdefault(point.kind, []).append(point)
    ranked = [((place + 0.5) / len(of_kind), point) for of_kind in kinds.values() for place, point in _spread(of_kind)]
    return sorted((point for _, point in sorted(ranked, key=_rank)[:most]), key=lambda point: point.number)


def choose_again(points: Sequence[Point], most: int) -> list[Point]:
    """Return so many of these points at which an effect was under way, spread over the run."""
    open_ones = [point for point in points if point.is_open]
    return [point for rank, point in _spread(open_ones) if rank < most]


def _spread(points: Sequence[Point]) -> Iterable[tuple[int, Point]]:
    """Number points so that the first few of them are spread evenly: halves, quarters, eighths."""
    places = sorted(range(len(points)), key=lambda place: int(f"{place:016b}"[::-1], 2))
    return [(rank, points[place]) for rank, place in enumerate(places)]


def _rank(ranked: tuple[float, Point]) -> tuple[float, int]:
    return ranked[0], ranked[1].number


def covered(service: str, points: Sequence[Point], outcomes: Sequence[Outcome], seconds: float) -> Covered:
    """Count."""
    return Covered(
        service=service,
        points=len(points),
        kinds=dict(sorted(Counter(str(point.kind) for point in points).items())),
        worlds=len({point.world for point in points}),
        stopped=len({outcome.point.number for outcome in outcomes}),
        restarts=len(outcomes),
        synced=sum(outcome.view == "synced" for outcome in outcomes),
        late=sum(outcome.view == "late" for outcome in outcomes),
        recoveries=sum(outcome.again is not None for outcome in outcomes),
        failed=sum(bool(outcome.failures) for outcome in outcomes),
        seconds=round(seconds, 1),
    )


def findings(service: str, outcomes: Iterable[Outcome]) -> list[Finding]:
    """Return the outcomes in which something did not hold."""
    return [
        Finding(service, one.point.number, one.point.kind, one.point.what, one.view, one.again, one.failures)
        for one in outcomes
        if one.failures
    ]


def show(report: Report, console: Console) -> None:
    """Print the report."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("service", no_wrap=True)
    for column in ("points", "worlds", "stops", "restarts", "synced", "late", "again", "failed"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in report.services:
        told = (one.points, one.worlds, one.stopped, one.restarts, one.synced, one.late, one.recoveries, one.failed)
        table.add_row(one.service, *map(str, told))
    console.print(table)
    for one in report.services:
        kinds = ", ".join(f"{kind} {count}" for kind, count in one.kinds.items())
        console.print(f"[dim]{one.service} ({one.seconds:g} s): {kinds}[/]", highlight=False)
    for finding in report.findings[:SHOWN]:
        where = f"{finding.service} {finding.point} ({finding.kind} {finding.what}, {finding.view})"
        if finding.again is not None:
            where += f", again at {finding.again.number} ({finding.again.kind} {finding.again.what})"
        more = f" (and {len(finding.failures) - 1} more)" if len(finding.failures) > 1 else ""
        console.print(f"[red]✗ {where}: {finding.failures[0]}{more}[/]", soft_wrap=True, highlight=False)
    if len(report.findings) > SHOWN:
        console.print(f"[red]✗ and {len(report.findings) - SHOWN} more; --json has all[/]", highlight=False)
    if report.directory is not None:
        console.print(f"kept in {report.directory}", soft_wrap=True, highlight=False)
    console.print(_verdict(report))


def _verdict(report: Report) -> str:
    failed, restarts = len(report.findings), sum(one.restarts for one in report.services)
    if failed:
        return f"[red]{failed} of {restarts} restarts broke a promise[/]"
    return f"[green]every promise was kept in {restarts} restarts[/]"


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return msgspec.json.encode(report).decode()
