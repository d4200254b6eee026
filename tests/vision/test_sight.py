"""What a camera sees: a lit scene, a dark one, the inside of a cover (vision/sight.py)."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.scene import DocumentScene, Scene
from vision.models import Image
from vision.sight import SETTLE_SECONDS, Seen, Sight, judge

COVERED, DARK, LIT = (np.full((48, 64, 3), level, np.uint8) for level in (8, 30, 120))


@pytest.mark.parametrize(("light", "seen"), [({}, "online"), ({"dark": True}, "dark"), ({"covered": True}, "covered")])
def test_the_rigs_scenes_are_told_apart(light: dict[str, bool], seen: Seen) -> None:
    for seed in range(5):
        scene = Scene(seed)
        assert {judge(scene.frame(**light)) for _ in range(10)} == {seen}
    assert judge(DocumentScene(1).frame(**light)) == seen


@given(st.floats(0, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_a_sensors_noise_is_not_light(sigma: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(6, sigma, (480, 640, 3)).clip(0, 255).astype(np.uint8)
    assert judge(noise) == "covered"


@given(st.integers(0, 255), st.integers(1, 40), st.integers(1, 40))
def test_more_light_is_never_judged_darker(level: int, width: int, height: int) -> None:
    rank = ["covered", "dark", "online"]
    darker, lighter = (np.full((height, width, 3), min(255, level + more), np.uint8) for more in (0, 5))
    assert rank.index(judge(darker)) <= rank.index(judge(lighter))


def test_a_lamp_in_a_dark_hall_is_dark_not_covered() -> None:
    hall = np.full((480, 640, 3), 5, np.uint8)
    cv2.circle(hall, (500, 100), 40, (255, 255, 255), cv2.FILLED)
    assert judge(hall) == "dark"


def seen(*frames: tuple[float, Image]) -> Seen | None:
    sight = Sight()
    for at, picture in frames:
        sight.look(picture, at)
    return sight.state


def test_light_counts_at_once_and_darkness_when_it_lasts() -> None:
    """Automatic exposure begins in the dark; a hand before the lens is no fault."""
    assert seen((0, LIT)) == "online"
    assert seen((0, DARK), (1.0, DARK)) is None
    assert seen((0, DARK), (0.4, LIT)) == "online"
    assert seen((0, DARK), (1.0, DARK), (1.5, DARK)) == "dark"
    assert seen((0, COVERED), (1.0, DARK), (1.5, COVERED)) == "dark"
    assert seen((0, LIT), (0.5, COVERED), (1.0, COVERED)) == "online"
    assert seen((0, LIT), (0.5, COVERED), (1.0, COVERED), (1.6, COVERED)) == "covered"
    assert seen((0, COVERED), (1.5, COVERED), (2.0, LIT)) == "online"


def test_a_light_at_the_limit_does_not_flicker() -> None:
    sight = Sight()
    told = []
    for tick in range(200):
        level = 43 if tick % 10 < 9 else 50
        sight.look(np.full((4, 4, 3), level, np.uint8), tick * 0.2)
        told.append(sight.state)
    assert told.count("online") == 0
    assert told[-1] == "dark"


@given(st.lists(st.tuples(st.floats(0.01, 2), st.sampled_from([COVERED, DARK, LIT])), min_size=1, max_size=40))
def test_the_state_is_one_that_was_seen_lately(steps: list[tuple[float, Image]]) -> None:
    sight, now, history = Sight(), 0.0, []
    for pause, picture in steps:
        now += pause
        history.append((now, judge(picture)))
        sight.look(picture, now)
        if sight.state:
            assert sight.state in {what for at, what in history if now - at <= SETTLE_SECONDS + 0.2}
