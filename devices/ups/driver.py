"""What every UPS driver has in common (T14): one status type, one estimate, three orders."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import ClassVar, Generic

from devices.config import Ups as UpsSettings
from devices.driver import F
from devices.link import OpenLink
from devices.sensor import Sensor
from devices.status import DeviceState, DeviceStatus, StatusListener
from devices.ups.status import STALE, Basis, Source, UpsFault, UpsStatus, estimate_charge

ORDER_SECONDS = 5.0
"""From an order to its acceptance or an error (T13)."""


class Ups(Sensor[F, UpsStatus], Generic[F]):
    """A supervised UPS.

    `run` is one life of its link; `reading` tells what is known at any time; the orders serve while it runs.
    """

    kind = "ups"
    unknown = STALE
    CAPABILITIES: ClassVar[Mapping[str, str | tuple[str, ...]]] = {
        "interface": "PowerManagement",
        "batteryStatus": ("operational", "low", "failure"),
        "orders": ("shutdown_return", "cancel_shutdown", "test"),
    }
    """In the words of XFS4IoT, which has none for the orders."""

    def __init__(self, port: str, settings: UpsSettings, open_link: OpenLink, on_status: StatusListener) -> None:
        super().__init__(
            port,
            settings.baud,
            open_link,
            on_status,
            poll_seconds=settings.poll_seconds,
            stale_seconds=settings.stale_seconds,
        )
        self._settings = settings
        self._identity: str | None = None
        self._rating: str | None = None

    async def shutdown_return(self, delay_seconds: float) -> None:
        """Tell the UPS to cut its output after `delay_seconds`, never earlier, and to give it again with the mains.

        Raises DeviceError: `ups.delay_unsupported`, `ups.unsupported`, `ups.refused`, `ups.access_denied`, and the
        codes of `ask`. After an error, or when the caller is cancelled, the UPS may have taken the order:
        `cancel_shutdown` takes it back.
        """
        async with self._order():
            await self._shut_down(delay_seconds)

    async def cancel_shutdown(self) -> None:
        """Take a shutdown back; nothing when there is none. Raises DeviceError as `shutdown_return`."""
        async with self._order():
            await self._cancel()

    async def test(self) -> None:
        """Start the short battery test; its course shows in `reading().testing`. Raises DeviceError likewise."""
        async with self._order():
            await self._test()

    @abstractmethod
    async def _shut_down(self, delay_seconds: float) -> None: ...

    @abstractmethod
    async def _cancel(self) -> None: ...

    @abstractmethod
    async def _test(self) -> None: ...

    @asynccontextmanager
    async def _order(self) -> AsyncIterator[None]:
        """Hold the UPS for one order; it is asked for its status at once behind it."""
        self.require_online()
        try:
            async with asyncio.timeout(ORDER_SECONDS), self._lock:
                yield
        except TimeoutError:
            raise self.error("no_answer", "the order took too long", advice="try again", retry=True) from None
        finally:
            self._check_now.set()

    def _with_estimate(self, status: UpsStatus) -> UpsStatus:
        """Fill in the runtime from the charge, and that from the battery's voltage, where the UPS gives none."""
        if status.runtime_seconds is not None:
            return replace(status, runtime_basis=Basis.UPS)
        charge, basis = status.charge, Basis.CHARGE
        if charge is None:
            charge, basis = estimate_charge(status.battery_volts, self._settings), Basis.VOLTAGE
        if charge is None:
            return status
        runtime = charge * self._settings.battery_minutes * 60
        return replace(status, charge=charge, runtime_seconds=runtime, runtime_basis=basis)

    def _is_calm(self, status: DeviceStatus) -> bool:
        """Whether the mains are there and nothing is amiss or under way."""
        busy = status.details.get("testing") or status.details.get("shutting_down")
        calm = status.details.get("source") == Source.ON_LINE and status.details.get("batteryStatus") != "low"
        return super()._is_calm(status) and calm and not busy

    def _describe(self, reading: UpsStatus) -> DeviceStatus:
        faults = reading.faults or ()
        state = DeviceState.HARDWARE_ERROR if UpsFault.FAILED in faults else DeviceState.ONLINE
        details: dict[str, str | bool] = {}
        if reading.source is not Source.UNKNOWN:
            details["source"] = str(reading.source)
        if UpsFault.REPLACE_BATTERY in faults:
            details["batteryStatus"] = "failure"
        elif reading.battery_low is not None:
            details["batteryStatus"] = "low" if reading.battery_low else "operational"
        if reading.testing is not None:
            details["testing"] = reading.testing
        if reading.shutting_down is not None:
            details["shutting_down"] = reading.shutting_down
        if reading.runtime_basis is not None:
            details["runtime_basis"] = str(reading.runtime_basis)
        if self._rating is not None:
            details["rating"] = self._rating
        worst = f"ups.{faults[0]}" if faults else None
        return DeviceStatus(state, worst, self._identity, details)
