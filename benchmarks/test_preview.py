"""Loop delay of the daemon and frame rate of the preview around face checks; the vision process's memory over a minute.

The delay is the lateness of a 5 ms ticker on the loop of the real daemon, beside the same ticker alone in a process at
the same time: what that one is late is the machine's doing. Ticks keep their schedule, so that a blocked loop makes
every tick late that fell into the time, not one.
"""

import array
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conftest import Figures, percentile, within
from benchmarks.rig import children, consenting, make_files, resident_mebibytes
from runtime.cli import ALLOCATOR
from sim.assets import prepare
from sim.camera import FRAMES_PER_SECOND as CAMERA_FRAMES_PER_SECOND
from sim.camera import CameraServer
from sim.rig import Rig, open_rig
from sim.settings import RigFiles
from sim.terminal import COMPONENTS, Terminal, _serving, connected
from vision.preview import FRAMES_PER_SECOND
from vision.store import cache_directory

GOAL_MILLISECONDS = 10.0
QUIET_SECONDS = 8.0
BLOCKS, BLOCK_SECONDS = 8, 7.5
"""A minute of checks, by turns with a preview and without, so that both meet the same load of the machine."""
_STOP_SECONDS = 15.0

_TICKER = """
import array, asyncio, signal, sys, time

ticks = array.array("d")

async def tick():
    due = time.monotonic()
    while True:
        due += 0.005
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        ticks.extend((due, time.monotonic() - due))

async def nothing():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()

def ticking(serve):
    async def both(*arguments, **named):
        ticker = asyncio.create_task(tick(), name="ticker")
        try:
            return await serve(*arguments, **named)
        finally:
            ticker.cancel()
    return both

if sys.argv[1:]:
    from runtime import process
    process.run_daemon = ticking(process.run_daemon)
    code = process.main()
else:
    code = asyncio.run(ticking(nothing)())
ticks.tofile(sys.stdout.buffer)
sys.exit(code)
"""


@dataclass
class Ticks:
    """When ticks were due and how many seconds late each came, as a process left them in a file at its end."""

    file: Path

    def late(self, spans: list[tuple[float, float]]) -> list[float]:
        """Return the lateness of the ticks that were due in these spans."""
        numbers = array.array("d", self.file.read_bytes())
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        return [late for due, late in pairs if any(begin <= due < end for begin, end in spans)]


@dataclass
class Phase:
    """What went on at one sort of load, on time.monotonic()."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(end - begin for begin, end in self.spans)

    @contextmanager
    def lasting(self) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.spans.append((begin, time.monotonic()))

    def count(self, moments: list[float]) -> int:
        return sum(any(begin <= moment < end for begin, end in self.spans) for moment in moments)


@dataclass
class Measured:
    """The phases; the moments of previewed frames and of the camera's; memory in MiB, resident and proportional."""

    quiet: Phase = field(default_factory=Phase)
    preview: Phase = field(default_factory=Phase)
    both: Phase = field(default_factory=Phase)
    checks: Phase = field(default_factory=Phase)
    shown: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    memory: dict[str, tuple[float, float | None]] = field(default_factory=dict)


@asynccontextmanager
async def ticking(files: RigFiles, ticks: Ticks, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a ticker, in a daemon when there are arguments for one; its ticks are in their file at the end."""
    with ticks.file.open("wb") as out, files.daemon_log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _TICKER, *arguments),
            env=os.environ | ALLOCATOR,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
        process.terminate()
        async with asyncio.timeout(_STOP_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def previewed(terminal: Terminal, session: str, shown: list[float]) -> AsyncIterator[None]:
    """Watch the face camera, from its first frame on; `shown` gets the moment at which each frame was whole."""
    opened = await terminal.call("preview.open", session=session, camera="face")
    reader, writer = await asyncio.open_unix_connection(opened["socket"], limit=2**20)

    async def frame() -> None:
        jpeg = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        shown.append(time.monotonic())
        assert jpeg.startswith(b"\xff\xd8\xff")

    async def frames() -> None:
        while True:
            await frame()

    writer.write(opened["token"].encode() + b"\n")
    async with asyncio.timeout(10):
        await frame()
    watching = asyncio.create_task(frames(), name="preview client")
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        writer.close()


async def check(rig: Rig, terminal: Terminal, session: str) -> dict[str, Any]:
    """Lay down the card, check its holder's identity, take the card away."""
    await rig.do("idcard", "place_card")
    result = await terminal.call("session.verify_identity", session=session)
    await rig.do("idcard", "remove_card")
    assert result["outcome"] == "done", result
    return result


def memory_of(pid: int) -> tuple[float, float | None]:
    """Return a process's resident and proportional MiB; the second of one that is not dumpable is root's to read."""
    if os.geteuid() != 0:
        return resident_mebibytes(pid), None
    rollup = dict(line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(rollup["Rss:"]) / 1_024, int(rollup["Pss:"]) / 1_024


async def serve_for_a_minute(rig: Rig, terminal: Terminal, vision: int, measured: Measured) -> None:
    """Go through the phases: a first check to warm up, nothing, a preview, checks with it and without by turns."""
    await rig.do("camera", "show", person="grace_hopper")
    session = await consenting(terminal)
    await check(rig, terminal, session)
    await terminal.call("session.close", session=session)
    measured.memory["at rest, before"] = memory_of(vision)
    with measured.quiet.lasting():
        await asyncio.sleep(QUIET_SECONDS)

    session = await consenting(terminal)
    async with previewed(terminal, session, measured.shown):
        with measured.preview.lasting():
            await asyncio.sleep(QUIET_SECONDS)
    for block in range(BLOCKS):
        if block % 2:
            await checks_for_a_block(rig, terminal, session, measured.checks)
        else:
            async with previewed(terminal, session, measured.shown):
                await checks_for_a_block(rig, terminal, session, measured.both)
        if block in (0, BLOCKS - 1):
            measured.memory[f"at work, after block {block + 1}"] = memory_of(vision)
    await terminal.call("session.close", session=session)
    measured.memory["at rest, after"] = memory_of(vision)


async def checks_for_a_block(rig: Rig, terminal: Terminal, session: str, phase: Phase) -> None:
    begun = time.monotonic()
    with phase.lasting():
        while time.monotonic() - begun < BLOCK_SECONDS:
            phase.checks.append(await check(rig, terminal, session))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """What will be measured; each frame that the face camera gives is noted in it."""
    measured = Measured()
    give = CameraServer._jpeg  # noqa: SLF001 - where a frame is made

    def noted(camera: CameraServer) -> bytes:
        measured.taken.append(time.monotonic())
        return give(camera)

    monkeypatch.setattr(CameraServer, "_jpeg", noted)
    return measured


def test_the_preview_beside_checks(figures: Figures, tmp_path: Path, measured: Measured) -> None:
    daemon, bare = Ticks(tmp_path / "daemon.ticks"), Ticks(tmp_path / "bare.ticks")

    async def measure() -> None:
        files, settings = make_files(tmp_path / "rig")
        arguments = ("--rig", "--config", str(files.daemon_settings))
        async with (
            open_rig(files, settings, prepare(cache_directory() / "assets")) as rig,
            ticking(files, bare),
            ticking(files, daemon, *arguments) as process,
        ):
            await _serving(process, files)
            async with connected(files) as terminal:
                for component in COMPONENTS:
                    await terminal.wait_until(component, "online")
                (vision,) = children(process.pid)
                await serve_for_a_minute(rig, terminal, vision, measured)

    asyncio.run(measure())
    for name, phase in (
        ("nothing runs", measured.quiet),
        ("a preview", measured.preview),
        ("checks and a preview", measured.both),
        ("checks alone", measured.checks),
    ):
        late = daemon.late(phase.spans)
        p99 = percentile(late, 99) * 1e3
        figures.add(
            f"daemon loop delay, {name}",
            delays(late),
            beside=f"a bare loop {delays(bare.late(phase.spans))}",
            verdict=f"goal p99 {GOAL_MILLISECONDS:.0f} ms: {within(p99, GOAL_MILLISECONDS)}",
        )
    tell_frame_rates(figures, measured)
    tell_checks(figures, measured)
    tell_memory(figures, measured)
    assert min(len(measured.both.checks), len(measured.checks.checks)) >= BLOCKS // 2


def tell_frame_rates(figures: Figures, measured: Measured) -> None:
    for name, phase in (("a preview", measured.preview), ("checks and a preview", measured.both)):
        taken = phase.count(measured.taken) / phase.seconds
        figures.add(
            f"preview frames a second, {name}",
            f"{phase.count(measured.shown) / phase.seconds:.1f} in {phase.seconds:.0f} s",
            beside=f"at most {FRAMES_PER_SECOND}; camera gave {taken:.1f} of {CAMERA_FRAMES_PER_SECOND}",
        )


def tell_checks(figures: Figures, measured: Measured) -> None:
    with_preview, alone = measured.both.checks, measured.checks.checks
    for name in times(with_preview[0]):
        ours, beside = ([times(result)[name] for result in results] for results in (with_preview, alone))
        figures.add(
            f"check with a preview, {name}",
            f"{spread(ours)} of {len(ours)}",
            beside=f"without {spread(beside)} of {len(beside)}",
            verdict=f"p50 {percentile(ours, 50) / percentile(beside, 50) - 1:+.1%}",
        )


def times(result: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of a check: with the card's reading, the face's part, and what of that was computing."""
    face = result["face"]
    return {"end to end": result["seconds"], "face": face["seconds"], "computing": sum(face["stages"].values())}


def tell_memory(figures: Figures, measured: Measured) -> None:
    frames = measured.both.count(measured.taken) + measured.checks.count(measured.taken)
    checks = len(measured.both.checks) + len(measured.checks.checks)
    first_resident, first_proportional = measured.memory["at rest, before"]
    for when, (resident, proportional) in measured.memory.items():
        share = "" if proportional is None else f", PSS {proportional:.1f} MiB"
        growth = f"RSS {resident - first_resident:+.1f} MiB"
        if proportional is not None and first_proportional is not None:
            growth += f", PSS {proportional - first_proportional:+.1f} MiB"
        figures.add(
            f"vision process memory {when}",
            f"RSS {resident:.1f} MiB{share}",
            beside=f"{frames} frames taken in {checks} checks",
            verdict=growth if when != "at rest, before" else "",
        )


def delays(late: list[float]) -> str:
    p50, p99, most = percentile(late, 50) * 1e3, percentile(late, 99) * 1e3, max(late) * 1e3
    return f"p50 {p50:.1f} p99 {p99:.1f} max {most:.1f} ms"


def spread(seconds: list[float]) -> str:
    return f"p50 {percentile(seconds, 50) * 1e3:.0f} ms, p95 {percentile(seconds, 95) * 1e3:.0f} ms"
