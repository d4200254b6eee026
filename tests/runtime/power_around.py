"""What the way down works with, all of it recorded: a place for sessions, a journal, a UPS and a host (T14)."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from devices.ups.status import Source, UpsStatus
from runtime.power_plan import Means
from runtime.power_settings import Power

MAINS = UpsStatus(source=Source.ON_LINE, battery_low=False, age_seconds=0.0)
POWER = Power()


class Around:
    """Everything the plan works with, at once unless `slow` or `broken` names the step; `done` says what was done."""

    def __init__(self) -> None:
        self.slow: set[str] = set()
        self.broken: dict[str, Exception] = {}
        self.done: list[str] = []
        self.begun: list[str] = []
        self.refused: set[str] = set()
        self.limits: list[float | None] = []
        self.hurried: list[float | None] = []
        self.is_open = True
        self.now = MAINS
        self.ups: Any = self
        self.on_status: Callable[[], None] = lambda: None
        self.failed: dict[str, str] = {}
        self.on_begin: Callable[[str], None] = lambda _: None

    async def work(self, step: str) -> None:
        self.begun.append(step)
        self.on_begin(step)
        if step in self.broken:
            raise self.broken[step]
        if step in self.slow:
            await asyncio.Event().wait()
        self.done.append(step)

    # Hall

    def refuse(self, code: str) -> None:
        self.refused.add(code)

    def admit(self, code: str) -> None:
        self.refused.discard(code)

    def limit(self, seconds: float | None) -> None:
        self.limits.append(seconds)

    def hurry(self, seconds: float | None) -> None:
        self.hurried.append(seconds)

    def end(self, reason: str) -> None:
        assert reason == "power"
        self.is_open = False

    async def over(self) -> None:
        await self.work("session" if self.is_open else "end")

    async def clear(self) -> None:
        await self.work("cards")

    def wipe(self) -> None:
        self.done.append("session wiped")

    # Journal and alarms

    async def open_intents(self, kind: str) -> list[object]:
        assert kind == "print"
        await self.work("print")
        return []

    async def read(self, _work: Callable[..., int]) -> int:
        await self.work("settle")
        return 0

    async def waiting(self) -> dict[str, int]:
        await self.work("records")
        return {"supervision": 0}

    async def list(self) -> list[object]:
        await self.work("alarms")
        return []

    async def checkpoint(self) -> None:
        await self.work("checkpoint")

    async def append(self, message: object) -> int:
        return 1

    # UPS and host

    def reading(self) -> UpsStatus:
        return self.now

    def ask_now(self) -> None:
        self.on_begin("look")

    async def shutdown_return(self, delay_seconds: float) -> None:
        assert delay_seconds == POWER.cut_seconds
        await self.work("ups")

    async def power_off(self) -> None:
        await self.work("off")

    def means(self) -> Means:
        return Means(self, self, lambda: True, functools.partial(self.work, "wipe"), self, self.ups)  # type: ignore[arg-type]


async def holds(condition: Callable[[], bool], *, seconds: float = 600.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)
