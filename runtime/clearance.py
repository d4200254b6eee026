"""Nothing of one citizen is left at the devices for the next: waited for, and taken in after a time (rule 1).

A driver that can tell answers as a Place; what each can know stands in docs/devices. While the power goes, a citizen's
own card is left at the gate where it was handed back (T5); only paper is still taken in.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol, runtime_checkable

import msgspec
import structlog

from devices.errors import DeviceError
from runtime import texts
from runtime.audit import Audit
from runtime.device_texts import Text
from runtime.supervisor import error_code

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.3
"""Between two looks: a hand is no faster."""
SILENT_SECONDS = 2.0
"""A device that cannot tell is asked again for so long: a card does not go away while a plug is loose.

Shorter than a new session waits for the devices, so that a dead one turns nobody away.
"""
TAKE_BACK_SECONDS = 20.0
"""What a device may need to take something in; a card reader tries twice."""


@runtime_checkable
class Place(Protocol):
    """A device at which something of a citizen can be left."""

    async def is_clear(self) -> bool:
        """Tell whether nothing of a citizen is left there; raises DeviceError when it cannot tell."""

    async def take_back(self) -> None:
        """Take in what was left, where the device can, or leave it so that it serves nobody else.

        Raises DeviceError when that fails.
        """


class LeftBehind(msgspec.Struct, frozen=True):
    """Notification `session.left_behind`: something lies at a device and has to be taken before the next session."""

    session: str
    device: str
    code: str
    text: str


OWN = frozenset({"cardreader", "idcard"})
"""Devices at which what lies is the citizen's own."""

Tell = Callable[[str, msgspec.Struct], None]
"""Tells the UI a notification."""


def places(drivers: Mapping[str, Any]) -> dict[str, Place]:
    """Return the drivers that can tell, by kind."""
    return {kind: driver for kind, driver in drivers.items() if isinstance(driver, Place)}


@dataclass(slots=True)
class Clearance:
    """Sees that the devices are clear after each session; `left` are those that are not, or have not said so yet.

    `passed_over` are those at which the last run left a citizen's own thing, because the power goes.
    """

    places: Mapping[str, Place]
    audit: Audit
    clear_seconds: float
    left: set[str] = field(default_factory=set)
    passed_over: set[str] = field(default_factory=set)
    unhurried: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry_seconds: float | None = None
    _limits: dict[asyncio.Timeout, float] = field(default_factory=dict)

    @property
    def said(self) -> Text:
        """What is to be done where, in words."""
        said = [texts.text(f"{device}.left") for device in sorted(self.left)]
        return Text("".join(one.zh for one in said), " ".join(one.en for one in said))

    def hurry(self, seconds: float | None) -> None:
        """Give up waiting after so many seconds from now on, because the power goes; None: wait as long as ever."""
        self._hurry_seconds = seconds
        (self.unhurried.set if seconds is None else self.unhurried.clear)()
        until = inf if seconds is None else asyncio.get_running_loop().time() + seconds
        for limit, unhurried in self._limits.items():
            if not limit.expired():
                limit.reschedule(min(until, unhurried))

    def begin(self) -> None:
        """Take every device for not clear until it says so."""
        self.left.update(self.places)

    async def run(self, session: str, reference: str, tell: Tell) -> None:
        """Return when every device is clear, or took in what was left, or cannot be helped; each has its deadline."""
        self.passed_over.clear()
        async with asyncio.TaskGroup() as group:
            for device, place in self.places.items():
                group.create_task(self._clear(device, place, session, reference, tell), name=f"clear-{device}")

    async def _clear(self, device: str, place: Place, session: str, reference: str, tell: Tell) -> None:
        is_told = False
        outcome, code = "taken_in", None
        now = asyncio.get_running_loop().time()
        until = now + self.clear_seconds
        limit = asyncio.timeout_at(until if self._hurry_seconds is None else min(now + self._hurry_seconds, until))
        try:
            async with limit, self._limited(limit, until):
                while not await _is_clear(place):
                    if not is_told:
                        is_told = True
                        what = f"{device}.left"
                        tell("session.left_behind", LeftBehind(session, device, what, texts.text(what).zh))
                    await asyncio.sleep(LOOK_SECONDS)
            outcome = "taken"
        except TimeoutError:
            outcome, code = ("left", None) if self._leaves(device) else await _take_back(place)
        except Exception as error:  # noqa: BLE001 - a driver of another distribution must not end the daemon
            if not self._leaves(device):
                await _take_back(place)
            outcome, code = "unknown", error_code(error)
        finally:
            self.left.discard(device)
        if is_told or outcome != "taken":
            about = {"session": reference, "device": device, "outcome": outcome, "code": code}
            log.info("left_behind", device=device, outcome=outcome, code=code)
            await self.audit.note("left_behind", actor="daemon", details=about)

    @asynccontextmanager
    async def _limited(self, limit: asyncio.Timeout, unhurried: float) -> AsyncIterator[None]:
        """Have `hurry` reach this wait, which ends at `unhurried` without it."""
        self._limits[limit] = unhurried
        try:
            yield
        finally:
            del self._limits[limit]

    def _leaves(self, device: str) -> bool:
        """Whether what lies there is left, because it is the citizen's own and the power goes (T5)."""
        if self._hurry_seconds is None or device not in OWN:
            return False
        self.passed_over.add(device)
        return True


async def _is_clear(place: Place) -> bool:
    """Return whether nothing is left there; one that cannot tell is asked again for SILENT_SECONDS, then raise."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SILENT_SECONDS
    while True:
        try:
            return await place.is_clear()
        except DeviceError:
            if loop.time() >= until:
                raise
        await asyncio.sleep(LOOK_SECONDS)


async def _take_back(place: Place) -> tuple[str, str | None]:
    try:
        async with asyncio.timeout(TAKE_BACK_SECONDS):
            await place.take_back()
    except TimeoutError:
        return "unknown", "link.no_answer"
    except Exception as error:  # noqa: BLE001 - as above
        return "unknown", error_code(error)
    return "taken_in", None
