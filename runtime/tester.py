"""The tester's sub-commands of `govterm`: probe a device, record its wire, watch the daemon's devices."""

import asyncio
import datetime
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

COMMANDS = ("probe", "capture", "devices")

_NOT_DONE = 1
_UNAVAILABLE = 69
_STOPPED = 130
_SOCKET = Path("/run/govterm/govterm.sock")

KindArgument = Annotated[str, typer.Argument(help="For example `printer`.", metavar="KIND")]
BaudOption = Annotated[int | None, typer.Option(help="Line rate in bit/s [default: the kind's usual one].")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A key of the kind's configuration section, as `unit=3`.", metavar="KEY=VALUE"),
]


def add_to(app: typer.Typer) -> None:
    """Add the sub-commands."""
    for command in (probe, capture, devices):
        app.command()(command)


def probe(
    kind: KindArgument,
    *,
    port: Annotated[str, typer.Option(help="The port of the device.", metavar="PATH")],
    baud: BaudOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; ask nobody for anything.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write a page for the file.", metavar="FILE.html")] = None,
    assignments: SetOption = None,
    photo_library: Annotated[
        str | None, typer.Option(help="The vendor's decoder of the card's photo.", metavar="PATH")
    ] = None,
) -> None:
    """Probe whatever is at a port, step by step: real hardware or the rig.

    Every step is timed; a failed one shows the last frames of the wire, of kinds that meet personal data only their
    heads. A step that needs a hand is asked for at a terminal and skipped elsewhere. Exit code 0 only when no step
    failed.
    """
    from runtime import probe_report
    from runtime.board import open_link
    from runtime.probe import Bench, StepResult
    from runtime.probe import probe as run
    from runtime.probe_steps import probe_steps

    settings = _settings(kind, port, baud, assignments)
    hand = not as_json and sys.stdin.isatty() and sys.stdout.isatty()

    def show(result: StepResult) -> None:
        if not as_json:
            typer.echo(f"{result.outcome:<8} {result.seconds:8.3f} s  {result.name}: {_indented(result.detail)}")

    async def work() -> Any:
        bench = Bench(kind, settings, open_link, hand=hand, tell=_tell, photo_library=photo_library)
        return await run(bench, probe_steps(kind), show)

    done = _run(work)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(done).decode())
    else:
        typer.echo(f"{' '.join(filter(None, (kind, done.identity)))}: {'passed' if done.passed else 'failed'}")
    if report is not None:
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        page = probe_report.render(done, port=port, when=when, version=version("govterm"))
        try:
            report.write_text(page, encoding="utf-8")
        except OSError as error:
            _fail(f"{report}: {error.strerror}")
    if not done.passed:
        raise typer.Exit(_NOT_DONE)


def capture(
    port: Annotated[str, typer.Argument(help="The port of the device.", metavar="PORT")],
    file: Annotated[Path, typer.Argument(help="A new file for the recording (JSON lines).", metavar="FILE")],
    *,
    kind: Annotated[str, typer.Option(help="What is at the port, for example `printer`.", metavar="KIND")],
    baud: BaudOption = None,
    assignments: SetOption = None,
    hand: Annotated[bool, typer.Option("--hand", help="Somebody is there: also do what needs a hand.")] = False,
) -> None:
    """Record what a device and its driver say to each other, with times, every personal field replaced.

    The steps of `govterm probe` that leave the wire alone are done and recorded. There is no unmasked recording, and
    a port that the daemon holds is not opened.
    """
    from devices.capture import MASKS, Header, encode_entry, encode_header
    from runtime.board import open_link
    from runtime.probe import Bench, StepResult
    from runtime.probe import probe as run
    from runtime.probe_steps import capture_steps

    settings = _settings(kind, port, baud, assignments)
    if kind not in MASKS:
        raise typer.BadParameter(f"a {kind} is not recorded: its pictures stay in the vision process")
    if "://" in port:
        raise typer.BadParameter("a network address is not recorded: name a serial port")

    def show(result: StepResult) -> None:
        typer.echo(f"{result.outcome:<8} {result.seconds:8.3f} s  {result.name}: {_indented(result.detail)}", err=True)

    async def work(write: Callable[[bytes], object]) -> Any:
        bench = Bench(kind, settings, open_link, hand=hand, tell=_tell)
        bench.listener = lambda seconds, way, piece: write(encode_entry(seconds, way, piece))
        return await run(bench, capture_steps(kind), show)

    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(encode_header(Header(1, kind, settings.baud)))
            done = _run(lambda: work(out.write))
            count = out.tell()
    except OSError as error:
        _fail(f"{file}: {error.strerror}")
    if done.steps[0].outcome == "failed":
        file.unlink()
        _fail(f"{port} is not recorded: {done.steps[0].detail.splitlines()[0]}; a port that the daemon uses is its own")
    typer.echo(f"{file}: {count:,} bytes; play it back with `govterm replay {file}`")
    if not done.passed:
        raise typer.Exit(_NOT_DONE)


def devices(
    socket: Annotated[Path, typer.Option(help="Unix socket of the daemon's API.", metavar="PATH")] = _SOCKET,
    once: Annotated[bool, typer.Option("--once", help="Print the table once instead of keeping it up.")] = False,
) -> None:
    """Show the daemon's devices, and every change of them until Ctrl-C; away from a terminal, once."""
    from rich.console import Console
    from rich.live import Live

    console = Console()

    async def work() -> None:
        from runtime.client import connect

        async with connect(socket) as client:
            state = (await client.call("events.subscribe"))["state"]
            if once or not console.is_terminal:
                console.print(device_table(state))
                return
            with Live(device_table(state), console=console, auto_refresh=False) as live:
                async for notice in client.notifications():
                    if notice.method == "events.lost":
                        state = (await client.call("events.subscribe"))["state"]
                    elif notice.method == "events.change":
                        state[notice.params["component"]] = notice.params["state"]
                    live.update(device_table(state), refresh=True)
        _fail("the daemon closed the connection", _UNAVAILABLE)

    from runtime.client import ClientError, RpcError

    try:
        _run(work)
    except (ClientError, RpcError) as error:
        _fail(f"{error}; {error.advice} ({error.code})", _UNAVAILABLE if isinstance(error, ClientError) else _NOT_DONE)


def device_table(state: Mapping[str, Any]) -> Any:
    """Return the table of the devices in a state, in the order of `runtime.drivers.KINDS`, cameras last."""
    from rich.markup import escape
    from rich.table import Table

    from runtime.drivers import KINDS

    cameras = sorted(name for name in state if "camera" in name or name == "vision")
    table = Table("device", "state", "code", "identity", "details")
    for name in [*KINDS, *cameras]:
        if name in state:
            one = state[name]
            details = ", ".join(f"{key}={value}" for key, value in one.get("details", {}).items())
            colour = "green" if one["state"] == "online" else "red"
            said = (one.get("code") or "", one.get("identity") or "", details)
            table.add_row(name, f"[{colour}]{one['state']}[/]", *map(escape, said))
    return table


def _settings(kind: str, port: str, baud: int | None, assignments: list[str] | None) -> Any:
    from runtime.probe import SECTIONS, SettingsError, make_settings

    if kind not in SECTIONS:
        raise typer.BadParameter(f"no kind {kind}; there are {', '.join(SECTIONS)}")
    try:
        return make_settings(kind, port, baud, assignments or ())
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None


def _run(work: Callable[[], Any]) -> Any:
    """Run a coroutine; Ctrl-C, SIGTERM and a closed terminal leave the device safe first and end the command."""
    import structlog

    async def stoppable() -> Any:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if task is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                loop.add_signal_handler(number, task.cancel)
        return await work()

    warning = 30
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(warning),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with suppress(asyncio.CancelledError):
        return asyncio.run(stoppable())
    typer.echo("govterm: stopped", err=True)
    raise typer.Exit(_STOPPED)


def _tell(what: str) -> None:
    typer.echo(f"         {what}", err=True)


def _indented(detail: str) -> str:
    return detail.replace("\n", "\n            ")


def _fail(message: str, code: int = _NOT_DONE) -> NoReturn:
    typer.echo(f"govterm: {message}", err=True)
    raise typer.Exit(code)
