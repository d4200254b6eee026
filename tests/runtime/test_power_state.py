"""What the UPS's readings mean (T14): thresholds, jitter, bouncing mains, a battery test, and not knowing (L10)."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.ups.status import STALE, Source, UpsStatus
from runtime.power_settings import BUDGETS, HOST_SECONDS, Power, longest_way_seconds
from runtime.power_state import PowerMachine, PowerState

SETTINGS = Power(reserve_seconds=600, stop_seconds=120, longest_on_battery_seconds=1500, mains_back_seconds=10)
MAINS = UpsStatus(source=Source.ON_LINE, battery_low=False, runtime_seconds=1800, age_seconds=0.0)
WORSE = [PowerState.ON_MAINS, PowerState.ON_BATTERY, PowerState.LOW, PowerState.GOING_DOWN]


def battery(runtime: float | None = 1800, *, low: bool = False, **more: object) -> UpsStatus:
    return replace(MAINS, source=Source.ON_BATTERY, runtime_seconds=runtime, battery_low=low, **more)


def through(machine: PowerMachine, *readings: UpsStatus, step: float = 5.0, at: float = 0.0) -> list[PowerState]:
    return [machine.look(one, at + number * step) for number, one in enumerate(readings)]


@pytest.mark.parametrize(
    ("reading", "state"),
    [
        (battery(600), PowerState.ON_BATTERY),
        (battery(599.9), PowerState.LOW),
        (battery(120), PowerState.LOW),
        (battery(119.9), PowerState.GOING_DOWN),
        (battery(1800, low=True), PowerState.GOING_DOWN),
        (battery(None), PowerState.ON_BATTERY),
        (battery(None, low=True), PowerState.GOING_DOWN),
        (battery(0, low=True, testing=True), PowerState.ON_MAINS),
        (replace(MAINS, runtime_seconds=0, battery_low=True), PowerState.ON_MAINS),
        (replace(battery(0, low=True), source=Source.UNKNOWN), PowerState.UNKNOWN),
        (STALE, PowerState.UNKNOWN),
    ],
)
def test_what_a_reading_means_that_stays(reading, state):
    assert through(PowerMachine(SETTINGS), MAINS, reading, reading)[-1] is state


def test_a_runtime_counts_when_two_readings_say_it():
    """L11: neither a jump of the figure, nor the same reading looked at twice, is an event; the flag counts at once."""
    machine = PowerMachine(SETTINGS)
    states = through(machine, MAINS, battery(), battery(5), battery(), battery(5))
    assert set(states[1:]) == {PowerState.ON_BATTERY}
    assert machine.look(replace(battery(5), age_seconds=1.0), 21.0) is PowerState.ON_BATTERY
    assert machine.look(battery(5), 25.0) is PowerState.GOING_DOWN
    assert through(PowerMachine(SETTINGS), MAINS, battery(low=True))[-1] is PowerState.GOING_DOWN


def test_a_ups_that_tells_no_runtime_is_not_trusted_for_ever():
    machine = PowerMachine(SETTINGS)
    machine.look(battery(None), 0)
    assert machine.look(battery(None), 1019) is PowerState.ON_BATTERY
    assert machine.look(battery(None), 1020) is PowerState.LOW, "as long before as between the reserve and the stop"
    assert machine.look(battery(None), 1499) is PowerState.LOW
    assert machine.look(battery(None), 1500) is PowerState.GOING_DOWN


def test_after_a_silence_the_time_on_battery_counts_anew():
    """L10: nobody knows whether the mains were back meanwhile; a way down that was begun is not concerned."""
    machine = PowerMachine(SETTINGS)
    machine.look(battery(None), 0)
    machine.look(STALE, 10)
    assert machine.look(battery(None), 5000) is PowerState.ON_BATTERY


def test_one_reading_of_the_mains_and_then_silence_is_not_back():
    """L10: what counts is when the UPS said so, not for how long somebody has looked at it."""
    machine = PowerMachine(SETTINGS)
    through(machine, battery(300), battery(300), at=0)
    assert machine.look(MAINS, 10) is PowerState.LOW
    assert machine.look(replace(MAINS, age_seconds=14.0), 24) is PowerState.LOW
    assert machine.look(MAINS, 25) is PowerState.ON_MAINS


@pytest.mark.parametrize("runtime", [1800, 300])
def test_a_battery_test_that_begins_on_battery_is_no_mains(runtime):
    machine = PowerMachine(SETTINGS)
    states = through(machine, *[battery(runtime)] * 2, *[battery(runtime, testing=True)] * 9)
    assert states[-1] is states[1]
    assert not machine.is_returning
    assert machine.look(battery(0, low=True, testing=True), 100) is PowerState.GOING_DOWN


def test_the_mains_are_back_when_they_stay():
    machine = PowerMachine(SETTINGS)
    through(machine, MAINS, battery(low=True))
    assert machine.look(MAINS, 10) is PowerState.GOING_DOWN
    assert machine.is_returning
    assert machine.look(MAINS, 19) is PowerState.GOING_DOWN
    assert machine.look(battery(low=True), 19.5) is PowerState.GOING_DOWN
    assert not machine.is_returning
    assert machine.look(MAINS, 20) is PowerState.GOING_DOWN
    assert machine.look(MAINS, 30) is PowerState.ON_MAINS
    assert through(machine, battery(), at=2000) == [PowerState.ON_BATTERY], "the time on battery counts anew"


def test_a_stale_ups_is_unknown_and_takes_no_decision_back():
    """L10: what was low is unknown then; a way down that was begun on a good reading goes on."""
    machine = PowerMachine(SETTINGS)
    assert through(machine, battery(300), battery(300), STALE)[1:] == [PowerState.LOW, PowerState.UNKNOWN]
    machine = PowerMachine(SETTINGS)
    assert through(machine, battery(low=True), STALE) == [PowerState.GOING_DOWN, PowerState.GOING_DOWN]
    assert through(machine, MAINS, MAINS, MAINS, at=20)[-1] is PowerState.ON_MAINS


def test_nothing_leads_back_over_the_point_of_no_return():
    machine = PowerMachine(SETTINGS)
    through(machine, battery(low=True))
    machine.pass_no_return()
    assert set(through(machine, MAINS, MAINS, MAINS, STALE, at=100, step=60)) == {PowerState.NO_RETURN}
    assert not machine.is_returning


READINGS = st.builds(
    UpsStatus,
    source=st.sampled_from(Source),
    battery_low=st.sampled_from([None, False, True]),
    runtime_seconds=st.none() | st.floats(-10, 4000),
    testing=st.sampled_from([None, False, True]),
    age_seconds=st.floats(0, 5),
) | st.just(STALE)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(READINGS, st.floats(0.1, 30)), max_size=60))
def test_whatever_a_ups_says(told):
    """The board goes down on battery only, never for want of knowledge, and comes back only by mains that stayed."""
    machine, now, mains_since = PowerMachine(SETTINGS), 0.0, None
    failed = WORSE[1:]
    before = machine.state
    for reading, seconds in told:
        now += seconds
        known = reading.code is None and reading.source is not Source.UNKNOWN
        mains = known and (reading.source is Source.ON_LINE or (bool(reading.testing) and before not in failed))
        at = now - (reading.age_seconds or 0.0)
        mains_since = (at if mains_since is None else mains_since) if mains else None
        state = machine.look(reading, now)
        if state is PowerState.GOING_DOWN and before is not state:
            assert known
            assert not mains
        if not known:
            assert state is PowerState.UNKNOWN or state is before is PowerState.GOING_DOWN
        elif mains and state is not PowerState.ON_MAINS:
            assert state is before
            assert at - mains_since < SETTINGS.mains_back_seconds
        elif not mains and before in WORSE:
            assert WORSE.index(state) >= WORSE.index(before)
        before = state


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(600, 4000), min_size=1, max_size=20), st.data())
def test_figures_that_jitter_for_one_reading_are_no_event(runtimes, data):
    machine = PowerMachine(SETTINGS)
    machine.look(MAINS, 0)
    for number, runtime in enumerate(runtimes):
        jump = data.draw(st.floats(0, 600))
        for part, said in enumerate((runtime, jump)):
            assert machine.look(battery(said), 10.0 * number + 5 * part + 1) is PowerState.ON_BATTERY


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.1, 9.9), min_size=2, max_size=30))
def test_mains_that_bounce_end_nothing(gaps):
    """Each return is shorter than it must be, so the state that was reached stands."""
    machine, now = PowerMachine(SETTINGS), 0.0
    machine.look(battery(300), -10)
    machine.look(battery(300), -5)
    for gap in gaps:
        machine.look(MAINS, now)
        assert machine.look(MAINS, now + gap) is PowerState.LOW
        now += gap + 1
        assert machine.look(battery(300), now) is PowerState.LOW
        now += 1


def test_the_budgets_fit_into_a_reserve_of_a_minute():
    """T14: everything slow, the board is off 60 s after the decision; a configuration that cannot is refused."""
    assert longest_way_seconds(Power()) <= 60
    assert sum(BUDGETS.values()) + Power().deliver_seconds + HOST_SECONDS == longest_way_seconds(Power())
    Power(reserve_seconds=60, stop_seconds=60)
    with pytest.raises(ValueError, match="at least 65"):
        Power(stop_seconds=60, deliver_seconds=10)
    with pytest.raises(ValueError, match="reserve_seconds"):
        Power(reserve_seconds=100, stop_seconds=120)
