"""A driver of a device that is watched: it is asked all the time, and what it said last grows old (L10, L11)."""

import asyncio
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from devices.driver import Driver, F
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
    """A supervised device that is asked every `poll_seconds`, also when nobody is served.

    One bad answer is not an event: the reading before it stands, in this life of the link or the next, until it is
    `stale_seconds` old. A subclass gives `_open`, which ends in `_check_first`, and `_read`, `_describe`.
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
        self.health_seconds = poll_seconds
        self._stale_seconds = stale_seconds
        self._last: tuple[R, float] | None = None

    @abstractmethod
    async def _read(self) -> R:
        """Ask the device for everything; raise DeviceError when an answer is not a good one."""

    @abstractmethod
    def _describe(self, reading: R) -> DeviceStatus:
        """Return the device's status after a good answer: no detail that changes with every answer."""

    def reading(self) -> R:
        """Return the last good answer with its age, or the unknown one when there is none that is young enough."""
        if self._last is None:
            return self.unknown
        reading, at = self._last
        age = asyncio.get_running_loop().time() - at
        return replace(reading, age_seconds=age) if age < self._stale_seconds else self.unknown

    async def _check_first(self) -> DeviceStatus:
        """Read the device that was just opened."""
        reading = await self._read()
        self._last = (reading, asyncio.get_running_loop().time())
        return self._describe(reading)

    async def _check(self) -> DeviceStatus:
        """Read the device; a failure that may pass is one only when the last good answer has grown stale."""
        try:
            return await self._check_first()
        except DeviceError as error:
            if error.retry and self.reading().code is None:
                return self.status
            raise (self.stale(error) if error.retry else error) from None

    def stale(self, reason: DeviceError) -> DeviceError:
        """Return the error of a device that has given no good answer for too long."""
        return self.error("stale", f"no good answer for too long: {reason}", advice=reason.advice, retry=True)
