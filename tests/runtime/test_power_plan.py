"""The way down by itself (T14, T5): budgets, failures, the mains back at each step, a board that does not go off."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from devices.errors import DeviceError
from devices.ups.status import STALE, Source
from runtime.logind import PowerError
from runtime.power import PowerKeeper
from runtime.power_plan import AGAIN_SECONDS, LOOK_SECONDS, TOO_SLOW, Done, Plan
from runtime.power_settings import BUDGETS, HOST_SECONDS, LAST_SECONDS
from runtime.services.steps import Origin
from runtime.state import StateBoard
from sim.virtual_time import run
from tests.runtime.house import Noted
from tests.runtime.power_around import MAINS, POWER, Around, holds

EMPTY = replace(MAINS, source=Source.ON_BATTERY, battery_low=True)
BEFORE = ["session", "end", "cards", "print", "settle", "tell", "alarms", "records", "checkpoint", "look"]
AFTER = ["wipe", "ups", "results", "off"]


async def went(around: Around, *, until: Callable[[], bool]) -> list[Done]:
    """Run the plan alone until something holds, and return how its steps went."""
    told: list[Done] = []

    async def sure() -> None:
        return None

    flushes = iter(("tell", "results"))
    plan = Plan(
        POWER,
        around.means(),
        around,
        look=lambda: around.work("look"),
        until_sure=sure,
        on_no_return=lambda: around.done.append("no return"),
        on_done=told.append,
        flush=lambda: around.work(next(flushes)),
    )
    task = asyncio.create_task(plan.run())
    await holds(until)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return told


def test_the_order_of_the_steps():
    """T14: nothing that cannot be undone before the records are out; the UPS after the keys, the host last."""

    async def main() -> None:
        around = Around()
        told = await went(around, until=lambda: "off" in around.done)
        assert [one.step for one in told] == BEFORE + AFTER
        assert {one.code for one in told} == {None}
        assert around.done == [*BEFORE, "no return", "session wiped", *AFTER]
        assert around.refused == {"session.power"}
        assert around.limits == [LAST_SECONDS]

    run(main())


def test_every_step_takes_its_whole_budget_and_the_board_is_off_within_a_minute():
    """T14: a reserve of 60 s, with everything slow, and what the host needs for itself counted in."""

    async def main() -> None:
        around = Around()
        around.slow = {*BEFORE, "wipe", "ups", "results"}
        ordered: list[float] = []
        around.on_begin = lambda step: ordered.append(asyncio.get_running_loop().time()) if step == "off" else None
        told = await went(around, until=lambda: "off" in around.done)
        assert [one.step for one in told] == BEFORE + AFTER
        assert [one.code for one in told] == [None, *[TOO_SLOW] * 12, None]
        assert told[6].seconds == POWER.deliver_seconds
        assert told[7].seconds == 0, "alarms came first and took the whole budget of the delivery"
        assert ordered[0] + BUDGETS["off"] + HOST_SECONDS <= 60
        assert ordered[0] == pytest.approx(sum(BUDGETS.values()) - BUDGETS["off"] + POWER.deliver_seconds)

    run(main())


@pytest.mark.parametrize("step", [*BEFORE[1:], *AFTER[:3]])
@pytest.mark.parametrize("how", ["slow", "broken"])
def test_no_step_holds_up_the_next(step, how):
    async def main() -> None:
        around = Around()
        if how == "slow":
            around.slow = {step}
        else:
            around.broken[step] = DeviceError("x.broken", "no", advice="x", retry=False)
        told = await went(around, until=lambda: "off" in around.done)
        codes = {one.step: one.code for one in told if one.code is not None}
        unheard = {"records"} if step == "alarms" and how == "slow" else set()
        assert {name: code for name, code in codes.items() if name not in unheard} == {
            step: TOO_SLOW if how == "slow" else "x.broken"
        }
        assert set(BEFORE + AFTER) - {step} - unheard <= set(around.done)

    run(main())


async def kept(around: Around) -> tuple[PowerKeeper, asyncio.Task[None], Noted, list[str]]:
    """A keeper that knows the mains are there."""
    noted, given_up = Noted(), []
    board = StateBoard()
    keeper = PowerKeeper(
        POWER, [], around, audit=noted, origin=Origin("b", False, lambda: 0.0), board=board, means=around.means()
    )
    keeper.guard(around, lambda: given_up.append("given up"))
    task = asyncio.create_task(keeper.run(lambda: None))
    await asyncio.sleep(1)
    assert board.get("power").state == "on_mains"
    return keeper, task, noted, given_up


def story(tell: Callable[[Around, PowerKeeper, Noted, list[str]], Awaitable[None]]) -> None:
    async def main() -> None:
        around = Around()
        keeper, task, noted, given_up = await kept(around)
        await tell(around, keeper, noted, given_up)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("step", [one for one in BEFORE if one != "tell"])
def test_mains_that_come_back_before_the_point_of_no_return_cancel_everything(step, slow):
    """T14: at each step, also the last one, after which it is waited whether they stay; citizens are admitted again."""

    async def tell(around: Around, keeper: PowerKeeper, noted: Noted, _given_up: list[str]) -> None:
        def back(begun: str) -> None:
            if begun == step:
                around.now = MAINS

        around.on_begin = back
        around.slow = set(BEFORE) if slow else set()
        around.now = EMPTY
        keeper.heard()
        await asyncio.sleep(200)
        assert "off" not in around.begun
        assert not {"wipe", "ups"} & set(around.begun)
        assert around.refused == set()
        assert (around.limits[-1], around.hurried[-1]) == (None, None)
        assert "power_plan_cancelled" in [line for line, _, _ in noted.lines]
        assert noted.lines[-1][0] == "power_on_mains"

    story(tell)


@pytest.mark.parametrize("step", ["wipe", "ups", "off"])
def test_mains_that_come_back_later_change_nothing(step):
    """T14: the UPS was told, or is told now, to give power again with the mains."""

    async def tell(around: Around, keeper: PowerKeeper, noted: Noted, _given_up: list[str]) -> None:
        def back(begun: str) -> None:
            if begun == step:
                around.now = MAINS

        around.on_begin = back
        around.now = EMPTY
        keeper.heard()
        await asyncio.sleep(40)
        assert around.done[-3:] == ["wipe", "ups", "off"]
        assert "power_plan_cancelled" not in [line for line, _, _ in noted.lines]

    story(tell)


def test_a_ups_that_is_gone_during_the_plan_stops_nothing():
    """It was on battery and low when somebody could ask it; that it cannot be told to cut is told."""

    async def tell(around: Around, keeper: PowerKeeper, noted: Noted, _given_up: list[str]) -> None:
        around.broken["ups"] = DeviceError("ups.offline", "gone", advice="x", retry=True)
        around.on_begin = lambda begun: setattr(around, "now", STALE) if begun == "cards" else None
        around.now = EMPTY
        keeper.heard()
        await asyncio.sleep(40)
        assert "off" in around.done
        steps = {about["step"]: about.get("code") for line, _, about in noted.lines if line == "power_step"}
        assert steps["ups"] == "ups.offline"

    story(tell)


def test_a_stale_ups_powers_nothing_off():
    """L10."""

    async def tell(around: Around, keeper: PowerKeeper, _noted: Noted, _given_up: list[str]) -> None:
        around.now = STALE
        keeper.heard()
        await asyncio.sleep(10_000)
        assert around.begun == []

    story(tell)


def test_a_host_that_refuses_is_asked_again_and_the_daemon_ends_when_the_board_should_be_off():
    """Its keys are wiped: only a new start serves again, and finds the power as it is then."""

    async def tell(around: Around, keeper: PowerKeeper, noted: Noted, given_up: list[str]) -> None:
        around.broken["off"] = PowerError("power.refused", "no")
        around.now = EMPTY
        keeper.heard()
        await asyncio.sleep(POWER.cut_seconds - 1)
        assert given_up == []
        assert around.begun.count("off") == pytest.approx(POWER.cut_seconds / AGAIN_SECONDS, abs=1)
        steps = [about.get("code") for line, _, about in noted.lines if about.get("step") == "off"]
        assert set(steps) == {"power.refused"}
        await asyncio.sleep(10)
        assert given_up == ["given up"]

    story(tell)


def test_an_order_that_is_cut_short_by_the_stop_it_brings_is_no_failure():
    """The host stops the daemon before it has answered: nothing is refused, and nothing unavailable."""

    async def main() -> None:
        around = Around()
        keeper, task, noted, _ = await kept(around)
        around.slow = {"off"}
        around.now = EMPTY
        keeper.heard()
        await holds(lambda: "off" in around.begun)
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [about for line, _, about in noted.lines if about.get("step") == "off"] == []

    run(main())


def test_the_looks_are_seldom_enough():
    assert min(BUDGETS.values()) > LOOK_SECONDS
