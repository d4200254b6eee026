"""The peripherals of this terminal: each under its driver, its supervision and its proof of identity."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from devices.hotplug import HotplugEvent, HotplugListener, Plugged
from devices.status import DeviceState, DeviceStatus
from runtime import drivers
from runtime.audit import Audit
from runtime.config import Settings
from runtime.journal import Journal
from runtime.seams import Seams
from runtime.supervisor import Supervisor
from runtime.trust import Trust, TrustError

START_SECONDS = 60.0
"""A driver that neither serves nor fails within this hangs; the slowest of ours needs a third of it."""

_SERVING = {DeviceState.ONLINE, DeviceState.DEVICE_BUSY}


class Peripherals:
    """Every configured peripheral; `drivers` by kind, to be served by."""

    def __init__(
        self,
        settings: Settings,
        seams: Seams,
        supervisor: Supervisor,
        *,
        journal: Journal,
        audit: Audit,
        on_status: Callable[[str, DeviceStatus], None],
        on_usb: HotplugListener,
    ) -> None:
        """`on_status` is told each device's word, `on_usb` whatever comes and goes at USB."""
        self._sections = settings.devices
        self._hotplug = seams.hotplug
        self._supervisor = supervisor
        self._audit = audit
        self._on_status = on_status
        self._on_usb = on_usb
        self._trust = Trust(self._sections, journal)
        self._group: asyncio.TaskGroup | None = None
        self.drivers: dict[str, Any] = {
            kind: drivers.load(kind, section.driver)(section, seams.open_link, partial(self._heard, kind))
            for kind, section in self._sections.items()
        }

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Supervise every device, and listen to what is plugged in and out."""
        await self._trust.load()
        self._group = group
        self._supervisor.start(group, "hotplug", lambda ready: self._hotplug.run(ready, self._on_change))
        for kind in self._sections:
            self._supervisor.start(group, kind, partial(self._live, kind), gives_up=True)

    async def retry(self, unit: str, *, actor: str) -> None:
        """Try a unit at once, because an operator asks; raise UnknownUnit, and AuditError when it cannot be noted."""
        self._supervisor.require(unit)
        await self._audit.append("device_retry_ordered", actor=actor, details={"device": unit})
        self._supervisor.retry(unit)

    async def accept(self, kind: str, identity: str, *, actor: str) -> None:
        """Accept the device of this identity that was refused as swapped, because an operator says so.

        Raises UnknownUnit, TrustError, and AuditError when it cannot be noted.
        """
        self._supervisor.require(kind)
        if (found := self._trust.refused(kind)) != identity:
            raise TrustError(f"the {kind} that waits to be accepted is {found}")
        await self._audit.append("device_accept_ordered", actor=actor, details={"device": kind, "identity": identity})
        await self._trust.accept(kind, identity)
        self._supervisor.retry(kind)

    async def _live(self, kind: str, ready: Callable[[], None]) -> None:
        """Live one life of a device's driver; the device is trusted before it serves."""
        driver, name = self.drivers[kind], self._sections[kind].port
        self._trust.check_port(kind, self._hotplug.find(name))
        async with asyncio.timeout(START_SECONDS) as start:

            def trusted() -> None:
                port = self._hotplug.find(name)
                self._check(kind, driver.status.identity, port.serial if port is not None else None)
                start.reschedule(None)
                ready()

            await driver.run(trusted)

    def _heard(self, kind: str, status: DeviceStatus) -> None:
        """Take a device's word, unless it says by it that it is another device (a swap behind a serial adapter)."""
        self._on_status(kind, status)
        if status.identity is not None and status.state in _SERVING:
            self._check(kind, status.identity)

    def _check(self, kind: str, told: str | None, serial: str | None = None) -> None:
        if self._trust.check_identity(kind, told, serial) and self._group is not None:
            self._group.create_task(self._trust.remember(kind), name=f"remember-{kind}")

    def _on_change(self, change: HotplugEvent) -> None:
        """Start what was waiting for its port (L7: by any of the port's names)."""
        self._on_usb(change)
        if isinstance(change, Plugged):
            for kind, section in self._sections.items():
                if change.port.is_named(section.port):
                    self._supervisor.plugged(kind)
