"""A citizen's hands and ears: what they do at the rig, as soon as it can be done, and what the terminal tells them.

Nobody hesitates, so that no step waits for a person longer than the hand needs to notice.
"""

import asyncio
from contextlib import suppress
from typing import Any

from runtime.client import Notification, Terminal
from sim.control import ControlError, ask
from sim.platform.bank import PIN
from sim.settings import RigFiles

FACES = ("grace_hopper", "eileen_collins")
NOTICE_SECONDS = 0.02
"""How soon a hand notices that something can be done."""
STAR_SECONDS = 0.15
"""A digit that is not shown by then was pressed before the PIN pad listened, and all are entered again."""
_PATIENCE_SECONDS = 20.0


class Hand:
    """What a citizen does at the devices of a rig, and has the platform do."""

    def __init__(self, files: RigFiles) -> None:
        self._files = files

    async def do(self, device: str, verb: str, **args: Any) -> Any:
        """Do a verb of the rig; raise ControlError when it cannot be done."""
        return await ask(self._files.control, device, verb, args)

    async def order(self, verb: str, **args: Any) -> Any:
        """Have the platform do something; raise ControlError when it cannot."""
        return await ask(self._files.platform_control, "platform", verb, args)

    async def soon(self, device: str, verb: str, **args: Any) -> None:
        """Do a verb as soon as it can be done; raise TimeoutError when it never can."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                with suppress(ControlError):
                    await self.do(device, verb, **args)
                    return
                await asyncio.sleep(NOTICE_SECONDS)

    async def enter_pin(self, ears: "Ears") -> None:
        """Enter the PIN as soon as the pad takes it; raise TimeoutError when it never does."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                await self.do("pinpad", "clear")
                await self.do("pinpad", "press", digits=PIN)
                with suppress(TimeoutError):
                    await ears.hear("payment.key", seconds=STAR_SECONDS)
                    break
        await self.do("pinpad", "enter")


class Ears:
    """What the terminal tells its UI unasked."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._told: asyncio.Queue[Notification] = asyncio.Queue()

    async def listen(self) -> None:
        """Listen until the connection ends; run it as a task."""
        async for told in self._terminal.notifications():
            self._told.put_nowait(told)

    def forget(self) -> None:
        """Forget what was said so far."""
        while not self._told.empty():
            self._told.get_nowait()

    async def hear(self, method: str, code: str | None = None, *, seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait for a notification, of a code where one is given; raise TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                told = await self._told.get()
                if told.method == method and code in (None, told.params.get("code")):
                    return
