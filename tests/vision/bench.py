"""What the tests of the vision process share: a rig camera, a life of the process, and what to wait for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fpdf import FPDF

from sim.assets import Assets, chip_photo
from sim.camera import CameraServer, DocumentCameraServer
from vision.config import Vision
from vision.errors import VisionError
from vision.process import VisionProcess
from vision.verifier import CameraName, CameraState, CameraStatus, Verification

HOPPER, COLLINS = "grace_hopper", "eileen_collins"


class Bench:
    """A rig camera, and what is needed to start a vision process before it."""

    def __init__(self, camera: CameraServer, settings: Vision, assets: Assets) -> None:
        self.camera = camera
        self.settings = settings
        self.photo = memoryview(chip_photo(assets, HOPPER))
        self.guidance: list[tuple[float, str]] = []

    def process(self, *, rig: bool = True, **changes: Any) -> VisionProcess:
        return VisionProcess(msgspec.structs.replace(self.settings, **changes), rig=rig)

    async def verify(self, vision: VisionProcess, *, seconds: float = 5.0) -> Verification:
        now = asyncio.get_running_loop().time
        return await vision.verify(
            self.photo, lambda code: self.guidance.append((now(), code)), deadline_seconds=seconds
        )


@asynccontextmanager
async def living(vision: VisionProcess) -> AsyncIterator["asyncio.Task[None]"]:
    """Run one life, ready on entry, ended, reaped and without a trace on exit."""
    ready = asyncio.Event()
    life = asyncio.create_task(vision.run(ready.set), name="life")
    ready_task = asyncio.create_task(ready.wait(), name="ready")
    try:
        await asyncio.wait({life, ready_task}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        if not ready.is_set():
            life.result()
        pid = vision.pid
        yield life
    finally:
        for task in (life, ready_task):
            task.cancel()
        await asyncio.gather(life, ready_task, return_exceptions=True)
        assert vision.pid is None
    assert not Path(f"/proc/{pid}").exists(), "dead and reaped"


async def end_of(life: "asyncio.Task[None]", *, seconds: float = 10.0) -> VisionError:
    async with asyncio.timeout(seconds):
        with pytest.raises(VisionError) as caught:
            await asyncio.shield(life)
    return caught.value


@asynccontextmanager
async def code(expected: str, *, retry: bool = True) -> AsyncIterator[None]:
    with pytest.raises(VisionError) as caught:
        yield
    assert (caught.value.code, caught.value.retry) == (expected, retry)
    assert caught.value.advice


async def condition(holds: Callable[[], bool], *, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  what is waited for happens in another process
            await asyncio.sleep(0.005)


class Statuses:
    """What is told of the cameras."""

    def __init__(self, vision: VisionProcess) -> None:
        self.told: list[CameraStatus] = []
        vision.watch(self.told.append)

    async def until(self, camera: CameraName, state: CameraState, code: str | None = None) -> None:
        """Wait until this is the last that was told of a camera."""
        wanted = CameraStatus(camera, state, code)
        await condition(lambda: [told for told in self.told if told.camera == camera][-1:] == [wanted], seconds=15)


@asynccontextmanager
async def document_camera(bench: Bench, tmp_path: Path) -> AsyncIterator[DocumentCameraServer]:
    """Give the bench a document camera as well."""
    camera = DocumentCameraServer(seed=1)
    path = tmp_path / "document.sock"
    bench.settings = msgspec.structs.replace(bench.settings, document_camera=f"rig:{path}")
    async with camera.serve(path):
        yield camera


def a_pdf() -> bytes:
    document = FPDF()
    document.add_page()
    document.rect(20, 20, 100, 100, style="F")
    return bytes(document.output())
