"""The command `govterm simulate`."""

import os
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn

from sim.simulate.faults import Density
from sim.simulate.sabotage import Sabotage

for _package in ("fpdf", "PIL", "segno"):
    if find_spec(_package) is None:  # `govterm` then says that the extra `rig` is not installed
        raise ModuleNotFoundError(f"No module named {_package!r}", name=_package)

_NOT_DONE = 1
_STOPPED = 130
_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of its own is made there; where it is missing, the usual place is taken
_DAY_HOURS = 24.0


def simulate(
    *,
    hours: Annotated[float, typer.Option(help="How long each seed's terminal lives.", min=0.1, max=10_000)] = 1.0,
    seeds: Annotated[int, typer.Option(help="How many terminals live, one for each seed.", min=1, max=1_000_000)] = 20,
    seed: Annotated[int, typer.Option(help="The first seed.", min=0, max=2**31 - 1)] = 1,
    faults: Annotated[Density, typer.Option(help="How many faults there are.")] = Density.HEAVY,
    as_object: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="New directory for trace, journal, audit log, platform database and what citizens were told, by seed."
        ),
    ] = None,
    sabotage: Annotated[
        Sabotage | None,
        typer.Option(
            help=f"Break something on purpose, so that the command fails and says why: {', '.join(Sabotage)}.",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Let terminals live on a virtual clock among citizens and faults that seeds give, and judge what they do.

    The daemon's own code, every device of the rig, the broker and the reference platform, all in memory: citizens come
    and walk away, devices and lines fail, power is cut, processes are killed in the middle of an instruction. Nobody
    may be charged twice, told what is not so, or shown what is another's; nothing personal may be written down; every
    fault has its ticket; a terminal with nothing wrong serves. With --keep every seed is kept, without it none.

    Exit code 0 only when all of that holds for every seed. Equal seeds give an equal trace_digest.
    """
    from sim.simulate.hall import Plan
    from sim.simulate.report import as_json, put_together, show
    from sim.simulate.run import place
    from sim.simulate.run import simulate as run
    from sim.world import Keys

    console = Console(quiet=as_object)
    command = f"govterm simulate --hours {hours:g} --faults {faults}" + (f" --sabotage {sabotage}" if sabotage else "")
    plans = (Plan(number, hours, faults, sabotage) for number in range(seed, seed + seeds))
    began, outcomes = time.monotonic(), []
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[pace]}"))
    try:
        if keep is not None:
            keep.mkdir()
        with (
            TemporaryDirectory(prefix="govterm-simulate-", dir=_MEMORY if _MEMORY.is_dir() else None) as temporary,
            Progress(*columns, console=console, transient=True) as progress,
        ):
            bar = progress.add_task("seeds", total=seeds, pace="")
            for outcome in run(plans, Keys(), Path(temporary), workers=os.cpu_count() or 1):
                outcomes.append(outcome)
                left = place(Path(temporary), outcome.seed)
                if keep is not None:
                    shutil.copytree(left, keep / left.name)
                shutil.rmtree(left)
                days = sum(one.lived for one in outcomes) / 3600 / _DAY_HOURS
                minutes = (time.monotonic() - began) / 60
                failed = sum(1 for one in outcomes if one.violations)
                pace = f"{days / minutes:.1f} days a minute, {failed} seeds failed"
                progress.update(bar, advance=1, pace=pace)
    except KeyboardInterrupt:
        typer.echo("govterm: stopped", err=True)
        raise typer.Exit(_STOPPED) from None
    except OSError as error:
        _fail(str(error))
    report = put_together(outcomes, command, time.monotonic() - began)
    if as_object:
        typer.echo(as_json(report))
    else:
        show(report, console)
    if report.failures:
        raise typer.Exit(_NOT_DONE)


def _fail(message: str) -> NoReturn:
    sys.stdout.flush()
    typer.echo(f"govterm: {message}", err=True)
    raise typer.Exit(_NOT_DONE)
