"""`govterm replay`: a recording of `govterm capture` as a device on a pseudo-terminal."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from devices.capture import CaptureError, Replay, load
from sim.pty import PtyHost


def replay(
    file: Annotated[Path, typer.Argument(help="A recording of `govterm capture`.", metavar="FILE")],
    port: Annotated[
        Path | None, typer.Option(help="Where to publish the port [default: FILE with `.port`].", metavar="PATH")
    ] = None,
) -> None:
    """Play a recording back as a device, at its line rate, until Ctrl-C.

    It answers each request as it was answered when it was recorded, from where the recording stands, and begins anew
    behind its end.
    """
    try:
        header, entries = load(file)
    except CaptureError as error:
        typer.echo(f"govterm: {error}; {error.advice} ({error.code})", err=True)
        raise typer.Exit(1) from None

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        path = port or file.with_suffix(".port")
        if path.is_symlink() or path.exists():
            raise FileExistsError(0, "it exists already", str(path))
        with PtyHost(Replay(header, entries), path, baud=header.baud):
            typer.echo(f"{header.kind} at {path}")
            await stop.wait()

    try:
        asyncio.run(serve())
    except OSError as error:
        typer.echo(f"govterm: {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from None
