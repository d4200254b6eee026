"""The whole check on two people: the one on the card is recognised, the other refused, once (T9, T13)."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.assets import Assets, chip_photo
from sim.photo import decode
from vision.adaptation import identity
from vision.attack.result import LayerResult, Outcome
from vision.errors import VisionError
from vision.manifest import Threshold
from vision.models import Floats, Image, Models
from vision.pipeline import OPERATING_POINT, FaceCheck, Layer, Sighting

Frames = Callable[[Image, int], list[Image]]


@pytest.fixture(scope="module")
def card(assets: Assets) -> Image:
    """Grace Hopper's photo as a card carries it."""
    return decode(chip_photo(assets, "grace_hopper"))


@pytest.fixture
def live(view: Callable[..., Image]) -> Frames:
    """Frames of somebody who moves a little before a noisy camera in changing light."""

    def play(portrait: Image, count: int) -> list[Image]:
        random = np.random.default_rng(7)
        return [
            view(
                portrait,
                scale=random.uniform(0.7, 1.1),
                turn=random.uniform(-7, 7),
                face_at=(random.uniform(0.42, 0.58), random.uniform(0.45, 0.55)),
                gain=random.uniform(0.7, 1.15),
                noise=4,
                seed=number,
            )
            for number in range(count)
        ]

    return play


def shown(check: FaceCheck, frames: list[Image], *, begin: float = 0.0, pace: float = 0.25) -> list[str | None]:
    """Show frames to a check, one each `pace` seconds; what it said to each."""
    return [check.consider(frame, begin + number * pace) for number, frame in enumerate(frames)]


def test_the_person_of_the_card_matches(models: Models, card: Image, hopper: Image, live: Frames):
    check = FaceCheck(models, card, frames=3)
    for number, frame in enumerate(live(hopper, 3)):
        assert not check.ready(99.0)
        assert check.consider(frame, number * 0.25) is None
    assert check.ready(99.0)
    decision = check.decide()
    expected = models.threshold(OPERATING_POINT, 3)
    assert decision.match
    assert decision.score > expected.cosine + 0.1
    assert (decision.threshold, decision.bound) == (expected.cosine, expected.bound)
    assert (decision.frames, decision.operating_point) == (3, "1e-5")
    assert decision.model == models.identity
    assert (decision.presentation_attack, decision.layers) == ("not_checked", ())
    assert set(decision.stages) == {"detect", "align", "quality", "attack", "embed", "compare"}
    assert all(seconds > 0 for seconds in decision.stages.values())


def test_another_person_is_refused(models: Models, card: Image, collins: Image, live: Frames):
    check = FaceCheck(models, card, frames=3)
    assert shown(check, live(collins, 3)) == [None, None, None]
    decision = check.decide()
    assert not decision.match
    assert decision.score < decision.threshold - 0.1


def test_the_decision_is_taken_once(models: Models, card: Image, hopper: Image, live: Frames):
    """T9: a bound holds for one comparison, so there is no other, nor one without a frame."""
    check = FaceCheck(models, card, frames=1)
    with pytest.raises(RuntimeError, match="at least one"):
        check.decide()
    shown(check, live(hopper, 1))
    assert check.decide().match
    shown(check, live(hopper, 1), begin=5.0)
    with pytest.raises(RuntimeError, match="once"):
        check.decide()


def test_with_fewer_frames_their_own_threshold_holds(models: Models, card: Image, hopper: Image, live: Frames):
    table = tuple(
        Threshold(
            "1e-5", frames, cosine=0.5 - frames / 100, bound=1e-5, data="none", pairs=1, matches=0, date="2026-01-01"
        )
        for frames in (1, 2, 3)
    )
    calibrated = replace(models, thresholds=table)
    for frames in (1, 2, 3):
        check = FaceCheck(calibrated, card, frames=3)
        shown(check, live(hopper, frames))
        decision = check.decide()
        assert (decision.frames, decision.threshold) == (frames, table[frames - 1].cosine)


def test_without_a_threshold_nothing_begins(models: Models, card: Image):
    """T9: fails closed before the camera is looked at."""
    for point, frames in (("1e-9", 1), (OPERATING_POINT, 99)):
        with pytest.raises(VisionError) as caught:
            FaceCheck(models, card, frames=frames, operating_point=point)
        assert caught.value.code == "model.no_threshold"


def test_the_mean_of_adapted_embeddings_is_compared(models: Models, card: Image, hopper: Image, live: Frames):
    """An adaptation that takes one person's mean off both sides leaves less likeness."""
    scores = []
    for shift in (0.0, 0.05):
        adaptation = replace(identity(128), probe_mean=np.full(128, shift, np.float32))
        check = FaceCheck(replace(models, adaptation=adaptation), card, frames=2)
        shown(check, live(hopper, 2))
        scores.append(check.decide().score)
    assert scores[0] > scores[1] + 0.05


def test_bad_frames_are_told_and_not_used(models: Models, card: Image, hopper: Image, view: Callable[..., Image]):
    check = FaceCheck(models, card, frames=1)
    good = view(hopper)
    twice = np.hstack([good[:, 160:480], good[:, 160:480]])
    bad = {
        "face.none": np.full_like(good, 120),
        "face.many": twice,
        "face.too_dark": view(hopper, gain=0.1),
        "face.center": np.ascontiguousarray(good[:, 290:]),
        "face.hold_still": view(hopper, smear=31),
    }
    for code, frame in bad.items():
        assert check.consider(frame, 0.0) == code
        assert check.chosen == 0
        assert not check.ready(99.0)
    assert check.consider(good, 0.1) is None
    assert check.chosen == 1


def test_a_stream_that_stands_still_is_one_frame(
    models: Models, card: Image, hopper: Image, view: Callable[..., Image]
):
    check = FaceCheck(models, card, frames=3)
    assert shown(check, [view(hopper, noise=4)] * 8) == [None] * 8
    assert check.chosen == 1
    assert not check.ready(99.0)
    assert check.decide().frames == 1


def test_the_better_frames_are_chosen(models: Models, card: Image, hopper: Image, view: Callable[..., Image]):
    """Smeared ones were good enough until sharp ones came."""
    check = FaceCheck(models, card, frames=2)
    stream = [(0.0, 11), (0.3, 11), (0.6, 0), (0.9, 0)]
    for at, smear in stream:
        assert check.consider(view(hopper, smear=smear, noise=3, seed=int(at * 10)), at) is None
    assert [candidate.taken_at for candidate in check._selection.chosen] == [0.6, 0.9]


def test_two_people_one_after_the_other_are_no_decision(
    models: Models, card: Image, hopper: Image, collins: Image, live: Frames
):
    check = FaceCheck(models, card, frames=2)
    shown(check, [*live(hopper, 1), *live(collins, 1)])
    with pytest.raises(VisionError) as caught:
        check.decide()
    assert (caught.value.code, caught.value.retry) == ("face.changed", True)
    assert not check._reference.any()


def test_who_leaves_begins_anew_and_a_blink_of_the_detector_changes_nothing(
    models: Models, card: Image, hopper: Image, live: Frames
):
    first, second, third = live(hopper, 3)
    nobody = np.full_like(first, 120)
    check = FaceCheck(models, card, frames=3)
    shown(check, [first, nobody, second], pace=0.22)
    assert check.chosen == 2
    shown(check, [nobody, nobody, third], begin=1.0, pace=0.3)
    assert check.chosen == 1


class Scripted(Layer):
    """A layer that says what it is told to, and counts."""

    prompt: str | None = None
    over = False
    person: Floats | None = None

    def __init__(self, outcome: Outcome, prompt: str | None = None) -> None:
        self.outcome = outcome
        self.prompt = prompt
        self.looks: list[tuple[float, bool]] = []
        self.wiped = 0

    def look(self, seen: Sighting) -> None:
        assert seen.frame.shape == (480, 640, 3)
        self.looks.append((seen.taken_at, seen.fit))

    def results(self) -> tuple[LayerResult, ...]:
        return (LayerResult("scripted", self.outcome),)

    def wipe(self) -> None:
        self.wiped += 1


@pytest.mark.parametrize("outcome", ["bona_fide", "attack"])
def test_what_the_layers_find_is_reported_by_layer(
    models: Models, card: Image, hopper: Image, live: Frames, outcome: Outcome
):
    """T9: the comparison's result stands beside it; an attack is refused by who asked."""
    layer = Scripted(outcome)
    check = FaceCheck(models, card, frames=2, layers=(layer,), required=("scripted",))
    shown(check, live(hopper, 2))
    assert check.ready(99.0)
    decision = check.decide()
    assert decision.match
    assert decision.presentation_attack == outcome
    assert decision.layers == (LayerResult("scripted", outcome),)
    assert layer.looks == [(0.0, True), (0.25, True)]
    assert layer.wiped == 1


def test_a_required_layer_that_is_undecided_holds_the_decision_and_forbids_it(
    models: Models, card: Image, hopper: Image, live: Frames
):
    for required, outcome in (
        (("scripted",), "undecided"),
        (("scripted",), "not_checked"),
        (("missing",), "bona_fide"),
    ):
        check = FaceCheck(models, card, frames=1, layers=(Scripted(outcome),), required=required)
        shown(check, live(hopper, 1))
        assert not check.ready(99.0)
        with pytest.raises(VisionError) as caught:
            check.decide()
        assert (caught.value.code, caught.value.retry) == ("face.attack_undecided", True)
    optional = FaceCheck(models, card, frames=1, layers=(Scripted("undecided"),))
    shown(optional, live(hopper, 1))
    assert optional.ready(99.0)
    assert optional.decide().presentation_attack == "not_checked"


def test_a_layer_asks_and_sees_the_turned_head_too(
    models: Models, card: Image, hopper: Image, view: Callable[..., Image]
):
    layer = Scripted("bona_fide", prompt="face.look_at_camera")
    check = FaceCheck(models, card, frames=2, layers=(layer,))
    assert check.consider(view(hopper), 0.0) == "face.look_at_camera"
    assert check.consider(view(hopper, turn=32), 0.3) == "face.look_at_camera"
    assert check.consider(view(hopper, smear=31), 0.6) == "face.hold_still", "what spoils the frame is told first"
    assert [fit for _, fit in layer.looks] == [True, False, False]
    assert check.chosen == 1
    layer.prompt = "face.open_mouth"
    for frame in (view(hopper, noise=3), view(hopper, smear=31)):
        assert check.consider(frame, 0.9) == "face.open_mouth", "who moves is not told to hold still"
    assert check.chosen == 1, "no frame of a grimace"


def test_a_required_layer_that_ended_without_a_result_ends_the_check(
    models: Models, card: Image, hopper: Image, live: Frames
):
    layer = Scripted("undecided")
    check = FaceCheck(models, card, frames=1, layers=(layer,), required=("scripted",))
    shown(check, live(hopper, 1))
    assert not check.ready(99.0)
    layer.over = True
    assert check.ready(99.0)
    with pytest.raises(VisionError) as caught:
        check.decide()
    assert caught.value.code == "face.attack_undecided"


def test_a_frame_of_somebody_that_a_layer_does_not_know_is_no_decision(
    models: Models, card: Image, hopper: Image, live: Frames
):
    """T9: who moved the head is who is compared."""

    layer = Scripted("bona_fide")
    layer.person = np.full(128, 128**-0.5, np.float32)
    check = FaceCheck(models, card, frames=2, layers=(layer,))
    shown(check, live(hopper, 2))
    with pytest.raises(VisionError) as caught:
        check.decide()
    assert caught.value.code == "face.changed"


def test_a_card_photo_without_one_face_is_refused(models: Models, hopper: Image, collins: Image):
    nobody = np.full((126, 102, 3), 128, np.uint8)
    both = np.hstack([hopper[:, :512], collins[:600, 180:700]])
    for photo, code in ((nobody, "photo.no_face"), (both, "photo.many_faces")):
        with pytest.raises(VisionError) as caught:
            FaceCheck(models, photo, frames=3)
        assert (caught.value.code, caught.value.retry) == (code, False)


def test_wiping_overwrites_what_was_kept(models: Models, card: Image, hopper: Image, live: Frames):
    """T20: what is held is zero afterwards, not merely forgotten; a decision wipes by itself."""
    for end in (FaceCheck.wipe, FaceCheck.decide):
        check = FaceCheck(models, card, frames=2)
        shown(check, live(hopper, 2))
        kept = [check._reference, *(candidate.face for candidate in check._selection.chosen)]
        assert len(kept) == 3
        assert all(array.any() for array in kept)
        end(check)
        assert not any(array.any() for array in kept)
        assert check.chosen == 0


def test_nobody_resembles_a_wiped_reference(models: Models, card: Image, hopper: Image, live: Frames):
    check = FaceCheck(models, card, frames=2)
    check.wipe()
    shown(check, live(hopper, 2))
    decision = check.decide()
    assert (decision.score, decision.match) == (0.0, False)


def test_no_embedding_stays_in_what_numpy_keeps_of_freed_arrays(
    models: Models, card: Image, hopper: Image, live: Frames
):
    """T20: malloc overwrites what is freed, but numpy hands arrays below 1 KiB out again as they were."""
    check = FaceCheck(models, card, frames=2)
    shown(check, live(hopper, 2))
    person = check._reference.copy()
    assert check.decide().match
    del check
    with np.errstate(all="ignore"):
        freed = np.stack([np.empty(128, np.float32) for _ in range(64)]).astype(np.float64)
        likeness = freed @ person / np.linalg.norm(freed, axis=1)
    assert not np.any(likeness > 0.4)


def test_pictures_given_are_left_alone(models: Models, card: Image, hopper: Image, live: Frames):
    """They belong to the caller, who wipes them."""
    (frame,) = live(hopper, 1)
    before = card.copy(), frame.copy()
    check = FaceCheck(models, card, frames=1)
    check.consider(frame, 0.0)
    check.decide()
    assert np.array_equal(card, before[0])
    assert np.array_equal(frame, before[1])


@given(st.tuples(st.integers(1, 700), st.integers(1, 700), st.just(3)), st.integers(0, 255), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_frame_of_any_size_and_content_is_a_coded_result(
    models: Models, card: Image, shape: tuple[int, int, int], level: int, noisy: bool
):
    frame = np.full(shape, level, np.uint8)
    if noisy:
        frame = np.random.default_rng(level).integers(0, 256, frame.shape).astype(np.uint8)
    check = FaceCheck(models, card, frames=1)
    assert check.consider(frame, 0.0) in {"face.none", "face.too_dark", "face.too_bright"}
    assert check.chosen == 0


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 1), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((480, 640, 3), np.float32),
        np.zeros((0, 640, 3), np.uint8),
        np.zeros((1, 16_385, 3), np.uint8),
    ],
    ids=["grey", "one channel", "four channels", "floats", "empty", "too long"],
)
def test_what_is_no_picture_is_an_error_with_a_code(models: Models, card: Image, frame: Image):
    check = FaceCheck(models, card, frames=1)
    for use in (lambda: check.consider(frame, 0.0), lambda: FaceCheck(models, frame, frames=1)):
        with pytest.raises(VisionError) as caught:
            use()
        assert (caught.value.code, caught.value.retry) == ("picture.unusable", False)
