"""The command `govterm soak`."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol, TypeVar

import structlog
import typer
from rich.console import Console

from sim.citizens.report import Sabotage as CitizensSabotage
from sim.settings import RigError
from sim.soak.disk import DiskError
from sim.soak.report import Sabotage
from sim.soak.sabotage import TerminalSabotage
from vision.errors import VisionError

if find_spec("fpdf") is None:  # `govterm` then says that the extra `rig` is not installed
    raise ModuleNotFoundError("No module named 'fpdf'", name="fpdf")

_NOT_DONE = 1
_USAGE = 2
_UNAVAILABLE = 69
_STOPPED = 130
_LOG_LEVEL_WARNING = 30
_INSIDE = "GOVTERM_SOAK_NAMESPACE"
_MOSQUITTO = Path("/usr/sbin/mosquitto")

Say = Callable[[str], None]


class Told(Protocol):
    """A report of which something may have failed."""

    @property
    def failures(self) -> list[str]:
        """What failed, in words."""


R = TypeVar("R", bound=Told)

soak = typer.Typer(help="Run a terminal and its platform under load or faults, and count.", no_args_is_help=True)


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
    _log_to_stderr()
    from sim.soak.delivery import soak_delivery
    from sim.soak.report import as_json, show

    _carry_out(lambda say: soak_delivery(minutes, seed, keep, sabotage, say), show, as_json if as_object else None)


@soak.command()
def citizens(
    number: Annotated[
        int, typer.Option("--citizens", help="How many come, one after the other.", min=1, max=100_000)
    ] = 200,
    seed: Annotated[int, typer.Option(help="What they come for follows from it.", min=0, max=2**31 - 1)] = 1,
    as_object: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="New directory for ledger, databases, paper and logs, to count them again.")
    ] = None,
    sabotage: Annotated[
        CitizensSabotage | None,
        typer.Option(
            help=f"Break something on purpose, so that the command fails and says why: {', '.join(CitizensSabotage)}.",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Serve citizens one after the other at real processes, measure every operation and count every event.

    The daemon, the rig, a mosquitto and the reference platform, each a process of its own; the citizens come for
    certificates, applications with and without a fee, progress, the hotline and shared data. Told are each operation's
    time against the limit, where it went, sessions an hour, memory, and the round trip of the API under a preview.

    Exit code 0 only when everybody was served, each operation in time, the platform has an event for every step that a
    citizen was told of, and the daemon's memory stayed flat; 69 when this machine has no mosquitto.
    """
    from sim.citizens.report import as_json, show
    from sim.citizens.run import serve_citizens

    if not _MOSQUITTO.exists():
        _fail("mosquitto is not installed: apt-get install mosquitto", _UNAVAILABLE)
    _log_to_stderr()
    _carry_out(lambda say: serve_citizens(number, seed, keep, sabotage, say), show, as_json if as_object else None)


@soak.command()
def terminal(
    *,
    minutes: Annotated[float, typer.Option(help="How long citizens come.", min=0.05, max=10_080)] = 30.0,
    seed: Annotated[int, typer.Option(help="Citizens and faults follow from it.", min=0, max=2**31 - 1)] = 1,
    faults: Annotated[
        str | None, typer.Option(help="Only these kinds of faults, with commas between them.", metavar="KINDS")
    ] = None,
    as_object: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="New directory for ledgers, databases, paper and logs, to count them again.")
    ] = None,
    sabotage: Annotated[
        TerminalSabotage | None,
        typer.Option(
            help="Break something on purpose, without other faults, so that the command fails and says why: "
            f"{', '.join(TerminalSabotage)}.",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Let everything of a whole terminal fail while citizens come, and see it recover each time without a hand.

    The daemon, its vision process, the rig with every device, a mosquitto, the reference platform and the UI, each a
    process of its own, are killed and hung, unplugged, starved of disk, memory and descriptors, cut from line and
    mains: every kind of fault at least once, then at random. A fault is got over when the next citizen was served.
    Run it as root: whatever any process writes, wherever it is, goes to an overlay and is searched.

    Exit code 0 only when every fault was got over, nothing was lost, doubled or charged twice, memory and descriptors
    stayed flat, and nothing personal is in any file; 69 when this machine has no mosquitto or D-Bus daemon, or lets
    nobody mount a tmpfs and an overlay.
    """
    _enter_namespace()
    _log_to_stderr()
    from sim.privacy.overlay import OverlayError, write_aside
    from sim.soak.logind import BUS
    from sim.soak.mishaps import MISHAPS
    from sim.soak.terminal import soak_terminal
    from sim.soak.terminal_report import as_json, show

    if shutil.which(BUS) is None:
        _fail(f"{BUS} is not installed: apt-get install dbus", _UNAVAILABLE)
    kinds = list(MISHAPS) if faults is None else faults.split(",")
    if unknown := [kind for kind in kinds if kind not in MISHAPS]:
        _fail(f"no such fault: {', '.join(unknown)}; there are {', '.join(MISHAPS)}", _USAGE)
    try:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
        written = write_aside(None if keep is None else keep.absolute())
    except FileExistsError:
        _fail(f"{keep}: it is a file; name a new directory")
    except OverlayError as error:
        _fail(f"{error}; run it as root", _UNAVAILABLE)
    _carry_out(
        lambda say: soak_terminal(minutes, seed, kinds, keep=keep, sabotage=sabotage, written=written, say=say),
        show,
        as_json if as_object else None,
    )


def _carry_out(
    work: Callable[[Say], Coroutine[Any, Any, R]],
    show: Callable[[R, Console], None],
    as_json: Callable[[R], str] | None,
) -> None:
    """Do the work and tell of it, in JSON where that is wanted; the exit code says whether it went well.

    Ctrl-C and SIGTERM stop it and everything it started.
    """
    console = Console(quiet=as_json is not None)

    async def stoppable() -> R:
        if (task := asyncio.current_task()) is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work(lambda what: console.print(f"[dim]{what}[/]", highlight=False))

    try:
        report = asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("govterm: stopped", err=True)
        raise typer.Exit(_STOPPED) from None
    except DiskError as error:
        _fail(str(error), _UNAVAILABLE)
    except (RigError, VisionError, RuntimeError, OSError) as error:
        _fail(str(error))
    if as_json is None:
        show(report, console)
    else:
        typer.echo(as_json(report))
        for failure in report.failures:
            typer.echo(f"govterm: {failure}", err=True)
    if report.failures:
        raise typer.Exit(_NOT_DONE)


def _log_to_stderr() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(_LOG_LEVEL_WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


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
