"""The command `govterm soak`."""

import asyncio
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer
from rich.console import Console

from sim.settings import RigError
from sim.soak.disk import DiskError
from sim.soak.report import Report, Sabotage

if find_spec("fpdf") is None:  # `govterm` then says that the extra `rig` is not installed
    raise ModuleNotFoundError("No module named 'fpdf'", name="fpdf")

_NOT_DONE = 1
_UNAVAILABLE = 69
_STOPPED = 130
_LOG_LEVEL_WARNING = 30
_INSIDE = "GOVTERM_SOAK_NAMESPACE"
_MOSQUITTO = Path("/usr/sbin/mosquitto")

soak = typer.Typer(help="Run a terminal and its platform under faults, and count.", no_args_is_help=True)


@soak.callback()
def _soak() -> None:
    pass


@soak.command()
def delivery(
    minutes: Annotated[float, typer.Option(help="How long the load lasts.", min=0.05, max=10_080)] = 30.0,
    seed: Annotated[int, typer.Option(help="The faults come from it.", min=0, max=2**31 - 1)] = 1,
    as_object: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="New directory for ledger, databases and logs, to count them again.")
    ] = None,
    sabotage: Annotated[
        Sabotage | None,
        typer.Option(
            help="Break the delivery on purpose, without faults, so that the command fails and says why: "
            f"{', '.join(Sabotage)}.",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Count records and calls end to end while everything between terminal and platform fails.

    A daemon, a mosquitto and the reference platform, each a process of its own; another one loads the daemon over its
    local API and gives each record and call a UUID and a digest. Meanwhile connections are cut, broker, platform and
    terminal are killed, the disk fills and the clock jumps: every kind of fault at least once, then at random.

    Exit code 0 only when nothing was lost, doubled or altered, no nonce came twice, and every kind of fault happened;
    69 when this machine has no mosquitto or lets nobody mount a tmpfs.
    """
    _enter_namespace()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(_LOG_LEVEL_WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    console = Console(quiet=as_object)
    try:
        report = _run(minutes, seed, keep, sabotage, console)
    except DiskError as error:
        _fail(str(error), _UNAVAILABLE)
    except (RigError, RuntimeError, OSError) as error:
        _fail(str(error))
    if report is None:
        raise typer.Exit(_STOPPED)
    _tell(report, console, as_object=as_object)
    if report.failures:
        raise typer.Exit(_NOT_DONE)


def _run(minutes: float, seed: int, keep: Path | None, sabotage: Sabotage | None, console: Console) -> Report | None:
    """Run the soak; Ctrl-C and SIGTERM stop it and everything it started, and None is returned."""
    from sim.soak.delivery import soak_delivery

    def say(what: str) -> None:
        console.print(f"[dim]{what}[/]", highlight=False)

    async def stoppable() -> Report:
        if (task := asyncio.current_task()) is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await soak_delivery(minutes, seed, keep, sabotage, say)

    try:
        return asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("govterm: stopped", err=True)
        return None


def _tell(report: Report, console: Console, *, as_object: bool) -> None:
    from sim.soak.report import as_json, show

    if as_object:
        typer.echo(as_json(report))
        for failure in report.failures:
            typer.echo(f"govterm: {failure}", err=True)
    else:
        show(report, console)


def _enter_namespace() -> None:
    """Run this command again where mounts are its own and end with it: the terminal gets a disk that can be full."""
    if os.environ.get(_INSIDE) == "1":
        return
    if not _MOSQUITTO.exists():
        _fail("mosquitto is not installed: apt-get install mosquitto", _UNAVAILABLE)
    options = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    probed = subprocess.run(["unshare", *options, "true"], capture_output=True, text=True, check=False)
    if probed.returncode:
        advice = "run it as root, or where users may have namespaces (sysctl user.max_user_namespaces)"
        _fail(f"no mount namespace for a disk that can be full: {probed.stderr.strip()}; {advice}", _UNAVAILABLE)
    command = ["unshare", *options, sys.executable, *sys.orig_argv[1:]]
    os.execvpe("unshare", command, {**os.environ, _INSIDE: "1"})  # noqa: S606 - replaces this command


def _fail(message: str, code: int = _NOT_DONE) -> NoReturn:
    typer.echo(f"govterm: {message}", err=True)
    raise typer.Exit(code)
