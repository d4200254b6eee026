"""The command `govterm crash-points`."""

import asyncio
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer
from rich.console import Console

from sim.crash.sabotage import Sabotage
from sim.settings import RigError
from vision.errors import VisionError
from vision.store import cache_directory

if TYPE_CHECKING:
    from sim.crash.report import Report

for _package in ("fpdf", "PIL", "segno"):
    if find_spec(_package) is None:  # `govterm` then says that the extra `rig` is not installed
        raise ModuleNotFoundError(f"No module named {_package!r}", name=_package)

_NOT_DONE = 1
_STOPPED = 130
_LOG_LEVEL_CRITICAL = 50


def crash_points(
    *,
    service: Annotated[
        list[str] | None, typer.Option(help="Only this service; can be given again.", metavar="NAME")
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Stop at so many points of each service, spread [default: at all].", min=1)
    ] = None,
    again: Annotated[
        int, typer.Option(help="After so many of these, stop once more at each point of the recovery.", min=0)
    ] = 2,
    kill: Annotated[
        int | None,
        typer.Option(help="Instead, stop real processes by SIGKILL at so many points in all.", min=1),
    ] = None,
    as_object: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="New directory for journal and platform database of what failed.")
    ] = None,
    sabotage: Annotated[
        Sabotage | None,
        typer.Option(
            help=f"Break something on purpose, so that the command fails and says why: {', '.join(Sabotage)}.",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Stop the daemon at every write, message and effect of a citizen's visit, and examine what is left.

    A scripted citizen of each service is served on a virtual clock. At each point the daemon stops without clean-up
    and is started again, on its journal as it was written and as it was synced; once it has settled with the platform,
    nothing may be charged or filed twice, lost, printed without saying so, or left open. With --kill the same happens
    to a daemon and a rig that are real processes, in real time.

    Exit code 0 only when all of that holds at every point.
    """
    from sim.crash import report as reports
    from sim.crash.service import RunFailed
    from sim.crash.services import SERVICES

    names = service or list(SERVICES)
    if unknown := [name for name in names if name not in SERVICES]:
        raise typer.BadParameter(f"{unknown[0]}: no such service; there are {', '.join(SERVICES)}")
    if kill and (points or keep or sabotage):
        raise typer.BadParameter("--kill takes --service and --json only")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_LOG_LEVEL_CRITICAL))
    console = Console(quiet=as_object)
    try:
        found = asyncio.run(_kill(names, kill)) if kill else _enumerate(names, points, again, keep, sabotage)
    except KeyboardInterrupt:
        typer.echo("govterm: stopped", err=True)
        raise typer.Exit(_STOPPED) from None
    except (RunFailed, RigError, VisionError, OSError) as error:
        _fail(str(error))
    if as_object:
        typer.echo(reports.as_json(found))
    else:
        reports.show(found, console)
    if found.findings:
        raise typer.Exit(_NOT_DONE)


def _enumerate(
    names: list[str], most: int | None, again: int, keep: Path | None, sabotage: Sabotage | None
) -> "Report":
    from sim import assets
    from sim.crash.explore import explore, survey
    from sim.crash.report import Report, choose, choose_again, covered, findings
    from sim.crash.services import SERVICES

    font = assets.prepare(cache_directory() / "assets").font
    report = Report(sabotage, directory=str(keep) if keep is not None else None)
    if keep is not None:
        keep.mkdir()
    with TemporaryDirectory(prefix="govterm-crash-") as temporary:
        for name in names:
            directory = (keep or Path(temporary)) / name
            directory.mkdir()
            began = time.monotonic()
            points = survey(SERVICES[name], font)
            outcomes = explore(
                SERVICES[name],
                font,
                choose(points, most),
                directory,
                again=choose_again(choose(points, None), again),
                sabotage=sabotage,
                workers=os.cpu_count() or 1,
            )
            report.services.append(covered(name, points, outcomes, time.monotonic() - began))
            report.findings.extend(findings(name, outcomes))
    return report


async def _kill(names: list[str], total: int) -> "Report":
    from sim import assets
    from sim.crash import real
    from sim.crash.report import Report, choose, covered, findings
    from sim.crash.services import SERVICES
    from vision import store

    store.prepare(cache_directory() / "models")
    prepared = assets.prepare(cache_directory() / "assets")
    report = Report(None, None)
    with TemporaryDirectory(prefix="govterm-crash-") as directory:
        fuse = Path(directory, "fuse")
        os.environ[real.VARIABLE] = str(fuse)
        points = {name: await real.survey(SERVICES[name], prepared, fuse) for name in names}
        shares = real.share([len(of_service) for of_service in points.values()], total)
        for (name, of_service), number in zip(points.items(), shares, strict=True):
            began = time.monotonic()
            outcomes = [await real.kill(SERVICES[name], prepared, fuse, point) for point in choose(of_service, number)]
            report.services.append(covered(name, of_service, outcomes, time.monotonic() - began))
            report.findings.extend(findings(name, outcomes))
    return report


def _fail(message: str) -> NoReturn:
    sys.stdout.flush()
    typer.echo(f"govterm: {message}", err=True)
    raise typer.Exit(_NOT_DONE)
