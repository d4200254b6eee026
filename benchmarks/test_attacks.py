"""The passive layers before synthetic attacks, reported after ISO/IEC 30107-3 (T9).

A simulation: the table in docs/presentation-attack.md says what it does not show.
"""

import os
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.conftest import Figures
from sim import assets
from sim.attack import SPECIES, Species, attack_frames, live_frames
from vision import store
from vision.attack.mesh import Mesh, Mesher
from vision.attack.passive import Texture
from vision.attack.report import Presentation, evaluate_attacks
from vision.attack.result import LayerResult, overall
from vision.attack.surround import Surround
from vision.detect import detect
from vision.evaluation.statistics import Rate
from vision.models import Image, Models, load

SEEDS = range(10)
FRAMES = 24
TOGETHER = "these four together"
CACHE = Path(os.environ.get("GOVTERM_CACHE", Path(__file__).parents[1] / ".cache" / "govterm"))


def people(models: Models) -> list[tuple[Image, Mesh]]:
    """The two portraits with their meshes; the smaller one enlarged."""
    assert models.mesh is not None
    assert models.eye is not None
    mesher = Mesher(models.mesh, models.eye)
    found = []
    for path, scale in zip(assets.prepare(CACHE / "assets").portraits.values(), (1, 2), strict=True):
        picture = cv2.imread(str(path))
        assert picture is not None
        large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
        face = detect(models.detector, large)[0]
        found.append((large, mesher.find(large, face.box, face.landmarks)))
    return found


def looked_at(models: Models, portrait: Image, mesh: Mesh, species: Species | None, seed: int) -> list[LayerResult]:
    texture, surround = Texture(), Surround()
    if species is None:
        frames = live_frames(portrait, mesh, seed=seed, count=FRAMES)
    else:
        frames = attack_frames(species, portrait, mesh, seed=seed, count=FRAMES)
    for frame in frames:
        for face in detect(models.detector, frame)[:1]:
            texture.look(frame, face.box)
            surround.look(frame, face.landmarks)
    return [*texture.results(), *surround.results()]


@pytest.mark.timeout(1200)
def test_synthetic_attacks(figures: Figures) -> None:
    store.prepare(CACHE / "models")
    models = load(CACHE / "models")
    seen: dict[str, list[Presentation]] = defaultdict(list)
    for portrait, mesh in people(models):
        for species in (None, *SPECIES):
            for seed in SEEDS:
                results = looked_at(models, portrait, mesh, species, seed)
                for result in results:
                    seen[result.layer].append(Presentation(species, result.outcome))
                seen[TOGETHER].append(Presentation(species, overall(results, required=["grid"])))
    reports = {layer: evaluate_attacks(presentations) for layer, presentations in seen.items()}
    for layer, report in reports.items():
        for species in SPECIES:
            figures.add(
                f"{layer}, {species}: APCER", _told(report.apcer[species]), beside=_silent(report.apnrr[species])
            )
        figures.add(f"{layer}, head: BPCER", _told(report.bpcer), beside=_silent(report.bpnrr))
    together = reports[TOGETHER]
    assert together.bpcer.events == 0
    assert together.apcer["screen"].events == together.apcer["replay"].events == 0
    assert together.apcer["print"].events == 0


def _told(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.events} of {rate.trials} (95 %: {low:.1%}-{high:.1%})"


def _silent(rate: Rate) -> str:
    return f"no answer: {rate.events} of {rate.trials}"
