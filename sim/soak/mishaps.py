"""Every kind of fault that the whole terminal suffers. Which, and for how long, comes from a seed."""

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sim.citizens.plan import Visit
from sim.settings import BAUD
from sim.soak.keeper import Keeper
from sim.soak.stage import UI_SILENCE_SECONDS, Stage
from sim.wire import Fault

_DAY_SECONDS = 86_400.0
_POWER_OFF_SECONDS = 150.0
_GARBAGE = (Fault.GARBAGE, Fault.HALF, Fault.CORRUPT, Fault.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Held:
    """A stage on which a fault is held for a random time, at most `longest_seconds`."""

    stage: Stage
    rng: random.Random
    longest_seconds: float

    async def hold(self, least: float, most: float) -> None:
        """Let the fault last."""
        await asyncio.sleep(min(self.rng.uniform(least, most), self.longest_seconds))


Deed = Callable[[Held], Awaitable[float]]
"""Brings a fault about, ends it, and returns the monotonic time from which the terminal has to recover by itself."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """A kind of fault. It is over when a citizen who came after it was served, for `visit` where one is named."""

    deed: Deed
    visit: Visit | None = None


async def _kill(held: Held, *, which: str) -> float:
    keeper: Keeper = getattr(held.stage, which)
    await keeper.running()
    began = time.monotonic()
    await keeper.send(signal.SIGKILL)
    return began


async def _kill_vision(held: Held) -> float:
    pid = await held.stage.vision_running()
    began = time.monotonic()
    _signal(pid, signal.SIGKILL)
    return began


async def _hang(held: Held, *, which: str) -> float:
    """Let a process of the terminal's surroundings stand still for a while."""
    keeper: Keeper = getattr(held.stage, which)
    await keeper.send(signal.SIGSTOP)
    await held.hold(1.0, 12.0)
    await keeper.send(signal.SIGCONT)
    return time.monotonic()


async def _hang_daemon(held: Held) -> float:
    """Let the daemon stand still until its watchdog finds out."""
    await held.stage.daemon.running()
    began = time.monotonic()
    await held.stage.daemon.send(signal.SIGSTOP)
    return began


async def _hang_vision(held: Held) -> float:
    """Let the vision process stand still until the daemon finds out."""
    pid = await held.stage.vision_running()
    began = time.monotonic()
    _signal(pid, signal.SIGSTOP)
    return began


async def _unplug(held: Held, *, device: str) -> float:
    await held.stage.do(device, "unplug")
    await held.hold(0.5, 8.0)
    await held.stage.do(device, "plug")
    return time.monotonic()


async def _garbage(held: Held, *, device: str) -> float:
    """Let the next answers of a device be damaged, in several ways, and mend what is left of that."""
    for _ in range(held.rng.randrange(2, 5)):
        await held.stage.do(device, "fault", kind=held.rng.choice(_GARBAGE), times=held.rng.randrange(1, 4))
    await held.hold(2.0, 10.0)
    await held.stage.do(device, "mend")
    return time.monotonic()


async def _bad_picture(held: Held, *, device: str) -> float:
    """Let a camera give black pictures, the same one for ever, or too few pixels."""
    verb = held.rng.choice(("cover", "freeze", "low_resolution"))
    await held.stage.do(device, verb)
    await held.hold(2.0, 10.0)
    await held.stage.do(device, verb, on=False)
    return time.monotonic()


async def _broker_outage(held: Held) -> float:
    broker = held.stage.broker
    broker.may_start.clear()
    try:
        await broker.send(signal.SIGTERM)
        await held.hold(3.0, 15.0)
    finally:
        broker.may_start.set()
    return time.monotonic()


async def _platform_outage(held: Held) -> float:
    await held.stage.order("outage")
    await held.hold(3.0, 15.0)
    await held.stage.order("outage", on=False)
    return time.monotonic()


async def _disk_full(held: Held) -> float:
    try:
        held.stage.disk.fill()
        await held.hold(4.0, 12.0)
    finally:
        held.stage.disk.free()
    return time.monotonic()


async def _clock_step(held: Held) -> float:
    """Set the terminal's clock wrong, by seconds or by years, and right again."""
    seconds = held.rng.choice((-1, 1)) * held.rng.choice((90.0, 5_400.0, 40 * _DAY_SECONDS, 3_000 * _DAY_SECONDS))
    held.stage.set_clock(seconds)
    try:
        await held.hold(3.0, 12.0)
    finally:
        held.stage.set_clock(0.0)
    return time.monotonic()


async def _memory(held: Held, *, which: str) -> float:
    """Let a process get hardly any more memory than it has (RLIMIT_AS), for a while."""
    pid = await _pid(held, which)
    headroom = held.rng.choice((0, 1, 4, 16)) << 20
    return await _limited(held, pid, resource.RLIMIT_AS, _address_space(pid) + headroom)


async def _descriptors(held: Held, *, which: str) -> float:
    """Let a process open hardly any more descriptors than it has (RLIMIT_NOFILE), for a while."""
    pid = await _pid(held, which)
    return await _limited(held, pid, resource.RLIMIT_NOFILE, descriptors(pid) + held.rng.randrange(3))


async def _limited(held: Held, pid: int, what: int, soft: int) -> float:
    with suppress(ProcessLookupError):
        before, hard = resource.prlimit(pid, what)
        resource.prlimit(pid, what, (soft, hard))
        await held.hold(4.0, 12.0)
        resource.prlimit(pid, what, (before, hard))
    return time.monotonic()


async def _client_closed(held: Held) -> float:
    return await _client(held, signal.SIGUSR1)


async def _client_killed(held: Held) -> float:
    return await _client(held, signal.SIGKILL)


async def _client_silent(held: Held) -> float:
    began = await _client(held, signal.SIGSTOP)
    await asyncio.sleep(UI_SILENCE_SECONDS + held.rng.uniform(1.0, 4.0))
    await held.stage.hall.send(signal.SIGCONT)
    return max(began, time.monotonic())


async def _client(held: Held, number: signal.Signals) -> float:
    """Do something to the UI while a citizen is served."""
    await held.stage.visitors.next_one()
    await held.hold(0.3, 3.0)
    began = time.monotonic()
    await held.stage.hall.send(number)
    return began


async def _mains(held: Held) -> float:
    """Let the mains fail and the battery run low; cut when the board orders its power off, and give power again."""
    stage = held.stage
    stage.logind.ordered.clear()
    await stage.do("ups", "mains_off")
    await stage.do("ups", "battery_low")
    try:
        async with asyncio.timeout(_POWER_OFF_SECONDS):
            await stage.logind.ordered.wait()
    except TimeoutError:
        stage.complaints.append(f"the mains failed, and no power off was ordered within {_POWER_OFF_SECONDS:g} s")
    stage.daemon.may_start.clear()
    try:
        await stage.daemon.send(signal.SIGKILL)
        await held.hold(0.5, 3.0)
        await stage.do("ups", "battery_low", low=False)
        await stage.do("ups", "mains_on")
    finally:
        began = time.monotonic()
        stage.daemon.may_start.set()
    return began


async def _pid(held: Held, which: str) -> int:
    if which == "vision":
        return await held.stage.vision_running()
    return (await held.stage.daemon.running()).pid


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open; raise OSError when that cannot be read."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - the names alone


def _address_space(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


_WHOSE: dict[str, Visit] = {
    "printer": "certificate",
    "cardreader": "fee_by_card",
    "pinpad": "fee_by_card",
    "document": "fee_by_qr",
}
"""Who needs the device."""
_OUTSIDE = ("rig", "broker", "platform")
_CAMERAS = ("camera", "document")

MISHAPS: dict[str, Mishap] = {
    **{f"kill_{which}": Mishap(partial(_kill, which=which)) for which in ("daemon", *_OUTSIDE)},
    "kill_vision": Mishap(_kill_vision),
    **{f"hang_{which}": Mishap(partial(_hang, which=which)) for which in _OUTSIDE},
    "hang_daemon": Mishap(_hang_daemon),
    "hang_vision": Mishap(_hang_vision),
    **{f"unplug_{one}": Mishap(partial(_unplug, device=one), _WHOSE.get(one)) for one in (*BAUD, *_CAMERAS)},
    **{f"garbage_{one}": Mishap(partial(_garbage, device=one), _WHOSE.get(one)) for one in BAUD},
    **{f"bad_picture_{one}": Mishap(partial(_bad_picture, device=one), _WHOSE.get(one)) for one in _CAMERAS},
    "broker_outage": Mishap(_broker_outage),
    "platform_outage": Mishap(_platform_outage),
    "disk_full": Mishap(_disk_full),
    "clock_step": Mishap(_clock_step),
    **{f"memory_{which}": Mishap(partial(_memory, which=which)) for which in ("daemon", "vision")},
    **{f"descriptors_{which}": Mishap(partial(_descriptors, which=which)) for which in ("daemon", "vision")},
    "client_closed": Mishap(_client_closed),
    "client_killed": Mishap(_client_killed),
    "client_silent": Mishap(_client_silent),
    "mains_failure": Mishap(_mains),
}
"""Every kind."""


def schedule(rng: random.Random, kinds: list[str]) -> Iterator[str]:
    """Yield kinds of faults without end: first every kind once, then at random."""
    yield from rng.sample(kinds, len(kinds))
    while True:
        yield rng.choice(kinds)
