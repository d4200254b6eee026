"""The rig's sub-commands of `govterm`."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import structlog
import typer
from rich.console import Console
from rich.table import Table

from sim.control import ControlError, ask
from sim.sabotage import Sabotage
from sim.scenario import ScenarioError, Step, load_scenario, play
from sim.settings import RigError, RigFiles, RigSettings, free_port, load_rig, make_rig
from transport.errors import TransportError
from vision.errors import VisionError
from vision.store import cache_directory

for _package in ("fpdf", "iotcore", "PIL", "segno"):
    if find_spec(_package) is None:  # `govterm` then says that the extra `rig` is not installed
        raise ModuleNotFoundError(f"No module named {_package!r}", name=_package)

_NOT_DONE = 1
_STOPPED = 130
_LOG_LEVEL_WARNING = 30

T = TypeVar("T")

rig = typer.Typer(
    help="Simulate everything a terminal is connected to: every peripheral, two cameras, broker and platform.",
    rich_markup_mode="markdown",
)

_CONFIG = Path("rig.toml")
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help=f"The rig's own configuration [default: {_CONFIG}].", metavar="FILE")
]


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the story instead of leaving the rig up.")] = False,
    as_object: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the story.")] = False,
    keep: Annotated[
        Path | None,
        typer.Option(help="New directory for state, logs, platform database and paper [default: a temporary one]."),
    ] = None,
    sabotage: Annotated[
        Sabotage | None,
        typer.Option(
            help=f"Break the story on purpose, so that the command fails and says why: {', '.join(Sabotage)}.",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Serve one synthetic citizen on the rig, start to end, and refuse an impostor.

    Starts everything a terminal is connected to and the daemon itself, reads a card, compares a face, prints a
    certificate, counts the supervision records at the platform, and searches for personal data left behind. Exit code
    0 only when the story went as told. Without --once, rig and daemon stay up for exploring until Ctrl-C.
    """
    from sim.demo import as_json, run_demo, show

    _log_to_stderr()
    console = Console(quiet=as_object)
    try:
        report = _run(run_demo(keep, console, once=once or as_object, sabotage=sabotage))
    except RigError as error:
        _fail(error)
    if report is None:
        raise typer.Exit(_STOPPED)
    if as_object:
        typer.echo(as_json(report))
        for failure in report.failures:
            typer.echo(f"govterm: {failure}", err=True)
    else:
        show(report, console)
    if report.failures:
        raise typer.Exit(_NOT_DONE)


@rig.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    config: ConfigOption = None,
    scenario: Annotated[
        Path | None, typer.Option(help="Verbs on a timeline (TOML), told from the start of the rig.", metavar="FILE")
    ] = None,
) -> None:
    """Start the rig that `govterm rig init` made, and keep it up until Ctrl-C."""
    context.obj = config
    if context.invoked_subcommand is None:
        _log_to_stderr()
        try:
            _run(_serve(*load_rig(config or _CONFIG), load_scenario(scenario) if scenario else []))
        except (RigError, ScenarioError, VisionError, OSError) as error:
            _fail(error)


@rig.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A new directory for it.", metavar="DIR")],
    seed: Annotated[int, typer.Option(help="The synthetic citizens grow from it.", min=0, max=2**31 - 1)] = 1,
) -> None:
    """Make a rig: its configuration rig.toml, its keys, and a govterm.toml for the daemon."""
    files = RigFiles(directory.absolute(), directory.absolute())
    try:
        make_rig(files, RigSettings(seed=seed, broker_port=free_port(), nut_port=free_port()))
    except RigError as error:
        _fail(error)
    _say_where(files)


@rig.command()
def do(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="For example `idcard`.", metavar="DEVICE")],
    verb: Annotated[str, typer.Argument(help="For example `place_card`.", metavar="VERB")],
    arguments: Annotated[str, typer.Argument(help="A JSON object.", metavar="[JSON]")] = "{}",
    config: ConfigOption = None,
) -> None:
    """Do something to a device of the running rig and print the result as JSON."""
    try:
        decoded = json.loads(arguments)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        raise typer.BadParameter('the arguments are not a JSON object, such as {"person": "eileen_collins"}')
    typer.echo(json.dumps(_ask(config or context.obj, device, verb, decoded), ensure_ascii=False, indent=2))


@rig.command()
def verbs(context: typer.Context, config: ConfigOption = None) -> None:
    """List what can be done to each device of the running rig."""
    table = Table("device", "verb", "parameters", "what it does")
    for device, listed in _ask(config or context.obj, "rig", "verbs", {}).items():
        for verb, described in listed.items():
            parameters, _, what = described.partition(" -> ")
            table.add_row(device, verb, parameters, what.partition(": ")[2])
    Console().print(table)


@rig.command()
def enroll(
    context: typer.Context,
    request: Annotated[Path, typer.Argument(help="What `govterm enroll request` wrote.", metavar="REQUEST")],
    output: Annotated[Path, typer.Option(help="Where the answer goes, a new file.", metavar="ANSWER")],
    config: ConfigOption = None,
) -> None:
    """Answer a terminal's request for enrolment as the platform's operator does, and print the fingerprints.

    The platform of a running rig knows the terminal once it is stopped and started (`rig do platform stop`, `start`).
    """
    from sim.enrolment import Desk, write

    try:
        files, settings = load_rig(config or context.obj or _CONFIG)
        desk = Desk(files.trust_directory)
        answered = desk.answer(request.read_bytes(), "127.0.0.1", settings.broker_port)
        write(output, answered.message)
        known = desk.register(answered)
    except (RigError, TransportError) as error:
        _fail(error)
    except OSError as error:
        _fail(RigError(f"{error.filename}: {error.strerror}"))
    replaced = " (its key before no longer counts)" if known else ""
    for what, said in (
        ("terminal", f"{answered.terminal}{replaced}"),
        ("hardware", answered.hardware),
        ("identity", answered.fingerprint),
        ("platform", desk.fingerprint),
    ):
        typer.echo(f"{what:<10} {said}")


@rig.command()
def prepare(
    directory: Annotated[
        Path | None, typer.Option(help="Where they go [default: assets/ in $GOVTERM_CACHE].", metavar="DIR")
    ] = None,
) -> None:
    """Fetch the font and the two public-domain portraits by hash."""
    from sim import assets

    try:
        prepared = assets.prepare(directory or cache_directory() / "assets")
    except (VisionError, OSError) as error:
        _fail(error)
    for path in (prepared.font, *prepared.portraits.values()):
        typer.echo(path)


async def _serve(files: RigFiles, settings: RigSettings, scenario: list[Step]) -> None:
    from sim import assets
    from sim.rig import open_rig

    prepared = await asyncio.to_thread(assets.prepare, cache_directory() / "assets")
    async with open_rig(files, settings, prepared) as started:
        _say_where(files)
        telling = asyncio.create_task(play(scenario, started.devices), name="scenario")
        watching = asyncio.create_task(started.watch(), name="rig watch")
        try:
            await asyncio.wait({telling, watching}, return_when=asyncio.FIRST_EXCEPTION)
            for task in (telling, watching):
                if task.done():
                    task.result()
        finally:
            telling.cancel()
            watching.cancel()
            await asyncio.gather(telling, watching, return_exceptions=True)


def _say_where(files: RigFiles) -> None:
    for what, where in (
        ("rig", f"govterm rig --config {files.settings}"),
        ("daemon", f"govterm run --rig --config {files.daemon_settings}"),
        ("local API", files.api),
        ("lay down a card", f"govterm rig do idcard place_card --config {files.settings}"),
        ("all verbs", f"govterm rig verbs --config {files.settings}"),
        ("printed paper", files.paper),
        ("platform's record", files.platform_database),
    ):
        typer.echo(f"{what:<18} {where}")


def _ask(config: Path | None, device: str, verb: str, args: dict[str, Any]) -> Any:
    try:
        files, _ = load_rig(config or _CONFIG)
        return asyncio.run(ask(files.control, device, verb, args, seconds=30.0))
    except (RigError, ControlError) as error:
        _fail(error)


def _run(work: Coroutine[Any, Any, T]) -> T | None:
    """Run `work`; Ctrl-C, SIGTERM and a closed terminal cancel it, what it started is stopped, and None is returned."""

    async def stoppable() -> T:
        if (task := asyncio.current_task()) is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, task.cancel)
        return await work

    try:
        return asyncio.run(stoppable())
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("govterm: stopped", err=True)
        return None


def _log_to_stderr() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(_LOG_LEVEL_WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"govterm: {error}", err=True)
    raise typer.Exit(_NOT_DONE)
