"""Who may send next: the most urgent first, at most so many at once."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum


class Urgency(IntEnum):
    """What goes before what on the line; an alarm goes before everything (T23)."""

    KEYS = 0
    ALARM = 1
    CALL = 2
    RECORD = 3
    TELEMETRY = 4
    PART = 5


class Gate:
    """Lets `room` holders through at once; of those who wait the most urgent, and among equals the first."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._asked = 0
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, urgency: Urgency) -> AsyncIterator[None]:
        """Hold one of the places while the context lasts."""
        if self._room:
            self._room -= 1
        else:
            await self._wait(urgency)
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, urgency: Urgency) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked += 1
        heapq.heappush(self._waiting, (urgency, self._asked, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            place = heapq.heappop(self._waiting)[2]
            if not place.done():
                place.set_result(None)
                return
        self._room += 1
