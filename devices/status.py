"""What every device says of itself, in the words of XFS4IoT (`Common.Status`, protocols 7.3)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

log = structlog.get_logger(__name__)

REPEAT_SECONDS = 60.0
"""A device that comes and goes says the same of itself in the log once within this time (L9)."""


class DeviceState(StrEnum):
    """XFS4IoT device states."""

    ONLINE = "online"
    OFFLINE = "offline"
    POWER_OFF = "powerOff"
    NO_DEVICE = "noDevice"
    HARDWARE_ERROR = "hardwareError"
    USER_ERROR = "userError"
    DEVICE_BUSY = "deviceBusy"
    FRAUD_ATTEMPT = "fraudAttempt"
    POTENTIAL_FRAUD = "potentialFraud"
    STARTING = "starting"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device's state, the code of what is wrong (None when nothing is), its identity and its own details.

    A detail that was not answered is absent: no answer is unknown, never a value.
    """

    state: DeviceState
    code: str | None = None
    identity: str | None = None
    details: dict[str, str | bool] = field(default_factory=dict)


StatusListener = Callable[[DeviceStatus], None]
"""Called on each change of a device's status, never on a repeat."""


class StatusLog:
    """The log lines of one device: its changes of state, code or identity, never of a detail alone.

    That its link is gone, and back, is the supervisor's to say: one line when it breaks and one when it heals.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._said: dict[tuple[DeviceState, str | None, str | None], float] = {}
        self._last: tuple[DeviceState, str | None, str | None] | None = None
        self._held = 0

    def note(self, before: DeviceStatus, after: DeviceStatus) -> None:
        """Log a change, unless the same was logged within REPEAT_SECONDS; then the next line counts it."""
        line = (after.state, after.code, after.identity)
        unchanged = line in {(before.state, before.code, before.identity), self._last}
        if unchanged or after.code == f"{self._device}.offline":
            return
        self._last = line
        now = asyncio.get_running_loop().time()
        self._said = {said: at for said, at in self._said.items() if now - at < REPEAT_SECONDS}
        if line in self._said:
            self._held += 1
            return
        self._said[line] = now
        counted = {"held_back": self._held} if self._held else {}
        self._held = 0
        log.info(
            "device_status",
            device=self._device,
            state=after.state,
            code=after.code,
            identity=after.identity,
            **counted,
        )
