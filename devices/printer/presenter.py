"""The presenter: holds a receipt out to the citizen and takes back one that nobody took (GS e, protocols 3.6)."""

import asyncio
from contextlib import suppress
from typing import Literal

from devices.link import LinkLost
from devices.printer import protocol
from devices.printer.wire import Wire

LOOK_SECONDS = 0.5
_RETRACT_SECONDS = 5.0
_LEAVE_SECONDS = 1.0

Outlet = Literal["unknown", "empty", "presented", "taken", "retracted", "jammed"]
"""What became of the last receipt; `empty` when there was none since the start."""


class Presenter:
    """A presenter of the GS e family, over all lives of its printer; its caller holds the printer meanwhile."""

    def __init__(self, take_seconds: float) -> None:
        self.outlet: Outlet = "unknown"
        self._take_seconds = take_seconds
        self._since = 0.0

    @property
    def holds(self) -> bool:
        """Whether a receipt waits to be taken."""
        return self.outlet == "presented"

    @property
    def fault(self) -> str | None:
        """The code of what keeps the presenter from presenting."""
        return "printer.presenter_jam" if self.outlet == "jammed" else None

    def hold_out(self) -> None:
        """Note that a receipt is held out from now on."""
        self.outlet, self._since = "presented", asyncio.get_running_loop().time()

    async def look(self, wire: Wire) -> None:
        """See whether the receipt was taken, and take it back after its time; raise LinkLost.

        Taken is said only when it was seen twice: the answer is one byte without a checksum. A presenter that does
        not answer takes the receipt back all the same.
        """
        if await self._is_empty(wire):
            self.outlet = "taken"
        elif asyncio.get_running_loop().time() - self._since >= self._take_seconds:
            await self.retract(wire)

    async def retract(self, wire: Wire) -> None:
        """Take back what is at the outlet and see that it is gone; raise LinkLost."""
        self.outlet = "unknown"
        await wire.write(protocol.RETRACT)
        until = asyncio.get_running_loop().time() + _RETRACT_SECONDS
        while asyncio.get_running_loop().time() < until:
            if await self._is_empty(wire):
                self.outlet = "retracted"
                return
            if wire.presenter is not None and wire.presenter.jammed:
                break
            await asyncio.sleep(LOOK_SECONDS)
        self.outlet = "jammed" if wire.presenter is not None else "unknown"

    async def start(self, wire: Wire) -> None:
        """Find out how the outlet is when a life begins; raise LinkLost. What is there is nobody's any more."""
        if await self._is_empty(wire):
            self.outlet = "empty"
        else:
            await self.retract(wire)

    async def leave(self, wire: Wire) -> None:
        """End a life: nobody will look after a receipt that was not taken yet. Never raises."""
        if self.holds:
            self.outlet = "unknown"
            with suppress(LinkLost, TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await wire.write(protocol.RETRACT)

    @staticmethod
    async def _is_empty(wire: Wire) -> bool:
        for _ in range(2):
            seen = await wire.ask_presenter()
            if seen is None or seen.at_outlet or seen.moving or seen.jammed:
                return False
        return True
