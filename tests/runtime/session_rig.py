"""Sessions on virtual time, and devices at which something is left."""

import asyncio

from runtime.clearance import Clearance
from runtime.sessions import Sessions
from sim.scripted import ScriptedVision
from sim.virtual_time import run
from tests.runtime.house import Noted


class Place:
    """A device at which something may be left, until it is taken; `stuck` is why it cannot be taken in."""

    def __init__(self, *, left: bool = False, stuck: Exception | None = None, unknown: Exception | None = None) -> None:
        self.left, self.stuck, self.unknown = left, stuck, unknown
        self.looks = self.taken_back = 0

    async def is_clear(self) -> bool:
        self.looks += 1
        await asyncio.sleep(0.1)
        if self.unknown is not None:
            raise self.unknown
        return not self.left

    async def take_back(self) -> None:
        self.taken_back += 1
        if self.stuck is not None:
            raise self.stuck
        self.left = False


def stage(story, *, idle=90.0, longest=1200.0, warn=20.0, verifier=None, audit=None, places=None):
    """Run a story with a Sessions on virtual time; return the states it told."""
    states = []
    audit = audit or Noted()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            keeper = Sessions(
                group,
                verifier or ScriptedVision(),
                audit,
                Clearance(places or {}, audit, clear_seconds=45.0),
                idle_seconds=idle,
                longest_seconds=longest,
                warn_seconds=warn,
                on_state=states.append,
            )
            await story(keeper)
            await keeper.stop()

    run(main())
    return states
