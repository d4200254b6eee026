"""A driver of a device that is watched: it is asked all the time, and what it said last grows old (L10, L11)."""

import asyncio
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from devices.driver import HEALTH_SECONDS, Driver, F
from devices.errors import DeviceError
from devices.link import OpenLink
from devices.status import DeviceStatus, StatusListener


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a watched device said at once, and how long ago; what it did not say is None.

    When there is no answer young enough, `code` is `kind.stale`, the age is None, and so is everything else.
    """

    age_seconds: float | None = None
    code: str | None = None


R = TypeVar("R", bound=Reading)


class Sensor(Driver[F], Generic[F, R]):
    """A supervised device that is asked every `poll_seconds`, or every HEALTH_SECONDS while it may be asked seldom.

    It may be asked seldom when nobody is served (`watch`) and its last answer was calm; the first that is not has it
    asked every `poll_seconds` again. One bad answer is not an event: the reading before it stands, in this life of the
    link or the next, until it is `stale_seconds` old, and older by what the next poll was put off. A subclass gives
    `_open`, which ends in `_check_first`, and `_read`, `_describe`.
    """

    unknown: R
    """The reading when nothing is known, with its code."""

    def __init__(
        self,
        port: str,
        baud: int,
        open_link: OpenLink,
        on_status: StatusListener,
        *,
        poll_seconds: float,
        stale_seconds: float,
    ) -> None:
        super().__init__(port, baud, open_link, on_status)
        self._poll_seconds = self.health_seconds = poll_seconds
        self._stale_seconds = stale_seconds
        self._is_watched = True
        self._last: tuple[R, float, float] | None = None
        """What it said, when, and from when on that is stale."""

    @abstractmethod
    async def _read(self) -> R:
        """Ask the device for everything; raise DeviceError when an answer is not a good one."""

    @abstractmethod
    def _describe(self, reading: R) -> DeviceStatus:
        """Return the device's status after a good answer: no detail that changes with every answer."""

    def watch(self, *, closely: bool) -> None:
        """Say whether it matters now how the device is: closely, it is asked at once and every `poll_seconds`."""
        if closely and not self._is_watched:
            self.health_seconds = self._poll_seconds
            self._check_now.set()
        self._is_watched = closely

    def ask_now(self) -> None:
        """Have the device asked at once."""
        self._check_now.set()

    def reading(self) -> R:
        """Return the last good answer with its age, or the unknown one when there is none that is young enough."""
        if self._last is None:
            return self.unknown
        reading, at, stale_at = self._last
        now = asyncio.get_running_loop().time()
        return replace(reading, age_seconds=now - at) if now < stale_at else self.unknown

    def _is_calm(self, status: DeviceStatus) -> bool:
        """Whether nothing is amiss with a device that says this."""
        return status.code is None

    async def _check_first(self) -> DeviceStatus:
        """Read the device that was just opened."""
        reading = await self._read()
        status = self._describe(reading)
        seldom = not self._is_watched and self._is_calm(status)
        self.health_seconds = max(self._poll_seconds, HEALTH_SECONDS) if seldom else self._poll_seconds
        at = asyncio.get_running_loop().time()
        self._last = (reading, at, at + self._stale_seconds + self.health_seconds - self._poll_seconds)
        return status

    async def _check(self) -> DeviceStatus:
        """Read the device; a failure that may pass is one only when the last good answer has grown stale."""
        try:
            return await self._check_first()
        except DeviceError as error:
            self.health_seconds = self._poll_seconds
            if error.retry and self.reading().code is None:
                return self.status
            raise (self.stale(error) if error.retry else error) from None

    def stale(self, reason: DeviceError) -> DeviceError:
        """Return the error of a device that has given no good answer for too long."""
        return self.error("stale", f"no good answer for too long: {reason}", advice=reason.advice, retry=True)
