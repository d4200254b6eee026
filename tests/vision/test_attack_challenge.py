"""A head passes the challenge; a photo, a silence, another person, or garbage does not (T9)."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sim.attack import Head, Pose, Sheet, wall
from tests.vision.attack_rig import hopper_mesh, mesh_of, mesher, turned
from vision.attack.challenge import ACTIONS, GUIDANCE, LOOK, Action, Challenge, draw
from vision.attack.mesh import Mesh, Mesher, mouth_open, pose, relief, stretch, turn
from vision.attack.result import LayerResult
from vision.models import Image, Models

__all__ = ["hopper_mesh", "mesher"]

ENDS: dict[Action, Pose] = {
    "turn_left": Pose(yaw=22),
    "turn_right": Pose(yaw=-22),
    "nod": Pose(pitch=17),
    "blink": Pose(blink=1),
    "open_mouth": Pose(mouth=1),
}


def performed(mesh: Mesh, move: Pose, *, flat: bool = False) -> Mesh:
    """The mesh of somebody who does this, by geometry alone."""
    done = turned(mesh, move, flat=flat)
    points = done.points.copy()
    points[14, 1] += move.mouth * 0.4 * mesh.eye_distance
    return replace(done, points=points, eyes=mesh.eyes * (1 - 0.7 * move.blink))


def play(challenge: Challenge, frame: "dict[str, Mesh | None]", *, seconds: float = 60.0) -> LayerResult:
    """Show what the guidance asks for, rest first, at 15 frames a second."""
    now = 0.0
    last = None
    since = 0
    while not challenge.done and now < seconds:
        asked = challenge.guidance
        assert asked is not None
        since = since + 1 if asked == last else 0
        last = asked
        resting = asked == LOOK or since < 3 or (asked == "face.blink" and since > 6)
        challenge.consider(frame[LOOK if resting else asked], now, same_person=True)
        now += 1 / 15
    return challenge.result()


def shown(mesh: Mesh, *, flat: bool = False, size: float = 1.0) -> "dict[str, Mesh | None]":
    frames: dict[str, Mesh | None] = {LOOK: mesh}
    for action, move in ENDS.items():
        frames[GUIDANCE[action]] = performed(mesh, replace(move, size=size), flat=flat)
    return frames


def test_a_head_makes_every_movement(hopper_mesh: Mesh):
    challenge = Challenge(ACTIONS, now=0.0)
    result = play(challenge, shown(hopper_mesh))
    assert (result.outcome, result.reason, result.evidence["made"]) == ("bona_fide", None, 5.0)
    assert result.evidence["relief"] > 0.1
    assert challenge.guidance is None


def test_rest_is_asked_for_between_movements(hopper_mesh: Mesh):
    challenge = Challenge(("turn_left", "nod"), now=0.0)
    asked = []
    frames = shown(hopper_mesh)
    for number in range(60):
        if challenge.done:
            break
        if not asked or asked[-1] != challenge.guidance:
            asked.append(challenge.guidance)
        challenge.consider(frames[asked[-1]], number / 15, same_person=True)
    assert asked == [LOOK, "face.turn_left", LOOK, "face.nod"]


@pytest.mark.parametrize("action", ["turn_left", "turn_right", "nod"])
def test_a_flat_picture_that_is_turned_is_an_attack(hopper_mesh: Mesh, action: Action):
    far = {"turn_left": Pose(yaw=45), "turn_right": Pose(yaw=-45), "nod": Pose(pitch=45)}[action]
    frames = {LOOK: hopper_mesh, GUIDANCE[action]: turned(hopper_mesh, far, flat=True)}
    result = play(Challenge((action,), now=0.0), frames)
    assert (result.outcome, result.reason) == ("attack", "challenge.flat")


def test_a_flat_picture_whose_depth_turns_along_does_not_pass(hopper_mesh: Mesh):
    """As a network may guess it: the points turn in depth, but in the picture they stay on a plane."""
    mesh = turned(hopper_mesh, Pose(yaw=22))
    flat = turned(hopper_mesh, Pose(yaw=22), flat=True)
    points = np.column_stack([flat.points[:, :2], mesh.points[:, 2]])
    frames = {LOOK: hopper_mesh, "face.turn_left": replace(flat, points=points)}
    result = play(Challenge(("turn_left",), now=0.0), frames)
    assert result.outcome != "bona_fide"


def test_who_does_nothing_gives_no_answer(hopper_mesh: Mesh):
    frames = dict.fromkeys([LOOK, *GUIDANCE.values()], hopper_mesh)
    for action in ACTIONS:
        result = play(Challenge((action,), now=0.0), frames)
        assert (result.outcome, result.reason, result.score) == ("undecided", "challenge.timeout", None)


def test_the_other_way_is_told(hopper_mesh: Mesh):
    frames = {LOOK: hopper_mesh, "face.turn_left": turned(hopper_mesh, Pose(yaw=-25))}
    assert play(Challenge(("turn_left",), now=0.0), frames).reason == "challenge.wrong_movement"


def test_eyes_that_stay_closed_are_no_blink(hopper_mesh: Mesh):
    challenge = Challenge(("blink",), now=0.0, seconds=4.0)
    for number in range(60):
        eyes = hopper_mesh.eyes if number < 5 or number > 40 else 0.0
        challenge.consider(replace(hopper_mesh, eyes=eyes), number / 15, same_person=True)
    assert challenge.result().outcome == "undecided"


def test_another_person_is_an_attack(hopper_mesh: Mesh):
    challenge = Challenge(("nod",), now=0.0)
    challenge.consider(hopper_mesh, 0.1, same_person=True)
    challenge.consider(hopper_mesh, 0.2, same_person=False)
    assert (challenge.result().outcome, challenge.result().reason) == ("attack", "challenge.person_changed")


def test_frames_that_were_not_compared_do_not_count_as_rest(hopper_mesh: Mesh):
    challenge = Challenge(("nod",), now=0.0)
    for number in range(20):
        assert challenge.wants_identity
        challenge.consider(hopper_mesh, number / 15)
    assert challenge.guidance == LOOK


def test_a_face_that_goes_away_ends_it(hopper_mesh: Mesh):
    challenge = Challenge(("nod",), now=0.0)
    challenge.consider(hopper_mesh, 0.1, same_person=True)
    for now in (0.5, 1.0, 1.2):
        challenge.consider(None, now)
    assert challenge.result().reason == "challenge.face_lost"


def test_a_time_that_goes_back_does_not_stop_the_deadline(hopper_mesh: Mesh):
    challenge = Challenge(("nod",), now=10.0)
    for now in (10.1, 3.0, float("nan"), 10.2):
        challenge.consider(hopper_mesh, now, same_person=True)
    assert not challenge.done
    challenge.consider(hopper_mesh, float("inf"), same_person=True)
    assert challenge.result().reason == "challenge.timeout"


def test_wiped(hopper_mesh: Mesh):
    challenge = Challenge(("nod",), now=0.0)
    for number in range(3):
        challenge.consider(hopper_mesh, number / 15, same_person=True)
    held = challenge._reference
    assert held is not None
    assert held.points is not hopper_mesh.points
    challenge.wipe()
    assert not held.points.any()


def test_draws_differ_and_always_turn_the_head():
    drawn = {draw(3) for _ in range(200)}
    assert len(drawn) > 20
    for actions in drawn:
        assert len(set(actions)) == 3
        assert {"turn_left", "turn_right", "nod"} & set(actions)
    for count in (0, 6):
        with pytest.raises(ValueError, match="movements"):
            draw(count)
    with pytest.raises(ValueError, match="movements"):
        Challenge((), now=0.0)


def test_geometry_of_the_mesh(hopper_mesh: Mesh):
    for move in (Pose(yaw=20), Pose(yaw=-20), Pose(pitch=12), Pose(pitch=-12)):
        found = turn(hopper_mesh, turned(hopper_mesh, move))
        assert (found.yaw, found.pitch) == pytest.approx((move.yaw, move.pitch), abs=0.5)
        assert found.residual < 0.01
        assert relief(hopper_mesh, turned(hopper_mesh, move)) > 0.08
        assert relief(hopper_mesh, turned(hopper_mesh, move, flat=True)) < 1e-3
    assert stretch(hopper_mesh, turned(hopper_mesh, Pose(yaw=60), flat=True)) == pytest.approx(2, rel=0.05)
    assert pose(turned(hopper_mesh, Pose(yaw=15)))[0] == pytest.approx(pose(hopper_mesh)[0] + 15, abs=1.5)
    assert mouth_open(performed(hopper_mesh, Pose(mouth=1))) > mouth_open(hopper_mesh) + 0.3
    with pytest.raises(ValueError, match="468"):
        Mesh(np.zeros((5, 3), np.float32), 1.0, 0.2)


@pytest.fixture(scope="module")
def head(hopper: Image, hopper_mesh: Mesh) -> Head:
    return Head(hopper, hopper_mesh)


def seen(models: Models, mesher: Mesher, frames: "dict[str, Image]") -> "dict[str, Mesh | None]":
    return {asked: mesh_of(models, mesher, frame) for asked, frame in frames.items()}


def test_a_rendered_head_passes(models: Models, mesher: Mesher, head: Head):
    """Pixels to answer: the detector, both networks and the challenge on the relief of a portrait."""
    behind = wall(1)
    frames = {LOOK: head.seen(Pose(), behind)}
    frames |= {GUIDANCE[action]: head.seen(move, behind) for action, move in ENDS.items()}
    result = play(Challenge(ACTIONS, now=0.0), seen(models, mesher, frames))
    assert (result.outcome, result.reason) == ("bona_fide", None)


@pytest.mark.parametrize("bend", [0.0, 0.35])
def test_a_photo_turned_before_the_camera_does_not_pass(
    models: Models, mesher: Mesher, hopper: Image, hopper_mesh: Mesh, bend: float
):
    """The printed portrait, held flat or bent, turned as far as the detector follows: no angle of it will do."""
    x, y = (float(value) for value in hopper_mesh.points[168, :2])
    sheet = Sheet(hopper, middle=(x, y), unit=hopper_mesh.eye_distance, bend=bend)
    rest = mesh_of(models, mesher, sheet.seen(Pose(), wall(1)))
    for action, angles in sheet_poses():
        frames = {LOOK: rest, GUIDANCE[action]: mesh_of(models, mesher, sheet.seen(angles, wall(1)))}
        assert play(Challenge((action,), now=0.0), frames).outcome != "bona_fide", (action, angles)


def sheet_poses() -> Iterator[tuple[Action, Pose]]:
    for degrees in (15, 30, 45):
        yield "turn_left", Pose(yaw=degrees)
        yield "turn_right", Pose(yaw=-degrees)
        yield "nod", Pose(pitch=degrees)


@settings(max_examples=100, deadline=None)
@given(
    points=npst.arrays(
        np.float32,
        (468, 3),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
        fill=st.floats(width=32, allow_nan=True),
    ),
    presence=st.floats(allow_nan=True),
    eyes=st.floats(allow_nan=True),
    step=st.floats(allow_nan=True),
    same=st.sampled_from([True, None]),
)
def test_garbage_is_never_bona_fide(points: np.ndarray, presence: float, eyes: float, step: float, same: bool | None):
    with np.errstate(all="ignore"):
        for action in ACTIONS:
            challenge = Challenge((action,), now=0.0)
            for number in range(8):
                challenge.consider(Mesh(points, presence, eyes), number * step, same_person=same)
            assert challenge.result().outcome != "bona_fide"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), noise=st.floats(1, 200))
def test_noise_around_a_face_is_never_bona_fide(hopper_mesh: Mesh, seed: int, noise: float):
    """A real reference, then points thrown about: numbers that are finite and mean nothing."""
    random = np.random.default_rng(seed)
    for action in ("turn_left", "turn_right", "nod"):
        challenge = Challenge((action,), now=0.0)
        for number in range(40):
            points = hopper_mesh.points if number < 3 else random.normal(300, noise, (468, 3)).astype(np.float32)
            challenge.consider(replace(hopper_mesh, points=points), number / 15, same_person=True)
        assert challenge.result().outcome != "bona_fide"
