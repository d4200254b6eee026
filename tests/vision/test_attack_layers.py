"""A check with its layers: who moves as asked and is the one on the card passes, nobody else (T9)."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sim.assets import Assets, chip_photo
from sim.attack import Actor, Pose, Sheet, expose, wall
from sim.photo import decode
from tests.vision.attack_rig import hopper_mesh, mesher
from tests.vision.test_attack_network import SHAPE, brightness, entry
from vision.attack.challenge import GUIDANCE, Action
from vision.attack.layers import Detection
from vision.attack.mesh import Mesh
from vision.errors import VisionError
from vision.models import Image, Models, Network
from vision.pipeline import Decision, FaceCheck

__all__ = ["hopper_mesh", "mesher"]

PACE = 1 / 15


@pytest.fixture(scope="module")
def card(assets: Assets) -> Image:
    return decode(chip_photo(assets, "grace_hopper"))


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same movements each time, without the blink: the lids of a synthetic head close only just enough."""
    movements: tuple[Action, ...] = ("turn_left", "open_mouth", "nod")
    monkeypatch.setattr("vision.attack.layers.draw", lambda count: movements[:count])


@pytest.fixture
def actor(hopper: Image, hopper_mesh: Mesh) -> Actor:
    return Actor(hopper, hopper_mesh, seed=2)


def begin(models: Models, card: Image, *, movements: int, frames: int = 3) -> FaceCheck:
    detection = Detection(models, movements=movements)
    return FaceCheck(models, card, frames=frames, layers=detection.layers(), required=detection.required)


def show(check: FaceCheck, frames: Callable[[str], Image], *, seconds: float = 30.0, begun: float = 0.0) -> list[str]:
    """Show frames, each knowing what was told last, until the check is ready; what it told, on change."""
    told = [""]
    for number in range(round(seconds / PACE)):
        now = begun + number * PACE
        guidance = check.consider(frames(told[-1]), now)
        if guidance is not None and guidance != told[-1]:
            told.append(guidance)
        if check.ready(now):
            break
    return told[1:]


def obeying(actor: Actor) -> Callable[[str], Image]:
    last = [""]

    def frame(told: str) -> Image:
        if told != last[0]:
            actor.ask(told)
            last[0] = told
        return actor.frame()

    return frame


def outcomes(decision: Decision) -> dict[str, str]:
    return {layer.layer: layer.outcome for layer in decision.layers}


@pytest.mark.parametrize("movements", [1, 3])
def test_who_moves_as_asked_is_compared(models: Models, card: Image, actor: Actor, movements: int):
    check = begin(models, card, movements=movements)
    told = show(check, obeying(actor))
    assert told[0] == "face.look_at_camera"
    asked = [code for code in told if code in GUIDANCE.values()]
    assert asked == ["face.turn_left", "face.open_mouth", "face.nod"][:movements]
    decision = check.decide()
    assert (decision.match, decision.presentation_attack, decision.frames) == (True, "bona_fide", 3)
    assert outcomes(decision)["challenge"] == outcomes(decision)["grid"] == "bona_fide"
    assert set(outcomes(decision)) == {"grid", "colour", "motion", "border", "challenge"}


def test_who_does_not_move_gets_no_decision_however_alike(models: Models, card: Image, actor: Actor):
    check = begin(models, card, movements=1)
    show(check, lambda _: actor.frame())
    with pytest.raises(VisionError) as caught:
        check.decide()
    assert (caught.value.code, caught.value.retry) == ("face.attack_undecided", True)


def test_a_print_that_is_turned_is_an_attack(models: Models, card: Image, hopper: Image, hopper_mesh: Mesh):
    x, y = (float(value) for value in hopper_mesh.points[168, :2])
    sheet, behind = Sheet(hopper, middle=(x, y), unit=hopper_mesh.eye_distance), wall(2)
    poses = {"face.turn_left": Pose(yaw=45), "face.turn_right": Pose(yaw=-45), "face.nod": Pose(pitch=45)}
    pictures = {code: sheet.seen(pose, behind) for code, pose in {"": Pose(), **poses}.items()}
    random = np.random.default_rng(1)
    check = begin(models, card, movements=1)
    show(check, lambda told: expose(pictures.get(told, pictures[""]), random), seconds=4.0)
    show(check, lambda _: expose(pictures[""], random), begun=4.0)
    decision = check.decide()
    assert decision.presentation_attack == "attack"
    assert {layer.reason for layer in decision.layers} >= {"challenge.flat"}


def test_another_face_in_place_of_the_one_that_moved_is_found(
    models: Models, card: Image, actor: Actor, collins: Image, view: Callable[..., Image]
):
    """T9: between the movements as an attack, after them as another person."""
    frames = obeying(actor)
    check = begin(models, card, movements=2)
    moved = [False]

    def swapped(told: str) -> Image:
        moved[0] |= told not in {"", "face.look_at_camera"}
        return view(collins) if moved[0] and told == "face.look_at_camera" else frames(told)

    show(check, swapped)
    decision = check.decide()
    assert decision.presentation_attack == "attack"
    assert {layer.reason for layer in decision.layers} >= {"challenge.person_changed"}


def test_only_who_moved_may_be_compared(models: Models, card: Image, actor: Actor, collins: Image):
    check = begin(models, card, movements=1)
    show(check, obeying(actor))
    (asked,) = (layer for layer in check._layers if layer.person is not None)
    assert asked.person is not None
    asked.person[:] = -asked.person
    with pytest.raises(VisionError) as caught:
        check.decide()
    assert caught.value.code == "face.changed"


def test_who_leaves_after_a_movement_was_asked_for_has_failed(models: Models, card: Image, actor: Actor):
    """Or the order could be drawn until it suits a film."""
    check = begin(models, card, movements=1)
    frames, asked = obeying(actor), [False]

    def leaving(told: str) -> Image:
        asked[0] |= told not in {"", "face.look_at_camera", "face.none"}
        return wall(2) if asked[0] and told != "face.none" else frames("")

    told = show(check, leaving, seconds=3.0)
    assert "face.none" in told
    for number in range(12):
        check.consider(wall(2), 3.0 + number * PACE)
    show(check, lambda _: frames(""), begun=4.0)
    with pytest.raises(VisionError) as caught:
        check.decide()
    assert caught.value.code == "face.attack_undecided"


def test_who_leaves_before_begins_anew(models: Models, card: Image, actor: Actor):
    check = begin(models, card, movements=1)
    assert check.consider(actor.frame(), 0.0) == "face.look_at_camera"
    assert check.consider(wall(2), 0.3) == "face.none"
    show(check, obeying(actor), begun=1.0)
    assert check.decide().presentation_attack == "bona_fide"


def test_wiped(models: Models, card: Image, actor: Actor):
    """T20."""
    check = begin(models, card, movements=1)
    show(check, obeying(actor), seconds=1.0)
    (person,) = (layer.person for layer in check._layers if layer.person is not None)
    assert person.any()
    check.wipe()
    assert not person.any()
    assert all(layer.person is None for layer in check._layers)


def test_without_movements_the_passive_layers_stay(models: Models, card: Image, actor: Actor):
    detection = Detection(replace(models, mesh=None, eye=None), movements=0)
    assert detection.required == ["grid"]
    check = begin(models, card, movements=0)
    assert show(check, lambda _: actor.frame()) == []
    assert check.decide().presentation_attack == "bona_fide"


def test_one_frame_shown_again_is_one_frame(models: Models, card: Image, actor: Actor):
    """Three frames are wanted before a layer believes anything: a still picture has one."""
    named = replace(models, attack=Network(entry(brightness()), brightness()))
    for detecting in (models, named):
        check = begin(detecting, card, movements=0, frames=1)
        still = actor.frame()
        show(check, lambda _, still=still: still, seconds=2.0)
        assert check.chosen == 1
        with pytest.raises(VisionError) as caught:
            check.decide()
        assert caught.value.code == "face.attack_undecided"


def test_a_challenge_needs_its_models(models: Models):
    """Fails closed, at the start."""
    for without in (replace(models, mesh=None), replace(models, eye=None)):
        with pytest.raises(VisionError) as caught:
            Detection(without, movements=1)
        assert (caught.value.code, caught.value.retry) == ("model.no_mesh", False)


def test_a_network_that_the_manifest_names_is_required(models: Models, card: Image, actor: Actor):
    named = replace(models, attack=Network(entry(brightness()), brightness()))
    detection = Detection(named, movements=0)
    assert detection.required == ["grid", "network"]
    check = begin(named, card, movements=0)
    show(check, lambda _: actor.frame())
    assert "network" in outcomes(check.decide())
    other = Network(entry(brightness(3), SHAPE), brightness(3))
    with pytest.raises(VisionError) as caught:
        Detection(replace(models, attack=other), movements=0)
    assert caught.value.code == "model.damaged"
