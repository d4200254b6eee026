"""`govterm replay`: a recording of `govterm capture` as a device on a pseudo-terminal."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from devices.capture import CaptureError, Replay, load
from sim.pty import BITS_PER_BYTE, PtyHost
from sim.wire import Verbs


class TimedReplay:
    """A recording as a device that also takes as long as it took; `nudge` lets its wire hear what is due now.

    The times in a recording hold the way over the line, which the wire itself takes again.
    """

    def __init__(self, replay: Replay, baud: int) -> None:
        self.nudge: Callable[[], None] = lambda: None
        self._replay = replay
        self._seconds_per_byte = BITS_PER_BYTE / baud
        self._waiting: deque[bytes] = deque()
        self._due = bytearray()

    @property
    def verbs(self) -> Verbs:
        """A recording has no hands."""
        return {}

    def feed(self, data: bytes) -> bytes:
        """Take the terminal's bytes and return what is due now."""
        for seconds, said in self._replay.answers(data):
            self._waiting.append(said)
            on_the_line = (len(data) + len(said)) * self._seconds_per_byte
            asyncio.get_running_loop().call_later(max(0.0, seconds - on_the_line), self._say_next)
        due = bytes(self._due)
        self._due.clear()
        return due

    def _say_next(self) -> None:
        self._due += self._waiting.popleft()
        self.nudge()


def replay(
    file: Annotated[Path, typer.Argument(help="A recording of `govterm capture`.", metavar="FILE")],
    port: Annotated[
        Path | None, typer.Option(help="Where to publish the port [default: FILE with `.port`].", metavar="PATH")
    ] = None,
) -> None:
    """Play a recording back as a device, at its line rate, until Ctrl-C.

    It answers each request as it was answered when it was recorded, after the same time, from where the recording
    stands, and begins anew behind its end.
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
        device = TimedReplay(Replay(header, entries), header.baud)
        with PtyHost(device, path, baud=header.baud) as host:
            device.nudge = host.nudge
            typer.echo(f"{header.kind} at {path}")
            await stop.wait()

    try:
        asyncio.run(serve())
    except OSError as error:
        typer.echo(f"govterm: {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from None
