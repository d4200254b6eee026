"""`govterm audit`: verify the audit log and export of it, on the terminal or on a copy, without the daemon (H7)."""

import base64
import binascii
import datetime
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transport.errors import TransportError

if TYPE_CHECKING:
    from transport.sm2 import PublicKey

_NOT_DONE = 1
_DAY = datetime.timedelta(days=1)
_CHINA = datetime.timezone(datetime.timedelta(hours=8))

audit = typer.Typer(help="Verify and export the audit log, as root or on a copy.", no_args_is_help=True)

DirectoryOption = Annotated[Path, typer.Option(help="Where `audit.jsonl` and the closed files lie.", metavar="DIR")]
KeyOption = Annotated[
    Path,
    typer.Option(help="The terminal's identity key: the public one (DER or PEM), or its own.", metavar="FILE"),
]
KeysOption = Annotated[
    list[Path],
    typer.Option("--key", help="As above; once for each that the terminal has had.", metavar="FILE"),
]
DayOption = Annotated[datetime.datetime, typer.Option(formats=["%Y-%m-%d"], metavar="DAY")]
_DIRECTORY = Path("/var/lib/govterm")
_KEY = Path("/etc/govterm/credentials/identity.der")


def add_to(app: typer.Typer) -> None:
    """Add the sub-commands."""
    app.add_typer(audit, name="audit")


@audit.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="An export; without it, the log in DIR is verified.", metavar="[EXPORT]")
    ] = None,
    directory: DirectoryOption = _DIRECTORY,
    key: KeysOption = [_KEY],  # noqa: B006 - typer copies it
    seals: Annotated[
        Path | None, typer.Option(help="The seals that the platform holds, one JSON object a line.", metavar="FILE")
    ] = None,
) -> None:
    """Verify the chain, and each seal by the terminal's key.

    With --seals also that nothing is gone of which the platform knows.
    """
    import msgspec

    from runtime.audit_chain import AuditError, Seal, lines_of
    from runtime.audit_chain import verify as verify_chain

    with _told():
        keys = [_public_key(one) for one in key]
        held = [] if seals is None else _read(seals).splitlines()
        try:
            expected = [msgspec.json.decode(line, type=Seal) for line in held if line.strip()]
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise AuditError("audit.read_failed", f"{seals} is no file of seals") from None
        files = [file] if file is not None else _files(directory)
        verdict = verify_chain(lines_of(files), *keys, seals=expected, is_whole=file is None)
    typer.echo(f"{verdict.lines} lines follow from each other, after {verdict.removed} older ones that are not here")
    typer.echo(
        f"{verdict.seals} seals are by this key" + (f", the last of {_time(verdict.sealed_at)}" * bool(verdict.seals))
    )
    if verdict.unsealed:
        _say(f"{verdict.unsealed} lines at the end are not sealed yet: nothing proves that there were no more.")
    for line in verdict.losses:
        _say(f"line {line} says that the daemon found lines before it gone, or changed (audit.truncated)")
    if verdict.losses:
        raise typer.Exit(_NOT_DONE)


@audit.command()
def export(
    begins: Annotated[datetime.datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, in China.")],
    ends: Annotated[datetime.datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, in China.")],
    output: Annotated[Path, typer.Option(help="A new file.", metavar="FILE")],
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """Write the lines of some days, with the seals around them, to one file.

    Anybody can verify it by the public key alone.
    """
    from runtime.audit_chain import lines_of, slice_of
    from runtime.durable import write_new

    first, last = (day.replace(tzinfo=_CHINA).timestamp() for day in (begins, ends + _DAY))
    with _told():
        lines = slice_of(list(lines_of(_files(directory))), first, last)
        if not lines:
            _say("govterm: there is no line of these days")
            raise typer.Exit(_NOT_DONE)
        try:
            write_new(output, b"".join(line + b"\n" for line in lines), 0o600)
        except OSError as error:
            _say(f"govterm: {output}: {error.strerror}")
            raise typer.Exit(_NOT_DONE) from None
    typer.echo(f"{output}: {len(lines)} lines")


@audit.command("key")
def show_key(key: KeyOption = _KEY) -> None:
    """Print the public identity key as PEM, for whoever verifies an export."""
    with _told():
        text = base64.b64encode(_public_key(key).to_der()).decode()
    lines = "\n".join(textwrap.wrap(text, 64))
    typer.echo(f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----")


def _public_key(file: Path) -> "PublicKey":
    """Read the public key out of any of its forms; raise TransportError `sm2.bad_key`."""
    from transport.sm2 import PrivateKey, PublicKey

    content = _read(file)
    if content.startswith(b"-----BEGIN PUBLIC KEY-----"):
        body = b"".join(line for line in content.split(b"\n") if not line.startswith(b"-----"))
        with suppress(binascii.Error):  # what is no Base64 is no DER either
            content = base64.b64decode(body)
    try:
        return PublicKey.from_der(content)
    except TransportError:
        pair = PrivateKey.from_der(content)
        try:
            return pair.public
        finally:
            pair.wipe()


def _files(directory: Path) -> list[Path]:
    """Return the files of the log; right behind a closed one there may be no present one yet."""
    from runtime.audit_chain import closed_files

    current = directory / "audit.jsonl"
    closed = closed_files(current)
    return [*closed, current] if current.exists() or not closed else closed


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        _say(f"govterm: {file}: {error.strerror}")
        raise typer.Exit(_NOT_DONE) from None


def _time(unix: int | None) -> str:
    return f"{datetime.datetime.fromtimestamp(unix or 0, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


@contextmanager
def _told() -> Iterator[None]:
    """Turn a refusal into one line and an exit code."""
    from runtime.audit_chain import AuditError

    try:
        yield
    except (AuditError, TransportError) as error:
        _say(f"govterm: {error}; {error.advice} ({error.code})")
        raise typer.Exit(_NOT_DONE) from None


def _say(text: str) -> None:
    typer.echo(text, err=True)
