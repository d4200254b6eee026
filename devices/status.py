"""What every device says of itself, in the words of XFS4IoT (`Common.Status`, protocols 7.3)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


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
