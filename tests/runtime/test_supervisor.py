"""The one state machine of supervised life (rule 4): back-off, healing, bugs, stop."""

import asyncio
import random

import pytest
from structlog.testing import capture_logs

from devices.errors import DeviceError
from devices.link import LinkLost
from runtime import supervisor
from runtime.supervisor import Supervisor, UnitState, error_code
from sim.virtual_time import run


class Watched:
    """A supervisor that supervises one scripted unit and notes what it is told, with the time."""

    def __init__(self, life, *, seed: int = 1) -> None:
        self.life = life
        self.told: list[tuple[float, UnitState, str | None]] = []
        self.supervisor = Supervisor(random.Random(seed), self.note)  # noqa: S311 - back-off only

    def note(self, name: str, state: UnitState, code: str | None) -> None:
        assert name == "unit"
        self.told.append((asyncio.get_running_loop().time(), state, code))

    async def live(self, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            self.supervisor.start(group, "unit", self.life)
            await asyncio.sleep(seconds)
            await self.supervisor.stop()

    def pauses(self) -> list[float]:
        pairs = zip(self.told, self.told[1:], strict=False)
        return [b[0] - a[0] for a, b in pairs if (a[1], b[1]) == (UnitState.BACKING_OFF, UnitState.STARTING)]


def offline() -> DeviceError:
    return DeviceError("idcard.offline", "gone", advice="check the cable", retry=True)


@pytest.mark.parametrize("seed", range(5))
def test_pauses_start_under_250_ms_double_to_30_s_and_vary_by_a_tenth(seed):
    async def life(_ready):
        raise offline()

    watched = Watched(life, seed=seed)
    run(watched.live(200))
    pauses = watched.pauses()
    assert pauses[0] <= 0.25
    for number, pause in enumerate(pauses):
        middle = min(0.2 * 2**number, 30.0)
        assert middle * 0.9 - 1e-6 <= pause <= min(middle * 1.1, 30.0) + 1e-6
    assert max(pauses) > 26
    assert len({round(pause / min(0.2 * 2**number, 30.0), 6) for number, pause in enumerate(pauses[:7])}) > 1


def test_a_good_run_makes_the_next_pause_the_first_again_and_a_short_one_does_not():
    served = iter([0.0, 0.0, 0.0, supervisor.GOOD_RUN_SECONDS, supervisor.GOOD_RUN_SECONDS - 0.5])

    async def life(ready):
        seconds = next(served, None)
        if seconds is None:
            await asyncio.Event().wait()
        if seconds:
            ready()
            await asyncio.sleep(seconds)
        raise offline()

    watched = Watched(life)
    run(watched.live(60))
    pauses = watched.pauses()
    assert pauses[2] > 0.7
    assert pauses[3] <= 0.25
    assert 0.35 < pauses[4] < 0.45


def test_one_log_line_when_it_breaks_and_one_when_it_heals():
    lives = iter([offline(), offline(), LinkLost("no port"), offline(), None])

    async def life(ready):
        error = next(lives)
        if error is not None:
            raise error
        ready()
        await asyncio.Event().wait()

    watched = Watched(life)
    with capture_logs() as lines:
        run(watched.live(10))
    told = [(line["event"], line.get("code")) for line in lines]
    assert told == [
        ("unit_broken", "idcard.offline"),
        ("unit_broken", "link.lost"),
        ("unit_broken", "idcard.offline"),
        ("unit_healed", None),
    ]
    assert [state for _, state, _ in watched.told[-2:]] == [UnitState.RUNNING, UnitState.STOPPED]


def test_a_bug_is_logged_by_type_without_its_words_and_supervision_goes_on():
    """T20: an exception's text could hold personal data."""
    lives = iter(
        [KeyError("张三丰"), ExceptionGroup("x", [ValueError("张三丰"), LinkLost()]), asyncio.CancelledError()]
    )

    async def life(ready):
        if (error := next(lives, None)) is not None:
            raise error
        ready()
        await asyncio.Event().wait()

    watched = Watched(life)
    with capture_logs() as lines:
        run(watched.live(10))
    assert [(line["event"], line.get("error")) for line in lines] == [
        ("unit_broken", "KeyError"),
        ("unit_healed", None),
    ]
    assert lines[0]["code"] == "internal"
    assert lines[0]["log_level"] == "error"
    assert "张三丰" not in str(lines)


def test_a_life_that_returns_is_started_again():
    lives = 0

    async def life(ready):
        nonlocal lives
        lives += 1
        ready()

    watched = Watched(life)
    run(watched.live(1))
    assert lives >= 3
    assert (UnitState.BACKING_OFF, "unit.ended") in {(state, code) for _, state, code in watched.told}


def test_units_stop_in_reverse_order_and_a_stuck_one_holds_up_the_rest_only_for_its_deadline():
    stopped: list[str] = []

    async def main() -> float:
        release = asyncio.Event()

        def life(name: str, *, stuck: bool = False):
            async def living(ready):
                ready()
                try:
                    await asyncio.Event().wait()
                finally:
                    if stuck:
                        await release.wait()
                    stopped.append(name)

            return living

        async with asyncio.TaskGroup() as group:
            keeper = Supervisor(random.Random(1), lambda *_: None)  # noqa: S311 - back-off only
            for name in ("first", "second"):
                keeper.start(group, name, life(name))
            keeper.start(group, "third", life("third", stuck=True))
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            with capture_logs() as lines:
                await keeper.stop()
            taken = asyncio.get_running_loop().time() - began
            assert [line["event"] for line in lines] == ["unit_stuck"]
            assert stopped == ["second", "first"]
            release.set()
        return taken

    assert run(main()) == pytest.approx(supervisor.STOP_SECONDS)
    assert stopped == ["second", "first", "third"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (offline(), "idcard.offline"),
        (LinkLost("EIO"), "link.lost"),
        (TimeoutError(), "link.no_answer"),
        (ValueError(), "internal"),
        (ExceptionGroup("x", [offline(), LinkLost()]), "idcard.offline"),
        (ExceptionGroup("x", [offline(), ValueError()]), "internal"),
    ],
)
def test_codes_of_errors(error, code):
    assert error_code(error) == code
