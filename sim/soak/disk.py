"""A small disk of its own for the terminal's state, so that it can be full: a tmpfs in a mount namespace."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sim.settings import RigError

SIZE = "256m"
_STEPS = (1 << 20, 1 << 12)


class DiskError(RigError):
    """This machine lets nobody mount a tmpfs here."""


class Disk:
    """A mounted tmpfs at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Take every free block."""
        with self._filler.open("ab", buffering=0) as file:
            for step in _STEPS:
                try:
                    while True:
                        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Give the blocks back."""
        self._filler.unlink(missing_ok=True)


@asynccontextmanager
async def mounted(path: Path) -> AsyncIterator[Disk]:
    """Mount a tmpfs at a new directory while the context lasts; raise DiskError when that is not permitted."""
    path.mkdir(mode=0o700)
    said = await _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "govterm-soak", str(path))
    if said is not None:
        raise DiskError(f"no disk to fill: {said}; run it as root, or where users may have mount namespaces")
    try:
        yield Disk(path)
    finally:
        await _run("umount", "--lazy", str(path))


async def _run(*command: str) -> str | None:
    """Run a program; return what it says when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode(errors="replace").strip() if process.returncode else None
