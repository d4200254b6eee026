"""`govterm lockdown`: why a terminal opens no session, and the end of it (T23)."""

import asyncio
import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

_NOT_DONE = 1
_UNAVAILABLE = 69
_SECONDS = 30.0
_SOCKET = Path("/run/govterm/govterm.sock")

SocketOption = Annotated[Path, typer.Option(help="Unix socket of the daemon's API.", metavar="PATH")]

lockdown = typer.Typer(help="List and clear the locks that follow tampering, as an operator.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add the sub-commands."""
    app.add_typer(lockdown, name="lockdown")


@lockdown.command("list")
def list_locks(socket: SocketOption = _SOCKET) -> None:
    """List every lock; exit 1 when there is one."""
    locks = _ask(socket, "lockdown.list", {})
    _show(locks)
    raise typer.Exit(_NOT_DONE if locks else 0)


@lockdown.command()
def clear(
    locks: Annotated[list[str], typer.Argument(help="The locks, as `govterm lockdown list` names them.")],
    socket: SocketOption = _SOCKET,
) -> None:
    """Clear locks whose cause is over, and list what is left; the audit log says who did."""
    left: list[dict[str, Any]] = []
    for lock in locks:
        left = _ask(socket, "lockdown.clear", {"lock": lock})
    _show(left)


def _show(locks: list[dict[str, Any]]) -> None:
    if not locks:
        typer.echo("no lock: sessions are opened")
    for one in locks:
        since = datetime.datetime.fromtimestamp(one["since"], datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        persists = ", its cause still holds" if one["persists"] else ""
        typer.echo(f"{one['lock']}  {one['code']} ({one['subject']}), since {since}{persists}")


def _ask(socket: Path, method: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    from runtime.client import ClientError, RpcError, connect

    async def ask() -> list[dict[str, Any]]:
        async with connect(socket) as client:
            answer: dict[str, Any] = await client.call(method, params, seconds=_SECONDS)
            locks: list[dict[str, Any]] = answer["locks"]
            return locks

    try:
        return asyncio.run(ask())
    except RpcError as error:
        _fail(f"{error}; {error.advice} ({error.code})", _NOT_DONE)
    except ClientError as error:
        _fail(f"{error}; {error.advice} ({error.code})", _UNAVAILABLE)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"govterm: {message}", err=True)
    raise typer.Exit(code)
