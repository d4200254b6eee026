"""Face checks by the real vision process, models and pictures (vision/worker.py, vision/check.py)."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from sim.attack import Actor
from sim.camera import CameraServer
from tests.vision.attack_rig import hopper_mesh, mesher
from tests.vision.bench import COLLINS, HOPPER, Bench, code, condition, living
from vision.attack.mesh import Mesh
from vision.errors import VisionError
from vision.manifest import MANIFEST

__all__ = ["hopper_mesh", "mesher"]


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
