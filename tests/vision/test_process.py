"""The vision process lives, dies, hangs and answers: the real worker, models and pictures (vision/process.py)."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pypdfium2
import pytest
from fpdf import FPDF

from sim.assets import Assets, chip_photo
from sim.attack import Actor
from sim.camera import CameraServer, DocumentCameraServer
from sim.scene import load_people
from tests.vision.attack_rig import hopper_mesh, mesher
from vision import process as process_module
from vision.attack.mesh import Mesh
from vision.config import Vision
from vision.errors import VisionError
from vision.manifest import MANIFEST
from vision.page_report import Progress
from vision.process import VisionProcess
from vision.verifier import CameraName, CameraState, CameraStatus, Verification

__all__ = ["hopper_mesh", "mesher"]

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


@pytest.fixture
async def bench(tmp_path: Path, model_directory: Path, assets: Assets) -> AsyncIterator[Bench]:
    camera = CameraServer(load_people(assets), seed=1)
    camera.show(HOPPER)
    path = tmp_path / "camera.sock"
    settings = Vision(
        camera=f"rig:{path}", model_directory=str(model_directory), photo_decoder="rig", challenge=0, hung_seconds=20.0
    )
    async with camera.serve(path):
        yield Bench(camera, settings, assets)


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


async def test_the_person_of_the_card_is_accepted_and_another_refused(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """T9, T20: and the process wrote nothing, said nothing personal, and turned the camera off."""
    vision = bench.process()
    async with living(vision):
        accepted = await bench.verify(vision)
        assert accepted.outcome == "match"
        assert accepted.score > accepted.threshold + 0.1
        assert (accepted.frames, accepted.operating_point) == (3, "1e-5")
        assert accepted.presentation_attack == "bona_fide"
        assert [layer.layer for layer in accepted.layers] == ["grid", "colour", "motion", "border"]
        assert {"photo", "detect", "align", "embed"} <= accepted.stages.keys()
        assert accepted.seconds < 5, "T13"
        bench.camera.show(COLLINS)
        refused = await bench.verify(vision)
        assert refused.outcome == "no_match"
        assert refused.score < refused.threshold - 0.1
        assert bench.camera.watched
        opened = list(written_by(vision.pid or 0)) if os.geteuid() == 0 else []  # it is not dumpable: root's to see
        await vision.wipe()
        await condition(lambda: not bench.camera.watched)
    assert opened == []
    said = capfd.readouterr().err
    assert "write_refused" not in said
    for line in said.splitlines():
        assert json.loads(line)["level"] != "error"


def written_by(pid: int) -> Iterable[str]:
    """Return what the process holds open for writing besides its standard error, pipes, sockets and /dev/null."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        flags = int(Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text().split("flags:")[1].split()[0], 8)
        harmless = target.startswith(("socket:", "pipe:", "anon_inode:")) or target == "/dev/null"
        if flags & os.O_ACCMODE and not harmless and descriptor.name != "2":
            yield target


class ActorServer(CameraServer):
    """The face camera before a head that turns and nods."""

    def __init__(self, actor: Actor) -> None:
        super().__init__({}, seed=1)
        self.actor = actor

    def _jpeg(self) -> bytes:
        return cv2.imencode(".jpg", self.actor.frame(), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


async def test_a_challenge_is_asked_for_and_done(
    bench: Bench, tmp_path: Path, hopper: np.ndarray, hopper_mesh: Mesh
) -> None:
    """T9, T13: a head that does what is asked is compared; who only looks on gets no decision, however alike."""
    actor = Actor(hopper, hopper_mesh, seed=2)
    path = tmp_path / "actor.sock"
    async with ActorServer(actor).serve(path):
        vision = bench.process(camera=f"rig:{path}", challenge=1)
        async with living(vision):
            verification = await vision.verify(bench.photo, actor.ask, deadline_seconds=20)
            assert (verification.outcome, verification.presentation_attack) == ("match", "bona_fide")
            (challenge,) = (layer for layer in verification.layers if layer.layer == "challenge")
            assert challenge.evidence["made"] == 1
            assert verification.seconds - challenge.evidence["seconds"] < 5
            actor.ask("")
            async with code("face.attack_undecided"):
                await bench.verify(vision, seconds=20)
    assert len({told for _, told in bench.guidance} & {"face.turn_left", "face.turn_right", "face.nod"}) == 1


async def test_without_the_models_of_a_challenge_it_does_not_start(bench: Bench, tmp_path: Path) -> None:
    """T9: fails closed."""
    text = MANIFEST.read_text()
    before, after = text.partition("[mesh]")[0], "[adaptation]" + text.partition("[adaptation]")[2]
    (tmp_path / "manifest.toml").write_text(before + after)
    (tmp_path / "adaptation.npz").write_bytes((MANIFEST.parent / "adaptation.npz").read_bytes())
    vision = bench.process(model_manifest=str(tmp_path / "manifest.toml"), challenge=1)
    async with asyncio.timeout(20), code("model.no_mesh", retry=False):
        await vision.run(lambda: pytest.fail("ready"))


async def test_what_the_person_does_wrong_is_said_then_given_as_the_reason(bench: Bench) -> None:
    """T9: no face, two faces, a dark frame, a covered lens; each ends at its deadline with its own code."""
    vision = bench.process()
    scenes: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        ("face.none", bench.camera.nobody, lambda: None),
        ("face.many", lambda: bench.camera.two_people(HOPPER, COLLINS), lambda: None),
        ("face.too_dark", bench.camera.dark, lambda: bench.camera.dark(on=False)),
        ("face.too_dark", bench.camera.cover, lambda: bench.camera.cover(on=False)),
    ]
    async with living(vision):
        for expected, begin, end in scenes:
            begin()
            bench.guidance.clear()
            begun = time.monotonic()
            async with code(expected):
                await bench.verify(vision, seconds=0.8)
            assert time.monotonic() - begun < 0.8 + 1
            assert bench.guidance[-1][1] == expected
            end()
        bench.camera.show(HOPPER)
        assert (await bench.verify(vision)).outcome == "match"


async def test_guidance_comes_at_most_three_times_a_second(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision):
        bench.camera.nobody()
        check = asyncio.create_task(bench.verify(vision, seconds=2.5))
        for step in range(24):
            bench.camera.dark(on=step % 2 == 0)
            await asyncio.sleep(0.1)
        with pytest.raises(VisionError, match="without a decision"):
            await check
        times = [at for at, _ in bench.guidance]
        assert len(times) >= 3
        assert min(later - earlier for earlier, later in pairwise(times)) > 0.25
        told = [code for _, code in bench.guidance]
        assert all(one != other for one, other in pairwise(told)), "only on change"


async def test_a_faulty_camera_ends_the_check_and_a_mended_one_serves_the_next(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision):
        bench.camera.nobody()
        bench.camera.freeze()
        async with code("camera.frozen"):
            await bench.verify(vision)
        bench.camera.freeze(on=False)
        check = asyncio.create_task(bench.verify(vision))
        await condition(lambda: bench.camera.watched)
        bench.camera.unplug()
        async with code("camera.lost"):
            await check
        async with code("camera.lost"):
            await bench.verify(vision)
        bench.camera.plug()
        bench.camera.show(HOPPER)
        assert (await bench.verify(vision)).outcome == "match"


async def test_a_photo_that_does_not_decode(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision):
        async with code("photo.undecodable"):
            await vision.verify(memoryview(bytes(1024)), lambda _: None, deadline_seconds=5)
        assert (await bench.verify(vision)).outcome == "match"


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


async def test_a_cancelled_check_stops_and_the_next_one_is_served_at_once(bench: Bench) -> None:
    vision = bench.process(hung_seconds=3.0)
    async with living(vision) as life:
        bench.camera.nobody()
        check = asyncio.create_task(bench.verify(vision, seconds=20))
        await condition(lambda: bool(bench.guidance))
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check
        await vision.wipe()
        await condition(lambda: not bench.camera.watched)
        bench.camera.show(HOPPER)
        begun = time.monotonic()
        assert (await bench.verify(vision)).outcome == "match"
        assert time.monotonic() - begun < 2
        assert not life.done()


async def test_a_wipe_ends_a_running_check(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision):
        bench.camera.nobody()
        check = asyncio.create_task(bench.verify(vision, seconds=20))
        await condition(lambda: bool(bench.guidance))
        await vision.wipe()
        async with code("vision.cancelled"):
            await check


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


async def test_the_played_camera_is_refused_on_a_terminal(bench: Bench) -> None:
    library = {"photo_decoder": "library", "photo_library": "libc.so.6", "photo_symbol": "rand"}
    vision = bench.process(rig=False, **library)
    async with living(vision):
        ours, theirs = socket.socketpair()
        with ours:
            await vision.preview(theirs)
            ours.setblocking(False)
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(ours, 1) == b""


async def test_previews_show_the_newest_frame_until_the_wipe_and_a_slow_one_holds_up_nothing(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision):
        slow, slow_end = socket.socketpair()
        near, far = socket.socketpair()
        with slow:
            await vision.preview(slow_end)
            await vision.preview(far)
            assert far.fileno() == -1, "handed over"
            reader, writer = await asyncio.open_connection(sock=near)
            begun = time.monotonic()
            async with asyncio.timeout(10):
                for _ in range(15):
                    jpeg = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                assert 15 / 10 - 0.3 < time.monotonic() - begun < 4
                shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                assert shown is not None
                assert shown.shape == (480, 640, 3)
                assert (await bench.verify(vision)).outcome == "match"
                await vision.wipe()
                await reader.read()
            writer.close()
            await writer.wait_closed()
        await condition(lambda: not bench.camera.watched)


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


async def test_both_cameras_are_looked_at_when_it_starts_and_are_off_then(bench: Bench, tmp_path: Path) -> None:
    """T2, L17: and a dead process leaves them unknown."""
    async with document_camera(bench, tmp_path) as document:
        vision = bench.process()
        statuses = Statuses(vision)
        assert statuses.told == [CameraStatus("face", "unknown"), CameraStatus("document", "unknown")]
        async with living(vision):
            await statuses.until("face", "online")
            await statuses.until("document", "online")
            await condition(lambda: not (bench.camera.watched or document.watched))
            late = Statuses(vision)
            assert late.told == [CameraStatus("face", "online"), CameraStatus("document", "online")]
        assert statuses.told[-2:] == [CameraStatus("face", "unknown"), CameraStatus("document", "unknown")]
        assert len(statuses.told) == 6


async def test_what_happens_to_a_camera_that_is_on_is_told_and_mends_by_itself(bench: Bench, tmp_path: Path) -> None:
    """T2, L20: dark, covered, unplugged, plugged in again."""
    async with document_camera(bench, tmp_path) as document:
        vision = bench.process()
        statuses = Statuses(vision)
        async with living(vision):
            for name, camera in (("face", bench.camera), ("document", document)):
                ours, theirs = socket.socketpair()
                with ours:
                    await vision.preview(theirs, name)
                    await statuses.until(name, "online")
                    camera.dark()
                    await statuses.until(name, "dark")
                    camera.cover()
                    await statuses.until(name, "covered")
                    camera.cover(on=False)
                    camera.dark(on=False)
                    await statuses.until(name, "online")
                    camera.unplug()
                    await statuses.until(name, "lost", "camera.missing")
                    begun = time.monotonic()
                    camera.plug()
                    await statuses.until(name, "online")
                    assert time.monotonic() - begun < 2


async def test_a_frozen_camera_is_found_at_a_look_and_mends_by_itself(bench: Bench) -> None:
    """L17: nobody uses it."""
    vision = bench.process()
    statuses = Statuses(vision)
    bench.camera.freeze()
    async with living(vision):
        await statuses.until("face", "frozen", "camera.frozen")
        bench.camera.freeze(on=False)
        await statuses.until("face", "online")


async def test_a_document_is_scanned_and_less_than_5_megapixels_refused(bench: Bench, tmp_path: Path) -> None:
    """T2, T13; the wipe forgets the document and turns its camera off."""
    async with document_camera(bench, tmp_path) as document:
        vision = bench.process()
        statuses = Statuses(vision)
        told: list[Progress] = []
        async with living(vision):
            async with code("document.not_begun", retry=False):
                await vision.add_page(told.append)
            await vision.begin_document(paper="a4", tone="grey", sides=2)
            begun = time.monotonic()
            page = await vision.add_page(told.append)
            assert time.monotonic() - begun < 5, "T13"
            assert (page.number, page.side, page.width, page.height) == (1, "front", 1654, 2339)
            assert page.captured_dpi > 150
            assert page.turns in (1, 3), "it lies across"
            assert [progress.step for progress in told] == ["find", "judge", "turn", "done"]
            assert (await bench.verify(vision)).outcome == "match", "the face camera serves as before"
            assert (await vision.add_page(told.append)).side == "back"
            document.dark()
            await statuses.until("document", "dark")
            async with code("document.too_dark"):
                await vision.add_page(told.append, retake=1)
            told.clear()
            made = await vision.finish_document(told.append, most_bytes=1_000_000)
            assert [progress.step for progress in told[-3:]] == ["compress", "compress", "assemble"]
            assert made.pages == 2
            assert len(made.pdf) <= 1_000_000
            shown = pypdfium2.PdfDocument(made.pdf)
            assert [tuple(round(side) for side in each.get_size()) for each in shown] == [(595, 842)] * 2
            shown.close()
            await vision.discard_document()
            async with code("document.not_begun", retry=False):
                await vision.finish_document(told.append, most_bytes=1_000_000)
            await vision.begin_document(paper="a4", tone="grey", sides=1)
            await vision.wipe()
            async with code("document.not_begun", retry=False):
                await vision.finish_document(told.append, most_bytes=1_000_000)
            await condition(lambda: not document.watched)
            document.low_resolution()
            await vision.begin_document(paper="a4", tone="grey", sides=1)
            async with code("camera.resolution_too_low"):
                await vision.add_page(told.append)
            await statuses.until("document", "lost", "camera.resolution_too_low")


async def test_five_megapixels_are_asked_of_the_frame_whatever_the_camera_promises(
    bench: Bench, tmp_path: Path
) -> None:
    """T2."""
    async with document_camera(bench, tmp_path) as document:
        document.low_resolution()
        vision = bench.process(document_width=640, document_height=480)
        async with living(vision):
            await vision.begin_document(paper="a4", tone="grey", sides=1)
            async with code("document.resolution_too_low", retry=False):
                await vision.add_page(lambda _: None)


async def test_a_page_is_shown_once_and_a_wipe_ends_a_reader_that_does_not_read(bench: Bench, tmp_path: Path) -> None:
    async with document_camera(bench, tmp_path):
        vision = bench.process()
        async with living(vision):
            await vision.begin_document(paper="a4", tone="colour", sides=1)
            await vision.add_page(lambda _: None)
            near, far = socket.socketpair()
            await vision.show_page(far, 1)
            reader, writer = await asyncio.open_connection(sock=near)
            async with asyncio.timeout(10):
                frame = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert int.from_bytes(frame[:4], "big") == len(frame) - 4
            page = cv2.imdecode(np.frombuffer(frame[4:], np.uint8), cv2.IMREAD_COLOR)
            assert page is not None
            assert page.shape == (1448, 1024, 3)
            ours, theirs = socket.socketpair()
            with ours:
                async with code("document.no_such_page", retry=False):
                    await vision.show_page(theirs, 2)
                ours.setblocking(False)
                async with asyncio.timeout(5):
                    assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"", "closed on both sides"
            lazy, theirs = socket.socketpair()
            with lazy:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                await vision.show_page(theirs, 1)
                await vision.wipe()
                lazy.settimeout(1)
                got = b""
                while chunk := lazy.recv(65_536):
                    got += chunk
                assert len(got) < len(frame)


async def test_the_document_preview_is_of_the_document(bench: Bench, tmp_path: Path) -> None:
    async with document_camera(bench, tmp_path):
        vision = bench.process()
        async with living(vision):
            near, far = socket.socketpair()
            await vision.preview(far, "document")
            reader, writer = await asyncio.open_connection(sock=near)
            async with asyncio.timeout(10):
                jpeg = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                await vision.wipe()
                await reader.read()
            writer.close()
            await writer.wait_closed()
            shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert shown is not None
            assert shown.shape == (768, 1024, 3)


async def test_without_a_document_camera_its_calls_say_so(bench: Bench) -> None:
    vision = bench.process()
    async with living(vision):
        async with code("camera.missing", retry=False):
            await vision.add_page(lambda _: None)
        async with code("camera.missing", retry=False):
            await vision.begin_document(paper="a4", tone="grey", sides=1)
        ours, theirs = socket.socketpair()
        with ours:
            async with code("camera.missing", retry=False):
                await vision.preview(theirs, "document")
            ours.setblocking(False)
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"", "closed on both sides"


def a_pdf() -> bytes:
    document = FPDF()
    document.add_page()
    document.rect(20, 20, 100, 100, style="F")
    return bytes(document.output())


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


async def test_a_guidance_listener_that_fails_ends_its_own_check_only(bench: Bench) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("the session is gone")

    vision = bench.process()
    async with living(vision):
        bench.camera.nobody()
        with pytest.raises(RuntimeError, match="the session is gone"):
            await vision.verify(bench.photo, fail, deadline_seconds=20)
        bench.camera.show(HOPPER)
        assert (await bench.verify(vision)).outcome == "match"


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
