"""`govterm probe camera`: the steps on the rig's cameras, in a real vision process (T2, T9)."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devices.errors import DeviceError
from runtime.probe import Bench, Report, make_settings, probe
from runtime.probe_camera import CameraUnderTest
from runtime.probe_steps import probe_steps
from sim import assets
from sim.camera import CameraServer, DocumentCameraServer
from sim.scene import load_people
from tests.runtime.test_tester_cli import govterm
from vision.store import cache_directory
from vision.wire import CameraSeen


async def never(*_: object) -> None:
    raise AssertionError("a camera has no wire")


@asynccontextmanager
async def face_camera(path: Path) -> AsyncIterator[CameraServer]:
    camera = CameraServer(load_people(assets.prepare(cache_directory() / "assets")), seed=1)
    camera.show("grace_hopper")
    async with camera.serve(path):
        yield camera


def bench(port: str, *assignments: str, **more: object) -> Bench:
    return Bench("camera", make_settings("camera", port, None, assignments), never, **more)  # type: ignore[arg-type]


def outcomes(report: Report) -> dict[str, str]:
    return {step.name: step.outcome for step in report.steps}


async def test_a_good_camera_passes_and_a_hand_is_not_asked_for_without_a_terminal(tmp_path: Path) -> None:
    async with face_camera(tmp_path / "camera"):
        code, out, err = await govterm("probe", "camera", "--port", f"rig:{tmp_path}/camera", "--json")
    said = json.loads(out)
    assert (code, err, said["passed"]) == (0, "", True)
    assert {step["name"]: step["outcome"] for step in said["steps"]} == {
        "open": "passed",
        "identity": "skipped",
        "status": "passed",
        "frames": "passed",
        "cover the lens": "skipped",
        "second open is refused": "skipped",
        "close and reopen": "passed",
    }


async def test_a_document_camera_must_give_five_megapixels(tmp_path: Path) -> None:
    """T2."""
    async with DocumentCameraServer(seed=1).serve(tmp_path / "document"):
        good = await probe(bench(f"rig:{tmp_path}/document", "document = true"), probe_steps("camera")[:4])
    async with face_camera(tmp_path / "face"):
        small = await probe(bench(f"rig:{tmp_path}/face", "document = true"), probe_steps("camera")[:4])
    assert good.passed, good
    assert "2592x1944" in good.steps[2].detail
    assert small.steps[0].detail.startswith("camera.resolution_too_low: ")
    assert {step.outcome for step in small.steps[1:]} == {"skipped"}


async def test_a_covered_lens_is_found_and_a_frozen_picture_too(tmp_path: Path) -> None:
    async with face_camera(tmp_path / "camera") as camera:
        camera.cover()
        covered = await probe(bench(f"rig:{tmp_path}/camera"), probe_steps("camera")[:4])
        camera.cover(on=False)
        camera.freeze()
        frozen = await probe(bench(f"rig:{tmp_path}/camera"), probe_steps("camera")[:4])
    assert outcomes(covered) == {"open": "passed", "identity": "skipped", "status": "failed", "frames": "passed"}
    assert covered.steps[2].detail == "offline, camera.covered"
    assert frozen.steps[0].detail.startswith("camera.frozen: ")


async def test_a_hand_covers_the_lens(tmp_path: Path) -> None:
    async with face_camera(tmp_path / "camera") as camera:
        one = bench(f"rig:{tmp_path}/camera", hand=True, tell=lambda what: camera.cover(on=what == "cover the lens"))
        (step,) = [step for step in probe_steps("camera") if step.name == "cover the lens"]
        report = await probe(one, [step])
    assert report.steps[0].outcome == "passed", report
    assert report.steps[0].detail == "covered, then online again"


async def test_an_unplugged_camera_ends_the_step_with_its_code(tmp_path: Path) -> None:
    async with face_camera(tmp_path / "camera") as camera:
        one = bench(f"rig:{tmp_path}/camera", hand=True, tell=lambda _: camera.unplug())
        (step,) = [step for step in probe_steps("camera") if step.name == "cover the lens"]
        report = await probe(one, [step])
    assert report.steps[0].detail.startswith("camera.lost: ")


@pytest.mark.parametrize("port", ["/dev/v4l/by-id/usb-none-video-index0", "rig:/no/such/socket"])
async def test_no_camera_is_told(port: str) -> None:
    report = await probe(bench(port), probe_steps("camera"))
    assert report.steps[0].detail.split(":")[0] in {"camera.missing", "camera.lost"}
    assert not report.passed


async def test_no_process_is_left_and_a_camera_that_is_off_says_so(tmp_path: Path) -> None:
    async with face_camera(tmp_path / "camera") as camera:
        await probe(bench(f"rig:{tmp_path}/camera"), probe_steps("camera")[:1])
        assert not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        async with asyncio.timeout(5):
            await asyncio.gather(*camera._clients)  # the camera was let go
    with pytest.raises(DeviceError, match="off"):
        _ = CameraUnderTest(make_settings("camera", "rig:x", None), never, lambda _: None).seen  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("port", "identity"),
    [("/dev/v4l/by-id/usb-Acme_A1-video0", "usb-Acme_A1-video0"), ("/dev/video0", None)],
)
def test_only_a_path_by_id_says_who_a_camera_is(port: str, identity: str | None) -> None:
    camera = CameraUnderTest(make_settings("camera", port, None), never, lambda _: None)  # type: ignore[arg-type]
    camera._seen = CameraSeen("dark", 3, 640, 480, 0.2)
    assert (camera.status.identity, camera.status.code) == (identity, "camera.dark")


async def test_a_camera_is_never_recorded(tmp_path: Path) -> None:
    code, _, err = await govterm("capture", "/dev/video0", tmp_path / "file", "--kind", "camera")
    assert code == 2
    assert "its pictures stay in the vision process" in err
    assert not (tmp_path / "file").exists()
