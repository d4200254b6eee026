"""The vision process lives, dies, hangs and answers: the real worker, models and pictures (vision/process.py)."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.vision.bench import Bench, a_pdf, code, condition, end_of, living
from vision import process as process_module


async def test_killed_while_idle_it_is_missed_at_once_and_the_next_life_serves(bench: Bench) -> None:
    """Rule 4; the call made meanwhile fails at once."""
    vision = bench.process()
    async with code("vision.unavailable"):
        await bench.verify(vision)
    async with living(vision) as life:
        begun = time.monotonic()
        os.kill(vision.pid or 0, signal.SIGKILL)
        assert (await end_of(life)).code == "vision.died"
        assert time.monotonic() - begun < 1
        async with code("vision.unavailable"):
            await vision.rasterise(b"", width_dots=8, max_pages=1)
    async with living(vision):
        assert (await bench.verify(vision)).outcome == "match"


async def test_killed_under_a_check_the_check_fails_at_once(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision) as life:
        bench.camera.nobody()
        check = asyncio.create_task(bench.verify(vision, seconds=20))
        await condition(lambda: bool(bench.guidance))
        os.kill(vision.pid or 0, signal.SIGKILL)
        async with asyncio.timeout(1), code("vision.unavailable"):
            await check
        assert (await end_of(life)).code == "vision.died"


async def test_a_process_that_answers_nothing_is_killed(bench: Bench) -> None:
    vision = bench.process(hung_seconds=1.0)
    async with living(vision) as life:
        os.kill(vision.pid or 0, signal.SIGSTOP)
        begun = time.monotonic()
        assert (await end_of(life)).code == "vision.hung"
        assert time.monotonic() - begun < 4


async def test_a_process_that_has_grown_too_large_is_killed(bench: Bench) -> None:
    """At rest it has some 220 MiB, more than it is given here."""
    async with living(bench.process(memory_mib=128.0)) as life:
        assert (await end_of(life)).code == "vision.memory"


async def test_a_decoder_that_never_returns_is_found_by_its_overdue_job(bench: Bench) -> None:
    """The process still answers pings; `pause` of the C library stands for a vendor's decoder that hangs."""
    vision = bench.process(photo_decoder="library", photo_library="libc.so.6", photo_symbol="pause", hung_seconds=1.0)
    async with living(vision) as life:
        begun = time.monotonic()
        async with code("vision.unavailable"):
            await bench.verify(vision, seconds=0.5)
        assert (await end_of(life)).code == "vision.hung"
        assert 1.5 < time.monotonic() - begun < 6


async def test_a_decoder_that_crashes_takes_only_the_vision_process_along(bench: Bench) -> None:
    """Rule 4: `abort` of the C library stands for a vendor's decoder that falls over a foreign picture."""
    vision = bench.process(photo_decoder="library", photo_library="libc.so.6", photo_symbol="abort")
    async with living(vision) as life:
        async with code("vision.unavailable"):
            await bench.verify(vision)
        assert (await end_of(life)).code == "vision.died"


async def test_a_process_that_does_not_wipe_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """T20: its memory goes with it."""
    monkeypatch.setattr(process_module, "SHORT_SECONDS", 0.2)
    vision = bench.process()
    async with living(vision) as life:
        os.kill(vision.pid or 0, signal.SIGSTOP)
        async with asyncio.timeout(2):
            await vision.wipe()
        assert (await end_of(life)).code == "vision.died"
    await vision.wipe()


async def test_cancelled_while_it_starts_it_leaves_nothing(bench: Bench) -> None:
    vision = bench.process()
    life = asyncio.create_task(vision.run(lambda: None))
    await condition(lambda: vision.pid is not None)
    pid = vision.pid
    life.cancel()
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await life
    assert not Path(f"/proc/{pid}").exists()


async def test_a_process_that_cannot_be_started_is_told_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with code("vision.not_started"):
        await bench.process().run(lambda: pytest.fail("ready"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_directory": "/nowhere"}, "model.missing"),
        ({"photo_decoder": "library"}, "photo.decoder_missing"),
        ({"frames": 9}, "model.no_threshold"),
    ],
)
async def test_what_it_cannot_start_with_is_named(bench: Bench, changes: dict[str, Any], expected: str) -> None:
    vision = bench.process(**changes)
    async with asyncio.timeout(20), code(expected, retry=False):
        await vision.run(lambda: pytest.fail("ready"))


async def test_a_pdf_becomes_rasters_and_a_damaged_one_an_error(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision):
        (page,) = await vision.rasterise(a_pdf(), width_dots=576, max_pages=2)
        assert (page.width_dots, len(page.rows)) == (576, 72 * page.height_dots)
        assert page.rows.count(0xFF) > 1000
        async with code("pdf.damaged", retry=False):
            await vision.rasterise(b"no PDF", width_dots=576, max_pages=2)
        async with code("vision.too_large", retry=False):
            await vision.rasterise(bytes(17 * 2**20), width_dots=576, max_pages=2)


async def test_it_dies_with_the_daemon(bench: Bench) -> None:
    """The daemon is another process here; it is killed, and its vision process must follow."""
    daemon = (
        "import asyncio, sys, msgspec\n"
        "from vision.config import Vision\n"
        "from vision.process import VisionProcess\n"
        "vision = VisionProcess(msgspec.json.decode(sys.argv[1], type=Vision), rig=True)\n"
        "asyncio.run(vision.run(lambda: print(vision.pid, file=sys.stderr, flush=True)))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", daemon, msgspec.json.encode(bench.settings).decode(), stderr=subprocess.PIPE
    )
    assert process.stderr
    async with asyncio.timeout(20):
        watched = os.pidfd_open(int(await process.stderr.readline()))
        process.kill()
        await process.wait()
    with os.fdopen(watched):
        assert select.select([watched], [], [], 2)[0], "the vision process outlived the daemon"


def test_the_daemon_loads_no_picture_library_for_it() -> None:
    """Rule: numpy, OpenCV and ONNX Runtime stay out of the daemon."""
    program = "import sys, vision.process; print([m for m in ('numpy', 'cv2', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


async def test_the_operating_system_sees_nothing_written_and_nobody_called(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T20: the process and its native libraries open for writing only /dev/null, and speak to Unix sockets only.

    prctl is answered but not done: what a process that is not dumpable opens could be seen by root alone.
    """
    trace, wrapper = tmp_path / "trace", tmp_path / "traced-python"
    calls = "open,openat,openat2,creat,truncate,link,linkat,symlink,symlinkat,mknod,mknodat,"
    calls += "socket,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,execve"
    strace = f"strace -f -qq -o {trace} -e trace={calls},prctl -e inject=prctl:retval=0"
    wrapper.write_text(f'#!/bin/sh\nexec {strace} {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(wrapper))
    vision = bench.process()
    async with living(vision):
        assert (await bench.verify(vision)).outcome == "match"
        await vision.rasterise(a_pdf(), width_dots=576, max_pages=1)
        ours, theirs = socket.socketpair()
        with ours:
            await vision.preview(theirs)
            ours.setblocking(False)
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_recv(ours, 4)
            await vision.wipe()
    acts = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    assert any("sface" in act for act in acts), "the trace saw the models being opened"
    harmless = ("O_RDONLY", "/dev/null", "socket(AF_UNIX", "<... ", "execve", "prctl(", "+++", "---")
    suspect = ("O_CREAT", "O_TRUNC", "O_APPEND")
    assert [act for act in acts if not any(word in act for word in harmless)] == []
    assert [act for act in acts if any(word in act for word in suspect)] == []
    assert sum(act.startswith("execve") and act.endswith("= 0") for act in acts) == 1, "itself alone was started"
