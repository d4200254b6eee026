"""Outside a session devices are left in peace: idle pollers cost a board 12 CPU seconds a day (T14)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sim.memory import MemoryPort
from tests.runtime.house import Caller
from tests.runtime.power_rig import PowerHouse, tell

IDLE_SECONDS = 1_200.0
BETWEEN_SECONDS = 30.0
TOGETHER_SECONDS = 3.0
"""Questions that follow each other sooner belong to one look."""


class Looks:
    """Counts how often a port's device is looked after."""

    def __init__(self, port: MemoryPort) -> None:
        self.times: list[float] = []
        self._hear = port.hear
        self._last = -TOGETHER_SECONDS
        port.hear = self.hear  # type: ignore[method-assign]

    def hear(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if data and now - self._last > TOGETHER_SECONDS:
            self.times.append(now)
        self._last = now if data else self._last
        self._hear(data)


@pytest.mark.parametrize("after_a_session", [False, True])
def test_an_idle_device_is_asked_every_30_s_at_most(tmp_path: Path, monkeypatch: Any, *, after_a_session: bool) -> None:
    async def story(house: PowerHouse, ui: Caller) -> None:
        if after_a_session:
            session = await house.verified(ui)
            await ui.call("session.close", session=session)
        await asyncio.sleep(2 * BETWEEN_SECONDS)
        looks = {name: Looks(port) for name, port in house.links.ports.items()}
        assert len(looks) == 6
        await asyncio.sleep(IDLE_SECONDS)
        for name, one in looks.items():
            assert 1 <= len(one.times) <= IDLE_SECONDS / BETWEEN_SECONDS + 1, (name, one.times[:5])

    tell(tmp_path, story, monkeypatch)
