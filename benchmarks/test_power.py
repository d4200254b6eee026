"""The way down by step, in a house where all is well and in one where every step takes its whole budget (T14)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conftest import Figures, within
from runtime.power_settings import BUDGETS, HOST_SECONDS, Power, longest_way_seconds
from tests.runtime.house import Caller
from tests.runtime.power_rig import PowerHouse, tell

RESERVE_SECONDS = 60.0
UPS_SECONDS = 1_800.0


def test_the_way_down_by_step(figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(house: PowerHouse, ui: Caller) -> list[dict[str, Any]]:
        await house.verified(ui)
        house.ups.battery_low()
        house.ups.mains_off()
        await house.until(lambda: house.power.requests == 1, seconds=60)
        await asyncio.sleep(1)
        return [line["details"] for line in house.audited() if line["event"] == "power_step"]

    taken = {step["step"]: step["milliseconds"] / 1000 for step in tell(tmp_path, story, monkeypatch)}
    budgets = BUDGETS | dict.fromkeys(("alarms", "records"), Power().deliver_seconds)
    for step, seconds in taken.items():
        budget = budgets[step]
        figures.add(
            f"way down: {step}", f"{seconds:.2f} s", beside=f"budget {budget:g} s", verdict=within(seconds, budget)
        )
    total, longest = sum(taken.values()), longest_way_seconds(Power())
    figures.add(
        "way down, a citizen at the terminal",
        f"{total:.1f} s, and {HOST_SECONDS:g} s of the host",
        beside=f"everything slow {longest:g} s",
        verdict=f"reserve {RESERVE_SECONDS:g} s: {within(longest, RESERVE_SECONDS)}; UPS {UPS_SECONDS:g} s (T14)",
    )
    assert list(taken)[-1] == "off"
