"""The one state machine of supervised life (rule 4): back-off, healing, bugs, stop."""

import asyncio
import itertools
import random

import pytest
from structlog.testing import capture_logs

from devices.errors import DeviceError, WrongDevice
from devices.link import LinkLost
from runtime import supervisor
from runtime.supervisor import Supervisor, UnitState, UnknownUnit, error_code
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
    assert told == [("unit_broken", "idcard.offline"), ("unit_broken", "link.lost"), ("unit_healed", None)]
    assert [state for _, state, _ in watched.told[-2:]] == [UnitState.RUNNING, UnitState.STOPPED]


def test_reasons_that_take_turns_are_each_logged_once_in_an_outage():
    """L9: an outage of a day is not a day of lines."""
    errors = itertools.cycle([offline(), LinkLost("no port")])

    async def life(_ready):
        raise next(errors)

    with capture_logs() as lines:
        run(Watched(life).live(86_400))
    assert [(line["event"], line["code"]) for line in lines] == [
        ("unit_broken", "idcard.offline"),
        ("unit_broken", "link.lost"),
    ]


@pytest.mark.parametrize("served", [0.0, 1.0, 11.0])
def test_what_flaps_says_so_once_a_minute(served):
    """L9: what is told as broken is told as healed, and no more."""

    async def life(ready):
        ready()
        await asyncio.sleep(served)
        raise offline()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            keeper = Supervisor(random.Random(1), lambda *_: None)  # noqa: S311 - back-off only
            keeper.start(group, "unit", life)
            await asyncio.sleep(600)
            await keeper.stop()

    with capture_logs() as lines:
        run(main())
    events = [line["event"] for line in lines]
    assert 8 <= events.count("unit_broken") <= 11
    assert events[:4] == ["unit_broken", "unit_healed"] * 2


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


def test_a_unit_that_breaks_in_the_moment_of_its_stop_is_stopped():
    """Its TaskGroup then raises what broke it, and the cancellation only shows in the task's count."""

    async def main() -> None:
        breaking = asyncio.Event()

        async def part() -> None:
            await breaking.wait()
            raise offline()

        async def life(ready):
            ready()
            async with asyncio.TaskGroup() as group:
                group.create_task(part())

        watched = Watched(life)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            watched.supervisor.start(group, "unit", watched.life)
            await asyncio.sleep(1)
            breaking.set()
            with capture_logs() as lines:
                await watched.supervisor.stop()
            assert lines == []
        assert watched.told[-1][1] is UnitState.STOPPED

    run(main())


def test_a_unit_that_breaks_in_the_moment_of_a_cancellation_ends_also_when_nobody_stops_it():
    """The daemon's own group is ended by a bug elsewhere: no unit may keep it from ending."""

    async def main() -> None:
        breaking = asyncio.Event()

        async def part() -> None:
            await breaking.wait()
            raise offline()

        async def life(ready):
            ready()
            async with asyncio.TaskGroup() as group:
                group.create_task(part())

        async def bug() -> None:
            await asyncio.sleep(1)
            breaking.set()
            raise ValueError

        watched = Watched(life)

        async def daemon() -> None:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                watched.supervisor.start(group, "unit", watched.life)
                group.create_task(bug())

        with pytest.raises(ExceptionGroup) as raised:
            await daemon()
        assert [type(error) for error in raised.value.exceptions] == [ValueError]
        assert watched.told[-1] == (1.0, UnitState.STOPPED, None)

    run(main())


def test_a_life_that_cancels_itself_is_started_again_also_after_a_broken_group():
    """Such a group leaves a cancellation in the count of its task that nobody asked for (Python 3.11)."""
    lives = 0

    async def part() -> None:
        raise offline()

    async def life(ready):
        nonlocal lives
        lives += 1
        ready()
        if lives == 2:
            raise asyncio.CancelledError
        if lives > 2:
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(part())

    watched = Watched(life)
    run(watched.live(10))
    assert lives == 3
    assert [state for _, state, _ in watched.told[-2:]] == [UnitState.RUNNING, UnitState.STOPPED]


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


class Failing(Watched):
    """A unit that gives up; its lives serve for `good` seconds, or fail at once while that is None."""

    def __init__(self, good: float | None = None) -> None:
        super().__init__(self.live_once)
        self.good = good
        self.lives = 0
        self.error: Exception = offline()

    async def live_once(self, ready):
        self.lives += 1
        if self.good is not None:
            ready()
            await asyncio.sleep(self.good)
        raise self.error

    async def tell(self, story):
        async with asyncio.TaskGroup() as group:
            self.supervisor.start(group, "unit", self.life, gives_up=True)
            try:
                await story(asyncio.get_running_loop())
            finally:
                await self.supervisor.stop()

    @property
    def state(self) -> UnitState:
        return self.told[-1][1]

    def gave_up_at(self) -> float | None:
        return next((at for at, state, _ in self.told if state is UnitState.GAVE_UP), None)


@pytest.mark.parametrize("outage", [1, 30, 120, 300])
def test_an_outage_of_up_to_five_minutes_never_gives_up(outage):
    """L35: not on a short one, however often it was tried."""
    unit = Failing()

    async def story(_loop):
        await asyncio.sleep(outage)
        unit.good = 3600
        await asyncio.sleep(60)
        assert unit.state is UnitState.RUNNING

    run(unit.tell(story))
    assert unit.gave_up_at() is None


@pytest.mark.parametrize("seed", range(5))
def test_what_stays_away_gives_up_within_ten_minutes_and_says_so_once(seed):
    """L35: never "never"."""
    unit = Failing()
    unit.supervisor._jitter.seed(seed)

    async def story(_loop):
        await asyncio.sleep(4 * 3600)

    with capture_logs() as lines:
        run(unit.tell(story))
    at = unit.gave_up_at()
    assert at is not None
    assert 300 < at < 600
    assert [line["event"] for line in lines] == ["unit_broken", "unit_gave_up"]
    assert unit.lives <= supervisor.GIVE_UP_TRIES + 4 * 4


def test_what_was_given_up_heals_by_itself_in_time():
    """L13: no operator is needed, only patience."""
    unit = Failing()

    async def story(_loop):
        await asyncio.sleep(3600)
        assert unit.state is UnitState.GAVE_UP
        unit.good = 3600
        await asyncio.sleep(supervisor.PROBE_SECONDS + 1)
        assert unit.state is UnitState.RUNNING

    run(unit.tell(story))


@pytest.mark.parametrize(("good", "trips"), [(1.0, True), (10.5, True), (45.0, True), (90.0, False)])
def test_good_lives_that_break_every_minute_give_up_too(good, trips):
    unit = Failing(good=good)

    async def story(_loop):
        await asyncio.sleep(1200)

    run(unit.tell(story))
    assert (unit.gave_up_at() is not None) is trips


@pytest.mark.parametrize("how", ["retry", "plugged"])
def test_a_hand_or_a_replug_tries_at_once_with_the_first_pauses_again(how):
    unit = Failing()

    async def story(loop):
        await asyncio.sleep(3600)
        getattr(unit.supervisor, how)("unit")
        asked = loop.time()
        await asyncio.sleep(1)
        assert unit.state is not UnitState.GAVE_UP
        assert len([at for at, state, _ in unit.told if at >= asked and state is UnitState.STARTING]) >= 2
        unit.good = 3600
        getattr(unit.supervisor, how)("unit")
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert unit.state is UnitState.RUNNING

    run(unit.tell(story))


def test_a_replug_ends_a_long_pause_and_one_during_a_life_is_not_lost():
    """The event may come before the loss of the old link is noticed."""
    unit = Failing()

    async def story(loop):
        await asyncio.sleep(200)
        unit.good = 50
        lives = unit.lives
        unit.supervisor.plugged("unit")
        await asyncio.sleep(0.001)
        assert (unit.state, unit.lives) == (UnitState.RUNNING, lives + 1)
        unit.supervisor.plugged("unit")
        await asyncio.sleep(50)
        assert unit.pauses()[-1] == 0.0

    run(unit.tell(story))


def test_a_wrong_device_is_left_alone_until_a_hand():
    unit = Failing()
    unit.error = WrongDevice("idcard.wrong_device", "another", advice="x", retry=False)

    async def story(_loop):
        await asyncio.sleep(24 * 3600)
        assert (unit.state, unit.lives) == (UnitState.GAVE_UP, 1)
        unit.supervisor.retry("unit")
        await asyncio.sleep(3600)
        assert (unit.state, unit.lives) == (UnitState.GAVE_UP, 2)

    run(unit.tell(story))


def test_an_unknown_unit_is_refused():
    async def main() -> None:
        keeper = Supervisor(random.Random(1), lambda *_: None)  # noqa: S311 - back-off only
        keeper.plugged("nothing")
        with pytest.raises(UnknownUnit) as refused:
            keeper.retry("nothing")
        assert refused.value.code == "unit.unknown"

    run(main())
