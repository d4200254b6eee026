"""What is looked at again once it had the time to settle: neither devices nor routes come about in one moment."""

import asyncio
from collections.abc import Callable, Hashable
from contextlib import suppress


class Settling:
    """Looks at things when their time is over; `run` is one supervised life of its clock."""

    def __init__(self) -> None:
        self._due: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self._changed = asyncio.Event()

    def begin(self, thing: Hashable, seconds: float, look: Callable[[], None]) -> None:
        """Call `look` in `seconds`; what settles already keeps its time."""
        self._due.setdefault(thing, (asyncio.get_running_loop().time() + seconds, look))
        self._changed.set()

    def forget(self, thing: Hashable) -> None:
        """Do not look at it any more."""
        self._due.pop(thing, None)

    async def run(self, ready: Callable[[], None]) -> None:
        """Look at each thing that is due, until cancelled."""
        ready()
        while True:
            self._changed.clear()
            self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min((due for due, _ in self._due.values()), default=None)):
                    await self._changed.wait()

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for thing, (due, look) in list(self._due.items()):
            if now >= due:
                del self._due[thing]
                look()
