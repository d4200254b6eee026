"""`govterm enroll`: make a terminal known to its platform, once; docs/enrolment.md."""

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from transport.errors import TransportError

_NOT_DONE = 1

enroll = typer.Typer(
    help="Make this terminal known to its platform: a request goes out, an answer comes back.", no_args_is_help=True
)

DirectoryOption = Annotated[Path, typer.Option(help="Where keys and certificates lie, for root alone.", metavar="DIR")]
_DIRECTORY = Path("/etc/govterm/credentials")


def add_to(app: typer.Typer) -> None:
    """Add the sub-commands."""
    app.add_typer(enroll, name="enroll")


@enroll.command()
def request(
    terminal: Annotated[str, typer.Option(help="This terminal's name at the platform.", metavar="ID")],
    output: Annotated[Path, typer.Option(help="Where the request goes, a new file.", metavar="FILE")],
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """Make this terminal's keys and write its request; print the fingerprint to tell the platform's operator.

    The request holds no secret. The private keys never leave DIR.
    """
    from runtime import credentials
    from runtime.hardware import hardware_name

    if not credentials.is_terminal_id(terminal):
        raise typer.BadParameter("a terminal's name has 4 to 32 letters, digits and hyphens", param_hint="--terminal")
    with _told():
        machine = hardware_name()
        identity = credentials.request(
            directory,
            output,
            terminal_id=terminal,
            hardware=machine.name,
            software_version=version("govterm"),
        )
    typer.echo(f"terminal  {terminal}\nhardware  {machine.name} ({machine.source})\nidentity  {identity}")
    if machine.source == "machine_id":
        _say("Warning: this board tells no serial number, so /etc/machine-id names it, and a copied disk has that too.")
    _say(f"Send {output} to the platform and read the identity's fingerprint to its operator, on a line you trust.")


@enroll.command()
def accept(
    answer: Annotated[Path, typer.Argument(help="The platform's answer.", metavar="ANSWER")],
    fingerprint: Annotated[
        str, typer.Option(help="SM3 of the platform's certificate, as its operator read it out.", metavar="HEX")
    ],
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """Verify the platform's answer, put it into force and print the section for govterm.toml.

    Nothing is written unless all of it is right. The dates of certificates are told, not judged: a terminal's clock
    may be wrong before it has spoken to its platform.
    """
    from runtime import credentials

    with _told():
        enrolled = credentials.accept(directory, answer, fingerprint)
        section = credentials.platform_section(directory)
    certificate = enrolled.certificate
    _say(f"The platform's certificate is valid from {certificate.not_before} to {certificate.not_after}.")
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_before <= now <= certificate.not_after:
        _say(f"Warning: by this machine's clock ({now:%Y-%m-%d %H:%M} UTC) it is not valid now.")
    _say("Put this into /etc/govterm/govterm.toml:")
    typer.echo("[platform]")
    for key, value in section.items():
        typer.echo(f"{key} = {json.dumps(value)}")  # a JSON string or number is written the same in TOML


@enroll.command()
def show(directory: DirectoryOption = _DIRECTORY) -> None:
    """Tell what this terminal is enrolled as. Never a secret."""
    from runtime import credentials

    with _told():
        described = credentials.describe(directory)
    for key, value in described.items():
        typer.echo(f"{key:<20} {value}")


@enroll.command()
def wipe(
    directory: DirectoryOption = _DIRECTORY,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Overwrite the keys and remove the enrolment, for a terminal that is given away or enrolled anew.

    Stop the daemon first. Have the platform revoke the terminal: overwriting reaches not every copy on flash.
    """
    from runtime import credentials

    if not yes:
        typer.confirm(f"Destroy the keys in {directory}? It must then be enrolled anew.", abort=True, err=True)
    with _told():
        gone = credentials.wipe(directory)
    _say(f"Gone from {directory}: {', '.join(gone)}." if gone else f"There was nothing in {directory}.")


@contextmanager
def _told() -> Iterator[None]:
    """Turn a refusal into one line and an exit code."""
    try:
        yield
    except TransportError as error:
        _say(f"govterm: {error}; {error.advice} ({error.code})")
        raise typer.Exit(_NOT_DONE) from None


def _say(text: str) -> None:
    typer.echo(text, err=True)
