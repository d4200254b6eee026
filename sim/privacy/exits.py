"""What leaves the terminal beside paper and line, each in a file, where the search of the files finds it (T20, T22).

The API as an operator hears it, commands, the line that systemd shows, and the audit log's export.
"""

import asyncio
import datetime
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from sim.settings import RigError, RigFiles

OPERATOR = 65_534
"""The user `nobody`, who is the operator here."""
_AS_OPERATOR = (
    *("setpriv", f"--reuid={OPERATOR}", f"--regid={OPERATOR}", "--clear-groups"),
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
)
"""As that user, who reaches the rig's files all the same."""
_SECONDS = 30.0
_DATAGRAM = 65_536
_CHINA = datetime.timezone(datetime.timedelta(hours=8))


class Exits:
    """The files of what was said; made by `watched`."""

    def __init__(self, files: RigFiles, onlooker: asyncio.subprocess.Process) -> None:
        self._files = files
        self._onlooker = onlooker

    async def ask(self) -> None:
        """Ask by every command while a session is open; raise RigError when one fails."""
        file, socket_path = str(self._files.daemon_settings), str(self._files.api)
        await asyncio.gather(
            self._end_onlooker(),
            self._run("status", "status", "--json", "--socket", socket_path),
            self._run("check", "check", file, "--rig"),
        )

    async def export(self) -> dict[str, int]:
        """Export the audit log; return how many bytes each exit said. Raises RigError when it fails."""
        today = datetime.datetime.now(_CHINA)
        begins, ends = (today - datetime.timedelta(days=1)).strftime("%Y-%m-%d"), today.strftime("%Y-%m-%d")
        output = _directory(self._files) / "audit-export"
        days = ("--from", begins, "--to", ends)
        await self._run(
            "audit", "audit", "export", *days, "--output", str(output), "--directory", str(self._files.state)
        )
        return {path.name: path.stat().st_size for path in sorted(_directory(self._files).iterdir())}

    async def _end_onlooker(self) -> None:
        async with asyncio.timeout(_SECONDS):
            await self._onlooker.communicate(b"")
        if self._onlooker.returncode:
            raise RigError(f"the onlooker ended with {self._onlooker.returncode}")

    async def _run(self, name: str, *arguments: str) -> None:
        command = str(Path(sys.executable).with_name("govterm"))
        with (_directory(self._files) / name).open("wb") as out:
            process = await asyncio.create_subprocess_exec(command, *arguments, stdin=DEVNULL, stdout=out, stderr=out)
            async with asyncio.timeout(_SECONDS):
                if await process.wait():
                    told = Path(out.name).read_text(encoding="utf-8", errors="replace")
                    raise RigError(f"govterm {' '.join(arguments)} ended with {process.returncode}: {told}")


@asynccontextmanager
async def heard_by_systemd(files: RigFiles) -> AsyncIterator[None]:
    """Take the place of systemd: what a daemon started meanwhile tells of itself (sd_notify(3)) goes to a file."""
    _directory(files).mkdir()
    path = files.sockets / "notify.sock"
    said = (_directory(files) / "systemd").open("ab", buffering=0)
    with said, closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as listener:
        listener.bind(str(path))
        loop = asyncio.get_running_loop()
        loop.add_reader(listener, lambda: said.write(listener.recv(_DATAGRAM) + b"\n"))
        os.environ["NOTIFY_SOCKET"] = str(path)
        try:
            yield
        finally:
            del os.environ["NOTIFY_SOCKET"]
            loop.remove_reader(listener)


@asynccontextmanager
async def watched(files: RigFiles) -> AsyncIterator[Exits]:
    """Have an operator listen to the daemon while the context lasts, or until he is asked; RigError when he cannot."""
    with (_directory(files) / "api").open("wb") as out:
        onlooker = await asyncio.create_subprocess_exec(
            *(*_AS_OPERATOR, sys.executable, "-m", "sim.privacy.onlooker", str(files.api)),
            stdin=PIPE,
            stdout=out,
            stderr=out,
        )
    try:
        yield Exits(files, onlooker)
    finally:
        if onlooker.returncode is None:
            onlooker.kill()
            await onlooker.wait()


def _directory(files: RigFiles) -> Path:
    return files.directory / "exits"
