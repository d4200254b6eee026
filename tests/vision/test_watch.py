"""When a camera that is off is looked at, and what is told of it (vision/watch.py)."""

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vision import watch
from vision.camera import Camera
from vision.v4l2 import FACE_SIZE, Size
from vision.verifier import CameraState, CameraStatus
from vision.watch import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, TICK_SECONDS, WatchedCamera

Health = tuple[CameraState, str | None] | None


class Bench:
    """A camera's path, what its feeds say, and a clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begin()

    def begin(self) -> None:
        """Begin anew: the process has just started, the camera is plugged in."""
        self.path.touch()
        self.now = 1000.0
        self.says: Health = None
        self.feeds: list[Feed] = []
        self.told: list[CameraStatus] = []
        self.camera = WatchedCamera("face", str(self.path), FACE_SIZE, rig=False, tell=self.told.append)

    def pass_seconds(self, seconds: float) -> list[float]:
        """Let time pass and return when looks began, in seconds from now."""
        begun, looks = self.now, []
        while self.now < begun + seconds:
            before = len(self.feeds)
            self.camera.tick()
            if len(self.feeds) > before:
                looks.append(self.now - begun)
            self.now += TICK_SECONDS
        return looks

    @property
    def on(self) -> bool:
        return any(feed.on for feed in self.feeds)


class Feed:
    """A feed that says what the bench says."""

    def __init__(self, bench: Bench, before: object) -> None:
        self._bench = bench
        self.before = before
        self.holder = object()
        self.stopped = self.closed = False
        self._failed: Health = None

    @property
    def on(self) -> bool:
        if self._bench.says and self._bench.says[1] and not self.stopped:
            self._failed = self._failed or self._bench.says
        return not self.stopped and not self._failed

    def health(self) -> Health:
        return self._bench.says if self.on else self._failed

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.stopped = self.closed = True


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path / "camera")

    def feed(opener: Callable[[], Camera], least: Size, before: threading.Thread | None) -> Feed:
        assert least == FACE_SIZE
        bench.feeds.append(Feed(bench, before))
        return bench.feeds[-1]

    monkeypatch.setattr(watch, "CameraFeed", feed)
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: bench.now))
    return bench


def test_a_camera_is_looked_at_at_once_and_then_ever_more_rarely(bench: Bench) -> None:
    bench.says = ("online", None)
    looks = bench.pass_seconds(2000)
    pauses = [later - earlier for earlier, later in pairwise(looks)]
    assert looks[0] == 0
    assert pauses[:7] == pytest.approx([5, 10, 20, 40, 80, 160, 300], abs=1)
    assert set(pauses[6:]) == {pauses[6]}, "every 5 min from then on"
    assert bench.told == [CameraStatus("face", "online")], "told once"
    assert not bench.on, "it is dark while nobody uses it"
    assert all(feed.before is earlier.holder for earlier, feed in pairwise(bench.feeds))


def test_a_look_lasts_until_the_camera_said_something(bench: Bench) -> None:
    bench.pass_seconds(3)
    assert bench.on
    assert bench.told == []
    bench.says = ("covered", None)
    bench.pass_seconds(0.5)
    assert not bench.on
    assert bench.told == [CameraStatus("face", "covered")]


def test_a_change_is_followed_closely(bench: Bench) -> None:
    bench.says = ("online", None)
    bench.pass_seconds(2000)
    bench.says = ("dark", None)
    first, second, *_ = bench.pass_seconds(LONGEST_PAUSE_SECONDS + 30)
    assert second - first == pytest.approx(FIRST_PAUSE_SECONDS, abs=1)
    assert [status.state for status in bench.told] == ["online", "dark"]


def test_unplug_is_told_once_and_replug_is_seen_at_once(bench: Bench) -> None:
    """L1-L13, L20."""
    bench.says = ("online", None)
    bench.pass_seconds(100)
    bench.path.unlink()
    assert bench.pass_seconds(1000) == [], "what is not there is not opened"
    assert bench.told[1:] == [CameraStatus("face", "lost", "camera.missing")]
    bench.path.touch()
    assert bench.pass_seconds(1)[0] < 0.5
    assert bench.told[2:] == [CameraStatus("face", "online")]


def test_unplugged_in_use_it_is_one_event(bench: Bench) -> None:
    feed = bench.camera.turn_on()
    bench.says = ("online", None)
    bench.pass_seconds(1)
    bench.path.unlink()
    bench.says = ("lost", "camera.lost")
    bench.pass_seconds(10)
    assert [status.code for status in bench.told] == [None, "camera.missing"]
    assert bench.camera.feed is None
    bench.path.touch()
    bench.says = ("online", None)
    bench.pass_seconds(1)
    assert bench.told[-1] == CameraStatus("face", "online")
    assert len(bench.feeds) == 2
    assert feed is not bench.feeds[1]


@pytest.mark.parametrize("code", ["camera.frozen", "camera.resolution_too_low", "camera.unusable"])
def test_a_camera_that_fails_is_tried_again_by_itself(bench: Bench, code: str) -> None:
    state: CameraState = "frozen" if code == "camera.frozen" else "lost"
    bench.says = (state, code)
    looks = bench.pass_seconds(100)
    assert 4 <= len(looks) <= 6
    assert bench.told == [CameraStatus("face", state, code)]
    bench.says = ("online", None)
    bench.pass_seconds(100)
    assert bench.told[1:] == [CameraStatus("face", "online")]


def test_a_look_becomes_a_use_and_stays_on(bench: Bench) -> None:
    bench.pass_seconds(1)
    feed = bench.camera.turn_on()
    assert feed is bench.feeds[0]
    assert feed is bench.camera.turn_on()
    bench.says = ("online", None)
    bench.pass_seconds(1000)
    assert bench.on
    assert len(bench.feeds) == 1
    bench.camera.close()
    assert bench.feeds[0].closed
    assert bench.pass_seconds(FIRST_PAUSE_SECONDS - 1) == [], "not lit again just after a session"
    assert len(bench.pass_seconds(2)) == 1


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_sessions_that_do_not_use_it_put_no_look_off(bench: Bench, seconds: float) -> None:
    """Each session's end turns every camera off: one that was plugged in again is looked at all the same (L20)."""
    bench.path.unlink()
    bench.pass_seconds(1)
    bench.path.touch()
    bench.pass_seconds(TICK_SECONDS)
    bench.camera.close()
    for _ in range(10):
        bench.pass_seconds(seconds)
        bench.says = ("online", None)
        bench.camera.close()
    assert bench.told[-1] == CameraStatus("face", "online")


def test_a_camera_that_was_never_on_can_be_closed(bench: Bench) -> None:
    bench.camera.close()
    assert bench.told == []


SAYINGS: list[Health] = [None, ("online", None), ("dark", None), ("covered", None), ("lost", "camera.lost")]


@given(
    st.lists(
        st.one_of(st.sampled_from(SAYINGS), st.sampled_from(["plug", "unplug", "use", "close"]), st.floats(0.1, 400)),
        max_size=25,
    )
)
@example(["use", ("online", None), "close", 9.0])
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_never_twice_the_same_and_never_lit_for_long(bench: Bench, steps: list[Health | str | float]) -> None:
    """Whatever happens: no repeat is told, at most one feed is on, and unused it is on only until it said something."""
    bench.begin()
    used = False
    for step in steps:
        if isinstance(step, float):
            bench.pass_seconds(step)
        elif step == "use":
            bench.camera.turn_on()
            used = True
        elif step == "close":
            bench.camera.close()
            used = False
        elif step in ("plug", "unplug"):
            bench.path.touch() if step == "plug" else bench.path.unlink(missing_ok=True)
        elif not isinstance(step, str):
            bench.says = step
        assert all(one != other for one, other in pairwise(bench.told))
        assert sum(not feed.stopped and feed.on for feed in bench.feeds) <= 1
        if not used and bench.says:
            lit = []
            for _ in range(3):  # a look may begin with any of them, and ends with the next
                bench.pass_seconds(TICK_SECONDS)
                lit.append(bench.on)
            assert not all(lit)
