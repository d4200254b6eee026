"""What the tests of card readers share: a rig in memory, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import Any

import pytest

from devices.cardreader.driver import Crt310
from devices.cardreader.protocol import Position
from devices.cardreader.reader import CardReaderDriver
from devices.config import CardReader
from devices.errors import DeviceError
from devices.status import DeviceState
from sim import virtual_time
from sim.devices.cardreader import VirtualCardReader
from sim.memory import MemoryLinks, MemoryPort
from sim.wire import Fault
from tests.devices.supervised import Supervised

SETTINGS = CardReader(port="cardreader", card_wait_seconds=60, take_seconds=30)
GATE = {Position.GATE_LOOSE, Position.GATE_HELD}


class Rig(Supervised):
    """A virtual reader, its wire, and the driver under a supervisor that restarts it after half a second."""

    def __init__(self, *, early: bool = False, **wire: Any) -> None:
        self.device = VirtualCardReader(early=early)
        self.port = MemoryPort(self.device, **wire)
        super().__init__()
        self.driver = self.reader = Crt310(SETTINGS, MemoryLinks({"cardreader": self.port}), self.note)

    async def until(self, happened: Callable[[], bool], seconds: float = 120) -> None:
        """Wait until something is so, looking every tenth of a virtual second."""
        async with asyncio.timeout(seconds):
            while not happened():
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        self.changed.clear()
                        await self.changed.wait()

    async def until_state(self, state: DeviceState) -> None:
        await self.until(lambda: self.reader.status.state is state)

    @property
    def at_gate(self) -> bool:
        return self.device.position in GATE

    def soon(self, seconds: float, work: Callable[..., object], **arguments: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, lambda: work(**arguments))

    async def refusal(self, wait_seconds: float = 5) -> DeviceError:
        """Return why no card is let in."""
        with pytest.raises(DeviceError) as caught:
            async with self.reader.card(wait_seconds=wait_seconds):
                pass
        return caught.value


@asynccontextmanager
async def rig_running(prepare: Callable[[Rig], object] = lambda _: None, **wire: Any) -> AsyncIterator[Rig]:
    rig = Rig(**wire)
    prepare(rig)
    task = asyncio.create_task(rig.supervise(), name="supervisor")
    try:
        async with asyncio.timeout(60):
            await rig.online.wait()
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def card_in(rig: Rig, **features: Any) -> AsyncIterator[CardReaderDriver[Any]]:
    """A block with a card that is inserted a second after the driver began to wait for it, or as soon as it goes in."""

    def insert() -> None:
        if rig.device.entry:
            rig.device.insert_card(**features)
        else:
            rig.soon(0.1, insert)

    rig.soon(1, insert)
    async with rig.reader.card():
        yield rig.reader


def on_virtual_time(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Turn a coroutine test into one that runs on virtual time."""

    @wraps(story)
    def test(**parameters: Any) -> None:
        virtual_time.run(story(**parameters))

    return test


def at_step(step: int, do: Callable[[], object]) -> Callable[[], int]:
    """Do something at the loop's `step`th turn from now: each turn is a moment between two awaits of some task.

    Returns what tells how many turns there were.
    """
    loop: Any = asyncio.get_running_loop()
    turn, turns = loop._run_once, 0

    def count() -> None:
        nonlocal turns
        turns += 1
        if turns == step:
            do()
        turn()

    loop._run_once = count
    return lambda: turns


def fault_at(rig: Rig, request: bytes, kind: Fault, *, nth: int = 0) -> Callable[[], bool]:
    """Let a reply that follows `request` suffer `kind`: the first (its ACK), or the `nth` after it.

    Returns what tells whether it happened.
    """
    heard, left = rig.device.feed, -1

    def feed(data: bytes) -> bytes:
        nonlocal left
        if left < 0 and request in data:
            left = nth
        elif left > 0:
            left -= 1
        if left == 0:
            rig.port.faults.add(kind)
            rig.device.feed = heard  # type: ignore[method-assign]
        return heard(data)

    rig.device.feed = feed  # type: ignore[method-assign]
    return lambda: left == 0
