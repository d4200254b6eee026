"""The `govterm` command."""

import asyncio
import json
import os
import sys
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runtime import audit_cli, enrol, face, lockdown_command, tester
from runtime.client import ClientError, RpcError, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from vision.store import ModelFile

ALLOCATOR = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
}
"""What the daemon's environment needs so that freed memory is overwritten; the unit sets the same."""

_HELP = """Runtime of the self-service terminals in government service halls.

Start with `govterm check FILE`, then `govterm run --config FILE`; ask a running daemon with `govterm status`.

Exit codes: 0 done, 1 not done (the reason is on standard error), 2 wrong arguments, 69 the daemon is not reached or an
extra is not installed; `run` ends with the daemon's own code (0 stopped as asked, 69 its socket is taken, 70 it
failed, 78 the configuration has mistakes).
"""
_SOCKET = Path("/run/govterm/govterm.sock")
_MODELS = Path("/var/lib/govterm-models")
_NOT_DONE = 1
_UNAVAILABLE = 69

app = typer.Typer(name="govterm", help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")
models = typer.Typer(help="Prepare, install, list and verify the face models.", no_args_is_help=True)
app.add_typer(models, name="models")
tester.add_to(app)
face.add_to(app)
enrol.add_to(app)
lockdown_command.add_to(app)
audit_cli.add_to(app)

SocketOption = Annotated[Path, typer.Option(help="Unix socket of the daemon's API.", metavar="PATH")]
DirectoryOption = Annotated[Path, typer.Option(help="Where the models lie.", metavar="DIR")]
ManifestOption = Annotated[
    Path | None, typer.Option(help="Manifest of your own models [default: this package's].", metavar="FILE")
]
RigOption = Annotated[bool, typer.Option("--rig", help="Accept `rig = true`: only for the simulated peripherals.")]


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="The configuration file (TOML).", metavar="FILE")],
    rig: RigOption = False,
) -> None:
    """Run the daemon in this process, with the memory allocator set to overwrite what is freed."""
    arguments = [sys.executable, "-m", "runtime", "--config", str(config), *(["--rig"] if rig else [])]
    os.execve(sys.executable, arguments, {**os.environ, **ALLOCATOR})  # noqa: S606 - the daemon replaces the command


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The configuration file (TOML).", metavar="FILE")],
    rig: RigOption = False,
    machine: Annotated[
        bool, typer.Option("--machine", help="Also check that this machine has the users and files named in it.")
    ] = False,
    staff: Annotated[
        bool, typer.Option("--staff", help="Also check the Unix accounts of the staff, as root (docs/audit.md).")
    ] = False,
) -> None:
    """List every mistake in a configuration file: its key, what was expected, what was found."""
    from runtime.config import ConfigError, check_machine, load
    from runtime.staff_accounts import check_accounts
    from vision.log_priority import prefixes

    try:
        settings = load(file, rig=rig)
        mistakes = check_machine(settings) if machine else []
        mistakes += check_accounts(settings.api) if staff else []
        if mistakes:
            raise ConfigError(mistakes)
    except ConfigError as error:
        for mistake in error.mistakes:
            typer.echo(f"{prefixes(sys.stdout).get('error', '')}{file}: {mistake}")
        raise typer.Exit(_NOT_DONE) from None
    typer.echo(f"{file}: no mistakes")


@app.command()
def status(
    socket: SocketOption = _SOCKET,
    as_json: Annotated[bool, typer.Option("--json", help="Print the daemon's answer as JSON.")] = False,
) -> None:
    """Ask the daemon how the terminal and each of its components fare."""
    answer = _ask(socket, "terminal.status", {}, 5.0)
    if as_json:
        typer.echo(_pretty(answer))
        return
    console = Console()
    rig = "  [bold red]rig: this is not a real terminal[/]" if answer.get("rig") else ""
    console.print(f"govterm {answer.get('version', '?')}, boot {answer.get('boot_id', '?')}{rig}")
    table = Table("component", "state", "code", "identity", "details")
    for name, one in sorted(answer.get("state", {}).items()):
        details = ", ".join(f"{key}={value}" for key, value in one.get("details", {}).items())
        said = (one.get("state", "?"), one.get("code") or "", one.get("identity") or "", details)
        table.add_row(name, *map(escape, said))  # a device's own words
    console.print(table)


@app.command()
def call(
    method: Annotated[str, typer.Argument(help="For example `terminal.status`.", metavar="METHOD")],
    parameters: Annotated[str, typer.Argument(help="A JSON object.", metavar="[JSON]")] = "{}",
    socket: SocketOption = _SOCKET,
    seconds: Annotated[float, typer.Option(help="How long to wait for the answer.", min=0.1, max=600)] = 60.0,
) -> None:
    """Call one method of the daemon's API and print its result as JSON.

    `govterm call rpc.discover` describes every method. The connection ends with the call and a session with its
    connection, so the `session` methods want a program that stays connected.
    """
    try:
        decoded = json.loads(parameters)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        raise typer.BadParameter('the parameters are not a JSON object, such as {"session": "..."}')
    typer.echo(_pretty(_ask(socket, method, decoded, seconds)))


@app.command()
def units(
    output: Annotated[Path, typer.Option(help="Root directory to write below; `/` installs.", metavar="DIR")],
    config: Annotated[
        Path | None, typer.Option(help="Configuration whose addresses the daemon may reach; without it, none.")
    ] = None,
) -> None:
    """Write the systemd units, udev, sysusers, tmpfiles, polkit and pwquality files for this virtual environment."""
    from runtime.config import ConfigError, load
    from runtime.egress import endpoints
    from runtime.units import STEPS, UnitsError, hidden_interpreter, render

    try:
        for path in render(output, allowed=None if config is None else endpoints(load(config))):
            typer.echo(path)
        if config is None:
            typer.echo(
                "Warning: without --config the kernel lets the daemon reach nobody: platform offline (T20)",
                err=True,
            )
        if (interpreter := hidden_interpreter()) is not None:
            warning = (
                "which the unit hides from the daemon (ProtectHome=): make it with a Python outside /home and /root"
            )
            typer.echo(f"Warning: this virtual environment runs {interpreter}, {warning}", err=True)
    except ConfigError as error:
        _fail("\n".join(f"{config}: {mistake}" for mistake in error.mistakes))
    except UnitsError as error:
        _fail(f"{error}; {error.advice} ({error.code})")
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    typer.echo("Then, as root, with the configuration and the keys in /etc/govterm:", err=True)
    for step in STEPS:
        typer.echo(f"  {step}", err=True)


@models.command()
def prepare(directory: DirectoryOption = _MODELS) -> None:
    """Fetch the face models by hash, prepare them for this machine, and list them."""
    from vision import store

    _models(directory, lambda: store.prepare(directory))


@models.command("list")
def list_models(directory: DirectoryOption = _MODELS, manifest: ManifestOption = None) -> None:
    """List the face models with their state, licence and hash; exit 1 when one is missing or damaged."""
    from vision import store
    from vision.manifest import MANIFEST

    _models(directory, lambda: store.list_models(directory, manifest or MANIFEST))


@models.command()
def install(
    files: Annotated[list[Path], typer.Argument(help="Model files (ONNX).", metavar="FILE...")],
    directory: DirectoryOption = _MODELS,
    manifest: ManifestOption = None,
) -> None:
    """Copy model files to where the models lie, each only if the manifest names its hash, and list the models."""
    from vision import store
    from vision.manifest import MANIFEST

    _models(directory, lambda: store.install(files, directory, manifest or MANIFEST))


@models.command()
def verify(directory: DirectoryOption = _MODELS, manifest: ManifestOption = None) -> None:
    """Load the face models as the vision process does and print the thresholds that belong to them."""
    from vision.errors import VisionError
    from vision.manifest import MANIFEST
    from vision.models import load

    try:
        loaded = load(directory, manifest or MANIFEST)
    except VisionError as error:
        _fail(f"{error}; {error.advice} ({error.code})")
    typer.echo(loaded.identity)
    table = Table("operating point", "frames", "cosine", "upper 95 %", "group", "pairs", "matches", "tail", "date")
    for row in loaded.thresholds:
        said = (row.operating_point, row.frames, row.cosine, row.bound, row.data, row.pairs, row.matches)
        table.add_row(*map(str, said), "extrapolated" if row.extrapolated else "counted", row.date)
    Console().print(table)


def main() -> None:
    """Run the command; sub-commands of extras are looked up only when one of ours is not meant."""
    own = {"run", "check", "status", "call", "units", "models", "--version", "face", "enroll", "lockdown", "audit"}
    if not (len(sys.argv) > 1 and sys.argv[1] in own | set(tester.COMMANDS)):
        for entry in entry_points(group="govterm.commands"):
            _add(entry)
    app()


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(version("govterm"))
        raise typer.Exit


def _add(entry: EntryPoint) -> None:
    try:
        loaded = entry.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=entry.name)
        else:
            app.command(entry.name)(loaded)
    except ModuleNotFoundError as error:
        missing = error.name

        @app.command(
            entry.name,
            help="Not installed: needs the extra `rig`.",
            add_help_option=False,
            context_settings={"ignore_unknown_options": True},
        )
        def unavailable(_: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
            advice = "install the wheel with its extra: pip install 'govterm-VERSION.whl[rig]'"
            _fail(f"`{entry.name}` needs the extra `rig`, {missing} is missing; {advice}", _UNAVAILABLE)


def _ask(socket: Path, method: str, parameters: dict[str, Any], seconds: float) -> Any:
    async def ask() -> Any:
        async with connect(socket) as client:
            return await client.call(method, parameters, seconds=seconds)

    try:
        return asyncio.run(ask())
    except RpcError as error:
        _fail(f"{error}; {error.advice} ({error.code})")
    except ClientError as error:
        _fail(f"{error}; {error.advice} ({error.code})", _UNAVAILABLE)


def _models(directory: Path, action: "Callable[[], list[ModelFile]]") -> None:
    from vision.errors import VisionError

    try:
        files = action()
    except VisionError as error:
        _fail(f"{error}; {error.advice} ({error.code})")
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    table = Table("model", "state", "licence", "source", "sha256")
    for file in files:
        table.add_row(file.name, file.state, file.licence, file.source, file.prepared_sha256[:12])
    Console().print(table)
    if any(file.state != "ready" for file in files):
        _fail(f"{directory} is not complete: run `govterm models prepare --directory {directory}`")


def _pretty(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=False, indent=2)


def _fail(message: str, code: int = _NOT_DONE) -> NoReturn:
    typer.echo(f"govterm: {message}", err=True)
    raise typer.Exit(code)
