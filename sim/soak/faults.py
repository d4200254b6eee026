"""Every kind of fault that a soak brings about. Which, and for how long, comes from a seed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from sim.soak.proxy import Mode
from sim.soak.world import World

_YEAR_SECONDS = 365.25 * 86_400


@dataclass(frozen=True, slots=True)
class Held:
    """A world in which a fault is held for a random time, at most `longest_seconds`."""

    world: World
    rng: random.Random
    longest_seconds: float

    async def hold(self, least: float, most: float) -> None:
        """Let the fault last."""
        await asyncio.sleep(min(self.rng.uniform(least, most), self.longest_seconds))


async def _connection_reset(held: Held) -> float:
    held.world.proxy.reset()
    return time.monotonic()


async def _connection_cut(held: Held) -> float:
    held.world.proxy.cut()
    await held.hold(0.2, 0.5)
    return time.monotonic()


async def _connection_stall(held: Held) -> float:
    return await _mode(held, Mode.STALL)


async def _connection_black_hole(held: Held) -> float:
    return await _mode(held, Mode.SWALLOW)


async def _connection_refused(held: Held) -> float:
    return await _mode(held, Mode.REFUSE)


async def _mode(held: Held, mode: Mode) -> float:
    held.world.proxy.set_mode(mode)
    await held.hold(0.5, 5.0)
    held.world.proxy.set_mode(Mode.CARRY)
    return time.monotonic()


async def _broker_kill(held: Held) -> float:
    await held.world.broker.kill()
    await held.hold(0.0, 4.0)
    return await _started(held.world.broker.start)


async def _broker_hang(held: Held) -> float:
    held.world.broker.hang()
    await held.hold(0.5, 8.0)
    held.world.broker.go_on()
    return time.monotonic()


async def _platform_stop(held: Held) -> float:
    await held.world.platform.stop()
    await held.hold(0.0, 4.0)
    return await _started(held.world.platform.start)


async def _platform_kill(held: Held) -> float:
    await held.world.platform.kill()
    return await _started(held.world.platform.start)


async def _platform_outage(held: Held) -> float:
    return await _verb(held, "outage")


async def _receipts_lost(held: Held) -> float:
    return await _verb(held, "receiptless")


async def _answers_lost(held: Held) -> float:
    return await _verb(held, "silent")


async def _verb(held: Held, verb: str) -> float:
    await held.world.tell_platform(verb)
    await held.hold(0.5, 5.0)
    await held.world.tell_platform(verb, on=False)
    return time.monotonic()


async def _key_rotation(held: Held) -> float:
    await held.world.tell_platform("rotate_keys")
    return time.monotonic()


async def _key_revocation(held: Held) -> float:
    await held.world.tell_platform("revoke")
    await held.hold(0.5, 3.0)
    await held.world.tell_platform("reinstate")
    return time.monotonic()


async def _terminal_kill(held: Held) -> float:
    await held.world.terminal.kill()
    return await _started(held.world.terminal.start)


async def _terminal_hang(held: Held) -> float:
    held.world.terminal.hang()
    await held.hold(0.5, 4.0)
    held.world.terminal.go_on()
    return time.monotonic()


async def _disk_full(held: Held) -> float:
    """Fill the disk while nothing is receipted, so that what waits must find room: it may have arrived, or not."""
    if held.rng.random() < 0.5:
        held.world.proxy.set_mode(Mode.REFUSE)
    else:
        await held.world.tell_platform("receiptless")
    await held.hold(0.5, 2.0)
    try:
        held.world.disk.fill()
        await held.hold(0.5, 4.0)
        held.world.proxy.reset()
        held.world.proxy.set_mode(Mode.CARRY)
        await held.world.tell_platform("receiptless", on=False)
        await held.hold(0.5, 2.0)
    finally:
        held.world.disk.free()
    return time.monotonic()


async def _clock_jump(held: Held) -> float:
    """Set the terminal's clock wrong by years, and let it ask for keys with that."""
    years = held.rng.choice((-1, 1)) * held.rng.uniform(1, 30)
    held.world.set_clock(years * _YEAR_SECONDS)
    held.world.proxy.reset()
    await held.hold(1.0, 4.0)
    held.world.set_clock(0.0)
    return time.monotonic()


async def _started(start: Callable[[], Awaitable[None]]) -> float:
    """Start a process again and return when that began: its start is part of the recovery."""
    began = time.monotonic()
    await start()
    return began


KINDS: dict[str, Callable[[Held], Awaitable[float]]] = {
    "connection_reset": _connection_reset,
    "connection_cut": _connection_cut,
    "connection_stall": _connection_stall,
    "connection_black_hole": _connection_black_hole,
    "connection_refused": _connection_refused,
    "broker_kill": _broker_kill,
    "broker_hang": _broker_hang,
    "platform_stop": _platform_stop,
    "platform_kill": _platform_kill,
    "platform_outage": _platform_outage,
    "receipts_lost": _receipts_lost,
    "answers_lost": _answers_lost,
    "key_rotation": _key_rotation,
    "key_revocation": _key_revocation,
    "terminal_kill": _terminal_kill,
    "terminal_hang": _terminal_hang,
    "disk_full": _disk_full,
    "clock_jump": _clock_jump,
}
"""Every kind. Each brings its fault about, ends it, and returns the monotonic time of its end."""


def schedule(rng: random.Random) -> Iterator[str]:
    """Yield kinds of faults without end: first every kind once, then at random."""
    yield from rng.sample(list(KINDS), len(KINDS))
    while True:
        yield rng.choice(list(KINDS))
