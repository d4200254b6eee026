"""Prints and screens before the camera show themselves; people do not, and garbage is never bona fide (T9)."""

from collections.abc import Iterable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sim.attack import Species, attack_frames, live_frames
from sim.scene import Portrait, Scene
from tests.vision.attack_rig import face_of, hopper_mesh, mesher
from vision.attack.mesh import Mesh
from vision.attack.passive import Texture, colours
from vision.attack.result import LayerResult, judged, overall
from vision.attack.surround import Surround
from vision.detect import detect
from vision.models import Image, Models

__all__ = ["hopper_mesh", "mesher"]

FRAMES = 24


def layers(models: Models, frames: Iterable[Image]) -> dict[str, LayerResult]:
    texture, surround = Texture(), Surround()
    for frame in frames:
        for face in detect(models.detector, frame)[:1]:
            texture.look(frame, face.box)
            surround.look(frame, face.landmarks)
    return {result.layer: result for result in (*texture.results(), *surround.results())}


@pytest.mark.parametrize("seed", [2, 3])
def test_a_head_before_a_wall_is_no_attack(models: Models, hopper: Image, hopper_mesh: Mesh, seed: int):
    results = layers(models, live_frames(hopper, hopper_mesh, seed=seed, count=FRAMES))
    assert list(results) == ["grid", "colour", "motion", "border"]
    assert results["grid"].outcome == results["colour"].outcome == results["border"].outcome == "bona_fide"
    # Before a plain wall nothing stays and nothing follows.
    assert results["motion"].outcome == ("bona_fide" if seed % 2 else "undecided")
    assert overall(results.values(), required=["grid"]) == "bona_fide"


def test_the_rigs_people_are_no_attack(models: Models, hopper: Image):
    scene = Scene(5)
    scene.enter([Portrait(hopper, ((225.0, 195.0), (307.0, 192.0)))])
    results = layers(models, (scene.frame() for _ in range(FRAMES)))
    assert overall(results.values(), required=["grid"]) == "bona_fide"


SIGNS: dict[Species, str] = {
    "print": "attack.border",
    "bent_print": "attack.surroundings_follow",
    "screen": "attack.grid",
    "replay": "attack.grid",
}


@pytest.mark.parametrize("species", SIGNS)
def test_attacks(models: Models, hopper: Image, hopper_mesh: Mesh, species: Species):
    results = layers(models, attack_frames(species, hopper, hopper_mesh, seed=2, count=FRAMES))
    found = {result.reason: result for result in results.values() if result.outcome == "attack"}
    score = found[SIGNS[species]].score
    assert score is not None
    assert score >= 1
    assert overall(results.values(), required=["grid"]) == "attack"


def test_a_print_without_colour(models: Models, hopper: Image, hopper_mesh: Mesh):
    """Black and white, under coloured light; a camera without any colour says nothing."""
    frames = list(live_frames(hopper, hopper_mesh, seed=2, count=3))
    tinted, plain = [], []
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[:, :, None]
        tinted.append((grey * np.array([0.92, 1.0, 1.0])).astype(np.uint8))
        plain.append(np.repeat(grey, 3, 2))
    box = face_of(models, frames[0]).box
    for pictures, outcome, reason in (
        (tinted, "attack", "attack.no_colour"),
        (plain, "undecided", "attack.camera_without_colour"),
    ):
        texture = Texture()
        for picture in pictures:
            texture.look(picture, box)
        colour = texture.results()[1]
        assert (colour.outcome, colour.reason) == (outcome, reason)


def test_glare(models: Models, hopper: Image, hopper_mesh: Mesh):
    frame = next(live_frames(hopper, hopper_mesh, seed=2, count=1))
    box = face_of(models, frame).box
    x, y, width, height = (int(value) for value in box)
    frame[y : y + height, x : x + width // 2] = 255
    assert colours(frame, box)[1] > 0.35
    texture = Texture()
    for _ in range(3):
        texture.look(frame, box)
    assert texture.results()[1].reason == "attack.glare"


def test_a_face_that_does_not_move_tells_nothing(models: Models, hopper: Image, hopper_mesh: Mesh):
    frame = next(live_frames(hopper, hopper_mesh, seed=3, count=1))
    surround = Surround()
    for _ in range(FRAMES):
        surround.look(frame, face_of(models, frame).landmarks)
    assert [result.outcome for result in surround.results()] == ["undecided", "undecided"]


def test_wiped(models: Models, hopper: Image, hopper_mesh: Mesh):
    texture, surround = Texture(), Surround()
    for frame in live_frames(hopper, hopper_mesh, seed=3, count=4):
        face = face_of(models, frame)
        texture.look(frame, face.box)
        surround.look(frame, face.landmarks)
    assert surround._by_face._sum.any()
    texture.wipe()
    surround.wipe()
    for gradients in (surround._by_face, surround._by_camera):
        for array in (gradients._sum, gradients._squares, gradients._seen):
            assert not array.any()
    assert {result.outcome for result in (*texture.results(), *surround.results())} == {"undecided"}


def test_nothing_seen_is_undecided():
    assert {result.outcome for result in (*Texture().results(), *Surround().results())} == {"undecided"}


def test_layers_together():
    good, bad = LayerResult("grid", "bona_fide", 0.1), LayerResult("border", "attack", 2.0, "attack.border")
    unsure, absent = LayerResult("motion", "undecided"), LayerResult("network", "not_checked")
    assert overall([good, bad], required=["grid"]) == "attack"
    assert overall([good, unsure, absent], required=["grid"]) == "bona_fide"
    assert overall([good, unsure], required=["grid", "motion"]) == "undecided"
    assert overall([good, absent], required=["network"]) == "not_checked"
    assert overall([good], required=["grid", "network"]) == "undecided"
    assert overall([unsure], required=[]) == "undecided"
    assert overall([], required=[]) == "not_checked"
    assert judged("x", {"attack.x": float("nan")}, {}).outcome == "attack"


numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    level=st.integers(0, 255),
    box=npst.arrays(np.float32, 4, elements=numbers),
    landmarks=npst.arrays(np.float32, (5, 2), elements=numbers),
)
def test_garbage_is_never_bona_fide(height: int, width: int, level: int, box: np.ndarray, landmarks: np.ndarray):
    """Frames of one level, of any size, with any box and landmarks: nothing to see, so nothing is believed."""
    texture, surround = Texture(), Surround()
    with np.errstate(all="ignore"):
        for _ in range(9):
            frame = np.full((height, width, 3), level, np.uint8)
            texture.look(frame, box)
            surround.look(frame, landmarks)
        results = (*texture.results(), *surround.results())
    assert all(result.outcome != "bona_fide" for result in results)


@settings(max_examples=50, deadline=None)
@given(height=st.integers(130, 300), width=st.integers(130, 300), seed=st.integers(0, 2**32 - 1))
def test_any_picture_is_looked_at(height: int, width: int, seed: int):
    random = np.random.default_rng(seed)
    texture, surround = Texture(), Surround()
    for _ in range(3):
        frame = random.integers(0, 256, (height, width, 3), np.uint8)
        texture.look(frame, random.uniform(-100, 400, 4).astype(np.float32))
        surround.look(frame, random.uniform(-100, 400, (5, 2)).astype(np.float32))
    for result in (*texture.results(), *surround.results()):
        assert all(np.isfinite(value) for value in result.evidence.values())
