"""A whole rig with its daemon for a benchmark: real processes, real wires, real models."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sim.assets import prepare
from sim.rig import Rig, open_rig
from sim.settings import RigFiles, RigSettings, free_port, make_rig
from sim.terminal import COMPONENTS, Terminal, connected, daemon
from vision.store import cache_directory


def make_files(directory: Path) -> tuple[RigFiles, RigSettings]:
    """Write a new rig's files."""
    settings = RigSettings(broker_port=free_port())
    files = RigFiles(directory, directory)
    make_rig(files, settings)
    return files, settings


@asynccontextmanager
async def terminal_on_rig(directory: Path) -> AsyncIterator[tuple[Rig, Terminal, int]]:
    """Run a rig and the daemon; yield the rig, a UI's connection and the daemon's process id, all online."""
    files, settings = make_files(directory)
    assets = prepare(cache_directory() / "assets")
    async with open_rig(files, settings, assets) as rig, daemon(files) as process, connected(files) as terminal:
        for component in COMPONENTS:
            await terminal.wait_until(component, "online")
        yield rig, terminal, process.pid


async def consenting(terminal: Terminal) -> str:
    """Return a session whose citizen has consented to the face check."""
    session: str = (await terminal.call("session.open"))["session"]
    await terminal.call("session.consent", session=session, agreed=True, version="1")
    return session


def resident_mebibytes(pid: int) -> float:
    """Return a process's resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1_024


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
